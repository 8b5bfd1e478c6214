import numpy as np
import pytest
from scipy import stats

from audit.roc import area_under_curve, true_positive_rate
from mechanisms import InvalidParameter


@pytest.mark.parametrize(
    "draw", [lambda rng, n: rng.normal(size=n), lambda rng, n: rng.integers(4, size=n)], ids=["free", "ties"]
)
def test_the_area_counts_pairs_won_and_half_of_those_tied(draw, rng):
    members, others = draw(rng, 40) + 0.0, draw(rng, 30) + 0.0
    won = (members[:, None] > others).mean() + (members[:, None] == others).mean() / 2
    assert area_under_curve(members, others, confidence=0.9).value == pytest.approx(won, abs=1e-12)


def test_the_limits_of_the_area_solve_their_equation_and_never_close_on_a_perfect_score():
    found = area_under_curve([3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 4.5], confidence=0.95)
    for end in (found.lower, found.upper):
        divergence = stats.entropy([found.value, 1 - found.value], [end, 1 - end])
        assert 3 * divergence == pytest.approx(np.log(40), rel=1e-9)
    perfect = area_under_curve([1.0] * 20, [0.0] * 30, confidence=0.95)
    assert (perfect.value, perfect.upper) == (1.0, 1.0)
    assert perfect.lower == pytest.approx(0.025 ** (1 / 20))


def test_the_limits_of_the_area_cover_the_truth_more_often_than_they_say(rng):
    truth, outside = stats.norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(400):
        found = area_under_curve(rng.normal(1, 1, 30), rng.normal(0, 1, 45), confidence=0.8)
        outside += not found.lower <= truth <= found.upper
    assert outside <= 80


def test_the_threshold_allows_as_many_alarms_as_asked_and_no_more(rng):
    others = rng.normal(size=1000)
    found = true_positive_rate(rng.normal(size=500) + 2, others, false_positive_rate=0.01, confidence=0.95)
    assert found.false_positives == 10 and found.threshold == np.sort(others)[-11]
    none = true_positive_rate([5.0, -9.0], others, false_positive_rate=0.0009, confidence=0.95)
    assert (none.false_positives, none.threshold, none.true_positive_rate) == (0, others.max(), 0.5)
    tied = true_positive_rate([1.0, 2.0], [1.0] * 100, false_positive_rate=0.05, confidence=0.95)
    assert (tied.false_positives, tied.true_positive_rate) == (0, 0.5)


def test_the_limits_of_the_rates_are_those_of_exact_binomials():
    found = true_positive_rate(np.arange(200) + 60, np.arange(200), false_positive_rate=0.02, confidence=0.95)
    caught = round(200 * found.true_positive_rate)
    exact = stats.binomtest(caught, 200).proportion_ci(0.95, method="exact")
    assert (found.lower, found.upper) == pytest.approx((exact.low, exact.high), rel=1e-9)
    assert found.false_positive_rate_upper == pytest.approx(stats.beta.ppf(0.95, 4 + 1, 200 - 4), rel=1e-9)


def test_the_true_rate_of_alarms_lies_below_its_limit_as_often_as_it_says(rng):
    limit = true_positive_rate([0], np.arange(50), false_positive_rate=0.1, confidence=0.8).false_positive_rate_upper
    draws = [true_positive_rate([0], rng.random(50), false_positive_rate=0.1, confidence=0.8) for _ in range(1000)]
    above = sum(1 - found.threshold > limit for found in draws)
    assert abs(above - 200) < 4 * np.sqrt(160)


@pytest.mark.parametrize(
    ("scores", "rate", "confidence", "text"),
    [
        (([], [1.0]), 0.1, 0.9, "scores must be one or more of members"),
        (([np.nan], [1.0]), 0.1, 0.9, "and no NaN"),
        (([1.0], [1.0]), 1.0, 0.9, "false_positive_rate must be below 1"),
        (([1.0], [1.0]), 0.1, 1.0, "confidence must lie strictly between"),
    ],
)
def test_bad_input_is_named(scores, rate, confidence, text):
    with pytest.raises(InvalidParameter, match=text):
        true_positive_rate(*scores, false_positive_rate=rate, confidence=confidence)


def test_a_rate_next_to_one_allows_all_alarms_but_one():
    found = true_positive_rate(np.arange(10) + 0.5, np.arange(10), false_positive_rate=1 - 1e-13, confidence=0.9)
    assert (found.threshold, found.false_positives, found.true_positive_rate) == (0.0, 9, 1.0)
