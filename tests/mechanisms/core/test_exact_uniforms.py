"""Uniform draws: rejections by hand, laws, widths without end, and comparisons at the last digit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import InvalidParameter, KeyedSource
from mechanisms.core.exact_uniforms import LazyUniform, signs, uniform_integer, uniform_integers, words_of_64
from tests.mechanisms.core.scripted import WORD, Scripted, first_bits


def test_words_are_those_of_the_stream_and_none_is_used_twice():
    source, halves = KeyedSource(0), KeyedSource(0).words("s", 0, 10)
    found = np.concatenate([words_of_64(source, "s", n) for n in (1, 0, 4)])
    assert found.tolist() == [int(low) + int(high) * 2**32 for low, high in halves.reshape(-1, 2)]


def test_signs_are_fair_and_apart():
    found = np.concatenate([signs(KeyedSource(0), "s", 80_000), signs(KeyedSource(0), "s", 0)])
    assert stats.chisquare(np.bincount(found.reshape(-1, 4) @ [1, 2, 4, 8], minlength=16)).pvalue > 1e-4


# Integers


def test_words_beyond_the_last_whole_run_of_remainders_are_rejected():
    accepted = WORD - WORD % 6 - 1
    found = uniform_integers(Scripted([WORD - 1, accepted, accepted + 1, 7]), "dice", 6, 2)
    assert found.tolist() == [accepted % 6, 1]


@pytest.mark.parametrize("below", [2, 3, 6, 2**62 + 1, 2**63, 2**63 + 1, 2**64, 3 * 2**63 + 5, 3**90])
def test_first_bits_that_are_too_large_are_rejected(below):
    bits = (below - 1).bit_length()
    size = -(-bits // 64)

    def words(value):
        whole = value << (64 * size - bits)
        return [whole >> (64 * k) & (WORD - 1) for k in range(size)]

    scripts = [words(value) for value in (0, below - 1, below, 2**bits - 1) if value < 2**bits]
    kept = [value for value in (0, below - 1, below, 2**bits - 1) if value < min(below, 2**bits)]
    source = Scripted([word for script in [*scripts, words(1)] for word in script])
    assert [uniform_integer(source, "dice", below) for _ in range(len(kept) + 1)] == [*kept, 1]
    if below > 2**63:
        source = Scripted(words(below - 1) + words(0) + words(2**bits - 1) + words(1))
        expected = [below - 1, 0, 2**bits - 1, 1] if below == 2**bits else [below - 1, 0, 1]
        assert uniform_integers(source, "dice", below, len(expected)).tolist() == expected


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_uniform_integers_are_uniform(below):
    found = uniform_integers(KeyedSource(3), "dice", below, 100_000)
    assert found.dtype == np.int64 and found.min() == 0 and found.max() == below - 1
    assert below == 1 or stats.chisquare(np.bincount(found, minlength=below)).pvalue > 1e-4


@pytest.mark.parametrize("below", [2**62 + 1, 2**63 - 1, 2**63, 2**63 + 1, 3 * 2**94, 3**200])
def test_integers_of_any_width_fill_their_range(below):
    found = uniform_integers(KeyedSource(1), "x", below, 2_000)
    assert (found.dtype == object) == (below > 2**63) and all(0 <= int(one) < below for one in found)
    assert stats.kstest(np.array([int(one) / below for one in found]), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("below", [2, 3, 10])
def test_single_integers_are_uniform(below):
    source = KeyedSource(2)
    drawn = [uniform_integer(source, "integers", below) for _ in range(4_000)]
    assert stats.chisquare(np.bincount(drawn, minlength=below)).pvalue > 1e-4


@given(st.integers(1, 2**200))
def test_single_integers_stay_below_their_bound(below):
    assert 0 <= uniform_integer(KeyedSource(0), "integers", below) < below


@pytest.mark.parametrize("below", [1, 5, 2**70])
def test_no_integers_are_an_empty_array(below):
    assert len(uniform_integers(KeyedSource(0), "x", below, 0)) == 0


@pytest.mark.parametrize("below", [0, -3, 2.5])
def test_impossible_ranges_are_refused(below):
    for draw in (uniform_integers, uniform_integer):
        with pytest.raises(InvalidParameter, match=f"{draw.__name__}: below must be"):
            draw(KeyedSource(0), "x", below, *([1] if draw is uniform_integers else []))


# Reals


def test_more_digits_never_change_those_that_are_known():
    u = LazyUniform(KeyedSource(0), "digits", 5, 3)
    seen = [(u.known, u.bits)]
    for bits in (3, 4, 67, 68, 300):
        u.to(bits)
        seen.append((u.known, u.bits))
        assert u.bits >= bits
    assert seen[1] == seen[0] and seen[-1][1] > 300
    assert all(seen[-1][0] >> (seen[-1][1] - bits) == known for known, bits in seen)
    assert u.ends() == (Fraction(u.known, 2**u.bits), Fraction(u.known + 1, 2**u.bits))


def test_digits_are_the_words_of_the_stream_in_order():
    words = words_of_64(KeyedSource(0), "digits", 3)
    u = LazyUniform(KeyedSource(0), "digits").to(190)
    assert u.known == sum(int(word) << (128 - 64 * k) for k, word in enumerate(words))


def enclosed(p, slack):
    """Integers around 2^bits p, the nearest ones or one further off on both sides."""
    return lambda bits: (math.floor(p * 2**bits) - slack, math.ceil(p * 2**bits) + slack)


@pytest.mark.parametrize(
    ("words", "p", "below"),
    [
        ([2**62], Fraction(1, 2), True),
        ([3 * 2**62], Fraction(1, 2), False),
        ([2**63, 0, 2], Fraction(2**191 + 5, 2**192), True),
        ([2**63, 0, 7], Fraction(2**191 + 5, 2**192), False),
        ([2**63 - 1, WORD - 2, 0], Fraction(1, 2), True),
        ([2**63 - 1, WORD - 1, WORD - 2], Fraction(1, 2), True),
        ([2**63, 0, 2], Fraction(1, 2), False),
        ([0, 0, 3], Fraction(0), False),
        ([WORD - 1, WORD - 1, 0], Fraction(1), True),
    ],
)
@pytest.mark.parametrize("slack", [0, 1])
def test_a_uniform_is_compared_by_as_many_digits_as_it_takes(words, p, below, slack):
    for start in (LazyUniform(Scripted(words), "s"), LazyUniform(Scripted(words[1:]), "s", words[0], 64)):
        assert start.is_below(enclosed(p, slack)) is below
        rest = len(start.source.rest)
        assert start.bits == 64 * (len(words) - rest) and (rest <= 1 or slack == 0)


@given(st.integers(0, 15), st.integers(0, 16))
def test_of_uniforms_of_four_digits_exactly_those_below_fall(known, sixteenths):
    u = LazyUniform(Scripted([]), "s", known, 4)
    assert u.is_below(lambda bits: (sixteenths, sixteenths)) == (known < sixteenths)


def test_an_answer_is_that_of_the_first_digits_that_tell():
    asked = []

    def find(known, bits):
        asked.append((known, bits))
        return known if bits >= 128 else None

    assert LazyUniform(Scripted([1, 2, 3]), "s").answer(find) == WORD + 2
    assert asked == [(0, 0), (1, 64), (WORD + 2, 128)]


def test_the_word_of_a_given_value_is_its_first_bits():
    assert [uniform_integer(Scripted([first_bits(value, 5)]), "s", 5) for value in range(5)] == [0, 1, 2, 3, 4]
