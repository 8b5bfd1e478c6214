"""The odometer: its formula, and adversaries against whom it must be right at all times at once."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accountant import Odometer, RenyiFilter
from mechanisms import ApproximateDP, Gaussian, RandomizedResponse, Repeat
from tests.adversaries import LARGE, SMALL, answers, strategies


@settings(max_examples=12, deadline=None)
@given(strategies, st.sampled_from([0.05, 0.3]))
def test_an_odometer_is_right_at_all_times_at_once(strategy, delta):
    """The probability that the loss ever exceeds ε_n, summed exactly over all outcomes, for steps chosen by them."""

    def exceeding(odometer, depth, seen, p, q):
        if math.log(p / q) > odometer.epsilon(delta):
            return p
        choice = strategy(seen) if depth else None
        if choice is None:
            return 0.0
        epsilon, total = (LARGE, SMALL)[choice], 0.0
        after = copy.copy(odometer)
        after.spend(RandomizedResponse(epsilon=epsilon))
        for outcome, (with_it, without) in enumerate(answers(epsilon)):
            total += exceeding(after, depth - 1, (*seen, outcome), p * with_it, q * without)
        return total

    for orders in ((3.0,), (1.5, 2.0, 4.0)):
        assert exceeding(Odometer(adjacency="replace_one", orders=orders), 7, (), 1.0, 1.0) <= delta


def test_an_odometer_follows_its_formula_and_never_runs_backwards():
    odometer, last = Odometer(adjacency="add_remove", orders=(2.0, 8.0)), 0.0
    assert odometer.epsilon(1e-5) == 0.0
    for n in range(1, 50):
        odometer.spend(Gaussian(noise_multiplier=5.0))
        now = odometer.epsilon(1e-5)
        known = min(n * alpha / 50 + math.log(2 / 1e-5) / (alpha - 1) for alpha in (2.0, 8.0))
        assert now == pytest.approx(known, rel=1e-12) and now >= last and odometer.epsilon(1e-7) > now
        last = now
    odometer.spend(ApproximateDP(epsilon=0.1, delta=0.1, adjacency="add_remove"))
    assert odometer.epsilon(1e-5) == math.inf and odometer.spent == (math.inf, math.inf)


def test_an_odometer_reads_more_than_a_filter_of_the_same_order_promises():
    """Holding at all times costs: Mironov's conversion instead of that of Canonne, Kamath and Steinke."""
    odometer = Odometer(adjacency="add_remove", orders=(12.0,))
    odometer.spend(Repeat(Gaussian(noise_multiplier=20.0), 100))
    whole_run = RenyiFilter(budget=odometer.spent[0], order=12.0, adjacency="add_remove")
    assert odometer.epsilon(1e-5) > whole_run.epsilon(1e-5)
