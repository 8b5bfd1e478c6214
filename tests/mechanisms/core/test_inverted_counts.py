"""Random whole numbers: first masses against 60 digits, laws by χ², and answers that more digits can't change."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from mechanisms import KeyedSource
from mechanisms.core import inverted_counts
from mechanisms.core.inverted_counts import first_mass, poisson, truncated_negative_binomial
from tests.mechanisms.core.scripted import Scripted


@pytest.mark.parametrize("gamma", [1e-300, 1e-4, 0.4, 1 - 2.0**-53])
@pytest.mark.parametrize("eta", [-1 + 2.0**-53, -0.3, -1e-200, -5e-324, 0.0, 5e-324, 1e-20, 1.0, 7.5])
def test_the_first_mass_is_enclosed_narrowly(eta, gamma):
    with mp.workdps(900):
        e, g = mp.mpf(eta), mp.mpf(gamma)
        truth = (1 - g) / -mp.log(g) if e == 0 else (1 - g) * e / (g**-e - 1)
        for bits in (64, 200, 1500):
            low, high = first_mass(Fraction(eta), Fraction(gamma), bits)
            assert low <= mp.ldexp(truth, bits) <= high <= low + 2


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


def exactly(p):
    return lambda bits: (int(p * 2**bits), -int(-p * 2**bits // 1))


def test_the_answer_is_where_the_number_meets_the_cdf():
    """Numbers just below and above P(1) + P(2) of the geometric law of γ = 1/2, which is 3/4."""
    for value, wanted in ((3 * 2**126 - 1, 1), (3 * 2**126, 2), (0, 0), (2**127 - 1, 0), (2**127, 1)):
        assert inverted_counts._met(value, 128, exactly(Fraction(1, 2)), lambda k: (1, 2)) == wanted


def test_of_all_strata_of_a_number_exactly_those_below_the_cdf_are_counted():
    cdf = stats.poisson.cdf(np.arange(40), 2.5)
    for i in range(2**10):
        found = inverted_counts.poisson(Scripted([(2 * i + 1) << 53]), "k", Fraction(5, 2))
        assert found == int(np.searchsorted(cdf, (i + 0.5) / 2**10, side="right"))


def test_what_few_bits_leave_open_more_bits_decide():
    """P(0) is 2^-190 above 2/3, whose digits the number begins with: 1010… in binary."""
    asked = []

    def first(bits):
        asked.append(bits)
        return exactly(Fraction(2, 3) + Fraction(1, 2**190))(bits)

    words = [0xAAAAAAAAAAAAAAAA] * 4
    source = Scripted(words)
    assert inverted_counts._inverted(source, "k", first, lambda k: (1, 2)) == 0 and len(source.rest) == 1
    words[2] += 1 << 10
    assert inverted_counts._inverted(Scripted(words), "k", first, lambda k: (1, 2)) == 1
    assert asked[0] >= 128 and max(asked) >= 192


def test_a_first_mass_far_below_the_digits_that_are_known_is_asked_for_more_of_them():
    tiny = Fraction(1, 2**500)
    found = inverted_counts._met(1, 64, exactly(tiny), lambda k: (2**100, 1))
    assert found == 5  # P(k) = 2^(100 k − 500), whose sum passes 2^-63 at k = 5
