import math

import numpy as np
import pytest

from audit.pictures import MOST, JawsPath, Pictures, RocCurve, ScoreHistogram, WealthPath
from mechanisms import InvalidParameter

HISTOGRAM = {"edges": (0.0, 1.0, 2.0), "included": (1, 2), "excluded": (3, 0)}
ROC = {"false_positive_rate": (0.0, 1.0), "true_positive_rate": (0.5, 1.0)}
JAWS = {"steps": (1, 5), "claimed": (1.0, math.inf), "evidence": (0.0, 0.5)}
WEALTH = {"looks": (1, 2), "log_wealth": (0.5, -math.inf), "epsilon": 1.0, "confidence": 0.95}


@pytest.mark.parametrize(
    ("kind", "good", "spoil", "message"),
    [
        (ScoreHistogram, HISTOGRAM, {"edges": (0.0, 2.0, 2.0)}, "edges must be two or more numbers that rise"),
        (ScoreHistogram, HISTOGRAM, {"edges": (0.0, math.inf, 2.0)}, "edges must be finite, got inf"),
        (ScoreHistogram, HISTOGRAM, {"included": (1,)}, "included must have 2 numbers, got 1"),
        (ScoreHistogram, HISTOGRAM, {"excluded": (1, -1)}, "excluded must be at least 0, got -1"),
        (ScoreHistogram, HISTOGRAM, {"expected_included": (1.0,)}, "expected_included must have 2 numbers, got 1"),
        (ScoreHistogram, HISTOGRAM, {"expected_excluded": (1.0, math.nan)}, "expected_excluded must be a number"),
        (RocCurve, ROC, {"true_positive_rate": (0.5, 0.4)}, "true_positive_rate must not fall"),
        (RocCurve, ROC, {"false_positive_rate": (0.0, 1.5)}, "false_positive_rate must lie"),
        (RocCurve, ROC, {"alpha": (0.5,)}, "allowed must have 1 numbers, got 0"),
        (JawsPath, JAWS, {"steps": (5, 5)}, "steps must be one or more numbers that rise"),
        (JawsPath, JAWS, {"steps": (0, 5)}, "steps must be one or more numbers that rise from 1"),
        (JawsPath, JAWS, {"evidence": (-0.1, 0.5)}, "evidence must be at least 0, got -0.1"),
        (JawsPath, JAWS, {"claimed": (1.0, math.nan)}, "claimed must be a number, got nan"),
        (JawsPath, JAWS, {"unit": "years"}, "unit must be one of 'steps', 'looks', got 'years'"),
        (WealthPath, WEALTH, {"confidence": 1.0}, r"confidence must lie in \(0, 1\), got 1.0"),
        (WealthPath, WEALTH, {"log_wealth": "ab"}, "log_wealth must be a sequence"),
        (WealthPath, WEALTH, {"looks": range(1, MOST + 2)}, "at most 1000 numbers, got 1001"),
        (Pictures, {}, {"roc": 3}, "roc must be RocCurve or None, got int"),
    ],
)
def test_numbers_that_break_a_rule_are_refused_by_name(kind, good, spoil, message):
    kind(**good)
    with pytest.raises(InvalidParameter, match=f"{kind.__name__}: .*{message}"):
        kind(**(good | spoil))


def test_arrays_become_tuples_of_plain_numbers():
    found = ScoreHistogram(edges=np.arange(3.0), included=np.array([1, 2]), excluded=[3.0, 0])
    assert found == ScoreHistogram(**HISTOGRAM)
    assert {type(one) for one in (*found.included, *found.excluded)} == {int}
    assert hash(found) == hash(ScoreHistogram(**HISTOGRAM))
