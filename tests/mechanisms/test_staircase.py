"""The staircase mechanism: its pair against the density itself, which movement is the worst, and exact releases."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import InvalidParameter, KeyedSource, Laplace, Repeat, SystemSource, from_json, to_json
from mechanisms.core.bounds import Bounds
from mechanisms.staircase import Staircase
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
epsilons = st.floats(1e-3, 20.0)
fractions = st.sampled_from([0.0, 1e-9, 0.25, 0.5, 0.75, 1.0]) | st.floats(0.0, 1.0)


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


def level(x, fraction):
    whole = mp.floor(abs(x))
    return whole + (abs(x) - whole >= fraction)


def height(epsilon, fraction):
    q = mp.exp(-mp.mpf(epsilon))
    return (1 - q) / (2 * (fraction + q * (1 - fraction)))


def hockey_stick(epsilon, fraction, shift, at):
    """∫ (f(x) − e^at f(x − shift))₊ over the pieces on which both densities are constant, and the tails in steps."""
    e, g, s, a = mp.mpf(epsilon), mp.mpf(fraction), mp.mpf(shift), height(epsilon, fraction)
    marks = [sign * (k + part) for k in range(6) for part in (0, g) for sign in (1, -1)]
    ends = sorted(
        {m for m in marks if abs(m) <= 5} | {m + s for m in marks if abs(m + s) <= 5} | {mp.mpf(-5), mp.mpf(5)}
    )
    total = mp.mpf(0)
    for left, right in itertools.pairwise(ends):
        x = (left + right) / 2
        f, moved = (a * mp.exp(-e * level(y, g)) for y in (x, x - s))
        total += max(f - mp.exp(at) * moved, 0) * (right - left)
    return total, mp.exp(-5 * e) / 2  # what lies below −5, of which all may count; above 5 the loss is at most 0


def holds(found, value, slack=0):
    return mp.mpf(found.lower) - slack <= value <= mp.mpf(found.upper) + slack


# The pair


@given(
    epsilons, fractions, st.sampled_from([(ADD_REMOVE, "remove", 1), (REPLACE_ONE, "replace", 2), (ZERO_OUT, "add", 1)])
)
def test_the_pair_has_the_hockey_stick_divergences_of_the_densities(epsilon, fraction, case):
    adjacency, direction, shift = case
    pair = Staircase(epsilon=epsilon, fraction=fraction).pairs(adjacency)[direction]
    for share in (0.0, 0.3, 0.7, 1.0, 1.4, 2.0):
        inside, tail = hockey_stick(epsilon, fraction, shift, share * mp.mpf(epsilon))
        exact = inside + tail * max(1 - mp.exp((share - shift) * mp.mpf(epsilon)), 0)  # all of it has the largest loss
        assert holds(pair.delta(Bounds.exact(share * epsilon)), exact, mp.mpf("1e-15")), share


@given(epsilons, fractions, st.floats(1e-6, 1.0), st.floats(0.0, 2.0), st.sampled_from([1, 2]))
def test_no_smaller_movement_is_worse(epsilon, fraction, share, at, moved):
    adjacency = ADD_REMOVE if moved == 1 else REPLACE_ONE
    pair = next(iter(Staircase(epsilon=epsilon, fraction=fraction).pairs(adjacency).values()))
    inside, _ = hockey_stick(epsilon, fraction, share * moved, mp.mpf(at * epsilon))
    assert inside <= mp.mpf(pair.delta(Bounds.exact(at * epsilon)).upper) + mp.mpf("1e-30")


@given(st.floats(5e-324, 350.0), fractions)
def test_masses_sum_to_one_under_both_laws(epsilon, fraction):
    for adjacency in (ADD_REMOVE, REPLACE_ONE):
        pair = next(iter(Staircase(epsilon=epsilon, fraction=fraction).pairs(adjacency).values()))
        for one in (pair, pair.reverse()):
            total = sum(one.masses, start=Bounds.exact(0.0))
            assert total.contains(1.0) and total.width < 1e-14 * (2 + 2 * epsilon)
        assert pair.attained and pair.infinite_mass.upper == 0.0


@given(epsilons)
def test_the_default_fraction_has_the_least_expected_size(epsilon):
    """E|X| = e^{ε/2}/(e^ε − 1), and no other fraction has less."""

    def size(fraction):
        e, g = mp.mpf(epsilon), mp.mpf(fraction)
        q, weight = mp.exp(-e), g + mp.exp(-e) * (1 - g)
        within = (g * g / 2 + q * (1 - g * g) / 2) / weight
        return q / (1 - q) + within

    fraction = Staircase(epsilon=epsilon).fraction
    assert mp.almosteq(size(fraction), mp.exp(mp.mpf(epsilon) / 2) / mp.expm1(mp.mpf(epsilon)), mp.mpf("1e-14"))
    for other in (0.9 * fraction, fraction + 0.05 * (1 - fraction)):
        assert size(other) > size(fraction)


def test_it_never_costs_more_than_its_epsilon_nor_less_than_the_laplace_mechanism_of_the_same():
    found = epsilon_bounds(Repeat(Staircase(epsilon=0.5), 10), delta=1e-3)
    laplace = epsilon_bounds(Repeat(Laplace(noise_multiplier=2.0), 10), delta=1e-3)
    assert laplace.upper < found.lower <= found.upper < 5.0


def test_it_comes_back_from_json():
    for mechanism in (Staircase(epsilon=0.7), Staircase(epsilon=3, fraction=0.25), Staircase(epsilon=350)):
        assert from_json(to_json(mechanism)) == mechanism and eval(repr(mechanism)) == mechanism


# Releases


def cdf(epsilon, fraction):
    a, q = float(height(epsilon, fraction)), math.exp(-epsilon)

    def below(x):
        size = np.abs(x)
        whole = np.floor(size)
        rest = size - whole
        inside = a * q**whole * (np.minimum(rest, fraction) + q * np.maximum(rest - fraction, 0.0))
        half = (1 - q**whole) / 2 + inside
        return 0.5 + np.sign(x) * half

    return below


@pytest.mark.parametrize(("epsilon", "fraction"), [(0.3, None), (2.0, None), (1.0, 0.8), (1.0, 0.0), (1.0, 1.0)])
def test_releases_have_the_density_of_steps(epsilon, fraction):
    mechanism, source = Staircase(epsilon=epsilon, fraction=fraction), KeyedSource(3)
    found = np.array([mechanism.release(2.5, sensitivity=4.0, randomness=source) for _ in range(800)])
    assert stats.kstest((found - 2.5) / 4.0, cdf(epsilon, mechanism.fraction)).pvalue > LEAST_P_VALUE


def test_steps_and_positions_have_their_probabilities():
    mechanism, source = Staircase(epsilon=0.9, fraction=0.375), KeyedSource(4)
    steps = np.array([mechanism._steps(source) for _ in range(1500)])
    q = math.exp(-0.9)
    masses = [*((1 - q) * q**k for k in range(6)), q**6]
    assert (
        stats.chisquare(np.bincount(np.minimum(steps, 6), minlength=7), 1500 * np.array(masses)).pvalue > LEAST_P_VALUE
    )
    early = sum(mechanism._before_the_fall(source) for _ in range(1500))
    assert stats.binomtest(early, 1500, 0.375 / (0.375 + q * 0.625)).pvalue > LEAST_P_VALUE


@pytest.mark.parametrize(
    ("epsilon", "fraction"), [(0.9, 0.375), (12.0, 1e-3), (340.0, None), (1e-9, 0.5), (3.0, 0.999)]
)
def test_the_fall_is_decided_at_the_digit_where_its_probability_lies(epsilon, fraction):
    """U just below e^−ε (1 − γ)/(γ + e^−ε (1 − γ)), to 385 digits, is behind the fall, just above it before."""
    mechanism = Staircase(epsilon=epsilon, fraction=fraction)

    class Digits(KeyedSource):
        def words(self, stream, counter, n):
            numbers = [self.known >> (64 * (19 - k)) & (2**64 - 1) for k in range(counter // 2, (counter + n) // 2)]
            return np.array(numbers, dtype="<u8").view("<u4")

    with mp.workprec(1400):
        g = mp.mpf(mechanism.fraction)
        odds = mp.exp(-mp.mpf(epsilon)) * (1 - g) / g
        known = int(mp.floor(odds / (1 + odds) * mp.mpf(2) ** 1280))
    for moved, before in ((-4, False), (4, True)):
        source = Digits(0)
        source.known = known + moved
        assert mechanism._before_the_fall(source) == before


def test_releases_are_multiples_of_the_granularity():
    mechanism = Staircase(epsilon=1.0)
    for granularity in (None, 0.5, 8.0):
        unit = 2.0**-42 if granularity is None else granularity
        found = mechanism.release(0.1, sensitivity=1.0, randomness=SystemSource(), granularity=granularity)
        assert type(found) is float and math.fmod(found, unit) == 0


@pytest.mark.parametrize("epsilon", [5e-324, 1e-300, 1e-9, 350.0])
@pytest.mark.parametrize("value", [0.0, 1e308, -5e-324, 2**63])
def test_extreme_steps_give_numbers(epsilon, value):
    found = Staircase(epsilon=epsilon).release(value, sensitivity=1.0, randomness=KeyedSource(0))
    assert type(found) is float and not math.isnan(found)


@pytest.mark.parametrize("value", [[1.0], [[1.0, 2.0]], []])
def test_several_numbers_are_refused(value):
    with pytest.raises(InvalidParameter, match=r"Staircase: value must be a single number, got an array of shape"):
        Staircase(epsilon=1.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, True, 1j])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(InvalidParameter, match="Staircase: value must"):
        Staircase(epsilon=1.0).release(value, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_sensitivity_that_is_not_positive_is_refused(sensitivity):
    with pytest.raises(InvalidParameter, match="Staircase: sensitivity must be"):
        Staircase(epsilon=1.0).release(0.0, sensitivity=sensitivity, randomness=KeyedSource(0))


@pytest.mark.parametrize("granularity", [3.0, 0.0, math.nan, "1"])
def test_what_is_no_power_of_two_is_refused(granularity):
    with pytest.raises(InvalidParameter, match="Staircase: granularity must be"):
        Staircase(epsilon=1.0).release(0.0, sensitivity=1.0, randomness=KeyedSource(0), granularity=granularity)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 350.1, math.inf, math.nan, "1", None, True])
def test_what_is_no_epsilon_is_refused(epsilon):
    with pytest.raises(InvalidParameter, match="Staircase: epsilon must"):
        Staircase(epsilon=epsilon)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, "0.5", True])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(InvalidParameter, match="Staircase: fraction must"):
        Staircase(epsilon=1.0, fraction=fraction)
