"""Lower bounds of ε from a threshold chosen on half of the runs and judged on the others.

Runs at even positions of each class choose the threshold that suggests the largest loss; those at odd positions, which
know nothing of the choice, are judged at it by the calibrated joint test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import Counts
from audit.core.score_bounds import ScoresEstimator
from audit.core.thresholds import checked_scores, checked_sets
from audit.estimators import calibrated
from audit.evidence import check_level
from audit.scores import Values
from mechanisms.core.errors import InvalidParameter

MOST_RUNS = 2 * calibrated.MOST_RUNS  # of a kind, which is halved


def lower_bound_from_scores(*, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
    """Return the largest ε refuted by the second half at the first half's threshold, 0 if none is.

    It is 0, too, if a class has a single run.

    Args:
        included: scores of the runs with the canary in, shape (n_in,), higher the more likely it was in; in the order
            of the runs or another that knows nothing of the scores: sorted ones would make the halves depend.
        excluded: scores of the runs with it out, shape (n_out,), likewise.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and what scores a run was
    fixed without looking at the others; given n_in and n_out. Holds for any computation.

    Raises:
        InvalidParameter: if a class is empty, a score is not finite, there are too many, or a level breaks its rule.

    >>> scores = np.random.default_rng(0).normal(size=(2, 1000))
    >>> round(lower_bound_from_scores(included=scores[0] + 2, excluded=scores[1], delta=0.0, confidence=0.95), 2)
    2.89
    """
    check_level("held_out", delta=delta, confidence=confidence)
    inside, outside = _not_too_many(*checked_scores("held_out", included, excluded))
    if min(len(inside), len(outside)) < 2:
        return 0.0
    missed, alarms = map(int, _errors_held_out(inside, outside, delta, confidence))
    judged_in, judged_out = len(inside) // 2, len(outside) // 2
    return calibrated.lower_bound_from_counts(
        true_positives=judged_in - missed,
        false_negatives=missed,
        false_positives=alarms,
        true_negatives=judged_out - alarms,
        delta=delta,
        confidence=confidence,
    )


def rejects(
    *, included: ArrayLike, excluded: ArrayLike, epsilon: float, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, set by set, whether (ε, δ) is refuted: the test that `lower_bound_from_scores` inverts.

    The scores of several sets of runs have shapes (…, n_in) and (…, n_out); ε >= 0 is one number, whose critical value
    for so many runs is found once (seconds for 1,000 a side) and kept; the rest is as there.
    """
    check_level("held_out", delta=delta, confidence=confidence)
    inside, outside = _not_too_many(*checked_sets("held_out", included, excluded))
    epsilon = doors.loss("held_out", epsilon)
    if min(inside.shape[-1], outside.shape[-1]) < 2:
        return np.zeros(inside.shape[:-1], dtype=bool)
    missed, alarms = _errors_held_out(inside, outside, delta, confidence)
    return calibrated.rejects(
        false_negatives=missed,
        included=inside.shape[-1] // 2,
        false_positives=alarms,
        excluded=outside.shape[-1] // 2,
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
    )


@dataclass(frozen=True, slots=True)
class HeldOut(ScoresEstimator):
    """The bound of `lower_bound_from_scores`; the guessing rule plays no part.

    >>> HeldOut().name
    'held_out'
    """

    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""
        return lower_bound_from_scores(included=included, excluded=excluded, delta=delta, confidence=confidence)


def _not_too_many(inside: Values, outside: Values) -> tuple[Values, Values]:
    if (largest := max(inside.shape[-1], outside.shape[-1])) > MOST_RUNS:
        raise InvalidParameter(
            f"held_out: scores must be of at most {MOST_RUNS:,} runs of a kind, got {largest:,}.\n"
            "Use dkw, which loses little there, or leave runs out that were chosen without looking at their scores."
        )
    return inside, outside


def _errors_held_out(inside: Values, outside: Values, delta: float, confidence: float) -> tuple[Counts, Counts]:
    """Return how many of the second half are missed, and how many are false alarms, at the first half's threshold."""
    threshold = _best_threshold(inside[..., ::2], outside[..., ::2], delta, confidence)[..., None]
    missed = np.count_nonzero(inside[..., 1::2] < threshold, axis=-1)
    return np.asarray(missed), np.asarray(np.count_nonzero(outside[..., 1::2] >= threshold, axis=-1))


def _best_threshold(inside: Values, outside: Values, delta: float, confidence: float) -> Values:
    """Return the score at which these runs suggest the largest loss, of several such the first, in before out."""
    candidates, runs_in = np.concatenate([inside, outside], axis=-1), inside.shape[-1]
    order = calibrated.ordering(runs_in, outside.shape[-1], delta, confidence)
    places = np.argsort(candidates, axis=-1)
    rising = np.take_along_axis(candidates, places, axis=-1)
    position = np.broadcast_to(np.arange(candidates.shape[-1]), candidates.shape)
    new = np.concatenate([position[..., :1] == 0, rising[..., 1:] > rising[..., :-1]], axis=-1)
    below = np.maximum.accumulate(np.where(new, position, 0), axis=-1)  # how many scores are smaller
    below_in = np.cumsum(places < runs_in, axis=-1) - (places < runs_in)
    missed = np.take_along_axis(below_in, below, axis=-1)
    suggested = order.suggested(missed, outside.shape[-1] - (below - missed))
    best = suggested == np.max(suggested, axis=-1, keepdims=True)
    first = np.min(np.where(best, places, candidates.shape[-1]), axis=-1, keepdims=True)
    return np.take_along_axis(candidates, first, axis=-1)[..., 0]
