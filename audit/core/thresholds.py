"""The errors of every threshold that scores offer: where rules look that choose a threshold after seeing the data.

Taking the best of many thresholds makes a bound of one threshold false. What keeps the level: a threshold from other
runs (`held_out`), a share of the error for each (`bonferroni`), limits of both error rates that hold at all thresholds
at once (`dkw`, `berk_jones`), or the law of the best one (`maximal`).

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import Array, Counts
from audit.scores import Values
from mechanisms.core.errors import InvalidParameter

ROUND_OFF = 1e-12  # relative, of ε


def errors_at_thresholds(included: ArrayLike, excluded: ArrayLike) -> tuple[Counts, Counts]:
    """Return the numbers of false negatives and of false positives of every threshold, from above all scores to below.

    A threshold calls in from itself on; between two different scores all thresholds are alike.

    Args:
        included: scores of the runs with the canary in, shape (n_in,).
        excluded: scores of the runs with it out, shape (n_out,).

    Raises:
        InvalidParameter: if one of the two is empty or a score is not finite.

    >>> errors_at_thresholds(np.array([3.0, 2.0]), np.array([2.0, 1.0]))
    (array([2, 1, 0, 0]), array([0, 0, 1, 2]))
    """
    kinds = checked_scores("thresholds", included, excluded)
    values, runs_in = np.concatenate(kinds), len(kinds[0])
    order = np.argsort(-values, kind="stable")
    hits = np.concatenate([[0], np.cumsum(order < runs_in)])
    falls = np.diff(values[order]) < 0
    ends = np.flatnonzero(np.concatenate([[True], falls, [True]]))
    return runs_in - hits[ends], ends - hits[ends]


def refuted_by_limits(missed: ArrayLike, alarms: ArrayLike, delta: float) -> float:
    """Return the largest ε that upper limits of both error rates refute at one of the thresholds, 0 if none is.

        ε = max over thresholds of ln((1 − δ − FNR⁺) / FPR⁺) and ln((1 − δ − FPR⁺) / FNR⁺)                   [KOV15]

    Args:
        missed: limits of the false-negative rate, in (0, 1], one for each threshold.
        alarms: limits of the false-positive rate, in (0, 1].
        delta: in [0, 1).

    >>> round(refuted_by_limits([0.5, 0.1], [0.05, 0.1], 0.0), 3)  # ln(0.5 / 0.05)
    2.303
    """
    ratio = float(np.max(_ratio(np.asarray(missed, dtype=np.float64), np.asarray(alarms, dtype=np.float64), delta)))
    return float(np.log(ratio)) * (1 - ROUND_OFF) if ratio > 1 else 0.0


def refuting_alarms(missed: Array, alarms: Array, *, epsilon: float, delta: float) -> Counts:
    """Return, by number of false negatives, how many false positives from 0 on refute ε by their limits.

    Shape (len(missed),), never rising; found by halving, as what fewer errors refute is more.

    Args:
        missed: limits of the false-negative rate by the number of errors, never falling, in (0, 1].
        alarms: limits of the false-positive rate likewise.
        epsilon: ε >= 0.
        delta: in [0, 1).

    >>> refuting_alarms(np.array([0.1, 0.2, 1.0]), np.array([0.1, 0.3]), epsilon=1.0, delta=0.0)
    array([2, 2, 0])
    """
    low, high = np.zeros(len(missed), dtype=np.intp), np.full(len(missed), len(alarms))
    for _ in range(len(alarms).bit_length()):
        middle = (low + high) // 2
        ratio = _ratio(missed, alarms[np.minimum(middle, len(alarms) - 1)], delta)
        refuted = (ratio > 1) & (epsilon <= np.log(np.maximum(ratio, 1.0)) * (1 - ROUND_OFF)) & (middle < high)
        low, high = np.where(refuted, middle + 1, low), np.where(refuted, high, middle)
    counts: Counts = np.minimum.accumulate(low)
    return counts


def some_threshold_within(included: Values, excluded: Values, allowed: Counts) -> NDArray[np.bool_]:
    """Tell, set by set, whether at some threshold there are fewer false positives than its false negatives allow.

    With x the i-th smallest in-score as threshold, fewer than i are missed, and so it is enough to ask whether x lies
    above the allowed[i − 1]-th largest out-score: any other threshold can be raised to the next in-score.

    Args:
        included: shape (…, n_in).
        excluded: shape (…, n_out).
        allowed: by number of false negatives, shape (n_in + 1,) or (n_in,), never rising, up to n_out + 1.

    >>> some_threshold_within(np.array([[2.0, 4.0], [0.0, 1.0]]), np.array([[3.0], [3.0]]), np.array([0, 1, 0]))
    array([ True, False])
    """
    inside, outside = np.sort(included, axis=-1), np.sort(excluded, axis=-1)
    below_all = np.full((*outside.shape[:-1], 1), -np.inf)
    rising = np.concatenate([below_all, outside], axis=-1)
    asked = np.flatnonzero(allowed[: inside.shape[-1]])
    limits = rising[..., outside.shape[-1] + 1 - allowed[asked]]
    within: NDArray[np.bool_] = np.any(limits < inside[..., asked], axis=-1)
    return within | bool(len(allowed) > inside.shape[-1] and allowed[-1] > 0)


def at_most(epsilon: ArrayLike, bound: float) -> NDArray[np.bool_]:
    """Tell, elementwise, whether ε >= 0 is refuted by a bound, which is 0 where nothing is.

    >>> at_most([0.0, 1.0, 2.0], 1.5), at_most(0.0, 0.0)
    (array([ True,  True, False]), array(False))
    """
    refuted: NDArray[np.bool_] = (np.asarray(epsilon, dtype=np.float64) <= bound) & np.bool_(bound > 0)
    return np.asarray(refuted)


def checked_scores(owner: str, included: ArrayLike, excluded: ArrayLike) -> tuple[Values, Values]:
    """Return both as float vectors.

    Raises:
        InvalidParameter: if one is empty, no vector, or holds what is not finite.
    """
    return _checked(owner, included, excluded, most=1)


def checked_sets(owner: str, included: ArrayLike, excluded: ArrayLike) -> tuple[Values, Values]:
    """Return scores of several sets of runs, shapes (…, n_in) and (…, n_out), as float arrays.

    Raises:
        InvalidParameter: if one is empty, a number, not of as many sets as the other, or holds what is not finite.
    """
    return _checked(owner, included, excluded, most=32)


def _checked(owner: str, included: ArrayLike, excluded: ArrayLike, *, most: int) -> tuple[Values, Values]:
    scores = doors.numbers(owner, "scores", included), doors.numbers(owner, "scores", excluded)
    shapes = [kind.shape for kind in scores]
    if any(not 1 <= len(one) <= most for one in shapes) or shapes[0][:-1] != shapes[1][:-1]:
        raise InvalidParameter(
            f"{owner}: scores must be vectors of runs with the canary in and of runs with it out, "
            f"got {len(shapes[0])} and {len(shapes[1])} dimensions, or sets that are not as many."
        )
    if 0 in (shapes[0][-1], shapes[1][-1]):
        raise InvalidParameter(
            f"{owner}: scores must be of runs with the canary in and of runs with it out, got none of one kind.\n"
            "Nothing can be compared: toss more coins."
        )
    if not all(np.all(np.isfinite(kind)) for kind in scores):
        raise InvalidParameter(f"{owner}: scores must be finite, got some that are not. Did training diverge?")
    return scores


def _ratio(missed: Array, alarms: Array, delta: float) -> Array:
    """Return the larger e^ε of the two inequalities."""
    larger: Array = np.maximum((1 - delta - missed) / alarms, (1 - delta - alarms) / missed)
    return larger
