"""The Gaussian mechanism: moments against quadrature and against sums in closed form, bins at extremes, releases."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import Gaussian, InvalidParameter, KeyedSource, Poisson, Sampled, SystemSource, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.gaussian import GaussianPair
from tests.reference.truth import Normal, delta, log_sampled_moment, normal_cdf
from tests.strategies import ADD_REMOVE, noise_multipliers

SIGMA_ONE = [(0.0, "0.3829249225480262"), (0.5, "0.2384217081348752"), (1.0, "0.12693673750664394")]


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


def pair_of(mu):
    return GaussianPair(shift=Bounds.exact(mu), attained=True)


def holds(found, value):
    return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)


# δ(ε)


@pytest.mark.parametrize(("epsilon", "published"), SIGMA_ONE)
def test_delta_of_unit_noise_is_as_published(epsilon, published):
    found = pair_of(1.0).delta(Bounds.exact(epsilon))
    assert holds(Bounds(lower=found.lower - 1e-15, upper=found.upper + 1e-15), mp.mpf(published))


@given(st.floats(1e-8, 1e4), st.floats(0.0, 1e5))
def test_delta_encloses_the_formula_for_any_shift(mu, epsilon):
    found = pair_of(mu).delta(Bounds.exact(epsilon))
    with mp.workdps(60):
        assert holds(found, delta(Normal(mp.mpf(mu)), mp.mpf(epsilon)))


@pytest.mark.parametrize("mu", [1e-300, 1e-20, 1e-8, 37.0, 1e8, 1e150, 1e300])
def test_delta_stays_an_enclosure_for_extreme_shifts(mu):
    for epsilon in (0.0, 1e-300, 1.0, 700.0, 1e5, 1e300):
        found = pair_of(mu).delta(Bounds.exact(epsilon))
        assert 0 <= found.lower <= found.upper <= 1
        if 1e-20 <= mu <= 1e8 and epsilon <= 1e5:
            assert found.lower <= float(delta(Normal(mp.mpf(mu)), mp.mpf(epsilon))) <= found.upper + 1e-300


def test_tiny_deltas_keep_their_digits():
    found = pair_of(1.0).delta(Bounds.exact(37.0))
    assert found.lower > 0 and found.upper / found.lower < 1 + 1e-9


# Composition in closed form


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), st.integers(1, 10**6))
def test_shifts_add_in_squares(shifts, times):
    product = pair_of(shifts[0])
    for mu in shifts[1:]:
        product = product.times(pair_of(mu))
    exact = times * sum(Fraction(mu) ** 2 for mu in shifts)
    power = product.power(times)
    assert Fraction(power.shift.lower) ** 2 <= exact <= Fraction(power.shift.upper) ** 2
    assert power.shift.width <= 1e-14 * power.shift.upper


def test_a_gaussian_does_not_multiply_with_another_kind():
    with pytest.raises(UnsupportedProcess, match=r"GaussianPair.*PoissonRemove"):
        pair_of(1.0).times(
            Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5)).pairs(ADD_REMOVE)["remove"]
        )


# Moments


def random_moments(count):
    rng = np.random.default_rng(0)
    for k in range(count):
        kind = ("negative", "between", "above")[k % 3]
        t = {
            "negative": -(10 ** rng.uniform(-2, 1.2)),
            "between": rng.uniform(0, 1),
            "above": 1 + 10 ** rng.uniform(-2, 1.5),
        }
        yield float(10 ** rng.uniform(-2, 0.8)), float(10 ** rng.uniform(-7, -0.1)), float(t[kind])


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("mu", "chance", "power"), list(random_moments(30)))
def test_moments_enclose_a_finer_quadrature(mu, chance, power):
    found = pair_of(mu).log_mixture_moment(chance, power)
    assert holds(found, log_sampled_moment(mu, chance, power))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("chance", [1e-12, 1e-5, 0.01, 0.5, 0.999])
@pytest.mark.parametrize(
    ("mu", "order"), [(0.01, 2), (0.1, 64), (1.0, 2), (1.0, 5), (1.0, 300), (5.0, 20), (20.0, 3), (90.0, 9)]
)
def test_moments_of_whole_order_enclose_the_sum_over_how_often_the_record_was_drawn(mu, chance, order):
    """log Σ_k C(n, k) (1 − q)^{n−k} q^k e^{k(k−1)μ²/2}."""
    with mp.workdps(80):
        q, m = mp.mpf(chance), mp.mpf(mu)
        terms = (
            mp.binomial(order, k) * (1 - q) ** (order - k) * q**k * mp.exp(k * (k - 1) * m * m / 2)
            for k in range(order + 1)
        )
        assert holds(pair_of(mu).log_mixture_moment(chance, float(order)), mp.log(mp.fsum(terms)))


@pytest.mark.parametrize(("mu", "chance"), [(40.0, 5e-324), (40.0, 1e-320), (30.0, 1e-200), (1.0, 5e-324)])
def test_moments_hold_where_one_over_the_probability_leaves_the_floats(mu, chance):
    """log(1 + q² (e^{μ²} − 1))."""
    truth = mp.log1p(mp.mpf(chance) ** 2 * mp.expm1(mp.mpf(mu) ** 2))
    found = pair_of(mu).log_mixture_moment(chance, 2.0)
    assert holds(found, truth) and found.width <= 1e-10


PUBLISHED = [
    (2.5, 0.01, 5.0, 2.18075656e-3 / 50),
    (2.5, 0.01, 50.0, 2.38460375e-2 / 50),
    (1.0, 0.01, 1.5, 1.272537433274e-4),
    (1.0, 0.01, 2.0, 1.718134220745306e-4),
    (1.0, 0.01, 10.5, 0.188339691380),
]


@pytest.mark.parametrize(("sigma", "chance", "order", "divergence"), PUBLISHED)
def test_renyi_divergences_are_as_published(sigma, chance, order, divergence):
    found = pair_of(1 / sigma).log_mixture_moment(chance, order) / (order - 1.0)
    assert found.lower == pytest.approx(divergence, rel=1e-8) and found.upper == pytest.approx(divergence, rel=1e-8)


@given(noise_multipliers, st.floats(-30.0, 30.0))
def test_moments_without_sampling_are_in_closed_form(sigma, power):
    mu = 1 / mp.mpf(sigma)
    found = Gaussian(noise_multiplier=sigma).pairs(ADD_REMOVE)["remove"].log_mixture_moment(1.0, power)
    assert holds(found, mp.mpf(power) * (mp.mpf(power) - 1) * mu**2 / 2)


@pytest.mark.parametrize("chance", [1e-9, 0.3])
@pytest.mark.parametrize("mu", [1e-3, 1.0, 8.0])
def test_moments_of_order_zero_and_one_are_nothing(mu, chance):
    for power in (0.0, 1.0):
        assert pair_of(mu).log_mixture_moment(chance, power).contains(0.0)


@pytest.mark.parametrize("power", [2.0, 1e3, 1e5, 1e10, 1e200, -1e5, -1e200])
@pytest.mark.parametrize("mu", [1e-6, 1.0, 30.0])
def test_moments_too_costly_to_sum_are_enclosed_crudely(mu, power):
    found = pair_of(mu).log_mixture_moment(0.01, power)
    assert found.lower <= found.upper and found.upper > 0


def test_an_uncertain_shift_widens_the_moments():
    found = GaussianPair(shift=Bounds(lower=0.9, upper=1.1), attained=True).log_mixture_moment(0.1, 3.0)
    for mu in (0.9, 1.0, 1.1):
        assert holds(found, log_sampled_moment(mu, 0.1, 3.0))


def test_moments_between_zero_and_one_mind_no_large_shift():
    mu, chance, power = 45.0, 0.04, 0.6
    assert holds(pair_of(mu).log_mixture_moment(chance, power), power * mp.log1p(-mp.mpf(chance)))


def test_moments_of_negative_order_mind_no_probability_near_one():
    mu, chance, power = 1.44397077552789, 0.9999982977603213, -72.8547909517086
    assert pair_of(mu).log_mixture_moment(chance, power).upper >= log_sampled_moment(mu, chance, power)


@pytest.mark.parametrize("mu", [36.0, 50.0, 100.0])
def test_moments_of_negative_order_mind_no_large_shift(mu):
    found = pair_of(mu).log_mixture_moment(0.01, -0.5)
    assert holds(found, -0.5 * mp.log1p(-mp.mpf("0.01"))) or found.contains(float(-0.5 * mp.log1p(mp.mpf(-0.01))))


# Bins


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 10.0])
def test_masses_of_narrow_and_wide_bins_enclose_the_difference_of_tails(mu):
    """At the floats z = x/μ + μ/2 themselves, which define the bins."""
    rng = np.random.default_rng(1)
    for width in (1e-9, 1e-4, 0.03, 0.4, 3.0):
        edges = np.sort(rng.uniform(-8 * mu, 8 * mu, 3))[1] + width * mu * np.arange(4)
        found = pair_of(mu).loss_bins(edges, np.zeros(3))
        z = [mp.mpf(float(x)) for x in edges / mu + mu / 2.0]
        for k in range(3):
            assert holds(found.p[k], normal_cdf(z[k + 1] - mp.mpf(mu)) - normal_cdf(z[k] - mp.mpf(mu))), (width, k)
            assert holds(found.q[k], normal_cdf(z[k + 1]) - normal_cdf(z[k])), (width, k)


@pytest.mark.parametrize("mu", [300.0, 3000.0])
def test_masses_about_the_mean_of_a_large_shift_enclose_the_difference_of_tails(mu):
    pair, rng = pair_of(mu), np.random.default_rng(2)
    for width in rng.uniform(0.6 / mu, 4 / mu, 40):
        edges = mu * mu / 2 + mu * width * np.array([-0.6, 0.4])
        z = [mp.mpf(float(x)) for x in edges / mu + mu / 2.0]
        truth = normal_cdf(z[1] - mp.mpf(mu)) - normal_cdf(z[0] - mp.mpf(mu))
        assert holds(pair.loss_bins(edges, np.zeros(1)).p[0], truth)


def test_masses_far_in_the_tail_keep_their_digits_through_the_scale():
    """Q's mass at x = 3000 is e^-3000 of P's; scaled by e^x it is of P's size."""
    pair = pair_of(60.0)
    edges = np.array([2990.0, 3000.0, 3010.0])
    bins = pair.loss_bins(edges, edges[:-1])
    assert (bins.q.upper > 0.01 * bins.p.upper).all() and (bins.q.upper < bins.p.upper).all()
    assert ((bins.q.upper - bins.q.lower) < 1e-8 * bins.q.upper).all()


