"""The search for both ends of ε, on curves whose truth is known: steps, plateaus, brackets, guesses of any quality."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant.core.curve import Curve
from accountant.core.profile import Profile
from accountant.core.search import RELATIVE_RESOLUTION, enclosed
from mechanisms import Adjacency, Bounds

GUESSES = [0.0, 1e-300, 1e-14, 1e-6, 0.3, 1.0, 2.5, 40.0, 1e9, 1e300, math.inf, math.nan]


@dataclass
class Synthetic(Curve):
    """Bounds of δ by two functions of ε; counts what it is asked."""

    lower: object
    upper: object
    start: float = 1.0
    largest: float = math.inf
    asked: list = field(default_factory=list)

    @property
    def supremum(self):
        return Bounds(lower=0.0, upper=self.largest)

    def delta(self, epsilon):
        assert np.all(epsilon >= 0) and not np.any(np.isnan(epsilon))
        self.asked.append(len(epsilon))
        return Bounds(lower=self.lower(epsilon), upper=self.upper(epsilon))

    def guess(self, delta):
        return self.start


def falling(epsilon):
    """A smooth δ."""
    return 0.3 * np.exp(-2.0 * epsilon)


def stairs(epsilon):
    """δ that falls by ten at every whole ε."""
    return 0.5 * 10.0 ** -np.minimum(np.floor(epsilon), 300.0)


def assert_certified(curve, delta, ends):
    """Each end by the curve itself, at that very float."""
    if ends.lower > 0:
        assert curve.delta(np.array([ends.lower])).lower[0] > delta
    if math.isfinite(ends.upper) and ends.upper > ends.lower:
        assert curve.delta(np.array([ends.upper])).upper[0] <= delta or ends.upper == curve.largest


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("delta", [0.25, 1e-3, 1e-8, 1e-200])
def test_any_guess_leads_to_both_ends_of_a_smooth_curve(guess, delta):
    curve = Synthetic(falling, falling, start=guess)
    ends = enclosed(curve, delta)
    truth = math.log(0.3 / delta) / 2
    assert ends.lower <= truth * (1 + 1e-13) and truth * (1 - 1e-13) <= ends.upper
    assert ends.width <= 4 * RELATIVE_RESOLUTION * truth
    assert_certified(curve, delta, ends)
    assert len(curve.asked) < (150 if 1e-20 < guess < 1e20 else 1000)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize(("delta", "truth"), [(0.05, 1.0), (0.5, 0.0), (4e-7, 7.0), (5e-7, 6.0), (0.4, 1.0)])
def test_steps_and_plateaus_are_found_where_delta_jumps(guess, delta, truth):
    curve = Synthetic(stairs, stairs, start=guess)
    ends = enclosed(curve, delta)
    assert ends.lower <= truth <= ends.upper <= truth * (1 + 4 * RELATIVE_RESOLUTION) + 1e-12
    assert ends.lower >= truth * (1 - 4 * RELATIVE_RESOLUTION)
    assert_certified(curve, delta, ends)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(0.0, 3.0), st.floats(1e-60, 0.29))
def test_a_wide_bracket_has_ends_that_are_certified_and_hold_the_truth(rate, guess, width, delta):
    lower = lambda x: 0.3 * np.exp(-rate * x) * math.exp(-width)  # noqa: E731
    upper = lambda x: np.minimum(0.3 * np.exp(-rate * x) * math.exp(width), 1.0)  # noqa: E731
    curve = Synthetic(lower, upper, start=guess)
    ends = enclosed(curve, delta)
    assert ends.lower * (1 - 1e-9) <= math.log(0.3 / delta) / rate <= ends.upper * (1 + 1e-9)
    assert_certified(curve, delta, ends)
    assert ends.upper <= (math.log(0.3 / delta) + width) / rate * 1.05 + 1e-12


@pytest.mark.parametrize("guess", GUESSES)
def test_a_delta_that_is_never_reached_costs_inf(guess):
    curve = Synthetic(lambda x: np.full_like(x, 1e-3), lambda x: np.full_like(x, 2e-3), start=guess)
    assert enclosed(curve, 1e-5).upper == math.inf and enclosed(curve, 1e-5).lower > 1.0
    undecided = enclosed(curve, 1.5e-3)
    assert undecided.lower == 0.0 and undecided.upper == math.inf
    assert enclosed(curve, 2e-3) == Bounds.exact(0.0)


@pytest.mark.parametrize("guess", GUESSES)
def test_a_curve_that_says_nothing_far_below_its_guess_keeps_its_lower_end(guess):
    """As a line far below its saddle: what is certified at one point holds for all points below it."""
    curve = Synthetic(
        lambda x: np.where(x < 4.99, 0.0, falling(x)), lambda x: np.where(x < 4.99, 1.0, falling(x)), start=guess
    )
    truth = 5.0
    ends = enclosed(curve, 0.3 * math.exp(-10.0))
    assert ends.lower <= truth * (1 + 1e-13) and truth * (1 - 1e-13) <= ends.upper
    assert_certified(curve, 0.3 * math.exp(-10.0), ends)


@pytest.mark.parametrize("guess", [1e-6, 1.0, 2.5, 40.0])
def test_an_upper_end_alone_is_as_sharp_as_any(guess):
    curve = Synthetic(lambda x: 0.0 * x, falling, start=guess)
    truth, ends = math.log(0.3 / 1e-6) / 2, enclosed(curve, 1e-6)
    assert ends.lower == 0.0 and abs(ends.upper - truth) <= 4 * RELATIVE_RESOLUTION * truth
    assert_certified(curve, 1e-6, ends)


def test_a_guess_that_is_the_answer_is_believed_at_once():
    curve = Synthetic(falling, falling, start=math.log(0.3 / 1e-6) / 2)
    ends = enclosed(curve, 1e-6)
    assert curve.asked == [2] and ends.width <= 1e-12 * ends.upper
    assert_certified(curve, 1e-6, ends)


def test_where_more_than_delta_is_lost_for_certain_nothing_is_searched():
    class Lossy(Synthetic):
        lost = Bounds(lower=1e-4, upper=1e-3)

    curve = Lossy(lambda x: np.full_like(x, 1e-4), lambda x: np.full_like(x, 1e-3))
    assert enclosed(curve, 9e-5) == enclosed(curve, 0.0) == Bounds.exact(math.inf)
    assert curve.asked == [] and enclosed(curve, 5e-4).lower == 0.0


def test_with_a_good_guess_such_a_curve_is_as_sharp_as_any():
    curve = Synthetic(
        lambda x: np.where(x < 4.99, 0.0, falling(x)), lambda x: np.where(x < 4.99, 1.0, falling(x)), start=5.0
    )
    assert enclosed(curve, 0.3 * math.exp(-10.0)).width <= 1e-11 and len(curve.asked) < 20


def test_delta_0_and_1_ask_no_curve():
    silent = Synthetic(lambda x: pytest.fail("asked"), None, largest=3.0)
    assert enclosed(silent, 1.0) == Bounds.exact(0.0)
    assert enclosed(silent, 0.0) == Bounds(lower=0.0, upper=3.0)


def test_no_end_exceeds_the_largest_loss():
    curve = Synthetic(lambda x: 0.0 * x, lambda x: np.ones_like(x), largest=2.0)
    assert enclosed(curve, 1e-5) == Bounds(lower=0.0, upper=2.0)


def test_a_profile_takes_the_larger_direction_whichever_comes_first():
    small, large = Synthetic(falling, falling), Synthetic(lambda x: falling(x / 3), lambda x: falling(x / 3))
    truth = 3 * math.log(0.3 / 1e-6) / 2
    for curves in [(("remove", small), ("add", large)), (("remove", large), ("add", small))]:
        profile = Profile(curves=curves, adjacency=Adjacency.ADD_REMOVE, method="synthetic")
        claim = profile.epsilon(1e-6)
        assert claim.lower <= truth * (1 + 1e-13) and truth * (1 - 1e-13) <= claim.upper and claim.width < 1e-9
        assert profile.delta(1.0).contains(falling(1.0 / 3))
        assert np.array_equal(profile.delta(np.array([0.5, 1.0])).upper, falling(np.array([0.5, 1.0]) / 3))


def test_an_upper_end_is_found_beside_a_lower_end_that_is_known_at_0_alone():
    """No float lies between 0 and the least one; the search of the upper end goes on all the same."""
    curve = Synthetic(lambda x: np.where(x == 0.0, 0.2, 0.0), falling, start=1.0)
    truth, ends = math.log(0.3 / 1e-6) / 2, enclosed(curve, 1e-6)
    assert ends.lower == 0.0 and truth <= ends.upper <= truth * (1 + 1e-11)
    assert_certified(curve, 1e-6, ends)


def test_secants_that_leave_the_floats_are_not_followed():
    curve = Synthetic(lambda x: 1 / (1 + x / 1e100), lambda x: 1 / (1 + x / 1e100), start=1e280)
    ends = enclosed(curve, 1e-300)
    assert ends.lower > 1e280
    assert_certified(curve, 1e-300, ends)


@pytest.mark.parametrize("wide", [1e-5, 1e-3, 0.02])
def test_the_upper_end_of_a_wide_bracket_is_where_delta_is_kept(wide):
    """Not a share of the bracket beyond it: else δ(ε) <= δ is certified and ε(δ) <= ε is not."""
    curve = Synthetic(lambda x: falling(x) * (1 - wide), lambda x: falling(x) * (1 + wide) * (1 + 0.1 * x), start=1.9)
    delta = float(curve.upper(np.array(2.0)))
    ends = enclosed(curve, delta)
    assert_certified(curve, delta, ends)
    assert 2.0 <= ends.upper <= 2.0 * (1 + 1e-7)


def test_a_direction_that_raises_neither_end_is_not_inverted():
    """Nor where no lower end is known at all."""
    first = Synthetic(np.zeros_like, falling)
    second = Synthetic(np.zeros_like, lambda x: 0.5 * falling(x))
    profile = Profile(curves=(("remove", first), ("add", second)), adjacency=Adjacency.ADD_REMOVE, method="synthetic")
    alone = Profile(curves=(("remove", first),), adjacency=Adjacency.ADD_REMOVE, method="synthetic")
    found = profile.epsilon(1e-3)
    assert len(second.asked) <= 2
    assert (found.lower, found.upper) == (alone.epsilon(1e-3).lower, alone.epsilon(1e-3).upper)


def test_a_direction_that_raises_the_lower_end_alone_is_inverted():
    first, second = Synthetic(np.zeros_like, falling), Synthetic(lambda x: 0.4 * falling(x), lambda x: 0.5 * falling(x))
    profile = Profile(curves=(("remove", first), ("add", second)), adjacency=Adjacency.ADD_REMOVE, method="synthetic")
    assert profile.epsilon(1e-3).lower > 0.0
