"""Exact coins: their binary digits against mpmath, ties, laws, and what is asked of the source."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import InvalidParameter, KeyedSource
from mechanisms.core.exact_coins import (
    AT_ONCE,
    discrete_laplace,
    exact_coins,
    exponential_digits,
    logistic_digits,
    uniform_integers,
)
from mechanisms.core.randomness import Source


class Scripted(Source):
    """Words of 64 bits that are given, in order."""

    def __init__(self, numbers):
        super().__init__(b"x" * 32)
        self.halves = [part for number in numbers for part in (number >> 32, number & (2**32 - 1))]

    @property
    def reproducible(self):
        return True

    def words(self, stream, counter, n):
        assert counter + n <= len(self.halves)
        return np.array(self.halves[counter : counter + n], dtype=np.uint32)


def probability(exponent, weight):
    odds = weight * mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator)
    return odds / (1 + odds)


@given(st.floats(0.0, 1500.0), st.sampled_from((1, 2, 6, 10**6, 10**300)), st.sampled_from((1, 64, 128, 200)))
def test_digits_are_those_of_mpmath(exponent, weight, bits):
    with mp.workdps(1200):
        truth = mp.floor(mp.ldexp(probability(Fraction(exponent), weight), bits))
        assert logistic_digits(Fraction(exponent), weight, bits) == int(truth)


@pytest.mark.parametrize(
    "exponent", [Fraction(1, 3), Fraction(0.1), Fraction(10**9 + 7, 3**40), Fraction(2, 10**80), Fraction(4001, 7)]
)
def test_digits_of_any_rational_exponent_are_those_of_mpmath(exponent):
    with mp.workdps(1200):
        power = mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator)
        for bits in (64, 128, 300, 900):
            assert logistic_digits(exponent, 5, bits) == int(mp.floor(mp.ldexp(probability(exponent, 5), bits)))
            assert exponential_digits(exponent, bits) == int(mp.floor(mp.ldexp(power, bits)))


@pytest.mark.parametrize("exponent", [5e-324, 1e-300, 1e-20])
def test_an_exponent_near_zero_leaves_its_mark_far_behind(exponent):
    assert logistic_digits(Fraction(exponent), 1, 64) == 2**63 - 1
    assert logistic_digits(Fraction(exponent) / 2, 1, 1200) < 2**1199
    assert logistic_digits(Fraction(0), 1, 64) == 2**63


@pytest.mark.parametrize("exponent", [50.0, 1e6, 1e308])
def test_a_probability_below_every_digit_has_none(exponent):
    assert logistic_digits(Fraction(exponent), 1, 64) == 0
    assert not exact_coins(KeyedSource(0), "x", 1000, exponent=exponent).any()


@pytest.mark.parametrize("exponent", [0.25, 3.0, 60.0])
def test_ties_of_sixty_four_bits_are_decided_by_later_ones(exponent):
    digits = logistic_digits(Fraction(exponent), 1, 192)
    first, second, third = digits >> 128, (digits >> 64) & (2**64 - 1), digits & (2**64 - 1)
    for later, expected in ((third - 1, True), (third + 1, False)):
        coin = exact_coins(Scripted([first, second, later]), "x", 1, exponent=exponent)
        assert coin.tolist() == [expected]


def test_tied_coins_among_others_take_words_behind_them():
    digits = logistic_digits(Fraction(1), 1, 128)
    first, second = digits >> 64, digits & (2**64 - 1)
    script = [0, first, 2**64 - 1, first, second + 1, second - 1]
    assert exact_coins(Scripted(script), "x", 4, exponent=1.0).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("exponent", "weight"), [(0.0, 1), (0.5, 1), (2.0, 7), (4.0, 1)])
def test_coins_fall_with_their_probability(exponent, weight):
    n = 200_000
    heads = int(exact_coins(KeyedSource(3), "x", n, exponent=exponent, weight=weight).sum())
    assert stats.binomtest(heads, n, float(probability(Fraction(exponent), weight))).pvalue > 1e-4


def test_coins_beyond_one_chunk_are_independent():
    coins = exact_coins(KeyedSource(5), "x", AT_ONCE + 4, exponent=0.0)
    assert stats.chisquare(np.bincount(coins.reshape(-1, 4) @ [1, 2, 4, 8], minlength=16)).pvalue > 1e-4
    assert len(exact_coins(KeyedSource(5), "x", 0, exponent=0.0)) == 0


@pytest.mark.parametrize("below", [1, 2, 3, 5, 100])
def test_integers_are_uniform(below):
    drawn = uniform_integers(KeyedSource(1), "x", 20_000, below=below)
    assert drawn.min() == 0 and drawn.max() == below - 1
    assert below == 1 or stats.chisquare(np.bincount(drawn, minlength=below)).pvalue > 1e-4


@pytest.mark.parametrize("below", [2**62 + 1, 2**63 - 1, 2**63])
def test_integers_fill_the_machine_word(below):
    drawn = uniform_integers(KeyedSource(1), "x", 2_000, below=below)
    assert stats.kstest(drawn / below, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(("below", "message"), [(2**63 + 1, "at most 2\\^63"), (0, "at least 1")])
def test_impossible_ranges_are_refused(below, message):
    with pytest.raises(InvalidParameter, match=message):
        uniform_integers(KeyedSource(0), "x", 1, below=below)


@pytest.mark.parametrize("rate", [Fraction(2, 7), Fraction(3, 2), Fraction(9), Fraction(1, 1000)])
def test_noise_is_a_discrete_laplace(rate):
    source, decay = KeyedSource(6), float(rate)
    drawn = np.array([discrete_laplace(source, "x", rate) for _ in range(3_000)])
    edges = np.unique(np.round(np.array([-3, -2, -1, -0.4, 0, 0.4, 1, 2, 3]) / decay))
    tail = np.exp(-decay * np.where(edges > 0, edges, 1 - edges)) / (1 + math.exp(-decay))
    below = np.where(edges > 0, 1 - tail, tail)
    counts = np.histogram(drawn, bins=np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    expected = len(drawn) * np.diff(np.concatenate([[0.0], below, [1.0]]))
    kept = expected > 1e-3
    assert (
        counts[~kept].sum() == 0
        and stats.chisquare(counts[kept], expected[kept] / sum(expected[kept]) * 3000).pvalue > 1e-4
    )


def test_noise_is_put_together_from_its_digits():
    """The first word decides the sign, the next ones the digits, from the lowest on, the last one what is beyond."""
    rate, top = Fraction(1, 5), 2**64 - 1
    for sign, low, middle, high, expected in (
        (0, 0, top, top, 1),
        (2**63, 0, top, 0, -5),
        (2**63 - 1, top, 0, 0, 6),
        (2**63, top, 0, top, -2),
    ):
        assert discrete_laplace(Scripted([sign, low, middle, high, top]), "x", rate) == expected
    assert discrete_laplace(Scripted([2**63, top, top, top, top, 0, 0, 0, 0, top]), "x", rate) == 7  # −0 is drawn again


def test_a_digit_that_ties_is_decided_by_later_words():
    rate = Fraction(2)
    digits = exponential_digits(rate, 128)
    first, second = digits >> 64, digits & (2**64 - 1)
    assert discrete_laplace(Scripted([0, first, second + 1]), "x", rate) == 0
