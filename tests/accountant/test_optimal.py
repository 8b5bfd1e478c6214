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
from tests.strategies import ADD_REMOVE, REPLACE_ONE, deltas, guarantees, processes


def optimal(process, adjacency=ADD_REMOVE):
    return Optimal().profile(process, adjacency=adjacency)


def guarantee(epsilon, delta=0.0):
    return ApproximateDP(epsilon=epsilon, delta=delta, adjacency="add_remove")


def listed(epsilons, delta=0.0):
    return Compose(tuple(guarantee(epsilon, delta) for epsilon in epsilons))


# Equal steps [KOV15]: "computed" are computed by others from the sum; the grid's frontier was published by a library

COMPUTED = [
    (0.1, 100, 0.0, 1e-6, 4.774567588111484),
    (0.1, 1_000, 0.0, 1e-6, 19.344671448008853),
    (0.01, 10_000, 0.0, 1e-5, 4.376384509259982),
    (1.0, 10, 0.0, 1e-6, 9.999977065820735),
    (0.5, 50, 0.0, 1e-5, 18.933283338329066),
    (1.0, 30, 1e-3, 0.06, 21.709612624528212),
    (1.0, 30, 1e-3, 0.1, 19.81737917005211),
]
FRONTIERS = [
    (0.1, 10, 0.0, [0.0, 0.0002882338576186694, 0.0031322675761114027, 0.01608013199321301, 0.05230441400313113,
                    0.12253622356149252]),
    (0.1, 30, 0.0, [0.0, 7.287637160402483e-10, 2.1107804393238894e-08, 2.9734039053153083e-07, 2.7154190468392514e-06,
                    1.8082651332629318e-05, 9.365442528730394e-05, 0.00039301004044989263, 0.0013748441393761635,
                    0.004095269303991955, 0.010561676338629922, 0.023910906321817582, 0.04809205987014875,
                    0.08687512517719764, 0.14241366971535574, 0.2140188255911184]),
    (0.5, 20, 1e-6, [1.9999810001669616e-05, 6.819579549011134e-05, 0.0006705729651735881, 0.0042609344612840605,
                     0.01784128951708508, 0.05443930399183572, 0.12923938051301442, 0.24976283818340783,
                     0.4069229789160145, 0.5759377549827431, 0.7280421180296441]),
    (1.0, 30, 1e-3, [0.029569032736914247, 0.029638595642847765, 0.030415732847257848, 0.03461613420704557,
                     0.04924572931831506, 0.08614204054621144, 0.15792956773642275, 0.27002910396235436,
                     0.41433735233913627, 0.5704497751802724, 0.7144005227453629, 0.8287688334121293,
                     0.9077139275025682, 0.9553659899800864, 0.9806454451773662, 0.9924784117706373]),
]  # fmt: skip


@pytest.mark.parametrize(("epsilon", "times", "lost", "delta", "published"), COMPUTED)
def test_equal_steps_cost_the_published_epsilon(epsilon, times, lost, delta, published):
    claim = optimal(Repeat(guarantee(epsilon, lost), times)).epsilon(delta)
    assert claim.lower - 1e-9 <= published <= claim.upper + 1e-9
    assert claim.width <= 1e-9


@pytest.mark.parametrize(("epsilon", "times", "lost", "frontier"), FRONTIERS)
def test_the_frontier_at_multiples_of_epsilon_is_the_published_one(epsilon, times, lost, frontier):
    found = optimal(Repeat(guarantee(epsilon, lost), times))
    for i, delta in enumerate(frontier):
        bounds = found.delta((times - 2 * i) * epsilon)
        assert bounds.lower - 1e-12 <= delta <= bounds.upper + 1e-12
        assert bounds.width <= 1e-12


@pytest.mark.parametrize(("delta", "published"), [(0.06, 22), (0.1, 20)])
def test_the_published_integers_are_the_next_multiples_of_epsilon(delta, published):
    """A multiple of ε in steps of 2 lies up to 2 above the truth, here .29 and .18."""
    end = optimal(Repeat(guarantee(1.0, 1e-3), 30)).epsilon(delta).upper
    assert published - 2 < end < published == 30 - 2 * math.floor((30 - end) / 2)


# Unequal steps [MV16], to the tolerance of 1e-10 of values computed by sums over all sets of steps

