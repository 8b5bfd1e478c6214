import mpmath
import numpy as np
import pytest
from scipy import stats

from audit.core.binomial import near_mean, probability_at_most, upper_limit


@pytest.mark.parametrize(("trials", "rate"), [(0, 0.3), (1, 0.5), (20, 0.0), (20, 1.0), (3000, 1e-4), (5000, 0.3)])
def test_the_counts_kept_carry_all_of_the_mass(trials, rate):
    counts, masses = near_mean(trials, np.array([rate]))
    assert masses.sum() == pytest.approx(1, abs=1e-11)
    np.testing.assert_allclose(masses[0], stats.binom.pmf(counts[0], trials, rate), rtol=1e-9, atol=1e-300)


def test_points_of_one_call_do_not_touch_each_other():
    rates = np.array([0.0, 1e-3, 0.4, 1.0])
    counts, masses = near_mean(4000, rates)
    assert counts.min() >= 0 and counts.max() <= 4000
    np.testing.assert_allclose((counts * masses).sum(axis=1), 4000 * rates, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("level", [0.3, 0.05, 1e-9])
def test_a_limit_is_where_so_few_successes_become_unlikely(level):
    successes = np.array([0, 3, 40, 80])
    limits = upper_limit(successes, 100, level)
    assert np.all(stats.binom.cdf(successes, 100, limits) <= level)
    np.testing.assert_allclose(stats.binom.cdf(successes, 100, limits), level, rtol=1e-8)
    assert upper_limit(100, 100, level) == upper_limit(0, 0, level) == 1.0


@pytest.mark.parametrize(
    ("errors", "runs", "level"),
    [
        (0, 1, 1e-9),
        (5, 1_000, 0.05),
        (5, 10**6, 0.004222224588241583),
        (3, 10**7, 1.0434502435726178e-13),
        (3, 10**8, 0.21956450872719563),
        (30, 10**9, 2.193878612215404e-05),
    ],
)
def test_upper_limits_are_never_too_small_however_many_the_runs(errors, runs, level):
    """The chance of so few errors at the limit, with 40 digits; scipy's inverse has it 5e-8 too large at 10⁹ runs."""
    with mpmath.workdps(40):
        rate = mpmath.mpf(float(upper_limit(errors, runs, level)))
        chance = sum(
            mpmath.binomial(runs, k) * rate**k * mpmath.exp((runs - k) * mpmath.log1p(-rate)) for k in range(errors + 1)
        )
        assert 0.99 * level < chance <= level


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (3, 10), (40, 1_000), (20, 10**7)])
@pytest.mark.parametrize("position", [-4.0, 0.5, 4.0])
def test_tails_are_right_to_the_last_digits_however_many_the_trials(successes, trials, position):
    """By a sum with 40 digits; scipy's bdtr is off by 1e-8 and more at ten million trials."""
    rate = min(0.9, (successes + 1) / trials * np.exp(position / np.sqrt(successes + 1)))
    with mpmath.workdps(40):
        exact, exactly = mpmath.mpf(0), mpmath.mpf(float(rate))
        for k in range(successes + 1):
            chance = exactly**k * mpmath.exp((trials - k) * mpmath.log1p(-exactly))
            exact += mpmath.binomial(trials, k) * chance
        assert abs(float(probability_at_most(successes, trials, np.array(rate)) / exact) - 1) < 1e-12
