"""Optimal composition against its published values, all 2^k outcomes, and the accountants that know more or less."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from accountant import dp_sgd, epsilon_bounds
from accountant.advanced import Advanced
from accountant.basic import Basic
from accountant.closed_form import ClosedForm
from accountant.optimal import Optimal
from accountant.pld import PLD
from mechanisms import (
    ApproximateDP,
    Compose,
    Gaussian,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.contracts.coarse import COARSE
from tests.strategies import ADD_REMOVE, REPLACE_ONE, deltas, guarantees, processes, seldom


def optimal(process, adjacency=ADD_REMOVE):
    return Optimal().profile(process, adjacency=adjacency)


def guarantee(epsilon, delta=0.0):
    return ApproximateDP(epsilon=epsilon, delta=delta, adjacency="add_remove")


def listed(epsilons, delta=0.0):
    return Compose(tuple(guarantee(epsilon, delta) for epsilon in epsilons))


# Unequal steps [MV16], a list that is not among `tests/accountant/published`

FALLING = (1.0, 0.5, 0.25, 0.125)
UNEQUAL_DELTAS = [(FALLING, 0.0, math.tanh(0.5)), (FALLING, 1.0, 0.179049889217)]
UNEQUAL_EPSILONS = [(FALLING, 1e-2, 1.798565349839)]


@pytest.mark.parametrize(("epsilons", "epsilon", "published"), UNEQUAL_DELTAS)
def test_unequal_steps_have_the_published_delta(epsilons, epsilon, published):
    bounds = optimal(listed(epsilons)).delta(epsilon)
    assert bounds.lower - 1e-10 <= published <= bounds.upper + 1e-10
    assert bounds.width <= 1e-12


@pytest.mark.parametrize(("epsilons", "delta", "published"), UNEQUAL_EPSILONS)
def test_unequal_steps_cost_the_published_epsilon(epsilons, delta, published):
    claim = optimal(listed(epsilons)).epsilon(delta)
    assert claim.lower - 1e-10 <= published <= claim.upper + 1e-10
    assert claim.width <= 1e-11


def over_all_sets(steps, epsilon):
    """1 − Π (1 − d_i) (1 − Σ_S max(e^{ε(S)} − e^ε e^{ε(S')}, 0)/Π (1 + e^{ε_i})) in the digits of the context."""
    total = mp.mpf(0)
    for chosen in itertools.product((0, 1), repeat=len(steps)):
        inside = mp.fsum(mp.mpf(e) for (e, _), taken in zip(steps, chosen, strict=True) if taken)
        outside = mp.fsum(mp.mpf(e) for (e, _), taken in zip(steps, chosen, strict=True) if not taken)
        total += max(mp.exp(inside) - mp.exp(mp.mpf(epsilon) + outside), mp.mpf(0))
    total /= mp.fprod(1 + mp.exp(mp.mpf(e)) for e, _ in steps)
    return 1 - mp.fprod(1 - mp.mpf(d) for _, d in steps) * (1 - total)


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from((0.0, 1e-300, 1e-9, 1e-3, 0.4))), min_size=1, max_size=8)
)
def test_the_sum_over_all_sets_of_steps_is_enclosed(steps):
    found = optimal(Compose(tuple(guarantee(e, d) for e, d in steps)))
    whole = sum(e for e, _ in steps)
    for epsilon in (0.0, 0.1 * whole, 0.5 * whole, 0.9 * whole, 1.1 * whole):
        with mp.workdps(400):  # 1 − (1 − 1e-300) included
            truth, bounds = over_all_sets(steps, epsilon), found.delta(epsilon)
            assert mp.mpf(bounds.lower) <= truth <= mp.mpf(bounds.upper)
            assert mp.mpf(bounds.upper) - mp.mpf(bounds.lower) <= mp.mpf("1e-11") * truth + mp.mpf("1e-13")


# Against the accountants of the same class


@given(st.lists(guarantees(ADD_REMOVE), min_size=1, max_size=4), st.integers(1, 4), deltas)
def test_guarantees_are_bracketed_by_pld_too(steps, times, delta):
    process = Repeat(Compose(tuple(steps)), times)
    coarse = COARSE.profile(process, adjacency=ADD_REMOVE)
    assert optimal(process).epsilon(delta).overlaps(coarse.epsilon(delta))


@pytest.mark.parametrize("times", [1, 40, 10**6])
def test_equal_guarantees_are_answered_as_in_closed_form(times):
    process = Repeat(RandomizedResponse(epsilon=0.3), times)
    ours, theirs = (kind().profile(process, adjacency=REPLACE_ONE) for kind in (Optimal, ClosedForm))
    for delta in (0.0, 1e-300, 1e-9, 0.3):
        one, other = ours.epsilon(delta), theirs.epsilon(delta)
        assert (one.lower, one.upper) == (other.lower, other.upper)


@pytest.mark.slow  # a time
def test_a_million_steps_are_answered_in_a_second():
    before = time.process_time()
    assert optimal(Repeat(guarantee(0.01, 1e-12), 10**6)).epsilon(1e-5).width <= 1e-9
    assert time.process_time() - before < 1.0


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("steps", "width"), [(18, 1e-10), (24, 1e-7), (40, 1e-6), (120, 1e-4)])
def test_long_lists_of_different_steps_have_a_narrow_bracket(steps, width):
    process = listed(np.random.default_rng(0).uniform(0.01, 0.5, steps).tolist(), 1e-9)
    claim = optimal(process).epsilon(1e-5)
    assert claim.lower > 0 and claim.width <= width * claim.upper
    (line,) = claim.ledger
    assert 0 < line.bound <= 1e-2 * 1e-5 and line.unit == "delta"


