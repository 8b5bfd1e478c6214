"""Unary encoding: its pair against all answers of two records, its law, its estimates, and what it refuses."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import Adjacency, InvalidParameter, KeyedSource, UnsupportedProcess, from_json, to_json
from mechanisms.core.bounds import Bounds
from mechanisms.unary_encoding import UnaryEncoding

ENCODINGS = ("symmetric", "optimised")
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def probabilities(epsilon, encoding):
    """P(own bit is 1), P(another is 1)."""
    exponent = mp.mpf(epsilon)
    if encoding == "symmetric":
        return 1 / (1 + mp.exp(-exponent / 2)), 1 / (1 + mp.exp(exponent / 2))
    return mp.mpf(1) / 2, 1 / (1 + mp.exp(exponent))


def law(own, categories, epsilon, encoding):
    """The probability of every vector of bits, bit by bit."""
    p, q = probabilities(epsilon, encoding)
    chances = [p if bit == own else q for bit in range(categories)]
    return {
        bits: mp.fprod(c if bit else 1 - c for c, bit in zip(chances, bits, strict=True))
        for bits in itertools.product((0, 1), repeat=categories)
    }


def pair_of(epsilon, encoding, categories=3):
    mechanism = UnaryEncoding(epsilon=epsilon, categories=categories, encoding=encoding)
    return mechanism.pairs(Adjacency.REPLACE_ONE)["replace"]


@every_encoding
@given(st.floats(0.0, 20.0), st.floats(0.0, 1.0), st.integers(2, 4))
def test_delta_is_that_of_all_answers_of_two_records(encoding, epsilon, share, categories):
    level = share * epsilon
    with mp.workdps(60):
        one, other = (law(own, categories, epsilon, encoding) for own in (0, categories - 1))
        truth = mp.fsum(max(one[bits] - mp.exp(mp.mpf(level)) * other[bits], 0) for bits in one)
        found = pair_of(epsilon, encoding, categories).delta(Bounds.exact(level))
        assert mp.mpf(found.lower) <= truth + mp.mpf("1e-50") and truth <= mp.mpf(found.upper) + mp.mpf("1e-50")
        assert found.width <= 2e-15 * (2 + epsilon)


@every_encoding
@given(st.floats(0.0, 700.0))
def test_one_answer_costs_its_epsilon_and_no_less(encoding, epsilon):
    pair = pair_of(epsilon, encoding)
    assert pair.supremum.contains(epsilon) and pair.attained
    assert pair.delta(Bounds.exact(pair.supremum.upper)).upper <= 1e-300
    assert epsilon == 0 or pair.delta(Bounds.exact(epsilon * (1 - 1e-9))).upper > 0
    assert math.fsum(m.lower for m in pair.masses) <= 1 <= math.fsum(m.upper for m in pair.masses)


@every_encoding
@pytest.mark.parametrize(("epsilon", "own"), [(0.0, 1), (1.0, 0), (3.0, 2)])
def test_answers_follow_their_law(encoding, epsilon, own):
    mechanism = UnaryEncoding(epsilon=epsilon, categories=3, encoding=encoding)
    answers = mechanism.release(np.full(40_000, own), randomness=KeyedSource(1))
    seen = np.bincount(answers @ [4, 2, 1], minlength=8)
    expected = [float(chance) for chance in law(own, 3, epsilon, encoding).values()]
    assert stats.chisquare(seen, 40_000 * np.array(expected) / sum(expected)).pvalue > 1e-4


@every_encoding
def test_releases_show_the_delta_that_is_described(encoding):
    """δ of the laws that 200,000 released answers of each record show, within four deviations of the truth."""
    n, level, mechanism = 200_000, 0.5, UnaryEncoding(epsilon=1.5, categories=3, encoding=encoding)
    one, other = (mechanism.release(np.full(n, own), randomness=KeyedSource(own)) @ [4, 2, 1] for own in (0, 2))
    truth = pair_of(1.5, encoding).delta(Bounds.exact(level))
    laws = [law(own, 3, 1.5, encoding) for own in (0, 2)]
    best = [k for k, bits in enumerate(laws[0]) if laws[0][bits] > mp.exp(level) * laws[1][bits]]
    found = np.isin(one, best).mean() - math.exp(level) * np.isin(other, best).mean()
    assert abs(found - truth.upper) <= 4 * math.sqrt((1 + math.exp(2 * level)) / 4 / n)


@every_encoding
@pytest.mark.parametrize("categories", [2, 6])
def test_estimates_are_unbiased_and_vary_as_stated(encoding, categories):
    mechanism = UnaryEncoding(epsilon=1.2, categories=categories, encoding=encoding)
    records, runs = np.repeat(np.arange(categories), 40), 1_000
    records = np.append(records, np.zeros(60, dtype=int))
    released = mechanism.release(np.tile(records, (runs, 1)), randomness=KeyedSource(0))
    found = np.array([mechanism.frequencies(answers) for answers in released])
    for category in (0, 1):
        share = float(np.mean(records == category))
        variance = mechanism.frequency_variance(share, records=len(records))
        assert abs(found[:, category].mean() - share) <= 4 * math.sqrt(variance / runs)
        assert abs(found[:, category].var() / variance - 1) <= 4 * math.sqrt(2 / runs)


@given(st.floats(0.01, 30.0))
def test_variances_of_absent_categories_are_those_published(epsilon):
    optimised, symmetric = (
        UnaryEncoding(epsilon=epsilon, categories=5, encoding=one).frequency_variance(0.0, records=7)
        for one in ("optimised", "symmetric")
    )
    assert optimised == pytest.approx(4 * math.exp(epsilon) / math.expm1(epsilon) ** 2 / 7, rel=1e-12)
    assert symmetric == pytest.approx(math.exp(epsilon / 2) / math.expm1(epsilon / 2) ** 2 / 7, rel=1e-12)
    assert optimised <= symmetric * (1 + 1e-12)


@every_encoding
def test_bits_come_back_in_the_shape_of_the_categories(encoding):
    mechanism, source = UnaryEncoding(epsilon=1.0, categories=4, encoding=encoding), KeyedSource(0)
    for value, shape in ((2, (4,)), ([], (0, 4)), ([[0, 1, 2]], (1, 3, 4)), (np.array(3, np.uint8), (4,))):
        bits = mechanism.release(value, randomness=source)
        assert bits.shape == shape and bits.dtype == np.uint8


def test_chunks_of_records_make_one_array():
    mechanism = UnaryEncoding(epsilon=60.0, categories=2**19, encoding="symmetric")
    own = np.array([5, 2**19 - 1, 0, 77, 2])
    bits = mechanism.release(own, randomness=KeyedSource(0))
    assert np.array_equal(np.argmax(bits, axis=1), own) and bits.sum() == 5


@pytest.mark.parametrize("value", [-1, 3, 0.5, "0", None, True, [0, 3], 2**70, math.nan])
def test_what_is_no_category_is_refused_and_not_shown(value):
    with pytest.raises(InvalidParameter, match=r"value must hold whole numbers in \[0, 3\)\. Declare") as caught:
        UnaryEncoding(epsilon=1.0, categories=3, encoding="optimised").release(value, randomness=KeyedSource(0))
    assert repr(value) not in str(caught.value).replace("[0, 3)", "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epsilon": -1.0}, "epsilon must be at least 0"),
        ({"epsilon": math.inf}, "epsilon must be finite"),
        ({"categories": 1}, "categories must be at least 2"),
        ({"categories": 2**31 + 1}, r"categories must be at most 2\^31"),
        ({"categories": 2.5}, "categories must be a whole number"),
        ({"encoding": "optimized"}, "encoding must be one of 'symmetric', 'optimised', got 'optimized'"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        UnaryEncoding(**{"epsilon": 1.0, "categories": 3, "encoding": "symmetric"} | fields)


def test_other_neighbours_sensitivities_and_answers_are_refused():
    mechanism = UnaryEncoding(epsilon=1.0, categories=3, encoding="symmetric")
    for adjacency in (Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT):
        with pytest.raises(UnsupportedProcess, match=f"its neighbours are replace_one, got {adjacency.value}"):
            mechanism.pairs(adjacency)
    with pytest.raises(InvalidParameter, match="sensitivity must be 1 for a category"):
        mechanism.release(0, sensitivity=2.0, randomness=KeyedSource(0))
    for answers in (0, [0, 1], [[0, 1, 2]], [0.5, 0.0, 1.0], ["0", "1", "0"]):
        with pytest.raises(InvalidParameter, match="answers must be bits, the last axis of length 3"):
            mechanism.frequencies(answers)
    with pytest.raises(InvalidParameter, match="from one record at least"):
        mechanism.frequencies(np.zeros((0, 3), dtype=int))


@every_encoding
@pytest.mark.parametrize("epsilon", [0.0, 5e-324])
def test_answers_that_tell_nothing_estimate_nothing(encoding, epsilon):
    mechanism = UnaryEncoding(epsilon=epsilon, categories=2, encoding=encoding)
    with pytest.raises(InvalidParameter, match="answers must depend on the records"):
        mechanism.frequencies([[0, 1]])


@every_encoding
def test_json_brings_it_back(encoding):
    mechanism = UnaryEncoding(epsilon=0.1, categories=9, encoding=encoding)
    assert from_json(to_json(mechanism)) == mechanism
