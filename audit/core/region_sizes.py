"""Probabilities of regions of counts, where the two error rates are known.

A region holds the counts with fewer false positives than it allows for as many true positives.
"""

from __future__ import annotations

import numpy as np

from audit.core.binomial import Array, Counts, near_mean, rounded_up

AT_ONCE = 1 << 18  # probabilities held in memory


def size_bound(region: Counts, excluded: int, missed: Array, alarms: Array) -> Array:
    """Return P[false positives < region[true positives]], rounded up, at rates `missed` and `alarms`, shape (p,).

    Args:
        region: number of false positives allowed, by true positives, shape (included + 1,), never falling.
        excluded: number of runs with the canary out.
        missed: false-negative rates, shape (p,).
        alarms: false-positive rates, shape (p,).
    """
    included = len(region) - 1
    rows = max(1, AT_ONCE // (2 + included + excluded))
    parts = [
        _probability(region, excluded, missed[start : start + rows], alarms[start : start + rows])
        for start in range(0, len(missed), rows)
    ]
    return rounded_up(np.concatenate(parts), included + excluded)


def _probability(region: Counts, excluded: int, missed: Array, alarms: Array) -> Array:
    """Return P[region] at a few points, summed over the counts near the means."""
    included = len(region) - 1
    hits, hit_mass = near_mean(included, 1 - missed)
    false, false_mass = near_mean(excluded, alarms)
    below = np.concatenate([np.zeros((len(false), 1)), np.cumsum(false_mass, axis=1)], axis=1)
    allowed = np.clip(region[hits] - false[:, :1], 0, false.shape[1])
    total: Array = np.sum(hit_mass * np.take_along_axis(below, allowed, axis=1), axis=1)
    return total
