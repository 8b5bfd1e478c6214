"""Randomised response: its pair, its exact law, and what it refuses."""

import contextlib
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import (
    Adjacency,
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    RandomizedResponse,
    Repeat,
    UnsupportedProcess,
)
from mechanisms.core.bounds import Bounds
from tests.strategies import REPLACE_ONE


def pair_of(epsilon, categories):
    return RandomizedResponse(epsilon=epsilon, categories=categories).pairs(REPLACE_ONE)["replace"]


@pytest.mark.parametrize("categories", [2, 3, 7])
def test_nothing_is_left_beyond_the_largest_loss(categories):
    """So that `basic` and those that use it have a finite ε at δ = 1e-15, which 1e-16 left at every step was above."""
    pair = pair_of(math.log(3), categories)
    assert pair.delta(Bounds.exact(pair.supremum.upper)).upper <= 1e-300
    mixed = Compose((RandomizedResponse(epsilon=math.log(3), categories=categories), Gaussian(noise_multiplier=25.0)))
    found = epsilon_bounds(Repeat(mixed, 3), delta=1e-15, adjacency="replace_one", accountant="basic")
    assert found.upper < 6.0


@given(st.floats(0.0, 30.0), st.integers(2, 10**12))
def test_the_distance_of_two_answers_is_that_of_their_laws(epsilon, categories):
    with mp.workdps(40):
        weight = mp.exp(mp.mpf(epsilon))
        truth = mp.expm1(mp.mpf(epsilon)) / (weight + categories - 1)
        found = pair_of(epsilon, categories).delta(Bounds.exact(0.0))
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)


@given(st.floats(0.0, 30.0), st.integers(2, 1000))
def test_one_answer_costs_its_epsilon_and_no_less(epsilon, categories):
    pair = pair_of(epsilon, categories)
    assert pair.supremum.contains(epsilon)
    assert pair.delta(Bounds.exact(epsilon)).contains(0.0)
    assert pair.attained and pair.infinite_mass.upper == 0.0


@given(st.floats(0.0, 30.0), st.integers(2, 1000))
def test_masses_sum_to_one(epsilon, categories):
    masses = pair_of(epsilon, categories).masses
    assert math.fsum(mass.lower for mass in masses) <= 1 <= math.fsum(mass.upper for mass in masses)


@pytest.mark.parametrize("adjacency", [Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT])
def test_neighbours_that_do_not_answer_are_refused(adjacency):
    with pytest.raises(UnsupportedProcess, match=f"its neighbours are replace_one, got {adjacency.value}"):
        RandomizedResponse(epsilon=1.0).pairs(adjacency)


@pytest.mark.parametrize(("epsilon", "categories", "own"), [(0.0, 2, 0), (math.log(3), 2, 1), (1.0, 4, 2), (3.0, 7, 0)])
def test_answers_follow_their_law(epsilon, categories, own):
    answers = RandomizedResponse(epsilon=epsilon, categories=categories).release(
        np.full(40_000, own), randomness=KeyedSource(1)
    )
    weights = np.where(np.arange(categories) == own, math.exp(epsilon), 1.0)
    expected = len(answers) * weights / weights.sum()
    assert stats.chisquare(np.bincount(answers, minlength=categories), expected).pvalue > 1e-4


def test_answers_of_one_source_are_independent():
    answers = RandomizedResponse(epsilon=0.0, categories=2).release(
        np.zeros(4_000, dtype=int), randomness=KeyedSource(1)
    )
    assert stats.chisquare(np.bincount(answers.reshape(-1, 4) @ [1, 2, 4, 8], minlength=16)).pvalue > 1e-4


def test_a_category_comes_back_as_an_int_and_an_array_in_its_shape():
    response, source = RandomizedResponse(epsilon=1.0, categories=3), KeyedSource(0)
    assert type(response.release(np.uint8(2), randomness=source)) is int
    released = response.release([[0, 1], [2, 2]], randomness=source)
    assert released.shape == (2, 2) and released.dtype == np.int64


def test_an_enormous_epsilon_tells_the_truth():
    assert RandomizedResponse(epsilon=1e6, categories=9).release(4, randomness=KeyedSource(0)) == 4


