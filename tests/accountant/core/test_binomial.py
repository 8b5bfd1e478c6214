"""The binomial sum against tails in many digits, which are subtracted rather than summed term by term."""

import math

import mpmath as mp
import numpy as np
import pytest

from accountant.core.binomial import excess


def tails(times, loss, epsilon):
    """P(S >= k) − e^ε Q(S >= k): each tail summed from its own binomial law."""
    with mp.workdps(420):
        rate, limit = mp.mpf(loss), mp.mpf(epsilon)
        first = int(mp.floor((limit / rate + times) / 2)) + 1
    with mp.workdps(60):
        p = 1 / (1 + mp.exp(-mp.mpf(loss)))
        return upper_tail(times, p, first) - mp.exp(mp.mpf(epsilon)) * upper_tail(times, 1 - p, first)


def upper_tail(times, p, first):
    log_choices = mp.loggamma(times + 1) - mp.loggamma(first + 1) - mp.loggamma(times - first + 1)
    term = mp.exp(log_choices + first * mp.log(p) + (times - first) * mp.log1p(-p))
    total, odds, largest = mp.mpf(0), p / (1 - p), term
    for k in range(first, times + 1):
        total += term
        largest = max(largest, term)
        if term < largest * mp.mpf("1e-56"):
            break
        term *= odds * (times - k) / (k + 1)
    return total


def random_cases(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        times, loss = int(10 ** rng.uniform(0, 4.5)), float(10 ** rng.uniform(-4, 1.2))
        mean, deviation = times * loss * math.tanh(loss / 2), loss * math.sqrt(times) / math.cosh(loss / 2)
        epsilon = mean + deviation * rng.uniform(-4, 30)
        yield times, loss, float(np.clip(epsilon, 0.0, times * loss * (1 - 10 ** rng.uniform(-6, -1))))


LARGE = [
    (10**6, 0.5, 124_000.0),
    (10**6, 0.5, 122_500.0),
    (10**6, 0.5, 139_900.0),
    (10**6, 0.01, 300.0),
    (10**7, 0.5, 1_226_000.0),
    (10**7, 0.01, 800.0),
    (10**7, 1e-3, 100.0),
    pytest.param(10**7, 1e-4, 0.0, marks=pytest.mark.slow),
    (10**7, 3.0, 28_000_000.0),
]


@pytest.mark.parametrize(("times", "loss", "epsilon"), [*random_cases(60), *LARGE])
def test_the_sum_encloses_the_difference_of_tails_to_twelve_digits(times, loss, epsilon):
    """The middle errs by at most half: the constants, which are `validated`, are twice what was measured or more."""
    found, truth = excess(times, loss, epsilon), tails(times, loss, epsilon)
    with mp.workdps(60):
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
        width = mp.mpf(found.upper) - mp.mpf(found.lower)
        assert width <= (mp.mpf("4e-12") + mp.mpf("1e-307") / truth) * truth
        if truth > mp.mpf("1e-290"):
            assert abs((mp.mpf(found.upper) + mp.mpf(found.lower)) / 2 - truth) <= width / 4


@pytest.mark.parametrize("times", [1, 2, 7])
@pytest.mark.parametrize("loss", [1e-300, 1e-9, 0.7, 30.0, 800.0, 1e300])
def test_few_answers_of_any_loss_are_enclosed(times, loss):
    for share in (0.0, 0.3, 0.999, 1.0, 1.5):
        epsilon = share * loss * times
        found = excess(times, loss, epsilon)
        assert 0 <= found.lower <= found.upper <= 1
        if loss <= 800.0 and share < 1:
            with mp.workdps(900):
                rate = mp.mpf(loss)
                p = 1 / (1 + mp.exp(-rate))
                terms = (
                    mp.binomial(times, k)
                    * p**k
                    * (1 - p) ** (times - k)
                    * -mp.expm1(mp.mpf(epsilon) - rate * (2 * k - times))
                    for k in range(times + 1)
                    if rate * (2 * k - times) > epsilon
                )
                truth = mp.fsum(terms)
                assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
                assert mp.mpf(found.upper) - mp.mpf(found.lower) <= mp.mpf("1e-13") * truth + mp.mpf("1e-299")


def test_from_the_largest_loss_on_nothing_is_left():
    for epsilon in (0.75, 1.0, math.inf):
        found = excess(3, 0.25, epsilon)
        assert found.lower == found.upper == 0.0
