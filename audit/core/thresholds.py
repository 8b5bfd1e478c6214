"""The errors of every threshold that scores offer: where rules look that choose a threshold after seeing the data.

Taking the best of many thresholds makes a bound of one threshold false. What keeps the level: a threshold from other
runs (`held_out`), a share of the error for each (`bonferroni`), limits of both error rates that hold at all thresholds
at once (`dkw`, `berk_jones`), or the law of the best one (`maximal`).

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.binomial import Counts
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
    x, y = np.asarray(missed, dtype=np.float64), np.asarray(alarms, dtype=np.float64)
    ratio = float(np.max(np.maximum((1 - delta - x) / y, (1 - delta - y) / x)))
    return float(np.log(ratio)) * (1 - ROUND_OFF) if ratio > 1 else 0.0


def at_most(epsilon: ArrayLike, bound: float) -> NDArray[np.bool_]:
    """Tell, elementwise, whether ε >= 0 is refuted by a bound, which is 0 where nothing is.

    >>> at_most([0.0, 1.0, 2.0], 1.5), at_most(0.0, 0.0)
    (array([ True,  True, False]), array(False))
    """
    refuted: NDArray[np.bool_] = (np.asarray(epsilon, dtype=np.float64) <= bound) & np.bool_(bound > 0)
    return np.asarray(refuted)


def checked_scores(owner: str, included: ArrayLike, excluded: ArrayLike) -> tuple[Values, Values]:
    """Return both as float arrays.

    Raises:
        InvalidParameter: if one is empty, no vector, or holds what is not finite.
    """
    scores = np.asarray(included, dtype=np.float64), np.asarray(excluded, dtype=np.float64)
    if any(kind.ndim != 1 or len(kind) == 0 for kind in scores):
        raise InvalidParameter(
            f"{owner}: scores must be vectors of runs with the canary in and of runs with it out, "
            f"got shapes {scores[0].shape} and {scores[1].shape}.\nWith none of one kind nothing can be compared."
        )
    if not all(np.all(np.isfinite(kind)) for kind in scores):
        raise InvalidParameter(f"{owner}: scores must be finite, got some that are not. Did training diverge?")
    return scores
