"""Random whole numbers: first masses against 60 digits, laws by χ², and answers that more digits can't change."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from mechanisms import KeyedSource
from mechanisms.core import inverted_counts
from mechanisms.core.inverted_counts import exponential, first_mass, logarithm, poisson, truncated_negative_binomial


def rational(x):
    return mp.mpf(x.numerator) / mp.mpf(x.denominator)


@pytest.mark.parametrize("digits", [5, 40, 120])
@pytest.mark.parametrize("x", [5e-324, 1e-30, 0.3, 1.0, 31.7, 11_000.0])
def test_exponentials_are_enclosed_narrowly(x, digits):
    for sign in (-1, 1):
        low, high = exponential(sign * Fraction(x), digits)
        with mp.workdps(500):
            assert rational(low) < mp.exp(sign * mp.mpf(x)) < rational(high)
            assert rational(high - low) < mp.mpf(10) ** -digits * rational(low)


@pytest.mark.parametrize("digits", [5, 40, 120])
@pytest.mark.parametrize("gamma", [5e-324, 1e-30, 0.3, 0.5, 0.999, 1 - 2.0**-53])
def test_logarithms_are_enclosed_narrowly(gamma, digits):
    low, high = logarithm(1 / Fraction(gamma), digits)
    with mp.workdps(500):
        truth = -mp.log(mp.mpf(gamma))
        assert rational(low) < truth < rational(high)
        assert rational(high - low) < mp.mpf(10) ** -digits * truth


@pytest.mark.parametrize("gamma", [1e-300, 1e-4, 0.4, 1 - 2.0**-53])
@pytest.mark.parametrize("eta", [-1 + 2.0**-53, -0.3, -1e-200, -5e-324, 0.0, 5e-324, 1e-20, 1.0, 7.5])
def test_the_first_mass_is_enclosed_narrowly(eta, gamma):
    low, high = first_mass(Fraction(eta), Fraction(gamma), 30)
    with mp.workdps(900):
        e, g = mp.mpf(eta), mp.mpf(gamma)
        truth = (1 - g) / -mp.log(g) if e == 0 else (1 - g) * e / (g**-e - 1)
        assert rational(low) <= truth <= rational(high)
        assert rational(high - low) <= mp.mpf("1e-28") * truth


def fits(draws, masses):
    """Whether draws have these masses, all that is rarer than 5 in all together."""
    size, cells, counts = len(draws), [], []
    for k, mass in enumerate(masses):
        if size * mass >= 5:
            cells.append(mass)
            counts.append(sum(draw == k for draw in draws))
    cells.append(1.0 - sum(cells))
    counts.append(size - sum(counts))
    return stats.chisquare(counts, size * np.array(cells)).pvalue > 1e-3


@pytest.mark.parametrize(("eta", "gamma"), [(1.0, 0.25), (0.0, 0.1), (-0.5, 0.01), (3.0, 0.5)])
def test_draws_have_the_truncated_negative_binomial_law(eta, gamma):
    source = KeyedSource(1)
    draws = [truncated_negative_binomial(source, "k", Fraction(eta), Fraction(gamma)) for _ in range(600)]
    weights = [0.0, 1.0]
    for k in range(1, 3000):
        weights.append(weights[-1] * (1 - gamma) * (k + eta) / (k + 1))
    assert fits(draws, np.array(weights) / sum(weights))


@pytest.mark.parametrize("mean", [0.0, 0.3, 5.0, 75.5])
def test_draws_have_the_poisson_law(mean):
    source = KeyedSource(2)
    draws = [poisson(source, "k", Fraction(mean)) for _ in range(600)]
    if mean == 0.0:
        assert set(draws) == {0}
    else:
        assert fits(draws, stats.poisson.pmf(np.arange(200), mean))


def test_the_answer_is_where_the_number_meets_the_cdf():
    """Numbers just below and above P(1) + P(2) of the geometric law of γ = 1/2, which is 3/4."""
    for value, wanted in ((3 * 2**126 - 1, 1), (3 * 2**126, 2)):
        found = inverted_counts._met(
            value,
            128,
            lambda digits: (Fraction(1, 2), Fraction(1, 2)),
            lambda k: (1, 2),
        )
        assert found == wanted


def test_what_few_bits_leave_open_more_bits_decide():
    class Scripted(KeyedSource):
        def words(self, stream, counter, n):
            return np.full(n, 0xAAAAAAAA, dtype=np.uint32)  # U = 2/3 in binary, up to the order of the words

    calls = []

    def first(digits):
        """P(0), 10^-50 above U: less than its first 128 bits show."""
        calls.append(digits)
        shown, slack = Fraction(2, 3) + Fraction(1, 10**50), Fraction(1, 10 ** (digits + 5))
        return shown - slack, shown + slack

    assert inverted_counts._inverted(Scripted(0), "k", first, lambda k: (1, 2)) == 0
    assert len(set(calls)) > 2
