import numpy as np
import pytest
from scipy import stats

from audit.estimators.katz_log import KatzLog, lower_bound_from_counts, rejects
from mechanisms import InvalidParameter

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")

# The ratios 4.45958661 and 6.39712581 of tensorflow-privacy's epsilon_lower_bound.py, at 95 %.
PUBLISHED = [((100, 10, 10, 70), 1.4950560740193188), ((90, 20, 5, 75), 1.8558487968880906)]


def bound(counts, delta=0.0, confidence=0.95):
    return lower_bound_from_counts(**dict(zip(NAMES, counts, strict=True)), delta=delta, confidence=confidence)


@pytest.mark.parametrize(("counts", "expected"), PUBLISHED)
def test_published_values_are_reproduced(counts, expected):
    assert bound(counts) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("counts", [(90, 10, 10, 90), (40, 960, 1, 999), (30, 0, 0, 70), (5, 5, 5, 5), (0, 9, 3, 6)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.05])
def test_the_bound_inverts_the_test(counts, delta):
    found = bound(counts, delta)
    asked = {
        "false_negatives": counts[1],
        "included": counts[0] + counts[1],
        "false_positives": counts[2],
        "excluded": counts[2] + counts[3],
        "delta": delta,
        "confidence": 0.95,
    }
    assert found == 0 or rejects(epsilon=found - 1e-9, **asked)
    assert not rejects(epsilon=found + 1e-9, **asked)


@pytest.mark.parametrize("counts", [(0, 9, 3, 6), (0, 9, 0, 9), (1, 99, 50, 50)])
def test_a_rate_of_hits_below_that_of_alarms_shows_nothing(counts):
    assert bound(counts, 0.02) == 0.0


def test_the_variance_is_that_of_the_logarithm_of_hits_above_delta():
    """The interval's width at δ > 0, against the spread of simulated ln((TPR − δ)/FPR)."""
    rng, delta = np.random.default_rng(3), 0.1
    hits, alarms = rng.binomial(20_000, 0.3, 50_000) / 20_000, rng.binomial(20_000, 0.05, 50_000) / 20_000
    spread = np.std(np.log((hits - delta) / alarms))
    end = bound((6000, 14000, 1000, 19000), delta)
    assert (np.log(0.2 / 0.05) - end) / stats.norm.ppf(0.95) == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize(
    ("included", "excluded", "epsilon", "alarm_rate", "measured"),
    [(50, 50, 1.0, 0.26894, 0.0364), (200, 200, 0.0, 0.6457, 0.0508), (50, 500, 0.0, 0.98923, 0.527)],
)
def test_false_claims_are_as_measured(included, excluded, epsilon, alarm_rate, measured):
    missed, alarms = np.arange(included + 1), np.arange(excluded + 1)
    refuted = rejects(
        false_negatives=missed[:, None],
        included=included,
        false_positives=alarms[None, :],
        excluded=excluded,
        epsilon=epsilon,
        delta=0.0,
        confidence=0.95,
    )
    hits = stats.binom.pmf(missed, included, 1 - np.exp(epsilon) * alarm_rate)
    rate = hits @ refuted @ stats.binom.pmf(alarms, excluded, alarm_rate)
    assert rate == pytest.approx(measured, abs=2e-3)


@pytest.mark.parametrize(
    ("counts", "message"),
    [((0, 0, 1, 1), "got none of one kind"), ((1, 1, 1.5, 1), "false_positives must be a whole number, got 1.5")],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(InvalidParameter, match=f"katz_log: .*{message}"):
        bound(counts)


def test_katz_is_labelled_approximate():
    assert KatzLog.guarantee == "approximate"
