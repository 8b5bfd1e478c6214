"""Sparse vector and top-k, whole: every outcome's probability in rational arithmetic, what runs, and what is described.

Decays d = e^{−rate} of the noise are taken as rational numbers of their own: what holds of all of them is an identity,
with no tolerance. What runs is followed through every value of its noise, the samplers of which are enumerated in
`tests.mechanisms.core.test_enumeration`.
"""

import functools
import itertools
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from mechanisms import Adjacency, KeyedSource, SparseVector, TopK
from mechanisms import sparse_vector as module
from mechanisms.core import exact_choice
from mechanisms.core.bounds import Bounds
from tests.mechanisms.core.enumerated import CLOSE, assert_close, exact, pieces, shares
from tests.mechanisms.core.scripted import Scripted, first_bits

ADD_REMOVE = Adjacency.ADD_REMOVE
DECAYS = [(Fraction(1, 2), Fraction(2, 3)), (Fraction(9, 10), Fraction(1, 3))]


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


# Sparse vector, of a threshold 0 and whole queries, by sums over its noise


def mass(decay, k):
    return (1 - decay) / (1 + decay) * decay ** abs(k)


def at_least(decay, y):
    """P(ν >= y)."""
    return decay**y / (1 + decay) if y > 0 else 1 - decay ** (1 - y) / (1 + decay)


def far(answers, queries, sign, first, second, start):
    """Σ P(ρ = z) f(z) g(z) over |z| >= start of one sign: there each factor is linear in second^|z|."""
    terms = [Fraction(1)]  # a polynomial in second^|z|
    for query, above in zip(queries, answers, strict=False):
        slope = second ** (-query if sign > 0 else 1 + query) / (1 + second)  # of P(ν >= z − q), or of 1 less that
        one = (Fraction(0), slope) if above == (sign > 0) else (Fraction(1), -slope)
        low, high = ([part * term for term in terms] for part in one)
        terms = [a + b for a, b in zip([*low, Fraction(0)], [Fraction(0), *high], strict=True)]
    rates = [first * second**k for k in range(len(terms))]
    return (1 - first) / (1 + first) * sum(t * r**start / (1 - r) for t, r in zip(terms, rates, strict=True))


@functools.cache
def probability(answers, queries, first, second):
    start = max(map(abs, queries)) + 2
    total = far(answers, queries, 1, first, second, start) + far(answers, queries, -1, first, second, start)
    for z in range(1 - start, start):
        term = mass(first, z)
        for query, above in zip(queries, answers, strict=False):
            term *= at_least(second, z - query) if above else 1 - at_least(second, z - query)
        total += term
    return total


def sequences(queries, hits):
    """All answers that a run can give: it ends with the last hit."""
    for answers in itertools.product((False, True), repeat=queries):
        seen = list(itertools.accumulate(answers))
        stop = seen.index(hits) + 1 if hits in seen else queries
        if not any(answers[stop:]):
            yield answers[:stop]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("first", "second"), DECAYS)
@pytest.mark.parametrize("hits", [1, 2])
def test_answers_of_a_sparse_vector_add_to_one_and_none_tells_more_than_its_epsilon(first, second, hits):
    """ε is −log(d₁ d₂^{2c}), or of monotonic queries −log(d₁ d₂^c), for a movement of 1."""
    for queries in itertools.product((-2, 0, 1), repeat=3):
        one = {answers: probability(answers, queries, first, second) for answers in sequences(3, hits)}
        assert sum(one.values()) == 1
        for moves in itertools.product((-1, 0, 1), repeat=3):
            moved = tuple(q + m for q, m in zip(queries, moves, strict=True))
            monotonic = min(moves) >= 0 or max(moves) <= 0
            least = first * second ** (hits if monotonic else 2 * hits)
            for answers, here in one.items():
                there = probability(answers, moved, first, second)
                assert least * here <= there <= here / least