UNEQUAL_DELTAS = [
    ((0.1, 0.2, 0.3, 0.4, 0.5), 0.0, 0.2978310078256585),
    ((0.1, 0.2, 0.3, 0.4, 0.5), 0.25, 0.21301171390647933),
    ((0.1, 0.2, 0.3, 0.4, 0.5), 0.5, 0.13787458056365876),
    ((0.1, 0.2, 0.3, 0.4, 0.5), 1.0, 0.04361885468990012),
    ((0.1, 0.2, 0.3, 0.4, 0.5), 1.5, 0.0),
    ((0.3, 0.7, 1.1), 0.0, 0.5005202111902352),
    ((0.3, 0.7, 1.1), 0.25, 0.4467325521222144),
    ((0.3, 0.7, 1.1), 0.5, 0.3906128383639451),
    ((0.3, 0.7, 1.1), 1.0, 0.2760594457816281),
    ((0.3, 0.7, 1.1), 1.5, 0.12993161741401638),
    ((1.0, 0.5, 0.25, 0.125), 0.0, math.tanh(0.5)),
    ((1.0, 0.5, 0.25, 0.125), 1.0, 0.179049889217),
]
UNEQUAL_EPSILONS = [
    ((0.1, 0.2, 0.3, 0.4, 0.5), 1e-2, 1.323461474717297),
    ((0.1, 0.2, 0.3, 0.4, 0.5), 1e-3, 1.483684268180843),
    ((0.1,) * 5 + (0.2,) * 5, 1e-2, 0.8790187224359922),
    ((0.1,) * 5 + (0.2,) * 5, 1e-3, 1.2386836634599854),
    ((0.3, 0.7, 1.1), 1e-2, 2.0646576902785156),
    ((0.3, 0.7, 1.1), 1e-3, 2.0965214505261764),
    ((1.0, 0.5, 0.25, 0.125), 1e-2, 1.798565349839),
]


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
    """1 − Π (1 − d_i) (1 − Σ_S max(e^{ε(S)} − e^ε e^{ε(S')}, 0)/Π (1 + e^{ε_i})) in 60 digits."""
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
        with mp.workdps(60):
            truth, bounds = over_all_sets(steps, epsilon), found.delta(epsilon)
            assert mp.mpf(bounds.lower) <= truth <= mp.mpf(bounds.upper)
            assert mp.mpf(bounds.upper) - mp.mpf(bounds.lower) <= mp.mpf("1e-11") * truth + mp.mpf("1e-13")


# Against the accountants of the same class


@given(st.lists(guarantees(ADD_REMOVE), min_size=1, max_size=4), st.integers(1, 4), deltas)
def test_guarantees_are_bracketed_by_pld_too(steps, times, delta):
    process = Repeat(Compose(tuple(steps)), times)
    coarse = PLD(relative_width=1e-4, most_points=2**14).profile(process, adjacency=ADD_REMOVE)
    assert optimal(process).epsilon(delta).overlaps(coarse.epsilon(delta))


@pytest.mark.parametrize("times", [1, 40, 10**6])
def test_equal_guarantees_are_answered_as_in_closed_form(times):
    process = Repeat(RandomizedResponse(epsilon=0.3), times)
    ours, theirs = (kind().profile(process, adjacency=REPLACE_ONE) for kind in (Optimal, ClosedForm))
    for delta in (0.0, 1e-300, 1e-9, 0.3):
        one, other = ours.epsilon(delta), theirs.epsilon(delta)
        assert (one.lower, one.upper) == (other.lower, other.upper)


def test_a_million_steps_are_answered_in_a_second():
    before = time.process_time()
    assert optimal(Repeat(guarantee(0.01, 1e-12), 10**6)).epsilon(1e-5).width <= 1e-9
    assert time.process_time() - before < 1.0


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


@given(processes(ADD_REMOVE), st.integers(1, 40), deltas)
def test_basic_is_never_below_advanced_nor_that_below_optimal(process, times, delta):
    process = Repeat(process, times)
    basic, advanced, least = (kind().profile(process, adjacency=ADD_REMOVE) for kind in (Basic, Advanced, Optimal))
    points = np.array([0.0, 0.1, 0.7, 2.0, 9.0, 40.0])
    assert np.all(least.delta(points).upper <= advanced.delta(points).upper * (1 + 1e-9) + 1e-15)
    assert np.all(advanced.delta(points).upper <= basic.delta(points).upper)
    ends = [found.epsilon(delta).upper for found in (least, advanced, basic)]
    assert ends[0] <= ends[1] * (1 + 1e-9) and ends[1] <= ends[2] * (1 + 1e-9)
    assert epsilon_bounds(process, delta=delta).lower <= ends[0]


# What must be answered properly whatever it is


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
