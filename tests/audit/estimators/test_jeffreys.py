import numpy as np
import pytest
from scipy import stats

from audit.estimators import clopper_pearson
from audit.estimators.jeffreys import Jeffreys, lower_bound_from_counts, rejects
from mechanisms import InvalidParameter

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")


def bound(counts, delta=0.0, confidence=0.95):
    return lower_bound_from_counts(**dict(zip(NAMES, counts, strict=True)), delta=delta, confidence=confidence)


def refuted(size, epsilon, delta=0.0):
    missed, alarms = np.arange(size + 1)[:, None], np.arange(size + 1)[None, :]
    asked = {"false_negatives": missed, "included": size, "false_positives": alarms, "excluded": size}
    return rejects(**asked, epsilon=epsilon, delta=delta, confidence=0.95)


def test_the_value_of_microsofts_privacy_estimates_is_reproduced():
    assert bound((90, 10, 10, 90)) == pytest.approx(1.5847492073940495, abs=1e-6)


@pytest.mark.parametrize("counts", [(90, 10, 10, 90), (40, 960, 1, 999), (30, 0, 0, 70), (5, 5, 5, 5), (0, 9, 9, 0)])
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


def test_a_test_that_always_calls_out_shows_nothing():
    assert bound((0, 1, 0, 100_000)) == 0.0


@pytest.mark.parametrize("counts", [(90, 10, 10, 90), (30, 0, 0, 70), (99, 1, 40, 60), (0, 20, 0, 20)])
def test_the_bound_is_above_the_exact_one(counts):
    exact = clopper_pearson.lower_bound_from_counts(**dict(zip(NAMES, counts, strict=True)), delta=0.0, confidence=0.95)
    assert bound(counts) > exact or exact == 0


@pytest.mark.parametrize(
    ("size", "epsilon", "alarm_rate", "measured"),
    [(50, 1.0, 0.26894, 0.0122), (100, 3.5, 0.0293122, 0.0995), (200, 4.0, 0.017986, 0.0523)],
)
def test_false_claims_are_as_measured_and_above_the_level_where_errors_are_few(size, epsilon, alarm_rate, measured):
    counts = np.arange(size + 1)
    law = stats.binom.pmf(counts, size, 1 - np.exp(epsilon) * alarm_rate), stats.binom.pmf(counts, size, alarm_rate)
    assert law[0] @ refuted(size, epsilon) @ law[1] == pytest.approx(measured, abs=2e-4)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0, 1, 1), "got none of one kind"),
        ((1, 1, 0, 0), "got none of one kind"),
        ((1, -1, 1, 1), "false_negatives must be at least 0, got -1"),
        ((1, 1, 1, np.nan), "true_negatives must be a number, got nan"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(InvalidParameter, match=f"jeffreys: .*{message}"):
        bound(counts)


def test_jeffreys_is_labelled_approximate():
    assert Jeffreys.guarantee == "approximate"
