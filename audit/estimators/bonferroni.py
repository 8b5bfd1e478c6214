"""Lower bounds of ε from the best of all thresholds, each judged at its share of the error.

Every score is a threshold: n_in + n_out candidates, none left out after looking. Whichever run it comes from, the other
runs are independent of it, so their error rates and Clopper–Pearson limits at α / (n_in + n_out) make a valid test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import Array, Counts, upper_limit
from audit.core.score_bounds import ScoresEstimator
from audit.core.thresholds import (
    checked_scores,
    checked_sets,
    refuted_by_limits,
    refuting_alarms,
    some_threshold_within,
)
from audit.evidence import check_level
from audit.scores import Values
from mechanisms.core.errors import InvalidParameter

MOST_RUNS = 3_000_000  # of a kind: half a minute


def lower_bound_from_scores(*, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
    """Return the largest ε refuted at a threshold by the other runs' error rates, 0 if none is.

    Args:
        included: scores of the runs with the canary in, shape (n_in,), higher the more likely it was in.
        excluded: scores of the runs with it out, shape (n_out,).
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and what scores a run was
    fixed without looking at the others; given n_in and n_out. Holds for any computation.

    Raises:
        InvalidParameter: if a class is empty, a score is not finite, there are too many, or a level breaks its rule.

    >>> scores = np.arange(1000.0)
    >>> round(lower_bound_from_scores(included=scores + 500, excluded=scores, delta=0.0, confidence=0.95), 2)
    3.65
    """
    check_level("bonferroni", delta=delta, confidence=confidence)
    inside, outside = (np.sort(kind) for kind in checked_scores("bonferroni", included, excluded))
    thresholds = np.concatenate([inside, outside])
    own = np.arange(len(thresholds)) >= len(inside)  # whether the run that gives the threshold was out
    level = (1 - confidence) / len(thresholds) / 2
    missed = np.searchsorted(inside, thresholds, side="left")
    alarms = len(outside) - np.searchsorted(outside, thresholds, side="left") - own
    return refuted_by_limits(
        _limits(missed, len(inside), ~own, level), _limits(alarms, len(outside), own, level), delta
    )


def rejects(
    *, included: ArrayLike, excluded: ArrayLike, epsilon: float, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, set by set, whether (ε, δ) is refuted: the test that `lower_bound_from_scores` inverts.

    The scores of several sets of runs have shapes (…, n_in) and (…, n_out); ε >= 0 is one number; the rest is as there.
    """
    epsilon = doors.loss("bonferroni", epsilon)
    check_level("bonferroni", delta=delta, confidence=confidence)
    inside, outside = checked_sets("bonferroni", included, excluded)
    runs_in, runs_out = inside.shape[-1], outside.shape[-1]
    level = (1 - confidence) / (runs_in + runs_out) / 2

    def allowed(one: int, other: int) -> Counts:
        return refuting_alarms(_table(one, level), _table(other, level), epsilon=epsilon, delta=delta)

    by_in = some_threshold_within(inside, outside, allowed(runs_in - 1, runs_out))
    return by_in | _some_out_score_within(inside, outside, allowed(runs_out - 1, runs_in))


@dataclass(frozen=True, slots=True)
class Bonferroni(ScoresEstimator):
    """The bound of `lower_bound_from_scores`; the guessing rule plays no part.

    >>> Bonferroni().name
    'bonferroni'
    """

    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""
        return lower_bound_from_scores(included=included, excluded=excluded, delta=delta, confidence=confidence)


def _some_out_score_within(included: Values, excluded: Values, allowed: Counts) -> NDArray[np.bool_]:
    """Tell, set by set, whether some out-score misses fewer than the false positives of other runs allow there.

    `allowed` has shape (n_out,). Of equal scores the last in falling order knows how many others are false positives.
    """
    inside, falling = np.sort(included, axis=-1), -np.sort(-excluded, axis=-1)
    above_all = np.full((*inside.shape[:-1], 1), np.inf)
    rising = np.concatenate([inside, above_all], axis=-1)
    last = np.concatenate([falling[..., :-1] > falling[..., 1:], above_all > 0], axis=-1)
    asked = np.flatnonzero(allowed)
    within: NDArray[np.bool_] = np.any(
        last[..., asked] & (falling[..., asked] <= rising[..., allowed[asked] - 1]), axis=-1
    )
    return within


def _limits(errors: Counts, runs: int, left_out: NDArray[np.bool_], level: float) -> Array:
    """Return upper limits of the rate of errors among the runs, or all but one where one is left out."""
    fewer, every = (_table(count, level) for count in (runs - 1, runs))
    return np.where(left_out, fewer[np.minimum(errors, runs - 1)], every[errors])


@lru_cache(maxsize=32)
def _table(runs: int, level: float) -> Array:
    """Return upper limits by the number of errors."""
    if runs > MOST_RUNS:
        raise InvalidParameter(
            f"bonferroni: scores must be of at most {MOST_RUNS:,} runs of a kind, got {runs:,}.\n"
            "Use dkw, which answers more at once."
        )
    limits = upper_limit(np.arange(runs + 1), runs, level)
    limits.flags.writeable = False
    return limits
