"""Exact draws: decisions at the last digit by hand, all strata of a word, laws by χ², huge and tiny scales."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from mechanisms.core import exact
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact import (
    discrete_gaussian,
    discrete_laplace,
    exp_coins,
    exp_digits,
    geometrics,
    rational_coins,
    uniform_integers,
)
from mechanisms.core.randomness import KeyedSource, Source, SystemSource, bernoulli_exp

WORD = 2**64
EXPONENTS = [Fraction(1, 3), Fraction(1), Fraction(0.1), Fraction(7, 2**60), Fraction(44), Fraction(10**30 + 1, 10**30)]


class Scripted(Source):
    """A source of 64-bit words that are given."""

    def __init__(self, words):
        super().__init__(bytes(16))
        self._words = np.array(words, dtype="<u8").view("<u4")

    @property
    def reproducible(self):
        return True

    def words(self, stream, counter, n):
        assert counter + n <= len(self._words), "the script has no more words"
        return self._words[counter : counter + n]


def digits(exponent, bits):
    """⌊2^bits e^−exponent⌋."""
    with mp.workdps(200):
        return int(mp.floor(mp.ldexp(mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator), bits)))


def chi_square(draws, log_mass, least=50.0):
    """The p-value of draws whose law has these log masses: integers expected less than 50 times are put together."""
    n, reach = len(draws), int(np.max(np.abs(draws))) + 2
    k = np.arange(-reach, reach + 1)
    mass = np.exp(log_mass(k))
    expected = n * mass / np.sum(mass)
    seen = np.bincount((draws + reach).astype(np.int64), minlength=len(k))
    cell = np.concatenate([[0], np.cumsum(np.diff((np.cumsum(expected) / least).astype(int)) > 0)])
    expected, seen = np.bincount(cell, expected), np.bincount(cell, seen)
    return stats.chisquare(seen, expected * (n / np.sum(expected))).pvalue


# Digits of e^−γ


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("bits", [64, 128, 256])
def test_digits_are_those_of_mpmath_and_leave_one_choice(exponent, bits):
    least, most = exp_digits(exponent, bits)
    assert (least, most) == (digits(exponent, bits), digits(exponent, bits) + 1)


def test_digits_of_extreme_exponents_are_known():
    assert exp_digits(Fraction(0), 64) == (WORD, WORD)
    assert exp_digits(Fraction(10**5000), 64) == (0, 1)
    least, most = exp_digits(Fraction(1, 10**400), 64)
    assert least == WORD - 1 and most in (WORD, WORD + 1)


# Coins


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_coin_falls_by_the_first_digit_that_differs(exponent):
    first = digits(exponent, 64)
    second = digits(exponent, 128) - WORD * first
    scripts = [([first + 1], False), ([first, second - 1], True), ([first, second + 1], False)]
    scripts += [([first - 1], True)] if first else []
    for words, falls in scripts:
        for near in (float(exponent), math.nan):
            source = Scripted(words)
            assert exp_coins(source, "coins", np.array([near]), lambda _: exponent).tolist() == [falls]
            assert source.reserve("coins", 0) == 2 * len(words)


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


def test_array_coins_have_the_law_of_the_scalar_ones():
    exponent, n = Fraction(2, 7), 4000
    ours = exp_coins(KeyedSource(1), "coins", np.full(n, float(exponent)), lambda _: exponent)
    source = KeyedSource(2)
    theirs = [bernoulli_exp(source, "coins", exponent) for _ in range(n)]
    for fallen in (ours, theirs):
        assert stats.binomtest(int(np.sum(fallen)), n, math.exp(-exponent)).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "n"), [(Fraction(0), 50), (Fraction(1), 50), (Fraction(3, 10), 20_000)])
def test_rational_coins_fall_as_often_as_they_should(probability, n):
    fallen = rational_coins(KeyedSource(0), "coins", probability, n)
    assert stats.binomtest(int(np.sum(fallen)), n, float(probability)).pvalue > 1e-3


@pytest.mark.parametrize("probability", [Fraction(-1, 2), Fraction(3, 2)])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(InvalidParameter, match=r"rational_coins: probability must lie in \[0, 1\]"):
        rational_coins(KeyedSource(0), "coins", probability, 1)


# Uniform integers and trials


def test_words_beyond_the_last_whole_run_of_remainders_are_rejected():
    accepted = WORD - WORD % 6 - 1
    found = uniform_integers(Scripted([WORD - 1, accepted, accepted + 1, 7]), "dice", 6, 2)
    assert found.tolist() == [accepted % 6, 1]


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_uniform_integers_are_uniform(below):
    found = uniform_integers(KeyedSource(3), "dice", below, 100_000)
    assert found.dtype == np.int64 and found.min() >= 0 and found.max() < below
    assert below == 1 or stats.chisquare(np.bincount(found, minlength=below)).pvalue > 1e-4


@pytest.mark.parametrize("below", [2**63, 2**63 + 1, 3**200])
def test_wide_integers_are_exact(below):
    found = uniform_integers(KeyedSource(4), "dice", below, 40)
    assert (found.dtype == object) == (below > 2**63)
    assert all(0 <= int(one) < below for one in found) and max(map(int, found)) > below // 2


def test_thresholds_of_trials_are_the_digits():
    assert exact._thresholds().tolist() == [digits(Fraction(k), 64) for k in range(32, 0, -1)]


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


# Laws


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.7, 1e-3])
def test_laplace_draws_have_their_law(scale):
    draws = discrete_laplace(KeyedSource("law"), "noise", Fraction(scale), 10**6 if scale == 7.7 else 10**5)
    if scale < 0.01:
        assert not draws.any()
    else:
        assert chi_square(draws, lambda k: -np.abs(k) / scale) > 1e-4


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 1.5, 10.1, 300.0])
def test_gaussian_draws_have_their_law(sigma):
    draws = discrete_gaussian(
        KeyedSource("law"), "noise", Fraction(sigma) ** 2, 10**6 if sigma in (1.0, 10.1) else 10**5
    )
    if sigma == 0.1:
        assert not draws.any()  # e^-50 each
    else:
        assert chi_square(draws, lambda k: -(k**2) / (2 * sigma**2)) > 1e-4


@pytest.mark.parametrize("sigma", [1e6, 2.0**40, 2.0**61])
def test_wide_gaussians_are_nearly_normal_in_their_high_digits_and_uniform_in_their_low_ones(sigma):
    n = 20_000 if sigma < 2**60 else 500
    draws = discrete_gaussian(KeyedSource("wide"), "noise", Fraction(sigma) ** 2, n)
    assert draws.dtype == (np.int64 if sigma < 2**60 else object)
    scaled = np.array([float(Fraction(int(one)) / Fraction(sigma)) for one in draws])
    assert stats.kstest(scaled, "norm").pvalue > 1e-4
    assert stats.chisquare(np.bincount(np.array([int(one) % 8 for one in draws]), minlength=8)).pvalue > 1e-4


@pytest.mark.parametrize("variance", [Fraction(2), Fraction(0.1) ** 2, Fraction(10**30 + 7, 3)])
def test_the_rejection_of_laplace_draws_leaves_the_square_exactly(variance):
    """log of (Laplace mass × chance to be kept) + y²/2σ² is the same number for every y, as fractions."""
    t = math.isqrt(variance.numerator // variance.denominator) + 1
    assert (t - 1) ** 2 <= variance < t**2
    rest = {
        -Fraction(abs(y), t) - exact._gaussian_exponent(y, variance, t) + y * y / (2 * variance)
        for y in (*range(-20, 20), 10**40)
    }
    assert len(rest) == 1


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1), Fraction(10.1), Fraction(10**6), Fraction(2**40)])
def test_floats_decide_nothing_that_the_digits_would_not(scale, monkeypatch):
    def drawn():
        source = KeyedSource("same")
        return [f(source, "noise", scale, 400).tolist() for f in (discrete_gaussian, discrete_laplace)]

    quick = drawn()
    monkeypatch.setattr(exact, "DOUBT", 0.9)  # nearly every coin is settled by decimals
    assert drawn() == quick
    monkeypatch.setattr(exact, "FLOAT_VARIANCES", (2, 1))
    assert drawn() == quick


def test_neither_order_nor_sign_nor_size_of_draws_depend_on_one_another():
    draws = discrete_gaussian(KeyedSource("apart"), "noise", Fraction(25), 200_000).astype(float)
    limit = 5 / math.sqrt(len(draws))
    assert abs(np.mean(draws)) < 5 * limit
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < limit
    assert abs(np.corrcoef(np.abs(draws[1:]), np.abs(draws[:-1]))[0, 1]) < limit
    assert abs(np.corrcoef(draws > 0, np.abs(draws))[0, 1] - np.corrcoef(draws < 0, np.abs(draws))[0, 1]) < 2 * limit


def test_draws_beyond_64_bits_are_python_integers_and_never_wrap(monkeypatch):
    t = 2**50
    monkeypatch.setattr(exact, "geometrics", lambda source, stream, n: np.full(n, 2**40, dtype=np.int64))
    drawn = exact._laplace_candidates(KeyedSource(0), "noise", Fraction(t), 50)
    assert drawn.dtype == object and all(2**90 <= abs(one) < 2**90 + t for one in drawn)


@pytest.mark.parametrize("scale", [Fraction(1, 10**300), Fraction(1, 2**1074)])
def test_noise_of_hardly_any_scale_is_zero(scale):
    assert not discrete_gaussian(KeyedSource(0), "noise", scale**2, 20).any()
    assert not discrete_laplace(KeyedSource(0), "noise", scale, 20).any()


def test_draws_of_huge_scales_are_as_wide_as_these():
    scale = Fraction(10) ** 400 + Fraction(1, 3)
    for draws in (
        discrete_gaussian(SystemSource(), "noise", scale**2, 40),
        discrete_laplace(SystemSource(), "noise", scale, 40),
    ):
        assert draws.dtype == object and 10**397 < max(abs(one) for one in draws) < 10**403


def test_one_source_gives_the_same_draws_again_and_never_the_same_twice():
    source = KeyedSource(9)
    first, second = (discrete_gaussian(source, "noise", Fraction(10**12), 50) for _ in range(2))
    assert (first == discrete_gaussian(KeyedSource(9), "noise", Fraction(10**12), 50)).all()
    assert not np.isin(first, second).any()


def test_no_draws_are_an_empty_array():
    assert discrete_gaussian(KeyedSource(0), "noise", Fraction(1), 0).tolist() == []


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1)])
def test_a_scale_of_zero_or_less_is_refused(scale):
    with pytest.raises(InvalidParameter, match="discrete_laplace: scale must be above 0"):
        discrete_laplace(KeyedSource(0), "noise", scale, 1)
    with pytest.raises(InvalidParameter, match="discrete_gaussian: variance must be above 0"):
        discrete_gaussian(KeyedSource(0), "noise", scale, 1)
