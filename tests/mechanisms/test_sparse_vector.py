"""The sparse vector technique: its exact law against ε under neighbours, what runs against that law, and refusals."""

import contextlib
import copy
import itertools
import math
import os
import pickle
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import (
    Adjacency,
    BudgetExceeded,
    InvalidParameter,
    KeyedSource,
    PureDP,
    Repeat,
    SystemSource,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms import sparse_vector as module
from mechanisms.sparse_vector import SparseVector

ADD_REMOVE = Adjacency.ADD_REMOVE


def mechanism_of(**fields):
    return SparseVector(**{"epsilon": 1.0, "hits": 2, "adjacency": "add_remove"} | fields)


# The law of the answers, from the formulas of the paper


def at_least(rate, y):
    """P(ν >= y) of P(z) ∝ e^{−rate |z|}, without cancellation, y an array of integers."""
    decay = math.exp(-rate)
    tail = np.exp(-rate * np.where(y > 0, y, 1.0 - y)) / (1 + decay)
    return np.where(y > 0, tail, 1 - tail)


def sequences(queries, hits):
    """All answers that a run can give."""
    for answers in itertools.product((False, True), repeat=queries):
        stop = next((i + 1 for i in range(queries) if sum(answers[: i + 1]) == hits), queries)
        if answers == answers[:stop] + (False,) * (queries - stop):
            yield answers[:stop]


def probability(answers, queries, mechanism, movement):
    """P(answers) for a threshold of 0 and integer queries, by summing over the noise of the threshold."""
    first, second, _ = map(float, mechanism.shares)
    rate = second / (mechanism.hits * movement * (1 if mechanism.monotonic else 2))
    reach = int(60 * (1 + len(queries)) * movement / min(first, rate * movement)) + 2 * max(map(abs, queries))
    z = np.arange(-reach, reach + 1)
    terms = np.exp(-first / movement * np.abs(z)) * math.tanh(first / movement / 2)
    for query, above in zip(queries, answers, strict=False):
        terms *= at_least(rate, z - query) if above else at_least(rate, 1 - (z - query))
    return float(np.sum(terms))


def test_the_law_sums_to_one_over_all_answers():
    for hits, monotonic in itertools.product((1, 2, 3), (False, True)):
        mechanism = mechanism_of(hits=hits, monotonic=monotonic)
        total = sum(probability(a, (3, -1, 0, 2), mechanism, 2) for a in sequences(4, hits))
        assert total == pytest.approx(1.0, abs=1e-12)


@st.composite
def neighbours(draw):
    movement, monotonic = draw(st.sampled_from((1, 2, 5))), draw(st.booleans())
    queries = draw(st.lists(st.integers(-8 * movement, 8 * movement), min_size=1, max_size=5))
    sign = draw(st.sampled_from((-1, 1)))
    least = 0 if monotonic else -movement
    moves = [sign * draw(st.integers(least, movement)) for _ in queries]
    return movement, monotonic, tuple(queries), tuple(q + m for q, m in zip(queries, moves, strict=True))


@given(neighbours(), st.integers(1, 3), st.sampled_from((0.3, 1.0, 3.0)), st.sampled_from((0.0, 0.4)))
def test_no_answers_are_more_telling_than_epsilon(drawn, hits, epsilon, share):
    """Numbers of hits, if any, included: their noise is independent, so that they tell rate × movement more at most."""
    movement, monotonic, queries, moved = drawn
    mechanism = mechanism_of(epsilon=epsilon, hits=hits, monotonic=monotonic, numeric_share=share)
    rate = float(mechanism.shares[2]) / (hits * movement)
    for answers in sequences(len(queries), hits):
        one, other = (probability(answers, side, mechanism, movement) for side in (queries, moved))
        told = sum(rate * abs(a - b) for a, b, above in zip(queries, moved, answers, strict=False) if above)
        assert abs(math.log(one / other)) + told <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize(("hits", "below", "telling"), [(1, 2, 0.75), (1, 4, 0.999), (2, 6, 0.999), (3, 8, 0.999)])
def test_the_most_telling_answers_come_near_epsilon(hits, below, telling, monotonic):
    """Queries far above the threshold and yet below it, then those far below this and yet above it: a few will do."""
    mechanism, movement, far = mechanism_of(hits=hits, epsilon=2.0, monotonic=monotonic), 2, 400
    low, high = (far,) * below, (0 if monotonic else -far,) * hits
    one, other = low + high, tuple(q + movement for q in low) + tuple(q - movement * (not monotonic) for q in high)
    answers = (False,) * below + (True,) * hits
    found = math.log(probability(answers, one, mechanism, movement) / probability(answers, other, mechanism, movement))
    assert telling * 2.0 <= found <= 2.0 * (1 + 1e-9)


# What runs


@pytest.mark.parametrize(
    ("resolution", "sensitivity", "monotonic", "hits"), [(0, 1.0, False, 1), (1, 1.5, False, 2), (1, 3.0, True, 2)]
)
def test_what_runs_has_that_law(monkeypatch, resolution, sensitivity, monotonic, hits):
    """On a coarse grid, on which values and the threshold are rounded down, with a threshold other than 0."""
    monkeypatch.setattr(module, "RESOLUTION", resolution)
    mechanism, runs = mechanism_of(hits=hits, monotonic=monotonic, epsilon=3.0), 1_000
    grid = 2.0 ** (math.frexp(sensitivity)[1] - 1 - resolution)
    values, threshold = (2.3, -1.0, 0.7, 3.5), 1.2
    source, seen = KeyedSource(2), {}
    for _ in range(runs):
        answers = mechanism.release(values, sensitivity=sensitivity, threshold=threshold, randomness=source)
        seen[answers] = seen.get(answers, 0) + 1
    queries = [math.floor(value / grid) - math.floor(threshold / grid) for value in values]
    law = {a: probability(a, queries, mechanism, round(sensitivity / grid)) for a in sequences(4, hits)}
    counts, expected = zip(*((seen.get(a, 0), runs * law[a]) for a in law), strict=True)
    assert sum(counts) == runs and stats.chisquare(counts, expected).pvalue > 1e-4


def test_the_noise_is_as_wide_as_the_paper_says():
    """Of the comparison: Laplace noise of the scale Δ/ε₁ on the threshold and 2cΔ/ε₂ on the query."""
    mechanism, sensitivity, runs = mechanism_of(epsilon=1.5, hits=3), 0.7, 1_500
    first, second, _ = map(float, mechanism.shares)
    a, b = sensitivity / first, 6 * sensitivity / second
    gap = 4.0
    tail = (b**2 * math.exp(-gap / b) - a**2 * math.exp(-gap / a)) / (2 * (b**2 - a**2))
    source = KeyedSource(8)
    above = sum(mechanism.run(gap, sensitivity, source).ask(0.0) for _ in range(runs))
    assert stats.binomtest(above, runs, tail).pvalue > 1e-4


def test_numbers_have_fresh_noise_of_their_share():
    mechanism = mechanism_of(epsilon=2.0, hits=4, numeric_share=0.5)
    source = KeyedSource(1)
    found = [x for _ in range(150) for x in mechanism.release([900.0] * 4, sensitivity=0.5, randomness=source)]
    scale = 4 * 0.5 / (0.5 * 2.0)
    assert stats.kstest(np.array(found) - 900.0, stats.laplace(scale=scale).cdf).pvalue > 1e-4


def test_shares_add_to_epsilon_exactly_and_split_as_published():
    for monotonic, hits, share in itertools.product((False, True), (1, 7, 10**6), (0.0, 0.3)):
        mechanism = mechanism_of(epsilon=0.3, hits=hits, monotonic=monotonic, numeric_share=share)
        first, second, third = mechanism.shares
        assert first + second + third == Fraction(0.3) and third == Fraction(0.3) * Fraction(share)
        assert float(second / first) == pytest.approx(((1 if monotonic else 2) * hits) ** (2 / 3), rel=1e-14)


def test_values_are_rounded_down_as_they_are():
    """Integers beyond 2^53 differ by 1 still, and a sensitivity that is no power of two is rounded up."""
    session = mechanism_of().run(0.0, 0.3, KeyedSource(0))
    assert session._grid == Fraction(1, 2**22)
    session = mechanism_of(hits=1, numeric_share=0.5, epsilon=1e6).run(0.0, 1.0, KeyedSource(0))
    assert session.ask(2**53 + 1) in (2.0**53, 2.0**53 + 2)
    whole = [module._exactly(value) for value in (2**53 + 1, np.int64(2**53 + 1), np.uint64(2**53 + 1))]
    assert set(whole) == {Fraction(2**53 + 1)}
    assert (
        module._exactly(np.float32(0.1))
        == Fraction(float(np.float32(0.1)))
        == module._exactly(np.array(np.float32(0.1)))
    )


def test_nothing_is_answered_after_the_last_hit():
    session = mechanism_of(hits=2, epsilon=50.0).run(0.0, 1.0, KeyedSource(0))
    assert [session.ask(x) for x in (-99, 99, -99, 99)] == [False, True, False, True]
    for value in (99.0, math.nan):
        with pytest.raises(BudgetExceeded, match="all of its 2 hits are used up"):
            session.ask(value)


def test_a_batch_ends_with_its_last_hit_and_may_come_from_a_generator():
    mechanism = mechanism_of(hits=1, epsilon=50.0)
    asked = iter([-99.0, 99.0, 99.0, 99.0])
    assert mechanism.release(asked, sensitivity=1.0, randomness=KeyedSource(0)) == (False, True)
    assert len(list(asked)) == 2
    assert mechanism.release([], sensitivity=1.0, randomness=KeyedSource(0)) == ()
    assert mechanism.release(np.array([-99, -99]), sensitivity=1.0, randomness=KeyedSource(0)) == (False, False)


def test_sessions_of_one_source_have_noise_of_their_own():
    mechanism, source = mechanism_of(epsilon=0.1), KeyedSource(0)
    assert len({mechanism.run(0.0, 1.0, source)._threshold for _ in range(20)}) == 20


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_session_is_not_copied(how):
    with pytest.raises(InvalidParameter, match="a session can't be copied"):
        how(mechanism_of().run(0.0, 1.0, KeyedSource(0)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "7.25", None, True, [7.25], 7.25j, 10**400])
def test_what_is_no_query_is_refused_and_not_shown(value):
    session = mechanism_of().run(0.0, 1.0, KeyedSource(0))
    with pytest.raises(InvalidParameter, match=r"value must be a finite number\. Bound the query first") as caught:
        session.ask(value)
    assert "7.25" not in str(caught.value) and caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "sensitivity", "epsilon"),
    [
        (0, 1.0, 5e-324),
        (1.7e308, 5e-324, 1.0),
        (-1.7e308, 5e-324, 1.0),
        (5e-324, 1.7e308, 1.0),
        (-5e-324, 5e-324, 1e300),
        (1.7e308, 1.7e308, 1e300),
    ],
)
def test_extreme_numbers_are_answered(value, sensitivity, epsilon):
    answer = mechanism_of(epsilon=epsilon, hits=1, numeric_share=0.5).run(0.0, sensitivity, KeyedSource(0)).ask(value)
    assert answer is None or math.isfinite(answer)


