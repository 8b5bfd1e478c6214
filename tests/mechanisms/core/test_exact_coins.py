"""Exact coins: decisions at the last digit by hand, all strata of a word, laws, and what is asked of the source."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import KeyedSource
from mechanisms.core import exact_coins
from mechanisms.core.exact_coins import AT_ONCE, exp_coins, geometrics, logistic_coins
from tests.mechanisms.core.scripted import WORD, Scripted

EXPONENTS = [Fraction(1, 3), Fraction(1), Fraction(0.1), Fraction(7, 2**60), Fraction(44), Fraction(10**30 + 1, 10**30)]


def digits(exponent, bits):
    """⌊2^bits e^−exponent⌋."""
    with mp.workdps(200):
        return int(mp.floor(mp.ldexp(mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator), bits)))


def logistic_digits(exponent, weight, bits):
    """⌊2^bits p⌋, p = m e^−γ/(1 + m e^−γ)."""
    with mp.workdps(400):
        odds = weight * mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator)
        return int(mp.floor(mp.ldexp(odds / (1 + odds), bits)))


# Of probabilities e^−γ


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_coin_falls_by_the_first_digit_that_differs(exponent):
    first = digits(exponent, 64)
    second = digits(exponent, 128) - WORD * first
    scripts = [([first + 2], False), ([first, second - 2], True), ([first, second + 2], False)]
    scripts += [([first - 2], True)] if first >= 2 else []
    for words, falls in scripts:
        for near in (float(exponent), math.nan):
            source = Scripted(words)
            assert exp_coins(source, "coins", np.array([near]), lambda _: exponent).tolist() == [falls]
            assert not source.rest and source.reserve("coins", 0) == 2 * len(words)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_of_all_strata_of_a_word_exactly_those_below_fall(exponent):
    words = [((2 * i + 1) << 49) for i in range(2**14)]
    fallen = exp_coins(Scripted(words), "coins", np.full(2**14, float(exponent)), lambda _: exponent)
    limit = digits(exponent, 64)
    assert fallen.tolist() == [word < limit for word in words]


def test_a_certain_coin_always_falls_and_an_impossible_one_hardly_ever():
    assert exp_coins(Scripted([WORD - 1]), "coins", np.zeros(1), lambda _: Fraction(0)).all()
    least = exp_coins(Scripted([0, 0, 1]), "coins", np.array([1e300]), lambda _: Fraction(10**300))
    assert not least.any()


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(0.1)])
def test_coins_fall_with_their_probability(exponent):
    fallen = exp_coins(KeyedSource(1), "coins", np.full(100_000, float(exponent)), lambda _: exponent)
    assert stats.binomtest(int(fallen.sum()), len(fallen), math.exp(-exponent)).pvalue > 1e-4


def test_a_coin_of_an_enormous_exponent_fails_at_once():
    for near in (1e300, math.inf, math.nan):
        assert not exp_coins(KeyedSource(0), "coins", np.array([near]), lambda _: Fraction(10**300)).any()


@given(st.floats(0.0, 700.0), st.floats(-1.0, 1.0), st.integers(-3, 3))
def test_a_float_that_is_off_decides_nothing_wrongly(exponent, off, beside):
    """Words beside 2^64 e^−γ and beside what the float itself says, for floats that are off by up to 2^-36."""
    near = max(exponent + off * 2.0**-36, 0.0)
    limit = digits(Fraction(exponent), 64)
    for about in (limit, digits(Fraction(near), 64), limit - limit // 2**34, limit + limit // 2**34):
        word = min(max(about + beside, 0), WORD - 1)
        found = exp_coins(Scripted([word, WORD // 2, 0]), "s", np.array([near]), lambda _: Fraction(exponent))
        assert word == limit or exponent == 0.0 or found.tolist() == [word < limit]


# Of logistic probabilities


@pytest.mark.parametrize("exponent", [50.0, 1e6, 1e308])
def test_a_probability_below_every_digit_has_none(exponent):
    assert not logistic_coins(KeyedSource(0), "x", 1000, exponent=exponent).any()


@pytest.mark.parametrize("weight", [1, 6, 10**40])
@pytest.mark.parametrize("exponent", [0.25, 3.0, 60.0])
def test_ties_of_sixty_four_bits_are_decided_by_later_ones(exponent, weight):
    found = logistic_digits(Fraction(exponent), weight, 192)
    words = [found >> 128, (found >> 64) & (WORD - 1), found & (WORD - 1)]
    for off, falls in ((-5, True), (5, False)):
        source = Scripted([*words[:2], words[2] + off])
        assert logistic_coins(source, "x", 1, exponent=exponent, weight=weight).tolist() == [falls] and not source.rest
    for off, falls in ((-2, True), (2, False)):
        if 0 <= words[0] + off < WORD:
            source = Scripted([words[0] + off])
            assert logistic_coins(source, "x", 1, exponent=exponent, weight=weight).tolist() == [falls]


def test_tied_coins_among_others_take_words_behind_them():
    found = logistic_digits(Fraction(1), 1, 128)
    first, second = found >> 64, found & (WORD - 1)
    script = [0, first, WORD - 1, first, second + 2, second - 2]
    assert logistic_coins(Scripted(script), "x", 4, exponent=1.0).tolist() == [True, False, False, True]


def test_a_fair_coin_is_decided_by_its_first_digit_alone():
    assert logistic_coins(Scripted([2**63 - 1, 2**63, 0, WORD - 1]), "x", 4, exponent=0.0).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("exponent", "weight"), [(0.0, 1), (0.5, 1), (2.0, 7), (4.0, 1), (0.0, 10**30)])
def test_logistic_coins_fall_with_their_probability(exponent, weight):
    n, odds = 200_000, weight * math.exp(-exponent)
    heads = int(logistic_coins(KeyedSource(3), "x", n, exponent=exponent, weight=weight).sum())
    assert stats.binomtest(heads, n, odds / (1 + odds)).pvalue > 1e-4


def test_coins_beyond_one_chunk_are_independent():
    coins = logistic_coins(KeyedSource(5), "x", AT_ONCE + 4, exponent=0.0)
    assert stats.chisquare(np.bincount(coins.reshape(-1, 4) @ [1, 2, 4, 8], minlength=16)).pvalue > 1e-4
    assert len(logistic_coins(KeyedSource(5), "x", 0, exponent=0.0)) == 0


@pytest.mark.parametrize(("exponent", "weight"), [(0.7, 1), (0.7, 9), (30.0, 1)])
def test_of_all_strata_of_a_word_exactly_those_below_a_logistic_probability_fall(exponent, weight):
    words = [((2 * i + 1) << 49) for i in range(2**14)]
    fallen = logistic_coins(Scripted(words), "coins", 2**14, exponent=exponent, weight=weight)
    limit = logistic_digits(Fraction(exponent), weight, 64)
    assert fallen.tolist() == [word < limit for word in words]


# Trials


def test_in_all_strata_of_a_word_as_many_trials_succeed_as_powers_lie_above():
    words = [((2 * i + 1) << 49) for i in range(2**14)]
    powers = [digits(Fraction(k), 64) for k in range(1, 20)]
    found = geometrics(Scripted(words), "trials", len(words))
    assert found.tolist() == [sum(word < power for power in powers) for word in words]


def test_thresholds_of_trials_are_the_digits():
    assert exact_coins._thresholds().tolist() == [digits(Fraction(k), 64) for k in range(32, 0, -1)]


def test_trials_are_told_apart_at_the_last_digit_and_have_no_memory():
    first = [digits(Fraction(k), 64) for k in range(40)]
    second = digits(Fraction(5), 128) - WORD * first[5]
    for words, found in (
        ([first[1] + 1], 0),
        ([first[5] - 1], 5),
        ([first[5], second - 1], 5),
        ([first[5], second + 1], 4),
        ([first[32] + 1], 31),
        ([0, first[2] - 1], 34),
        ([0, 0, WORD - 1], 64),
    ):
        assert geometrics(Scripted(words), "trials", 1).tolist() == [found]
