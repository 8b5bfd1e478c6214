"""Discrete noise: laws by χ² and by enumeration, huge and tiny scales, floats against digits."""

import decimal
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mechanisms.core import discrete_noise, exact_coins, inverted_counts
from mechanisms.core.discrete_noise import discrete_gaussian, discrete_laplace
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_coins import logistic_coins
from mechanisms.core.randomness import KeyedSource, SystemSource


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
        -Fraction(abs(y), t) - discrete_noise._gaussian_exponent(y, variance, t) + y * y / (2 * variance)
        for y in (*range(-20, 20), 10**40)
    }
    assert len(rest) == 1


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1), Fraction(10.1), Fraction(10**6), Fraction(2**40)])
def test_floats_decide_nothing_that_the_digits_would_not(scale, monkeypatch):
    def drawn():
        source = KeyedSource("same")
        return [f(source, "noise", scale, 400).tolist() for f in (discrete_gaussian, discrete_laplace)]

    quick = drawn()
    monkeypatch.setattr(exact_coins, "DOUBT", 0.9)  # nearly every coin is settled by digits
    assert drawn() == quick
    monkeypatch.setattr(discrete_noise, "FLOAT_VARIANCES", (2, 1))
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
    monkeypatch.setattr(discrete_noise, "geometrics", lambda source, stream, n: np.full(n, 2**40, dtype=np.int64))
    drawn = discrete_noise._laplace_candidates(KeyedSource(0), "noise", Fraction(t), 50)
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


def test_what_decimal_arithmetic_the_user_has_chosen_changes_nothing():
    def drawn():
        exact_coins._thresholds.cache_clear()
        inverted_counts.first_mass.cache_clear()
        source = KeyedSource(3)
        return (
            discrete_gaussian(source, "noise", Fraction(7, 3), 200).tolist(),
            logistic_coins(source, "coins", 50, exponent=0.3, weight=7).tolist(),
            inverted_counts.poisson(source, "k", Fraction(5, 2)),
            inverted_counts.truncated_negative_binomial(source, "k", Fraction(1, 3), Fraction(1, 8)),
        )

    before = drawn()
    contexts = decimal.DefaultContext, decimal.getcontext()
    kept = [context.copy() for context in contexts]
    try:
        for context in contexts:
            context.prec, context.rounding, context.Emax, context.Emin = 2, decimal.ROUND_UP, 3, -3
            context.traps = dict.fromkeys(context.traps, True)
        assert drawn() == before
    finally:
        for context, old in zip(contexts, kept, strict=True):
            context.prec, context.rounding, context.Emax, context.Emin = old.prec, old.rounding, old.Emax, old.Emin
            context.traps = old.traps


def test_no_draws_are_an_empty_array():
    assert discrete_gaussian(KeyedSource(0), "noise", Fraction(1), 0).tolist() == []


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1)])
def test_a_scale_of_zero_or_less_is_refused(scale):
    with pytest.raises(InvalidParameter, match="discrete_laplace: scale must be above 0"):
        discrete_laplace(KeyedSource(0), "noise", scale, 1)
    with pytest.raises(InvalidParameter, match="discrete_gaussian: variance must be above 0"):
        discrete_gaussian(KeyedSource(0), "noise", scale, 1)


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(2), Fraction(7, 3), Fraction(5, 7)])
def test_of_all_ways_to_draw_a_candidate_the_masses_add_to_the_law(scale, monkeypatch):
    """Whole numbers, coins, trials and signs in all their combinations, each with its probability."""
    t, law = scale.numerator, {}
    for below, trials, negative in itertools.product(range(t), range(80), (False, True)):
        monkeypatch.setattr(discrete_noise, "uniform_integers", lambda *given, u=below: np.array([u]))
        monkeypatch.setattr(discrete_noise, "exp_coins", lambda *given: np.array([True]))
        monkeypatch.setattr(discrete_noise, "geometrics", lambda *given, v=trials: np.array([v]))
        monkeypatch.setattr(discrete_noise, "signs", lambda *given, s=negative: np.array([s]))
        for drawn in discrete_noise._laplace_candidates(KeyedSource(0), "s", scale, 1).tolist():
            law[drawn] = law.get(drawn, 0.0) + math.exp(-below / t - trials)
    decay = math.exp(-1 / scale)
    for k in range(-20, 21):
        expected = (1 - decay) / (1 + decay) * decay ** abs(k)
        assert law.get(k, 0.0) / math.fsum(law.values()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(2), Fraction(17, 3)])
def test_coins_are_asked_with_the_exponents_of_what_they_decide(variance, monkeypatch):
    """Of the fractions of U, of trials and of the square, floats and fractions alike."""
    asked = []

    def exp_coins(source, stream, exponents, exact):
        asked.append([(near, exact(i)) for i, near in enumerate(exponents.tolist())])
        return np.ones(len(exponents), dtype=bool)

    monkeypatch.setattr(discrete_noise, "exp_coins", exp_coins)
    drawn = discrete_noise._gaussian_candidates(KeyedSource(0), "s", variance, 50)
    fractions, squares = asked
    t = math.isqrt(int(variance)) + 1
    assert {exact for _, exact in fractions} == {Fraction(u, t) for u in range(t)}
    assert [exact for _, exact in squares] == [(abs(int(y)) - variance / t) ** 2 / (2 * variance) for y in drawn]
    assert all(near == pytest.approx(float(exact), abs=1e-13) for near, exact in fractions + squares)


@pytest.mark.parametrize("scale", [Fraction(2**63), Fraction(2**63 + 1), Fraction(3**60, 2), Fraction(10**30, 7)])
def test_draws_are_as_wide_as_scales_beyond_the_machine_word(scale):
    for draw, power in ((discrete_laplace, 1), (discrete_gaussian, 2)):
        drawn = draw(KeyedSource("wide"), "noise", scale**power, 400)
        sizes = np.array([abs(int(one)) / scale for one in drawn], dtype=float)
        law = stats.expon if power == 1 else stats.halfnorm
        assert drawn.dtype == object and stats.kstest(sizes, law.cdf).pvalue > 1e-4
        assert 140 < sum(one > 0 for one in drawn) < 260
