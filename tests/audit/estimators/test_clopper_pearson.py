import numpy as np
import pytest
from scipy import stats

from audit.estimators.clopper_pearson import ClopperPearson, lower_bound_from_counts, rejects
from audit.scores import GuessingRule, IndependentRuns, LabelledScores, Scores
from mechanisms import InvalidParameter

# (TP, FN, FP, TN), δ, α, ε: Jagielski et al. 2020 for the first; the others agree with Microsoft's privacy-estimates.
PUBLISHED = [
    ((500, 0, 0, 500), 0.0, 0.01, 4.541915810224077),
    ((90, 10, 10, 90), 0.0, 0.05, 1.5421523947363345),
    ((40, 960, 1, 999), 1e-5, 0.05, 1.642106441037272),
    ((4922, 95078, 174, 99826), 1e-5, 1e-10, 2.7949995528202924),
]


def bound(counts, delta=0.0, confidence=0.95):
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    return lower_bound_from_counts(**dict(zip(names, counts, strict=True)), delta=delta, confidence=confidence)


@pytest.mark.parametrize(("counts", "delta", "error", "expected"), PUBLISHED)
def test_published_values_are_reproduced(counts, delta, error, expected):
    assert bound(counts, delta, 1 - error) == pytest.approx(expected, abs=1e-6)


def test_swapping_the_two_worlds_changes_nothing():
    assert bound((80, 20, 3, 97)) == pytest.approx(bound((97, 3, 20, 80)), rel=1e-12)


@pytest.mark.parametrize("counts", [(90, 10, 10, 90), (40, 960, 1, 999), (30, 0, 0, 70), (5, 5, 5, 5)])
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


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("included", "excluded"), [(10, 10), (50, 50), (30, 120), (200, 200)])
@pytest.mark.parametrize("delta", [0.0, 0.02])
def test_false_claims_stay_below_the_level_for_every_corner_of_the_privacy_region(epsilon, included, excluded, delta):
    """Exact: the two counts of errors are independent binomials, with rates on the boundary of what (ε, δ) allows."""
    missed, alarms = np.arange(included + 1)[:, None], np.arange(excluded + 1)[None, :]
    refuted = rejects(
        false_negatives=missed,
        included=included,
        false_positives=alarms,
        excluded=excluded,
        epsilon=epsilon,
        delta=delta,
        confidence=0.95,
    )
    for alarm_rate in (1 - delta) / (1 + np.exp(epsilon)) * np.array([0.02, 0.2, 0.5, 1.0]):
        miss_rate = 1 - delta - np.exp(epsilon) * alarm_rate
        law = stats.binom.pmf(missed, included, miss_rate) * stats.binom.pmf(alarms, excluded, alarm_rate)
        assert law[refuted].sum() <= 0.05


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0, 1, 1), "got none of one kind"),
        ((1, 1, 0, 0), "got none of one kind"),
        ((-1, 2, 1, 1), "true_positives must be at least 0, got -1"),
        ((1.5, 1, 1, 1), "true_positives must be a whole number, got 1.5"),
        ((np.nan, 1, 1, 1), "true_positives must be"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(InvalidParameter, match=message):
        bound(counts)


def test_a_run_without_a_guess_counts_as_called_out():
    class SureOrSilent(GuessingRule):
        def guess(self, values):
            return np.where(values >= 30.0, 1, 0).astype(np.int8)

    scores = Scores(values=np.arange(40.0), design=IndependentRuns(runs=40), guessing_rule=SureOrSilent())
    data = LabelledScores(scores=scores, membership=np.arange(40) >= 20)
    found = ClopperPearson().epsilon(data, process=None, delta=0.0, confidence=0.95)
    assert found == bound((10, 10, 0, 20))
    assert ClopperPearson().ceiling(data, delta=0.0, confidence=0.95) == bound((20, 0, 0, 20))
