"""Laws that hold for every accountant and every process: stated once, checked over everything there is.

Each law also asks for answers within the accountant's budget (`tests.contracts.budgets`) wherever it answers, and in
`test_budgets.py` for the process that the accountant is made for: who says [0, ∞] keeps none of them.
"""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    from_json,
    to_json,
)
from tests.contracts.budgets import HOMES, NARROW, Case, answer, assert_within, at_home, certified
from tests.contracts.coarse import COARSE, ROUTES
from tests.strategies import (
    ADD_REMOVE,
    REPLACE_ONE,
    SCHEMES,
    Tabulated,
    all_processes,
    deltas,
    gaussians,
    probabilities,
    processes,
    seldom,
    tables,
)

EPSILONS = np.array([0.0, 0.05, 0.3, 1.0, 2.5, 6.0])

every_accountant = pytest.mark.parametrize("accountant", ROUTES.values(), ids=ROUTES)
adjacencies = st.sampled_from(Adjacency)
accountants = st.sampled_from(tuple(ROUTES.values()))


def profile(accountant, process, adjacency):
    try:
        return accountant.profile(process, adjacency=adjacency)
    except UnsupportedProcess as refusal:
        assert "Use" in str(refusal) or "use" in str(refusal)
        return None


def or_hands_over(law):
    """Let `contour` alone fail, where it names a better route: few steps, rare jumps."""

    @functools.wraps(law)
    def attempt(accountant, *args, **kwargs):
        try:
            law(accountant, *args, **kwargs)
        except NumericalFailure as failure:
            assert "contour" in str(failure) and "Use accountant=" in str(failure)
            asked = [case for case in (*args, *kwargs.values()) if isinstance(case, Case)]
            assert not any(at_home(accountant.name, case) for case in asked)

    return attempt


@st.composite
def cases(draw):
    adjacency = draw(adjacencies)
    return Case(process=draw(all_processes(adjacency)), adjacency=adjacency, delta=draw(deltas))


@given(accountants, cases(), st.integers(0, 3))
@or_hands_over
def test_repeating_is_composing_with_itself(accountant, case, times):
    case = replace(case, process=Repeat(case.process, times))
    repeated = profile(accountant, case.process, case.adjacency)
    composed = profile(accountant, Compose((case.process.part,) * times), case.adjacency)
    assert (repeated is None) == (composed is None)
    if repeated is not None:
        assert answer(accountant, repeated, case) in (None, composed.epsilon(case.delta))


@given(accountants, cases(), st.data())
def test_order_and_nesting_make_no_difference(accountant, case, data):
    order_makes_no_difference(accountant, case, data.draw(all_processes(case.adjacency)))


@or_hands_over
def order_makes_no_difference(accountant, case, other):
    here = profile(accountant, Compose((case.process, Compose((other,)))), case.adjacency)
    there = profile(accountant, Compose((other, case.process)), case.adjacency)
    assert (here is None) == (there is None)
    if here is not None:
        case = replace(case, process=Compose((other, case.process)))
        assert answer(accountant, there, case) in (None, here.epsilon(case.delta))


@given(accountants, cases())
@or_hands_over
def test_delta_never_rises_with_epsilon_and_is_convex_in_its_exponential(accountant, case):
    found = profile(accountant, case.process, case.adjacency)
    if found is None:
        return
    answer(accountant, found, case)
    bounds = found.delta(EPSILONS)
    assert np.all(bounds.lower[1:] <= bounds.upper[:-1])
    x = np.exp(EPSILONS)
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    chord = (1 - share) * bounds.upper[:-2] + share * bounds.upper[2:]
    assert np.all(bounds.lower[1:-1] <= chord * (1 + 1e-12))


@given(accountants, cases(), st.sampled_from((0.1, 0.7, 2.0)))
@or_hands_over
def test_epsilon_of_delta_of_epsilon_is_no_larger(accountant, case, epsilon):
    found = profile(accountant, case.process, case.adjacency)
    if found is not None:
        answer(accountant, found, case)
        delta = found.delta(epsilon).upper
        assert found.epsilon(delta).lower <= epsilon


@st.composite
def sampled(draw):
    """A step on samples that never hurt, and what it may cost at most: the step itself, between replaced records."""
    scheme = draw(st.builds(Poisson, probability=probabilities) | st.just(SCHEMES[1]))
    step = draw(gaussians | st.just(Laplace(noise_multiplier=2.0)))
    times, adjacency, delta = draw(st.sampled_from((1, 2, 5, 300))), draw(adjacencies), draw(deltas)
    case = Case(process=Repeat(Sampled(step, scheme), times), adjacency=adjacency, delta=delta)
    return case, Case(process=Repeat(step, times), adjacency=_worst(scheme, adjacency), delta=delta)


def _worst(scheme, adjacency):
    return adjacency if isinstance(scheme, Poisson) else REPLACE_ONE


@given(accountants, sampled())
def test_poisson_and_fixed_size_sampling_never_hurt(accountant, both):
    case, whole = both
    found = profile(accountant, case.process, case.adjacency)
    plain = profile(accountant, whole.process, whole.adjacency)
    if found is None:
        return
    claim = answer(accountant, found, case)
    most = answer(accountant, plain, whole) if plain is not None else None
    if claim is not None and most is not None:
        assert claim.lower <= most.upper


