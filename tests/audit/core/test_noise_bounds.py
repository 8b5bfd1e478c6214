import mpmath
import numpy as np
import pytest
from scipy import stats

from audit.core.noise_bounds import ROUND_OFF, GapLaw, _count_bins, bound_from_squares

# included, excluded, probability, steps, noise multiplier, contrast
CASES = [
    (500, 500, 0.1, 100, 0.936, 1.17),
    (2500, 2500, 0.5, 100, 5.5, 0.96),
    (20, 30, 0.1, 10, 0.3, 2.5),
    (1, 2, 0.02, 10, 0.5, 8.0),
    (5, 3, 1.0, 4, 1.0, 3.0),
    (40, 40, 0.1, 1, 0.05, 4.0),
    (3, 4000, 0.5, 50, 0.01, 420.0),
]


def exact_p_value(included, excluded, probability, steps, noise, contrast):
    """Given the count K, D / S is r times a noncentral t."""
    spread = np.sqrt(1 / included + 1 / excluded)
    counts = np.arange(included * steps + 1)
    masses = stats.binom.pmf(counts, included * steps, probability)
    counts, masses = counts[masses > 1e-14], masses[masses > 1e-14]
    shift = counts / (included * noise * np.sqrt(steps) * spread)
    return float(np.sum(masses * stats.nct.sf(contrast / spread, excluded - 1, shift)))


@pytest.mark.parametrize("case", CASES)
def test_p_values_lie_above_the_exact_ones_and_close_to_them(case):
    included, excluded, probability, steps, noise, contrast = case
    law = GapLaw(included=included, excluded=excluded, probability=probability, steps=steps)
    exact = exact_p_value(*case)
    assert 1e-4 < exact < 0.5
    assert exact - 1e-9 <= law.p_value(contrast, 1 / noise) <= 1.1 * exact + 1e-9


@pytest.mark.parametrize("degrees", [1, 2, 7, 1000, 2_000_000])
@pytest.mark.parametrize("level", [1e-4, 0.01, 0.05, 0.5])
def test_the_bound_from_squares_is_the_chi_square_quantile_to_thirty_digits(degrees, level):
    bound = float(bound_from_squares(float(degrees), degrees=degrees, level=level))
    with mpmath.workdps(30):
        below = mpmath.gammainc(mpmath.mpf(degrees) / 2, 0, degrees / (2 * mpmath.mpf(bound) ** 2), regularized=True)
    assert level * (1 - 1e-6) <= float(below) <= level


@pytest.mark.parametrize(("draws", "probability"), [(1, 1.0), (5, 0.3), (50_000, 0.1), (10_000_000, 0.1)])
def test_masses_of_counts_are_those_of_thirty_digits(draws, probability):
    largest, masses = _count_bins(draws, probability)
    middle = len(largest) // 2
    count, below = int(largest[middle]), mpmath.mpf(0)
    with mpmath.workdps(30):
        p = mpmath.mpf(probability)
        term = mpmath.binomial(draws, count) * p**count * (1 - p) ** (draws - count)
        while term > 1e-20 and count >= 0:
            below += term
            term *= mpmath.mpf(count) * (1 - p) / ((draws - count + 1) * p)
            count -= 1
    assert float(np.sum(masses[: middle + 1])) == pytest.approx(float(below), abs=ROUND_OFF / 10)
    assert largest[-1] == draws and np.sum(masses) == pytest.approx(1.0, abs=1e-14)


def test_a_level_too_small_for_floats_refutes_nothing():
    assert bound_from_squares(1.0, degrees=10, level=1e-14) == np.inf
    law = GapLaw(included=10, excluded=10, probability=0.5, steps=10)
    assert law.bound(1e9, level=1e-14) == np.inf and law.critical(1.0, level=1e-14) == np.inf


def test_a_gap_that_no_noise_explains_refutes_every_noise():
    """A single canary that is hardly ever sampled, and still far away: the description of the samples is wrong."""
    law = GapLaw(included=1, excluded=50, probability=0.001, steps=1)
    assert law.bound(30.0, level=0.01) == 0.0


def test_p_values_fall_with_the_contrast_and_the_noise():
    law = GapLaw(included=30, excluded=40, probability=0.3, steps=10)
    by_contrast = [law.p_value(contrast, 1.0) for contrast in np.linspace(0, 5, 20)]
    by_noise = [law.p_value(1.0, 1 / noise) for noise in np.geomspace(0.1, 100, 20)]
    assert by_contrast == sorted(by_contrast, reverse=True) and by_noise == sorted(by_noise, reverse=True)


@pytest.mark.parametrize("steps", [1, 100])
def test_a_critical_contrast_refutes_and_hardly_any_less_does(steps):
    rng = np.random.default_rng(7)
    for _ in range(6):
        runs = rng.integers(2, 60, 2)
        law = GapLaw(included=int(runs[0]), excluded=int(runs[1]), probability=float(rng.random()), steps=steps)
        noise, level = float(rng.uniform(0.5, 3)), float(10 ** rng.uniform(-3, -0.5))
        found = law.critical(noise, level=level)
        assert law.p_value(found, 1 / noise) <= level
        assert found == 0 or law.p_value(found * (1 - 1e-9), 1 / noise) > level
