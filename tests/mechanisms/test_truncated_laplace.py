"""The truncated Laplace mechanism: its pair against integrals of the densities, budgets, moments and exact releases."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import delta_bounds, epsilon_bounds
from mechanisms import InvalidParameter, KeyedSource, Laplace, Poisson, Repeat, Sampled, from_json, to_json
from mechanisms.core.bounds import Bounds
from mechanisms.core.pair import DominatingPair
from mechanisms.truncated_laplace import TruncatedLaplace
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
multipliers, bounds = (
    st.floats(0.05, 20.0),
    st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 1 + 2**-40]) | st.floats(0.1, 60.0),
)


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


def holds(found, value, slack=0):
    return mp.mpf(found.lower) - slack <= value <= mp.mpf(found.upper) + slack


def below(x, scale, bound):
    """P(X <= x)."""
    x = min(max(x, -bound), bound)
    inside = -mp.expm1(-abs(x) / scale) / -mp.expm1(-bound / scale) / 2
    return mp.mpf(1) / 2 + mp.sign(x) * inside


def hockey_stick(multiplier, limit, shift, at):
    """sup_t P(X <= t) − e^at P(X <= t − shift), by the ends and kinks of both densities and where they cross."""
    scale, bound, s = mp.mpf(multiplier), mp.mpf(limit), mp.mpf(shift)
    ends = [-bound, s - bound, mp.mpf(0), s, bound, bound + s, (s - scale * at) / 2]
    return max(below(t, scale, bound) - mp.exp(at) * below(t - s, scale, bound) for t in ends)


# The pair


@given(
    multipliers, bounds, st.sampled_from([(ADD_REMOVE, "remove", 1), (REPLACE_ONE, "replace", 2), (ZERO_OUT, "add", 1)])
)
def test_the_pair_has_the_hockey_stick_divergences_of_the_densities(multiplier, bound, case):
    adjacency, direction, shift = case
    pair = TruncatedLaplace(noise_multiplier=multiplier, bound=bound).pairs(adjacency)[direction]
    for share in (0.0, 0.1, 0.5, 0.9, 1.0, 1.3):
        at = share * shift / multiplier
        found, truth = pair.delta(Bounds.exact(at)), hockey_stick(multiplier, bound, shift, mp.mpf(at))
        assert holds(found, truth, mp.mpf("1e-35")) and found.width <= 1e-13 * (1 + 1 / multiplier) + 1e-300
    assert pair.attained and pair.infinite_mass.contains(pair.missing_mass.lower)


@pytest.mark.parametrize(("multiplier", "bound"), [(2.0, 20.0), (0.7, 1.3), (1.0, 0.8), (3.0, 0.4)])
def test_divergences_are_integrals_too(multiplier, bound):
    scale, a, s, at = mp.mpf(multiplier), mp.mpf(bound), mp.mpf(1), mp.mpf("0.2")

    def density(x):
        return mp.exp(-abs(x) / scale) / (2 * scale * -mp.expm1(-a / scale)) if abs(x) <= a else mp.mpf(0)

    ends = sorted({-a, s - a, mp.mpf(0), s, a, a + s, (s - scale * at) / 2})
    ends = [x for x in ends if -a <= x <= a + s]
    truth = mp.quad(lambda x: max(density(x) - mp.exp(at) * density(x - s), 0), ends)
    assert mp.almosteq(truth, hockey_stick(multiplier, bound, 1, at), mp.mpf("1e-15"))


@given(multipliers, bounds, st.floats(1e-6, 1.0), st.floats(0.0, 1.5), st.sampled_from([1, 2]))
def test_no_smaller_movement_is_worse(multiplier, bound, share, height, moved):
    adjacency, at = (ADD_REMOVE if moved == 1 else REPLACE_ONE), height * moved / multiplier
    pair = next(iter(TruncatedLaplace(noise_multiplier=multiplier, bound=bound).pairs(adjacency).values()))
    assert hockey_stick(multiplier, bound, share * moved, mp.mpf(at)) <= mp.mpf(pair.delta(Bounds.exact(at)).upper)


@pytest.mark.parametrize(("bound", "attained"), [(0.5, True), (0.25, True)])
def test_noise_that_reaches_no_further_than_half_the_movement_protects_nothing(bound, attained):
    pair = TruncatedLaplace(noise_multiplier=1.0, bound=bound).pairs(ADD_REMOVE)["add"]
    assert pair.infinite_mass.lower == 1.0 and pair.attained == attained


@pytest.mark.parametrize("multiplier", [5e-324, 1e-320])
def test_noise_too_small_for_floats_is_taken_for_none(multiplier):
    pair = TruncatedLaplace(noise_multiplier=multiplier, bound=5.0).pairs(ADD_REMOVE)["add"]
    assert pair.infinite_mass.lower == 1.0 and not pair.attained


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_any_noise_has_a_pair(multiplier, bound):
    for adjacency in (ADD_REMOVE, REPLACE_ONE):
        pair = next(iter(TruncatedLaplace(noise_multiplier=multiplier, bound=bound).pairs(adjacency).values()))
        found = pair.delta(Bounds.exact(0.5))
        assert 0.0 <= found.lower <= found.upper <= 1.0


@given(st.floats(1e-6, 600.0), st.floats(1e-200, 0.49))
def test_a_budget_is_kept_and_not_wasted(epsilon, delta):
    noise = TruncatedLaplace.for_budget(epsilon=epsilon, delta=delta)
    pair = noise.pairs(ADD_REMOVE)["remove"]
    assert pair.delta(Bounds.exact(epsilon)).upper <= delta
    assert pair.delta(Bounds.exact(epsilon)).lower >= delta * (1 - 1e-11 * (1 + 1 / epsilon))
    formula = mp.log1p(mp.expm1(mp.mpf(epsilon)) / (2 * mp.mpf(delta))) / mp.mpf(epsilon)
    assert mp.almosteq(mp.mpf(noise.bound), formula, mp.mpf("1e-12"))


@pytest.mark.parametrize("epsilon", [1e-300, 1e-12, 5000.0, 1e300])
def test_a_budget_at_extremes_is_kept_or_refused(epsilon):
    try:
        noise = TruncatedLaplace.for_budget(epsilon=epsilon, delta=1e-6)
    except InvalidParameter as error:
        assert "must leave noise that fits a double" in str(error)
    else:
        assert noise.pairs(ADD_REMOVE)["remove"].delta(Bounds.exact(epsilon)).upper <= 1e-6


def test_a_wide_bound_costs_what_the_laplace_mechanism_costs():
    noise = TruncatedLaplace(noise_multiplier=2.0, bound=80.0)
    laplace = Laplace(noise_multiplier=2.0)
    found, other = (epsilon_bounds(Repeat(m, 5), delta=1e-3) for m in (noise, laplace))
    assert abs(found.upper - other.upper) < 1e-6 and found.lower <= other.upper + 1e-9


@pytest.mark.parametrize("bound", [0.5 + 2.0**-53, 1.0 + 2.0**-52])
def test_noises_that_hardly_overlap_are_priced(bound):
    noise = TruncatedLaplace(noise_multiplier=1.0, bound=bound)
    process = Repeat(Sampled(noise, Poisson(probability=0.01)), 3)
    found = delta_bounds(process, epsilon=1.0, adjacency="replace_one", accountant="pld")
    assert found.lower <= 1 - 0.99**3 <= found.upper * (1 + 1e-12)


def test_planned_cumulants_that_leave_the_floats_are_infinite_and_quiet():
    noise = Sampled(Laplace(noise_multiplier=1e-300), Poisson(probability=0.01))
    value, _, _ = DominatingPair.cumulants(noise.pairs(ADD_REMOVE)["remove"], np.array([2.0, 1e8, 1e200]))
    assert value[0] > 1e299 and np.isinf(value[2])


def test_infinite_losses_compose():
    noise = TruncatedLaplace.for_budget(epsilon=1.0, delta=1e-3)
    found = delta_bounds(Repeat(noise, 10), epsilon=10.0)
    assert found.lower <= 1 - (1 - 1e-3) ** 10 <= found.upper * (1 + 1e-9) and found.upper < 0.010001


def test_it_comes_back_from_json():
    noise = TruncatedLaplace.for_budget(epsilon=0.3, delta=1e-7)
    assert from_json(to_json(noise)) == noise and eval(repr(noise)) == noise


# Releases


@pytest.mark.parametrize(("multiplier", "bound"), [(1.0, 0.25), (1.0, 1.0), (0.5, 0.8), (1.0, 5.0)])
def test_releases_have_the_truncated_law_and_stay_within_the_bound(multiplier, bound):
    noise, source = TruncatedLaplace(noise_multiplier=multiplier, bound=bound), KeyedSource(5)
    found = np.array([noise.release(-1.5, sensitivity=2.0, randomness=source) for _ in range(800)]) + 1.5

    def cdf(x):
        size = np.minimum(np.abs(x) / 2.0, bound)
        return 0.5 + np.sign(x) * np.expm1(-size / multiplier) / np.expm1(-bound / multiplier) / 2

    assert stats.kstest(found, cdf).pvalue > LEAST_P_VALUE
    assert np.abs(found).max() <= 2.0 * bound + 2.0**-40 and np.abs(found).max() > 0.9 * 2.0 * min(bound, multiplier)


@pytest.mark.parametrize("multiplier", [1e-300, 1e-3, 1.0, 1e300])
@pytest.mark.parametrize("bound", [1e-300, 1.0, 1e300])
def test_extreme_noise_stays_within_its_bound(multiplier, bound):
    found = TruncatedLaplace(noise_multiplier=multiplier, bound=bound).release(
        0.0, sensitivity=1.0, randomness=KeyedSource(0)
    )
    assert abs(found) <= bound * (1 + 2.0**-40)


@pytest.mark.parametrize("value", [[1.0], math.nan, math.inf, "1", None, True])
def test_what_is_no_single_number_is_refused(value):
    with pytest.raises(InvalidParameter, match="TruncatedLaplace: value must"):
        TruncatedLaplace(noise_multiplier=1.0, bound=3.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_sensitivity_that_is_not_positive_is_refused(sensitivity):
    with pytest.raises(InvalidParameter, match="TruncatedLaplace: sensitivity must be"):
        TruncatedLaplace(noise_multiplier=1.0, bound=3.0).release(
            0.0, sensitivity=sensitivity, randomness=KeyedSource(0)
        )


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, "1", None, True])
def test_what_is_no_noise_is_refused(bad):
    with pytest.raises(InvalidParameter, match="TruncatedLaplace: noise_multiplier must"):
        TruncatedLaplace(noise_multiplier=bad, bound=1.0)
    with pytest.raises(InvalidParameter, match="TruncatedLaplace: bound must"):
        TruncatedLaplace(noise_multiplier=1.0, bound=bad)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.1), (-1.0, 0.1), (1.0, 0.0), (1.0, 0.5), (1.0, math.nan)])
def test_what_is_no_budget_is_refused(epsilon, delta):
    with pytest.raises(InvalidParameter, match=r"TruncatedLaplace: (epsilon|delta) must"):
        TruncatedLaplace.for_budget(epsilon=epsilon, delta=delta)
