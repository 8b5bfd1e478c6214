"""The Laplace mechanism: its pair against densities, moments against quadrature at 90 digits, releases."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import Adjacency, DiscretePair, InvalidParameter, KeyedSource, Laplace, Poisson, Sampled, SystemSource
from mechanisms import laplace as module
from mechanisms.core.bounds import Bounds
from mechanisms.laplace import LaplacePair
from tests.reference.truth import Laplacian, delta_by_integration
from tests.strategies import ADD_REMOVE, REPLACE_ONE


@pytest.fixture(autouse=True)
def ninety_digits():
    with mp.workdps(90):
        yield


def pair_of(shift):
    return LaplacePair(shift=Bounds.exact(shift), attained=True)


def holds(found, value):
    return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)


# Pairs and δ(ε)


@given(st.floats(1e-300, 1e300))
def test_the_largest_loss_is_the_movement_over_the_scale(scale):
    laplace = Laplace(noise_multiplier=scale)
    assert holds(laplace.pairs(ADD_REMOVE)["remove"].supremum, 1 / mp.mpf(scale))
    assert holds(laplace.pairs(REPLACE_ONE)["replace"].supremum, 2 / mp.mpf(scale))
    assert laplace.pairs(ADD_REMOVE)["remove"] == laplace.pairs(Adjacency.ZERO_OUT)["add"]


@pytest.mark.parametrize(("scale", "attained"), [(0.0, True), (5e-324, False), (1e-309, False)])
def test_without_noise_nothing_is_protected(scale, attained):
    pair = Laplace(noise_multiplier=scale).pairs(ADD_REMOVE)["add"]
    assert isinstance(pair, DiscretePair) and pair.infinite_mass.lower == 1.0 and pair.attained == attained


@given(st.floats(1e-12, 700.0), st.floats(0.0, 1.0))
def test_delta_is_the_closed_form_and_as_narrow_as_floats_are(shift, share):
    epsilon = share * shift
    found = pair_of(shift).delta(Bounds.exact(epsilon))
    truth = -mp.expm1((mp.mpf(epsilon) - mp.mpf(shift)) / 2)
    assert holds(found, truth)
    assert mp.mpf(found.upper) - mp.mpf(found.lower) <= truth * mp.mpf("4e-15") + mp.mpf("1e-300")


@pytest.mark.parametrize("shift", [1e-300, 1e-8, 1.0, 1e8, 1e300])
def test_delta_is_exactly_zero_from_the_largest_loss_on(shift):
    for epsilon in (shift, 2 * shift, math.inf):
        found = pair_of(shift).delta(Bounds.exact(epsilon))
        assert found.lower == found.upper == 0.0


@pytest.mark.thinned(5)
@pytest.mark.parametrize("chance", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize("scale", [0.5, 2.0, 16.0])
def test_delta_is_the_integral_of_the_densities(scale, direction, chance):
    pair = Sampled(Laplace(noise_multiplier=scale), Poisson(probability=chance)).pairs(ADD_REMOVE)[direction]
    shift, share = 1 / mp.mpf(scale), mp.mpf(chance)

    def without(z):
        return mp.exp(-abs(z)) / 2

    def mixed(z):
        return (1 - share) * without(z) + share * without(z - shift)

    p, q = (mixed, without) if direction == "remove" else (without, mixed)
    for epsilon in (0.0, 0.004, 0.1):
        ratio = 1 + mp.expm1(mp.mpf(epsilon) if direction == "remove" else -mp.mpf(epsilon)) / share
        split = [(mp.log(ratio) + shift) / 2] if ratio > 0 and 0 < mp.log(ratio) + shift < 2 * shift else []
        truth = delta_by_integration(p, q, mp.mpf(epsilon), sorted([-mp.inf, 0, *split, shift, mp.inf]))
        found = pair.delta(Bounds.exact(epsilon))
        assert mp.mpf(found.lower) - mp.mpf("1e-40") <= truth <= mp.mpf(found.upper) + mp.mpf("1e-40")
        assert found.width <= 1e-12 * found.upper + 1e-300


# Moments


def moment(shift, chance, power):
    """log E_Q r^t by panels on which r^t varies little."""
    s, p, t = mp.mpf(shift), mp.mpf(chance), mp.mpf(power)

    def ratio(x):
        return (1 - p + p * mp.exp(x)) ** t

    panels = max(2, int(s * (1 + abs(t)) / 2) + 1)
    inside = mp.quad(
        lambda x: mp.exp(-(s + x) / 2) / 4 * ratio(x), [s * (2 * mp.mpf(j) / panels - 1) for j in range(panels + 1)]
    )
    return mp.log(mp.exp(-s) / 2 * ratio(s) + ratio(-s) / 2 + inside)


def random_moments(count):
    rng = np.random.default_rng(0)
    for k in range(count):
        power = (-(10 ** rng.uniform(-2, 1.2)), rng.uniform(0, 1), 1 + 10 ** rng.uniform(-3, 1.3))[k % 3]
        chance = (10 ** rng.uniform(-9, 0), 1 - 10 ** rng.uniform(-12, 0), 1.0)[(k // 3) % 3]
        yield float(10 ** rng.uniform(-8, 1)), float(chance), float(power)


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("shift", "chance", "power"), list(random_moments(63)))
def test_moments_enclose_the_quadrature_narrowly(shift, chance, power):
    found, truth = pair_of(shift).log_mixture_moment(chance, power), moment(shift, chance, power)
    assert holds(found, truth)
    assert mp.mpf(found.upper) - mp.mpf(found.lower) <= mp.mpf("1e-12") * abs(truth) + mp.mpf("6e-14")


@pytest.mark.parametrize(
    ("shift", "chance", "power"), [(1e-6, 0.3, 2.0), (1.0, 1e-8, 5.0), (8.0, 1e-6, 0.5), (0.1, 1e-3, -3.0)]
)
def test_moments_near_one_keep_their_digits(shift, chance, power):
    found, truth = pair_of(shift).log_mixture_moment(chance, power), moment(shift, chance, power)
    assert holds(found, truth) and found.width <= 1e-13 * abs(truth)


@pytest.mark.parametrize(
    ("order", "published"), [(1.5, ".512883511295"), (2, ".619123629999"), (5, ".853078014517"), (10, ".928682902097")]
)
def test_renyi_divergences_of_unit_noise_are_as_published(order, published):
    found = pair_of(1.0).log_mixture_moment(1.0, order) / (order - 1)
    assert abs(found.lower - float(published)) < 1e-12 and found.width < 1e-14


@pytest.mark.thinned(7)
@pytest.mark.parametrize("power", [2.0, 300.0, 1e5, 1e10, 1e200, -1e5, -1e200, 0.3])
@pytest.mark.parametrize("shift", [1e-300, 1e-6, 1.0, 30.0, 1e5, 1e300])
@pytest.mark.parametrize("chance", [1e-300, 1e-3, 1 - 2.0**-53, 1.0])
def test_moments_stay_enclosures_at_extremes(shift, chance, power):
    """Against what any law allows: Jensen on one side, the convexity of r^t and the largest loss on the other."""
    found = pair_of(shift).log_mixture_moment(chance, power)
    with mp.workdps(900):
        s, p, t = mp.mpf(shift), mp.mpf(chance), mp.mpf(power)
        z = abs(2 * t - 1) * s
        whole = max(t - 1, -t) * s + mp.log((1 + mp.exp(-z) - s * mp.expm1(-z) / z) / 2)
        if chance == 1.0:
            assert holds(found, whole)
        elif 0 < power < 1:
            assert found.lower <= 0 and mp.mpf(found.upper) >= max(whole, t * mp.log1p(-p))
        else:
            top = t * (mp.log(1 + p * mp.expm1(s)) if shift < 1e6 else mp.log(p) + s) - s - mp.log(2)
            bottom = t * mp.log1p(p * mp.expm1(-s)) - mp.log(2)
            assert mp.mpf(found.lower) <= whole and mp.mpf(found.upper) >= max(top, bottom, 0)


def test_an_uncertain_shift_widens_the_moments():
    pair = LaplacePair(shift=Bounds(lower=0.9, upper=1.1), attained=True)
    for chance in (0.1, 1.0):
        found = pair.log_mixture_moment(chance, 3.0)
        assert all(holds(found, moment(shift, chance, 3.0)) for shift in (0.9, 1.0, 1.1))


# Plans


@pytest.mark.parametrize("shift", [1e-6, 0.09, 1.9, 2.1, 40.0, 1e4])
def test_planned_cumulants_are_the_derivatives_of_the_closed_form_to_six_digits(shift):
    def log_moment(t):
        a, s = t - mp.mpf(1) / 2, mp.mpf(shift)
        return mp.log(mp.cosh(a * s) + (mp.sinh(a * s) / (2 * a) if a else s / 2)) - s / 2

    powers = [-10 / shift, -1.0, 0.1, 0.5, 0.49 + 1 / shift, 0.51 + 1 / shift, 1 + 0.08 / shift, 2.5, 1 + 1e5 / shift]
    found = pair_of(shift).cumulants(np.array(powers))
    for i, power in enumerate(powers):
        step = mp.mpf("1e-25") / mp.mpf(shift)
        left, here, right = (log_moment(mp.mpf(power) + k * step) for k in (-1, 0, 1))
        truth = here, (right - left) / (2 * step), (right - 2 * here + left) / step**2
        for part, value in zip(found, truth, strict=True):
            assert abs(mp.mpf(float(part[i])) - value) <= mp.mpf("1e-6") * abs(value)


def test_planned_cumulants_are_infinite_where_powers_leave_the_floats():
    value, slope, bend = pair_of(1e10).cumulants(np.array([2.0, 1e300]))
    assert value[0] == pytest.approx(1e10, rel=1e-9) and np.isinf([value[1], slope[1], bend[1]]).all()


# Bins


@pytest.mark.parametrize("shift", [1e-6, 0.3, 7.0, 300.0])
@pytest.mark.parametrize("width", [1e-9, 1e-4, 0.03, 0.5])
def test_masses_of_narrow_bins_keep_their_digits(shift, width):
    law, rng = Laplacian(mp.mpf(shift)), np.random.default_rng(1)
    edges = shift * (rng.uniform(-1, 1 - 3 * min(width, 0.6)) + width * np.arange(4))
    found = pair_of(shift).loss_bins(edges, edges[:-1])
    with mp.workdps(400):
        above = [law.above(mp.mpf(x)) for x in edges]
        for k in range(3):
            p, q = above[k][0] - above[k + 1][0], (above[k][1] - above[k + 1][1]) * mp.exp(mp.mpf(edges[k]))
            assert holds(found.p[k], p) and holds(found.q[k], q)
            assert max(found.p[k].width / found.p.upper[k], found.q[k].width / found.q.upper[k]) <= 1e-14 * (1 + shift)


@pytest.mark.parametrize("shift", [0.25, 3.0])
def test_an_atom_on_an_edge_belongs_to_the_bin_below(shift):
    found = pair_of(shift).loss_bins(np.array([-2, -1, -0.5, 0.5, 1, 2]) * shift, np.zeros(5))
    assert found.p.lower[0] > 0 and holds(found.p[0], mp.exp(-mp.mpf(shift)) / 2)
    assert found.p.lower[3] > 0.5 and found.p.upper[4] == 0.0 == found.q.upper[4]
    assert holds(found.q[0], mp.mpf(0.5))


@pytest.mark.parametrize("block", [1, 7, 50])
def test_masses_do_not_depend_on_how_many_are_found_at_once(block, monkeypatch):
    """Both atoms count in one bin each, wherever a block ends."""
    inner = np.unique(np.append(np.linspace(-1.3, 1.3, 47), [-1.0, 1.0]))
    edges, scale = np.concatenate([[-np.inf], inner, [np.inf]]), np.append(inner[:1], inner)
    whole = pair_of(1.0).loss_bins(edges, scale)
    monkeypatch.setattr(module, "BLOCK", block)
    found = pair_of(1.0).loss_bins(edges, scale)
    for name in ("p", "q"):
        assert np.array_equal(getattr(found, name).lower, getattr(whole, name).lower)
        assert np.array_equal(getattr(found, name).upper, getattr(whole, name).upper)
    assert np.array_equal(found.edge_error, whole.edge_error)
    assert np.sum(found.p.lower) <= 1.0 <= np.sum(found.p.upper)


def test_an_uncertain_shift_widens_masses_and_edges():
    edges = np.array([-2.0, -0.3, 0.1, 0.4, 2.0])
    found = LaplacePair(shift=Bounds(lower=0.999, upper=1.001), attained=True).loss_bins(edges, np.zeros(4))
    for shift in ("0.999", "1.0005", "1.001"):
        law = Laplacian(mp.mpf(shift))
        above = [law.above(mp.mpf(x) * mp.mpf(shift)) for x in edges]
        assert (np.abs(edges * (float(shift) - 1.0)) <= found.edge_error).all()
        for k in range(4):
            assert holds(found.p[k], above[k][0] - above[k + 1][0]) and holds(found.q[k], above[k][1] - above[k + 1][1])


# Releases


def test_a_number_comes_back_as_a_float_and_an_array_in_its_shape():
    laplace, source = Laplace(noise_multiplier=1.0), KeyedSource(0)
    assert type(laplace.release(3, sensitivity=1.0, randomness=source)) is float
    for shape in ((), (0,), (3,), (2, 3)):
        released = laplace.release(np.zeros(shape), sensitivity=1.0, randomness=source)
        assert np.shape(released) == shape and np.asarray(released).dtype == np.float64


def test_noise_has_the_scale_of_multiplier_times_sensitivity():
    released = Laplace(noise_multiplier=2.0).release(np.full(100_000, 5.0), sensitivity=1.5, randomness=KeyedSource(0))
    assert stats.kstest((released - 5.0) / 3.0, "laplace").pvalue > 1e-4


def test_no_noise_changes_nothing():
    assert Laplace(noise_multiplier=0.0).release(7.0, sensitivity=1.0, randomness=SystemSource()) == 7.0


def test_noise_of_one_source_never_comes_twice():
    laplace, source = Laplace(noise_multiplier=1.0), KeyedSource(0)
    seen = [laplace.release(0.0, sensitivity=1.0, randomness=source) for _ in range(50)]
    assert len(set(seen)) == 50


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.0, -math.inf]])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidParameter, match=r"Laplace: value must be finite\. Bound the query first"):
        Laplace(noise_multiplier=1.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_sensitivity_that_is_not_positive_is_refused(sensitivity):
    with pytest.raises(InvalidParameter, match="Laplace: sensitivity must be"):
        Laplace(noise_multiplier=1.0).release(0.0, sensitivity=sensitivity, randomness=KeyedSource(0))


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan, "1", None])
def test_what_is_no_noise_multiplier_is_refused(scale):
    with pytest.raises(InvalidParameter, match="Laplace: noise_multiplier must"):
        Laplace(noise_multiplier=scale)