# Releases


def test_a_number_comes_back_as_a_float_and_an_array_in_its_shape():
    gaussian, source = Gaussian(noise_multiplier=1.0), KeyedSource(0)
    assert type(gaussian.release(3, sensitivity=1.0, randomness=source)) is float
    for shape in ((), (0,), (3,), (2, 3)):
        released = gaussian.release(np.zeros(shape), sensitivity=1.0, randomness=source)
        assert np.shape(released) == shape and np.asarray(released).dtype == np.float64


def test_noise_has_the_scale_of_multiplier_times_sensitivity():
    released = Gaussian(noise_multiplier=2.0).release(np.full(100_000, 5.0), sensitivity=1.5, randomness=KeyedSource(0))
    assert stats.kstest((released - 5.0) / 3.0, "norm").pvalue > 1e-4


def test_no_noise_changes_nothing():
    assert Gaussian(noise_multiplier=0.0).release(7.0, sensitivity=1.0, randomness=SystemSource()) == 7.0


def test_the_value_released_is_not_changed_itself():
    value = np.zeros(3)
    Gaussian(noise_multiplier=1.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))
    assert (value == 0).all()


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6))
def test_two_releases_of_one_source_never_share_a_word(sizes):
    class Recording(KeyedSource):
        def words(self, stream, counter, n):
            self.used.extend((stream, counter + k) for k in range(n))
            return super().words(stream, counter, n)

    source = Recording(0)
    source.used = []
    for size in sizes:
        Gaussian(noise_multiplier=1.0).release(np.zeros(size), sensitivity=1.0, randomness=source)
    assert len(set(source.used)) == len(source.used) >= 2 * sum(sizes)


def test_releases_of_the_same_key_agree_and_of_the_system_differ():
    gaussian, value = Gaussian(noise_multiplier=1.0), np.zeros(4)
    same = [gaussian.release(value, sensitivity=1.0, randomness=KeyedSource(3)) for _ in range(2)]
    other = [gaussian.release(value, sensitivity=1.0, randomness=SystemSource()) for _ in range(2)]
    assert (same[0] == same[1]).all() and (other[0] != other[1]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.0, -math.inf]])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidParameter, match=r"Gaussian: value must be finite\. Bound the query first"):
        Gaussian(noise_multiplier=1.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_sensitivity_that_is_not_positive_is_refused(sensitivity):
    with pytest.raises(InvalidParameter, match="Gaussian: sensitivity must be"):
        Gaussian(noise_multiplier=1.0).release(0.0, sensitivity=sensitivity, randomness=KeyedSource(0))
