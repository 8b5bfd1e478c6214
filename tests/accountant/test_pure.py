"""The bracket by the largest loss alone, against closed forms and against what other accountants say."""

import math

import pytest

from accountant import epsilon_bounds
from accountant.pure import Pure
from mechanisms import (
    Adjacency,
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

ADD_REMOVE, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE
LAPLACE = Laplace(noise_multiplier=1.0)


def bounds(process, delta, adjacency=ADD_REMOVE):
    return Pure().profile(process, adjacency=adjacency).epsilon(delta)


@pytest.mark.parametrize("delta", [0.0, 1e-300, 1e-30, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(
    ("process", "adjacency"),
    [
        (LAPLACE, ADD_REMOVE),
        (Sampled(LAPLACE, Poisson(probability=0.1)), ADD_REMOVE),
        (Repeat(RandomizedResponse(epsilon=0.7), 12), REPLACE_ONE),
        (RandomizedResponse(epsilon=2.0, categories=5), REPLACE_ONE),
        (Repeat(PureDP(epsilon=0.2, adjacency="add_remove"), 50), ADD_REMOVE),
    ],
)
def test_exact_answers_lie_inside(process, adjacency, delta):
    exact = epsilon_bounds(process, delta=delta, adjacency=adjacency.value, accountant="closed_form")
    assert exact.overlaps(bounds(process, delta, adjacency))


def test_several_kinds_of_steps_are_bracketed_as_by_pld():
    parts = (
        Repeat(LAPLACE, 2),
        PureDP(epsilon=0.3, adjacency="add_remove"),
        Sampled(LAPLACE, Poisson(probability=0.4)),
    )
    process = Compose(parts)
    for delta in (1e-9, 1e-4, 1e-2, 0.3):
        other = epsilon_bounds(process, delta=delta, accountant="pld")
        assert other.overlaps(bounds(process, delta))


def test_far_below_the_likelihood_of_the_largest_loss_the_bracket_is_the_largest_loss():
    found = bounds(Repeat(Sampled(LAPLACE, Poisson(probability=0.01)), 20), 1e-40)
    largest = 20 * math.log1p(0.01 * math.expm1(1.0))
    assert found.lower <= largest <= found.upper and found.width < 1e-13
    assert bounds(Repeat(LAPLACE, 2000), 1e-30).lower == 0.0  # so many largest losses are never seen together


def test_the_profile_is_bracketed_by_the_one_outcome_and_by_certainty():
    curve = Pure().profile(Repeat(LAPLACE, 3), adjacency=ADD_REMOVE)
    found = curve.delta(2.0)
    assert found.lower <= 0.125 * -math.expm1(-1.0) <= found.lower * (1 + 1e-12)
    assert found.upper >= -math.expm1(-1.0) >= found.upper * (1 - 1e-12)
    assert curve.delta(3.5).upper == 0.0
    (line,) = curve.delta(2.0).ledger
    assert line.bound >= found.upper - found.lower and line.basis == "proved"


@pytest.mark.parametrize(
    "process",
    [
        Gaussian(noise_multiplier=1.0),
        ApproximateDP(epsilon=1.0, delta=1e-9, adjacency="add_remove"),
        Compose((LAPLACE, Gaussian(noise_multiplier=3.0))),
    ],
)
def test_unbounded_losses_are_refused_by_name(process):
    with pytest.raises(UnsupportedProcess, match=r"pure: .*pld"):
        Pure().profile(process, adjacency=ADD_REMOVE)


def test_pairs_that_only_dominate_have_no_lower_end():
    twice = Sampled(Sampled(LAPLACE, Poisson(probability=0.3)), Poisson(probability=0.1))
    found = bounds(twice, 1e-12)
    attained = all(pair.attained for pair in twice.pairs(ADD_REMOVE).values())
    assert (found.lower > 0) == attained and found.upper > 0