@pytest.mark.parametrize(
    ("threshold", "sensitivity", "message"),
    [
        (math.nan, 1.0, "threshold must be a number"),
        (math.inf, 1.0, "threshold must be finite"),
        (0.0, 0.0, "sensitivity must be above 0"),
        (0.0, math.inf, "sensitivity must be finite"),
        ("0", 1.0, "threshold must be a real number"),
    ],
)
def test_bad_runs_are_refused(threshold, sensitivity, message):
    with pytest.raises(InvalidParameter, match=message):
        mechanism_of().run(threshold, sensitivity, KeyedSource(0))


@pytest.mark.parametrize("value", [3.0, "12", None])
def test_a_batch_that_is_no_sequence_is_refused(value):
    with pytest.raises(InvalidParameter, match="value must be a sequence of queries"):
        mechanism_of().release(value, sensitivity=1.0, randomness=KeyedSource(0))


# What is described


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"epsilon": math.nan}, "epsilon must be a number"),
        ({"hits": 0}, "hits must be at least 1"),
        ({"hits": 1.5}, "hits must be a whole number"),
        ({"hits": 10**20}, "hits must be at most"),
        ({"monotonic": 1}, "monotonic must be True or False, got 1"),
        ({"numeric_share": 1.0}, "numeric_share must be below 1"),
        ({"numeric_share": -0.1}, "numeric_share must lie in"),
        ({"adjacency": "remove"}, "name must be one of"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        mechanism_of(**fields)


def test_it_is_priced_as_pure_privacy_from_above():
    mechanism = mechanism_of(epsilon=0.4, numeric_share=0.25)
    assert not any(pair.attained for pair in mechanism.pairs(ADD_REMOVE).values())
    found = epsilon_bounds(Repeat(mechanism, 3), delta=1e-6, adjacency="add_remove")
    truth = epsilon_bounds(Repeat(PureDP(epsilon=0.4, adjacency="add_remove"), 3), delta=1e-6, adjacency="add_remove")
    assert found.upper == pytest.approx(truth.upper, rel=1e-12) and found.lower == 0.0
    with pytest.raises(UnsupportedProcess, match="its guarantee is about add_remove neighbours, got replace_one"):
        mechanism.pairs(Adjacency.REPLACE_ONE)


def test_json_brings_it_back():
    for mechanism in (mechanism_of(monotonic=True), mechanism_of(epsilon=0.1, numeric_share=0.3)):
        assert from_json(to_json(mechanism)) == mechanism


def test_threads_never_have_more_hits_than_were_declared():
    class Slow(KeyedSource):
        def words(self, stream, counter, n):
            time.sleep(1e-3)
            return super().words(stream, counter, n)

    hits, session = [], mechanism_of(hits=1, epsilon=50.0).run(0.0, 1.0, Slow(0))

    def ask():
        with contextlib.suppress(BudgetExceeded):
            hits.append(session.ask(1000.0))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hits == [True] and session.hits_left == 0


def test_a_value_that_is_refused_is_refused_whatever_the_noise_before_it():
    mechanism = mechanism_of(hits=1, epsilon=50.0)
    with pytest.raises(InvalidParameter, match="must be a finite number"):
        mechanism.release([99.0, math.nan], sensitivity=1.0, randomness=KeyedSource(0))


def test_noise_that_was_drawn_ahead_is_of_no_use_in_another_process(monkeypatch):
    """Otherwise both copies of a forked session would answer with the same noise."""
    session = SparseVector(epsilon=1.0, hits=2, adjacency="add_remove").run(0.0, 1.0, SystemSource())
    for _ in range(8):
        session.ask(-1e9)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with session._lock, pytest.raises(InvalidParameter, match="must stay in the process that made it"):
        session.ask(-1e9)
