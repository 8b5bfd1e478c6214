"""The pair of a bounded range: against two-point pairs, quadrature at 60 digits, and published Rényi divergences."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import Poisson
from mechanisms.core.bounds import Bounds
from mechanisms.core.range_pair import RangeDivergence, RangePair


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def pair_of(reach):
    return RangePair(reach=Bounds.exact(reach), attained=False)


def holds(found, value):
    return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)


def two_points(reach, t):
    """P and Q of the losses t and t − η, from their sums of 1."""
    reach, t = mp.mpf(reach), mp.mpf(t)
    q = (1 - mp.exp(t - reach)) / (mp.exp(t) - mp.exp(t - reach))
    return (q * mp.exp(t), (1 - q) * mp.exp(t - reach)), (q, 1 - q)


def delta(p, q, epsilon):
    return sum(max(a - mp.exp(epsilon) * b, mp.mpf(0)) for a, b in zip(p, q, strict=True))


@given(st.floats(1e-9, 700.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_delta_is_the_largest_that_two_losses_of_the_range_have(reach, share, t):
    epsilon = share * reach
    found, worst = pair_of(reach).delta(Bounds.exact(epsilon)), (mp.mpf(epsilon) + mp.mpf(reach)) / 2
    truth = delta(*two_points(reach, worst), epsilon)
    assert holds(found, truth)
    assert mp.mpf(found.upper) - mp.mpf(found.lower) <= truth * mp.mpf("1e-14") + mp.mpf("1e-300")
    assert delta(*two_points(reach, t * reach), epsilon) <= truth + mp.mpf("1e-50")


@pytest.mark.parametrize("reach", [5e-324, 1e-300, 1e-8, 1.0, 1e8, 1e300])
def test_delta_is_zero_from_the_range_on_and_proper_before(reach):
    for epsilon in (reach, 2 * reach, math.inf):
        found = pair_of(reach).delta(Bounds.exact(epsilon))
        assert found.lower == found.upper == 0.0
    at_zero = pair_of(reach).delta(Bounds.exact(0.0))
    assert 0 <= at_zero.lower <= mp.tanh(mp.mpf(reach) / 4) <= at_zero.upper <= 1


@pytest.mark.parametrize("reach", [1e-3, 0.7, 9.0])
def test_masses_of_bins_are_the_slopes_of_delta(reach):
    """Q(L > x) = −dδ/da at a = e^x, by differences at 60 digits, and P(L > x) = δ + a Q(L > x)."""
    pair, edges = pair_of(reach), reach * np.array([-2.0, -1.0, -0.7, -0.1, 0.0, 0.3, 0.95, 1.0, 1.5])

    def curve(a):
        return (1 - mp.sqrt(a * mp.exp(-mp.mpf(reach)))) ** 2 / (1 - mp.exp(-mp.mpf(reach)))

    above = []
    for x in edges:
        if abs(x) >= reach:
            above.append((mp.mpf(float(x < 0)),) * 2)
            continue
        a, step = mp.exp(mp.mpf(x)), mp.mpf("1e-25")
        q = (curve(a * (1 - step)) - curve(a * (1 + step))) / (2 * step * a)
        above.append((curve(a) + a * q, q))
    found = pair.loss_bins(edges, edges[:-1])
    for k in range(len(edges) - 1):
        p, q = above[k][0] - above[k + 1][0], (above[k][1] - above[k + 1][1]) * mp.exp(mp.mpf(edges[k]))
        slack = mp.mpf("1e-40")
        assert mp.mpf(found.p.lower[k]) - slack <= p <= mp.mpf(found.p.upper[k]) + slack
        assert mp.mpf(found.q.lower[k]) - slack <= q <= mp.mpf(found.q.upper[k]) + slack
        assert found.p.width[k] <= 1e-13 * found.p.upper[k] and found.q.width[k] <= 1e-13 * found.q.upper[k]
    assert pair.loss_range(1e-9) == (-reach, reach) and pair.reverse() is pair


def moment(reach, chance, power):
    s, p, t = mp.mpf(reach), mp.mpf(chance), mp.mpf(power)
    panels = max(2, int(s * (1 + abs(t)) / 2) + 1)
    with mp.workdps(40):
        inside = mp.quad(
            lambda x: mp.exp(-(s + x) / 2) * (1 - p + p * mp.exp(x)) ** t,
            [s * (2 * mp.mpf(j) / panels - 1) for j in range(panels + 1)],
        )
        return mp.log(inside / (2 * (1 - mp.exp(-s))))


def random_moments(count):
    rng = np.random.default_rng(3)
    for k in range(count):
        power = (-(10 ** rng.uniform(-2, 1)), rng.uniform(0, 1), 1 + 10 ** rng.uniform(-3, 1.1))[k % 3]
        chance = (10 ** rng.uniform(-9, 0), 1 - 10 ** rng.uniform(-12, 0), 1.0)[(k // 3) % 3]
        yield float(10 ** rng.uniform(-5, 0.8)), float(chance), float(power)


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("reach", "chance", "power"), list(random_moments(36)))
def test_moments_enclose_the_quadrature_narrowly(reach, chance, power):
    found, truth = pair_of(reach).log_mixture_moment(chance, power), moment(reach, chance, power)
    assert holds(found, truth)
    assert mp.mpf(found.upper) - mp.mpf(found.lower) <= mp.mpf("1e-12") * abs(truth) + mp.mpf("6e-14")


@pytest.mark.parametrize(
    ("reach", "chance", "power"), [(1e-4, 0.3, 2.0), (1.0, 1e-8, 5.0), (0.1, 1e-3, -3.0), (1e-5, 1.0, 3.0)]
)
def test_moments_near_one_keep_their_digits(reach, chance, power):
    found, truth = pair_of(reach).log_mixture_moment(chance, power), moment(reach, chance, power)
    assert holds(found, truth) and found.width <= 1e-12 * abs(truth)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("power", [2.0, 1e5, 1e200, -1e5, -1e200, 0.3, 0.5])
@pytest.mark.parametrize("reach", [5e-324, 1e-300, 1e-6, 1.0, 1e5, 1e300])
@pytest.mark.parametrize("chance", [1e-300, 1e-3, 1 - 2.0**-53, 1.0])
def test_moments_stay_enclosures_at_extremes(reach, chance, power):
    found = pair_of(reach).log_mixture_moment(chance, power)
    with mp.workdps(700):
        s, p, t = mp.mpf(reach), mp.mpf(chance), mp.mpf(power)
        a = abs(t - mp.mpf(1) / 2)
        whole = (
            max(t - 1, -t) * s + (mp.log(-mp.expm1(-2 * a * s) / (2 * a)) if a else mp.log(s)) - mp.log(-mp.expm1(-s))
        )
        most = max(whole, 0) if not 0 < t < 1 else 0
        assert mp.mpf(found.lower) <= most + abs(most) * mp.mpf("1e-200")
        if chance == 1.0:
            assert holds(found, whole) or abs(whole) < mp.mpf("1e-600")
        elif 0 < power < 1:
            assert mp.mpf(found.upper) >= max(whole, t * mp.log1p(-p))
        else:
            assert mp.mpf(found.upper) >= 0


def test_an_uncertain_range_widens_everything():
    pair = RangePair(reach=Bounds(lower=0.9, upper=1.1), attained=False)
    edges = np.array([-2.0, -0.3, 0.1, 0.4, 2.0])
    bins = pair.loss_bins(edges, np.zeros(4))
    for reach in (0.9, 1.0, 1.1):
        for chance in (0.1, 1.0):
            assert holds(pair.log_mixture_moment(chance, 3.0), moment(reach, chance, 3.0))
        assert holds(pair.delta(Bounds.exact(0.3)), delta(*two_points(reach, (0.3 + mp.mpf(reach)) / 2), 0.3))
        exact = pair_of(reach).loss_bins(edges * reach, np.zeros(4))
        assert (np.abs(edges * (reach - 1.0)) <= bins.edge_error).all()
        assert (bins.p.lower <= exact.p.upper).all() and (exact.p.lower <= bins.p.upper).all()


@pytest.mark.parametrize("reach", [1e-6, 0.3, 3.0, 40.0])
def test_planned_cumulants_are_the_derivatives_of_the_closed_form(reach):
    def log_moment(t):
        a, s = t - mp.mpf(1) / 2, mp.mpf(reach)
        return mp.log(mp.sinh(a * s) / (2 * a * mp.sinh(s / 2)) if a else s / (2 * mp.sinh(s / 2)))

    powers = [-10 / reach, -1.0, 0.1, 0.49 + 1 / reach, 0.5 + 0.2 / reach, 2.5]
    found = pair_of(reach).cumulants(np.array(powers))
    for i, power in enumerate(powers):
        step = mp.mpf("1e-15") / mp.mpf(reach)
        left, here, right = (log_moment(mp.mpf(power) + k * step) for k in (-1, 0, 1))
        truth = here, (right - left) / (2 * step), (right - 2 * here + left) / step**2
        for part, value in zip(found, truth, strict=True):
            assert abs(mp.mpf(float(part[i])) - value) <= mp.mpf("1e-5") * abs(value) + mp.mpf("1e-15")


# Rényi divergences


def test_the_divergence_of_order_one_is_as_published():
    near, twice = (RangeDivergence.of(1.0).divergence(1 + step) for step in (1e-4, 2e-4))
    assert abs(2 * near - twice - 0.123301561) < 2e-9


@pytest.mark.thinned(3)
@pytest.mark.parametrize("order", [1.0001, 1.5, 2.0, 10.0, 300.0])
@pytest.mark.parametrize("reach", [1e-3, 0.1, 1.0, 6.0, 200.0])
def test_divergences_are_the_largest_of_two_losses_of_the_range(reach, order):
    def divergence(t):
        p, q = two_points(reach, t)
        return mp.log(sum(a**order * b ** (1 - mp.mpf(order)) for a, b in zip(p, q, strict=True))) / (order - 1)

    shares = [mp.mpf(k) / 200 for k in range(1, 200)]
    centre = max(shares, key=lambda share: divergence(share * reach))
    finer = [centre + mp.mpf(k) / 20000 for k in range(-99, 100)]
    truth = max(divergence(share * reach) for share in finer if 0 < share < 1)
    bound = RangeDivergence.of(reach)
    found = mp.mpf(bound.divergence(order))
    assert truth <= found <= truth * (1 + mp.mpf("2e-3")) + mp.mpf("1e-12")
    assert found <= mp.mpf(order) * mp.mpf(reach) ** 2 / 8 * (1 + mp.mpf("1e-14")) and found <= reach
    whole = pair_of(reach).log_mixture_moment(1.0, order) / (Bounds.exact(order) - 1.0)
    assert truth <= mp.mpf(whole.upper)


@pytest.mark.parametrize("reach", [5e-324, 1e-200, 1e200, 1.7e308])
def test_divergences_of_any_range_are_proper(reach):
    bound = RangeDivergence.of(reach)
    for order in (1 + 2**-52, 2.0, 1e300, math.inf):
        found = bound.divergence(order)
        assert 0 <= found <= reach


def test_a_sampled_pair_dominates_samples_of_two_losses():
    for direction in (False, True):
        pair = Poisson(probability=0.2).amplify(pair_of(1.5), reverse=direction)
        for t in np.linspace(0.01, 1.49, 25):
            p, q = two_points(1.5, t)
            mixed = tuple(mp.mpf("0.8") * b + mp.mpf("0.2") * a for a, b in zip(p, q, strict=True))
            one, other = (q, mixed) if direction else (mixed, q)
            for epsilon in (0.0, 0.05, 0.15, 0.3):
                assert delta(one, other, epsilon) <= mp.mpf(pair.delta(Bounds.exact(epsilon)).upper) + mp.mpf("1e-15")