def test_of_more_steps_than_it_can_list_it_says_what_advanced_says():
    process = Compose((Repeat(guarantee(1e-6), 2**33), guarantee(0.1)))
    ours, other = (kind().profile(process, adjacency=ADD_REMOVE).epsilon(1e-6) for kind in (Optimal, Advanced))
    assert ours.lower == 0.0 and ours.upper == pytest.approx(other.upper, rel=1e-9)


# Steps of other kinds


MIXED = Compose((Repeat(Gaussian(noise_multiplier=30.0), 100), Repeat(Laplace(noise_multiplier=20.0), 100)))


@pytest.mark.parametrize(
    ("process", "least", "most"),
    [
        (dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000), 0.9468, 4.5),
        (dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=40_000), 2.033, 11.26),
        (MIXED, 2.3, 4.3),
        (Gaussian(noise_multiplier=1.0), 4.377178, 4.377179),
    ],
)
def test_other_steps_have_an_upper_end_above_the_truth_and_below_advanced(process, least, most):
    claim = optimal(process).epsilon(1e-5)
    assert claim.lower == 0.0 and least < epsilon_bounds(process, delta=1e-5).lower < claim.upper <= most
    assert claim.upper <= Advanced().profile(process, adjacency=ADD_REMOVE).epsilon(1e-5).upper * (1 + 1e-9)


def test_a_sampled_guarantee_has_two_losses_of_its_own_and_costs_the_truth():
    process = Repeat(Sampled(guarantee(1.0), Poisson(probability=0.1)), 50)
    truth = PLD().profile(process, adjacency=ADD_REMOVE).epsilon(1e-6)
    assert truth.lower <= optimal(process).epsilon(1e-6).upper <= truth.upper * (1 + 1e-5)


@seldom
@given(processes(ADD_REMOVE, most=2), st.integers(1, 40), deltas)
def test_basic_is_never_below_advanced_nor_that_below_optimal(process, times, delta):
    process = Repeat(process, times)
    basic, advanced, least = (kind().profile(process, adjacency=ADD_REMOVE) for kind in (Basic, Advanced, Optimal))
    points = np.array([0.0, 0.1, 0.7, 2.0, 9.0, 40.0])
    assert np.all(least.delta(points).upper <= advanced.delta(points).upper * (1 + 1e-9) + 1e-15)
    assert np.all(advanced.delta(points).upper <= basic.delta(points).upper)
    ends = [found.epsilon(delta).upper for found in (least, advanced, basic)]
    assert ends[0] <= ends[1] * (1 + 1e-9) and ends[1] <= ends[2] * (1 + 1e-9)
    assert COARSE.profile(process, adjacency=ADD_REMOVE).epsilon(delta).lower <= ends[0]


# What must be answered properly whatever it is


@pytest.mark.thinned(7)
@pytest.mark.parametrize("delta", [0.0, 1e-9, 0.3, 1.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 800.0, 1e5, 1e200])
@pytest.mark.parametrize("times", [1, 10**6, 2**53])
def test_any_guarantee_any_number_of_times_is_answered_properly(epsilon, delta, times):
    many = Repeat(guarantee(epsilon, delta), times)
    for process in (many, Compose((many, guarantee(0.5, 1e-4)))):
        found = optimal(process)
        for asked in (0.0, 1e-300, 1e-6, 0.5, 1.0):
            claim = found.epsilon(asked)
            assert 0.0 <= claim.lower <= claim.upper
        bounds = found.delta(np.array([0.0, 1.0, 1e5, 1e308]))
        assert np.all((bounds.lower >= 0.0) & (bounds.upper <= 1.0) & (bounds.upper >= delta * (1 - 1e-12)))


def test_guarantees_about_other_neighbours_are_refused():
    with pytest.raises(UnsupportedProcess, match="Use adjacency='replace_one'"):
        optimal(Compose((guarantee(1.0), PureDP(epsilon=1.0, adjacency="replace_one"))))