@given(accountants, tables(), st.integers(1, 2), deltas)
def test_post_processing_never_hurts(accountant, table, times, delta):
    """The first two outcomes are no longer told apart."""
    less = Tabulated(p=(table.p[0] + table.p[1], *table.p[2:]), q=(table.q[0] + table.q[1], *table.q[2:]))
    ends = []
    for one in (table, less):
        case = Case(process=Repeat(one, times), adjacency=ADD_REMOVE, delta=delta)
        found = profile(accountant, case.process, ADD_REMOVE)
        ends.append(answer(accountant, found, case) if found is not None else None)
    if ends[0] is not None and ends[1] is not None:
        assert ends[1].lower <= ends[0].upper


def enumerated(parts, epsilons):
    """Σ (P − e^ε Q)₊ over all sequences of outcomes, to about 1e-15."""
    p, q = (functools.reduce(np.multiply.outer, [np.array(part[side]) for part in parts]) for side in (0, 1))
    return np.array([np.maximum(p - math.exp(epsilon) * q, 0.0).sum() for epsilon in epsilons])


@given(accountants, tables(), tables(), st.integers(1, 2))
@or_hands_over
def test_the_worse_of_two_directions_that_are_fixed_for_the_whole_run_counts(accountant, one, other, times):
    """Of lopsided steps: never an order of the neighbours in one step and the other order in the next."""
    case = Case(process=Compose((Repeat(one, times), other)), adjacency=ADD_REMOVE, delta=1e-3)
    found = profile(accountant, case.process, ADD_REMOVE)
    if found is None:
        return
    parts = [(one.p, one.q)] * times + [(other.p, other.q)]
    truth = np.maximum(enumerated(parts, EPSILONS), enumerated([part[::-1] for part in parts], EPSILONS))
    answer(accountant, found, case)
    bounds = found.delta(EPSILONS)
    assert np.all(bounds.lower <= truth * (1 + 1e-12) + 1e-14) and np.all(truth <= bounds.upper * (1 + 1e-12) + 1e-14)


@given(accountants, cases())
@or_hands_over
def test_what_was_priced_comes_back_from_json_with_its_price(accountant, case):
    copy = from_json(to_json(case.process))
    assert copy == case.process
    found = profile(accountant, case.process, case.adjacency)
    if found is not None:
        again = profile(accountant, copy, case.adjacency)
        assert answer(accountant, again, case) in (None, found.epsilon(case.delta))


@every_accountant
@pytest.mark.parametrize("adjacency", list(Adjacency))
@pytest.mark.parametrize("empty", [Compose(()), Repeat(Gaussian(noise_multiplier=1.0), 0)], ids=["nothing", "never"])
def test_the_empty_process_costs_nothing(accountant, adjacency, empty):
    found = accountant.profile(empty, adjacency=adjacency)
    assert found.epsilon(0.0).upper == 0.0
    assert found.delta(0.0).upper == 0.0


def intersect(routes, case):
    found = {name: profile(accountant, case.process, case.adjacency) for name, accountant in routes.items()}
    answers = [answer(routes[name], claim, case) for name, claim in found.items() if claim is not None]
    claims = [claim for claim in answers if claim is not None]
    if claims:
        assert max(claim.lower for claim in claims) <= min(claim.upper for claim in claims)
        assert not any(math.isnan(claim.upper) for claim in claims)


@seldom
@given(cases())
def test_all_intervals_that_bound_the_same_number_intersect(case):
    intersect(ROUTES, case)


@given(adjacencies, st.data(), deltas)
def test_the_bracket_is_narrow(adjacency, data, delta):
    claim = COARSE.profile(data.draw(processes(adjacency)), adjacency=adjacency).epsilon(delta)
    assert claim.width <= 2e-2 * claim.upper + 1e-3


def finer_is_no_wider(kind, case):
    profiles = [kind(relative_width=width, most_points=2**16) for width in (1.6e-3, 4e-4)]
    ends = [one.profile(case.process, adjacency=case.adjacency).epsilon(case.delta) for one in profiles]
    assert ends[1].upper <= ends[0].upper * (1 + 1e-9) + 1e-9
    assert_within(ends[0], certified(case), NARROW)


@seldom
@given(gaussians, probabilities, st.integers(1, 50), deltas)
def test_a_finer_grid_never_raises_the_upper_end(gaussian, probability, times, delta):
    process = Repeat(Sampled(gaussian, Poisson(probability=probability)), times)
    finer_is_no_wider(PLD, Case(process=process, adjacency=ADD_REMOVE, delta=delta))


@every_accountant
@pytest.mark.parametrize("epsilon", [math.nan, "1", None, object()])
def test_what_is_no_number_is_refused(accountant, epsilon):
    home = HOMES[accountant.name]
    found = accountant.profile(home.process, adjacency=home.adjacency)
    with pytest.raises(DPError):
        found.delta(epsilon)
    with pytest.raises(DPError):
        found.epsilon(epsilon)
