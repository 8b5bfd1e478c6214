"""Laws that hold for every accountant and every process: stated once, checked over everything there is."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import available
from accountant.pld import PLD
from mechanisms import (
    Adjacency,
    Compose,
    DPError,
    Gaussian,
    Laplace,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.strategies import ADD_REMOVE, REPLACE_ONE, deltas, gaussians, noise_multipliers, probabilities, processes

COARSE = PLD(relative_width=1e-4, most_points=2**14)
ACCOUNTANTS = {name: COARSE if name == "pld" else kind() for name, kind in available().items() if name != "tightest"}
EPSILONS = np.array([0.0, 0.05, 0.3, 1.0, 2.5, 6.0])

every_accountant = pytest.mark.parametrize("accountant", ACCOUNTANTS.values(), ids=ACCOUNTANTS)
adjacencies = st.sampled_from((ADD_REMOVE, REPLACE_ONE))


def profile(accountant, process, adjacency):
    try:
        return accountant.profile(process, adjacency=adjacency)
    except UnsupportedProcess as refusal:
        assert "Use" in str(refusal) or "use" in str(refusal)
        return None


def epsilon(found, delta):
    try:
        return found.epsilon(delta)
    except NumericalFailure:
        assert found.method == "contour"
        return None


def or_hands_over(law):
    """Let `contour` alone fail, where it says that `pld` has the better route: few steps, rare jumps."""

    @functools.wraps(law)
    def attempt(*args, **kwargs):
        try:
            law(*args, **kwargs)
        except NumericalFailure as failure:
            assert "contour" in str(failure) and "Use accountant='pld'" in str(failure)

    return attempt


@st.composite
def cases(draw):
    adjacency = draw(adjacencies)
    return draw(processes(adjacency)), adjacency


@every_accountant
@given(cases(), st.integers(0, 4), deltas)
@or_hands_over
def test_repeating_is_composing_with_itself(accountant, case, times, delta):
    process, adjacency = case
    repeated = profile(accountant, Repeat(process, times), adjacency)
    composed = profile(accountant, Compose((process,) * times), adjacency)
    assert (repeated is None) == (composed is None)
    if repeated is not None:
        assert repeated.epsilon(delta) == composed.epsilon(delta)


@every_accountant
@given(cases(), cases(), deltas)
@or_hands_over
def test_order_and_nesting_make_no_difference(accountant, one, other, delta):
    adjacency = one[1]
    if other[1] is not adjacency:
        other = (Gaussian(noise_multiplier=2.0), adjacency)
    here = profile(accountant, Compose((one[0], Compose((other[0],)))), adjacency)
    there = profile(accountant, Compose((other[0], one[0])), adjacency)
    if here is not None and there is not None:
        assert here.epsilon(delta) == there.epsilon(delta)


@every_accountant
@given(cases())
@or_hands_over
def test_delta_never_rises_with_epsilon_and_is_convex_in_its_exponential(accountant, case):
    found = profile(accountant, *case)
    if found is None:
        return
    bounds = found.delta(EPSILONS)
    assert np.all(bounds.lower[1:] <= bounds.upper[:-1])
    x = np.exp(EPSILONS)
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    chord = (1 - share) * bounds.upper[:-2] + share * bounds.upper[2:]
    assert np.all(bounds.lower[1:-1] <= chord * (1 + 1e-12))


@every_accountant
@given(cases(), st.sampled_from((0.1, 0.7, 2.0)))
@or_hands_over
def test_epsilon_of_delta_of_epsilon_is_no_larger(accountant, case, epsilon):
    found = profile(accountant, *case)
    if found is not None:
        delta = found.delta(epsilon).upper
        assert found.epsilon(delta).lower <= epsilon


@every_accountant
@given(noise_multipliers, probabilities, st.sampled_from((1, 2, 5, 300)), deltas)
@or_hands_over
def test_poisson_sampling_never_hurts(accountant, noise, probability, times, delta):
    gaussian = Gaussian(noise_multiplier=noise)
    plain = profile(accountant, Repeat(gaussian, times), ADD_REMOVE)
    sampled = profile(accountant, Repeat(Sampled(gaussian, Poisson(probability=probability)), times), ADD_REMOVE)
    if plain is not None and sampled is not None:
        assert sampled.epsilon(delta).lower <= plain.epsilon(delta).upper


@every_accountant
@pytest.mark.parametrize("adjacency", list(Adjacency))
@pytest.mark.parametrize("empty", [Compose(()), Repeat(Gaussian(noise_multiplier=1.0), 0)], ids=["nothing", "never"])
def test_the_empty_process_costs_nothing(accountant, adjacency, empty):
    found = accountant.profile(empty, adjacency=adjacency)
    assert found.epsilon(0.0).upper == 0.0
    assert found.delta(0.0).upper == 0.0


@given(cases(), deltas)
def test_all_intervals_that_bound_the_same_number_intersect(case, delta):
    process, adjacency = case
    found = {name: profile(accountant, process, adjacency) for name, accountant in ACCOUNTANTS.items()}
    claims = [answer for claim in found.values() if claim is not None and (answer := epsilon(claim, delta))]
    assert max(claim.lower for claim in claims) <= min(claim.upper for claim in claims)
    assert all(claim.lower >= 0 and not math.isnan(claim.upper) for claim in claims)


@given(cases(), deltas)
def test_the_bracket_is_narrow(case, delta):
    claim = COARSE.profile(case[0], adjacency=case[1]).epsilon(delta)
    assert claim.width <= 2e-2 * claim.upper + 1e-3


@given(gaussians, probabilities, st.integers(1, 50), deltas)
def test_a_finer_grid_never_raises_the_upper_end(gaussian, probability, times, delta):
    process = Repeat(Sampled(gaussian, Poisson(probability=probability)), times)
    ends = [
        PLD(relative_width=width, most_points=2**16).profile(process, adjacency=ADD_REMOVE).epsilon(delta).upper
        for width in (1.6e-3, 4e-4)
    ]
    assert ends[1] <= ends[0] * (1 + 1e-9) + 1e-9


@every_accountant
@pytest.mark.parametrize("epsilon", [math.nan, "1", None, object()])
def test_what_is_no_number_is_refused(accountant, epsilon):
    noise = Gaussian(noise_multiplier=1.0)
    steps = (noise, Laplace(noise_multiplier=1.0), Sampled(noise, Poisson(probability=0.1)))
    found = next(profile(accountant, step, ADD_REMOVE) for step in steps if accountant.supports(step, ADD_REMOVE))
    with pytest.raises(DPError):
        found.delta(epsilon)
    with pytest.raises(DPError):
        found.epsilon(epsilon)
