"""Counts of errors: over independent runs, of a test that the runs did not choose."""

import numpy as np
import pytest
from scipy import stats

from audit.estimators import calibrated
from audit.estimators.calibrated import Calibrated
from audit.estimators.clopper_pearson import ClopperPearson
from audit.estimators.gdp import GDP
from audit.estimators.jeffreys import Jeffreys
from audit.estimators.katz_log import KatzLog
from audit.estimators.tradeoff import Tradeoff
from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, Scores
from mechanisms import Gaussian, InvalidParameter

COUNTING = (Calibrated, ClopperPearson, GDP, Jeffreys, KatzLog, Tradeoff)


def test_errors_of_guesses_by_rank_would_break_the_level():
    """Of 20 + 20 runs of a computation that tells nothing, the 20 of the highest scores are called in."""
    errors = np.arange(21)  # as many false negatives as false positives
    chances = stats.hypergeom.pmf(errors, 40, 20, 20)
    refuted = calibrated.rejects(
        false_negatives=errors,
        included=20,
        false_positives=errors,
        excluded=20,
        epsilon=0.0,
        delta=0.0,
        confidence=0.95,
    )
    assert 0.056 < chances @ refuted < 0.057


@pytest.mark.parametrize("estimator", COUNTING)
def test_guesses_by_rank_are_refused(estimator):
    scores = Scores(
        values=np.arange(40.0),
        design=IndependentRuns(runs=40),
        guessing_rule=GuessExtremes(included=20, excluded=20),
    )
    data = LabelledScores(scores=scores, membership=np.arange(40) % 2 == 0)
    level = {"process": Gaussian(noise_multiplier=1.0), "delta": 1e-5, "confidence": 0.95}
    with pytest.raises(InvalidParameter, match=f"{estimator().name}: guessing rule must judge each run by itself"):
        estimator().lower_bound(data, **level, threat_model="")
    with pytest.raises(InvalidParameter, match="guessing rule must judge each run by itself"):
        estimator().rejects(data, 0.0, **level)
