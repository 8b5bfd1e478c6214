import numpy as np
import pytest

from audit.core.thresholds import errors_at_thresholds, refuted_by_limits
from mechanisms import InvalidParameter


def test_every_threshold_is_counted_once():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 8, 30) * 1.0, rng.integers(-2, 6, 20) * 1.0
    missed, alarms = errors_at_thresholds(inside, outside)
    cuts = [np.inf, *np.unique(np.concatenate([inside, outside]))[::-1]]
    assert list(missed) == [np.count_nonzero(inside < cut) for cut in cuts]
    assert list(alarms) == [np.count_nonzero(outside >= cut) for cut in cuts]


def test_limits_that_break_no_inequality_refute_nothing():
    assert refuted_by_limits([1.0, 0.5], [1.0, 0.6], 0.0) == 0.0
    assert refuted_by_limits([0.2], [0.2], 0.9) == 0.0


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        ([], [1.0], "with the canary in and of runs with it out, got none of one kind"),
        ([1.0], [], "Nothing can be compared"),
        ([[1.0]], [1.0], "got 2 and 1 dimensions"),
        ([np.nan], [1.0], "scores must be finite"),
        ([1.0], [np.inf], "Did training diverge"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(inside, outside, message):
    with pytest.raises(InvalidParameter, match=message):
        errors_at_thresholds(np.array(inside), np.array(outside))