@pytest.mark.parametrize("hits", [1, 2])
def test_no_answers_of_a_sparse_vector_attain_its_epsilon_but_some_come_as_near_as_one_likes(hits):
    """Many queries far above a threshold that they miss, then hits far below it, which move the other way."""
    first, second = Fraction(1, 2), Fraction(2, 3)
    least, gaps = first * second ** (2 * hits), []
    for reach in (2, 8, 24):
        high, low = (reach,) * 12, (-2 * reach,) * hits
        answers = (False,) * 12 + (True,) * hits
        one = probability(answers, high + low, first, second)
        other = probability(answers, tuple(q + 1 for q in high) + tuple(q - 1 for q in low), first, second)
        gaps.append(other / one / least - 1)
    assert 0 < gaps[2] < gaps[1] < gaps[0] and gaps[2] < Fraction(1, 1000)
    pair = SparseVector(epsilon=1.0, hits=hits, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["remove"]
    assert pair.supremum.contains(1.0) and not pair.attained


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize("hits", [1, 2])
def test_a_sparse_vector_that_runs_has_these_probabilities(monkeypatch, monotonic, hits):
    """Every value of all three draws up to 6: what they leave out is all that the probabilities may be apart."""
    mechanism = SparseVector(epsilon=6.0, hits=hits, adjacency=ADD_REMOVE, monotonic=monotonic)
    queries, reach = (1, -1), 6
    first, second, _ = mechanism.shares
    scales = [hits * (1 if monotonic else 2) / second, 1 / first]  # the queries' noise, and the threshold's
    values, asked = [], []

    def scripted(source, stream, scale, n):
        asked.append(scale)
        return np.array([values.pop(0) for _ in range(n)])

    monkeypatch.setattr(module, "discrete_laplace", scripted)
    monkeypatch.setattr(module, "RESOLUTION", 0)
    decays = [Fraction(float(mp.exp(-1 / exact(scale)))) for scale in scales]
    weights = [{k: mass(decay, k) for k in range(-reach, reach + 1)} for decay in decays]
    found = {}
    for draws in itertools.product(range(-reach, reach + 1), repeat=3):
        values[:] = *draws, draws[2]  # for the second query two are drawn ahead
        answers = mechanism.release(queries, sensitivity=1.0, randomness=KeyedSource(0))
        share = weights[1][draws[0]] * weights[0][draws[1]] * weights[0][draws[2]]
        found[answers] = found.get(answers, 0) + share
    assert asked[:2] == [scales[1], scales[0]] and set(asked) == set(scales)
    left = 1 - sum(found.values())
    assert set(found) == set(sequences(2, hits)) and 0 < left < Fraction(2, 100)
    for answers, share in found.items():
        assert share <= probability(answers, queries, decays[1], decays[0]) <= share + left


# Top-k, of whole scores

SCORES, COUNT = np.array([1.0, 0.0, 3.0]), 2


def ranked(scores, decay, count=COUNT):
    """Probabilities of all orders for weights decay^{−score}."""
    weights, found = [decay**-score for score in scores], {}
    for order in itertools.permutations(range(len(scores)), count):
        left, share = list(range(len(scores))), Fraction(1)
        for i in order:
            share *= weights[i] / sum(weights[j] for j in left)
            left.remove(i)
        found[order] = share
    return found


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize("decay", [Fraction(1, 2), Fraction(9, 10)])
def test_no_order_of_the_best_tells_more_than_its_choices_do(monotonic, decay):
    """Each choice has the range ε, exactly, where scores move to both sides: e^ε is d^−2, else d^−1."""
    most, attained = decay ** (-1 if monotonic else -2), False
    for scores in itertools.product((-1, 0, 2), repeat=3):
        one = ranked(scores, decay)
        assert sum(one.values()) == 1
        for moves in itertools.product((0, 1) if monotonic else (-1, 0, 1), repeat=3):
            other = ranked([s + m for s, m in zip(scores, moves, strict=True)], decay)
            ratios = [one[order] / other[order] for order in one]
            assert 1 / most**COUNT < min(ratios) <= max(ratios) < most**COUNT or not any(moves)
            first = [
                sum(law[order] for order in law if order[0] == i) for law in (one, other) for i in range(len(scores))
            ]
            told = [a / b for a, b in zip(first[:3], first[3:], strict=True)]
            assert max(told) <= most * min(told)
            attained |= max(told) == most * min(told)
    assert attained


def test_what_runs_ranks_by_these_probabilities():
    """By the first whole number of every choice; where it is rejected, all begins anew."""
    mechanism = TopK(epsilon=1.25, adjacency=ADD_REMOVE, count=COUNT, monotonic=True)
    rate, anew = mechanism.rate(1.0), first_bits(0, 2)
    assert rate == Fraction(1.25)
    _, most = exact_choice._table()

    def total(left):
        return sum(int(most[level]) for level in exact_choice._levels(SCORES, rate).lower[left])

    def choice(words, count, size):
        def outcome(point):
            source = Scripted([*words, first_bits(point, size), anew])
            chosen = exact_choice.drawn_in_order(SCORES, rate, count, source, "s")
            return chosen if source.rest == [anew] else "rejected"

        return outcome

    whole, law = total([0, 1, 2]), {}
    first = pieces(choice([], 1, whole), size=whole)
    first.pop("rejected")
    for (i,), share in shares(first).items():
        point = next(p for p in range(0, whole, whole // 64) if choice([], 1, whole)(p) == (i,))
        size = total([j for j in range(3) if j != i])
        second = pieces(choice([first_bits(point, whole)], 2, size), size=size)
        second.pop("rejected")
        law |= {order: share * part for order, part in shares(second).items()}
    decay = mp.exp(-exact(rate))
    assert_close(law, ranked(SCORES.astype(int).tolist(), decay), within=5 * CLOSE)


def test_the_law_of_another_rate_is_another_one():
    one, other = (ranked([1, 0, 3], mp.exp(-rate)) for rate in (mp.mpf("1.25"), mp.mpf("1.2500001")))
    with pytest.raises(AssertionError):
        assert_close(one, other)
    pair = TopK(epsilon=1.0, adjacency=ADD_REMOVE, count=2).pairs(ADD_REMOVE)["remove"]
    assert pair.delta(Bounds.exact(2.0)).upper < 1e-14 and not pair.attained
