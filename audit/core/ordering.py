"""An order of error counts by how much loss they suggest: what the calibrated tests rank their data with.

Any order gives a valid test once it is calibrated; this one gives a powerful one. All error rates FNR and FPR of a test
on the output of an (ε, δ)-differentially private computation obey

    FNR + e^ε FPR >= 1 − δ,      e^ε FNR + FPR >= 1 − δ,      (1 + e^ε) (FNR + FPR) >= 2 (1 − δ)              [KOV15]

where the third is the sum of the first two. An upper limit of a weighted sum of rates, made of the distances between
rates and their Clopper–Pearson limits FNR⁺, FPR⁺ [ZD08],

    v FNR + w FPR + √(v² (FNR⁺ − FNR)² + w² (FPR⁺ − FPR)²)

turns each into an approximate lower bound of ε. The order is by the largest of the three.

It never rises with a count of errors: the slope of the limit in FNR is v (1 + s (dFNR⁺/dFNR − 1)) with 0 <= s <= 1,
and FNR⁺ rises with FNR.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
[ZD08] G. Y. Zou, A. Donner. Construction of Confidence Limits about Effect Measures: A General Approach. Statistics in
Medicine 27 (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from audit.core.binomial import Array, Counts, upper_limit

LEAST = 1e-9  # value of e^ε for counts that suggest less than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """The order of (false negatives, false positives) for so many runs.

    Args:
        included: number of runs with the canary in, >= 1.
        excluded: number of runs with it out, >= 1.
        delta: in [0, 1).
        edge_level: level of the limits in the first two inequalities, in (0, 1).
        sum_level: level of the limits in the third, in (0, 1).

    >>> order = Ordering(included=100, excluded=100, delta=0.0, edge_level=0.05, sum_level=0.05)
    >>> order.suggested([10, 10, 11], [10, 9, 10]).round(3)
    array([1.774, 1.82 , 1.729])
    """

    included: int
    excluded: int
    delta: float
    edge_level: float
    sum_level: float

    def suggested(self, false_negatives: ArrayLike, false_positives: ArrayLike) -> Array:
        """Return the approximate lower bound of ε of whole counts, elementwise; it may be negative."""
        missed, alarms = np.asarray(false_negatives, dtype=np.intp), np.asarray(false_positives, dtype=np.intp)
        x, x_margin = (table[missed] for table in _rates(self.included, self.edge_level))
        y, y_margin = (table[alarms] for table in _rates(self.excluded, self.edge_level))
        growth = np.maximum(self._growth(x, x_margin, y, y_margin), self._growth(y, y_margin, x, x_margin))
        if self.sum_level != self.edge_level:
            x_margin, y_margin = (
                _rates(self.included, self.sum_level)[1][missed],
                _rates(self.excluded, self.sum_level)[1][alarms],
            )
        total = x + y + np.sqrt(x_margin * x_margin + y_margin * y_margin)
        largest: Array = np.log(np.maximum(np.maximum(growth, 2 * (1 - self.delta) / total - 1), LEAST))
        return largest

    def region(self, least: float) -> Counts:
        """Return, by number of true positives, how many false positives from 0 on suggest at least `least`.

        Shape (included + 1,), never falling; found by halving, as `suggested` falls with false positives.
        """
        missed = np.arange(self.included, -1, -1)
        low, high = np.zeros(len(missed), dtype=np.intp), np.full(len(missed), self.excluded + 1)
        for _ in range((self.excluded + 1).bit_length()):
            middle = (low + high) // 2
            suggesting = (self.suggested(missed, np.minimum(middle, self.excluded)) >= least) & (middle < high)
            low, high = np.where(suggesting, middle + 1, low), np.where(suggesting, high, middle)
        counts: Counts = np.maximum.accumulate(low)
        return counts

    def _growth(self, x: Array, x_margin: Array, y: Array, y_margin: Array) -> Array:
        """Return the largest g with x + g y + √(x_margin² + g² y_margin²) <= 1 − δ, 0 where there is none."""
        rest = 1 - self.delta - x
        room = np.maximum(rest * rest - x_margin * x_margin, 0.0)
        root = np.sqrt(y_margin * y_margin * room + (y * x_margin) ** 2)  # of the quadratic, nothing cancels in it
        return np.where(rest > x_margin, room / np.maximum(np.abs(rest) * y + root, np.finfo(float).tiny), 0.0)


@lru_cache(maxsize=32)
def _rates(trials: int, level: float) -> tuple[Array, Array]:
    """Return k / trials and its distance to the upper limit at `level`, for k = 0, …, trials."""
    count = np.arange(trials + 1.0)
    rate = count / trials
    tables = rate, np.maximum(upper_limit(count, trials, level) - rate, 0.0)
    for table in tables:
        table.flags.writeable = False
    return tables