@pytest.mark.parametrize("value", [-1, 3, 0.5, "0", None, True, [0, 3], 2**70])
def test_what_is_no_category_is_refused(value):
    with pytest.raises(InvalidParameter, match=r"value must hold whole numbers in \[0, 3\)"):
        RandomizedResponse(epsilon=1.0, categories=3).release(value, randomness=KeyedSource(0))


@pytest.mark.parametrize("categories", [2**62 + 3, 2**63])
def test_answers_fill_the_machine_word(categories):
    response = RandomizedResponse(epsilon=1.0, categories=categories)
    own = np.full(4_000, categories // 2)
    answers = response.release(own, randomness=KeyedSource(0))
    assert not np.any(answers == own) and stats.kstest(answers / categories, "uniform").pvalue > 1e-4


def test_more_categories_than_a_machine_word_holds_are_described_but_not_answered():
    with pytest.raises(InvalidParameter, match=r"categories must be at most 2\^63"):
        RandomizedResponse(epsilon=1.0, categories=2**63 + 1).release(0, randomness=KeyedSource(0))
    with pytest.raises(InvalidParameter, match=r"categories must be at most 2\^31 for a table"):
        RandomizedResponse(epsilon=1.0, categories=2**31 + 1).frequencies([0])


def test_as_many_words_are_drawn_whatever_the_records_hold():
    def drawn(own):
        source = KeyedSource(4)
        RandomizedResponse(epsilon=1.0, categories=5).release(own, randomness=source)
        return source.reserve("randomized_response", 0)

    assert drawn(np.zeros(500, dtype=int)) == drawn(np.arange(500) % 5)


@pytest.mark.parametrize("categories", [2, 5])
def test_estimates_are_unbiased_and_vary_as_stated(categories):
    response, runs = RandomizedResponse(epsilon=1.2, categories=categories), 1_000
    records = np.append(np.repeat(np.arange(categories), 40), np.zeros(60, dtype=int))
    released = response.release(np.tile(records, (runs, 1)), randomness=KeyedSource(0))
    found = np.array([response.frequencies(answers) for answers in released])
    for category in (0, 1):
        share = float(np.mean(records == category))
        variance = response.frequency_variance(share, records=len(records))
        assert abs(found[:, category].mean() - share) <= 4 * math.sqrt(variance / runs)
        assert abs(found[:, category].var() / variance - 1) <= 4 * math.sqrt(2 / runs)
    assert np.allclose(found.sum(axis=1), 1.0)


@given(st.floats(0.01, 30.0), st.integers(2, 1000))
def test_the_variance_of_an_absent_category_is_that_published(epsilon, categories):
    found = RandomizedResponse(epsilon=epsilon, categories=categories).frequency_variance(0.0, records=3)
    truth = (categories - 2 + math.exp(epsilon)) / math.expm1(epsilon) ** 2 / 3
    assert found == pytest.approx(truth, rel=1e-11)


@pytest.mark.parametrize(
    ("epsilon", "answers", "message"),
    [
        (0.0, [0, 1], "answers must depend on the records"),
        (5e-324, [0, 1], "answers must depend on the records"),
        (1.0, [], "from one record at least"),
        (1.0, [0, 2], r"answers must hold whole numbers in \[0, 2\)"),
        (1.0, "01", "answers must hold whole numbers"),
    ],
)
def test_estimates_from_nothing_are_refused(epsilon, answers, message):
    with pytest.raises(InvalidParameter, match=message):
        RandomizedResponse(epsilon=epsilon).frequencies(answers)


@pytest.mark.parametrize(
    ("frequency", "records", "message"), [(1.5, 3, r"frequency must lie in \[0, 1\]"), (0.5, 0, "records must be at")]
)
def test_variances_of_impossible_frequencies_are_refused(frequency, records, message):
    with pytest.raises(InvalidParameter, match=message):
        RandomizedResponse(epsilon=1.0).frequency_variance(frequency, records=records)


def test_a_sensitivity_other_than_one_is_refused():
    with pytest.raises(InvalidParameter, match=r"sensitivity must be 1 for a category, got 2\.0"):
        RandomizedResponse(epsilon=1.0).release(0, sensitivity=2.0, randomness=KeyedSource(0))


def test_categories_beyond_floats_are_described_or_refused():
    with contextlib.suppress(InvalidParameter):
        pair_of(1.0, 10**400)
