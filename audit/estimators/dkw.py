"""Lower bounds of ε from bands around both empirical distributions, of one width for all thresholds.

    P[FNR <= FN / n_in + √(ln(2 / α) / (2 n_in)) at all thresholds] >= 1 − α/2                               [Mas90]

and the same for FPR. The width is that of the middle, so the tails, where large ε show, are judged harshly.

[Mas90] P. Massart. The Tight Constant in the Dvoretzky–Kiefer–Wolfowitz Inequality. Annals of Probability 18 (1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import Array, Counts
from audit.core.score_bounds import ScoresEstimator
from audit.core.thresholds import (
    checked_scores,
    checked_sets,
    errors_at_thresholds,
    refuted_by_limits,
    refuting_alarms,
    some_threshold_within,
)
from audit.evidence import check_level


def lower_bound_from_scores(*, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
    """Return the largest ε refuted at a threshold by the bands, 0 if none is.

    Args:
        included: scores of the runs with the canary in, shape (n_in,), higher the more likely it was in.
        excluded: scores of the runs with it out, shape (n_out,).
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and what scores a run was
    fixed without looking at the others; given n_in and n_out. Holds for any computation.

    Raises:
        InvalidParameter: if a class is empty, a score is not finite, or a level breaks its rule.

    >>> scores = np.arange(1000.0)
    >>> round(lower_bound_from_scores(included=scores + 500, excluded=scores, delta=0.0, confidence=0.95), 2)
    2.36
    """
    check_level("dkw", delta=delta, confidence=confidence)
    inside, outside = checked_scores("dkw", included, excluded)
    missed, alarms = errors_at_thresholds(inside, outside)
    return refuted_by_limits(
        _limit(missed, len(inside), 1 - confidence), _limit(alarms, len(outside), 1 - confidence), delta
    )


def rejects(
    *, included: ArrayLike, excluded: ArrayLike, epsilon: float, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, set by set, whether (ε, δ) is refuted: the test that `lower_bound_from_scores` inverts.

    The scores of several sets of runs have shapes (…, n_in) and (…, n_out); ε >= 0 is one number; the rest is as there.
    """
    epsilon = doors.loss("dkw", epsilon)
    check_level("dkw", delta=delta, confidence=confidence)
    inside, outside = checked_sets("dkw", included, excluded)
    allowed = refuting_alarms(
        *(_limit(np.arange(kind.shape[-1] + 1), kind.shape[-1], 1 - confidence) for kind in (inside, outside)),
        epsilon=epsilon,
        delta=delta,
    )
    return some_threshold_within(inside, outside, allowed)


@dataclass(frozen=True, slots=True)
class DKW(ScoresEstimator):
    """The bound of `lower_bound_from_scores`; the guessing rule plays no part.

    >>> DKW().name
    'dkw'
    """

    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""
        return lower_bound_from_scores(included=included, excluded=excluded, delta=delta, confidence=confidence)


def _limit(errors: Counts, runs: int, level: float) -> Array:
    limit: Array = np.minimum(errors / runs + np.sqrt(np.log(2 / level) / (2 * runs)), 1.0)
    return limit
