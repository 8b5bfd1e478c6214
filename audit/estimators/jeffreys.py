"""Approximate lower bounds of ε from the two error rates of one test, by Jeffreys' intervals.

The rectangle of `clopper_pearson`, with the ends of Jeffreys' intervals for its two limits: shorter, and wrong more
often than announced for some rates.

[BCD01] L. D. Brown, T. T. Cai, A. DasGupta. Interval Estimation for a Binomial Proportion. Statistical Science 16
(2001).
[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.counts import Array, Counts, CountsEstimator, rectangle_bound, rectangle_refutes
from audit.evidence import Guarantee, check_level
from audit.scores import LabelledScores
from mechanisms.core.process import Process


def lower_bound_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the largest ε that Jeffreys' limits of the two error rates refute, 0 if they refute none.

    The limit of k errors in n runs is the 1 − (1 − confidence)/2 quantile of Beta(k + ½, n − k + ½), and 1 where k = n
    [BCD01]; what follows from two limits is in `audit.core.counts.rectangle_bound`                           [KOV15].

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: none at a finite number of runs. False claims at a nominal 5 %, by exact enumeration over the boundary
    of what (ε, δ) allows, 10 to 1,000 runs of each kind, ε up to 6: 1 % at ε = 0 and 1, up to 10 % where an error is
    expected in a few runs only (100 of each kind, ε = 3.5).

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(lower_bound_from_counts(true_positives=90, false_negatives=10, false_positives=10, true_negatives=90,
    ...                               delta=0.0, confidence=0.95), 6)
    1.584749
    """
    counts = Counts(
        owner="jeffreys",
        true_positives=true_positives,
        false_negatives=false_negatives,
        false_positives=false_positives,
        true_negatives=true_negatives,
    )
    return _bound(counts, delta, confidence)


def rejects(
    *,
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_counts` inverts.

    The two counts of errors and `epsilon` >= 0 are arrays that broadcast; `included` and `excluded` are the numbers of
    runs with the canary in and out, both >= 1; δ and the confidence are as there.
    """
    doors.check_errors(
        "jeffreys",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    missed = _limit(false_negatives, included, (1 - confidence) / 2)
    alarms = _limit(false_positives, excluded, (1 - confidence) / 2)
    return rectangle_refutes(missed, alarms, epsilon=doors.losses("jeffreys", epsilon), delta=delta)


@dataclass(frozen=True, slots=True)
class Jeffreys(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test; the process plays no part.

    >>> Jeffreys().guarantee
    'approximate'
    """

    guarantee: ClassVar[Guarantee] = "approximate"

    def bound(self, counts: Counts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound that these counts give."""
        return _bound(counts, delta, confidence)

    def refutes(
        self, counts: Counts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted."""
        return rejects(**counts.errors, epsilon=epsilon, delta=delta, confidence=confidence)

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that no error at all would give."""
        return _bound(Counts.of(self.name, data).flawless, delta, confidence)


def _bound(counts: Counts, delta: float, confidence: float) -> float:
    check_level(counts.owner, delta=delta, confidence=confidence)
    missed = _limit(counts.false_negatives, counts.included, (1 - confidence) / 2)
    alarms = _limit(counts.false_positives, counts.excluded, (1 - confidence) / 2)
    return float(rectangle_bound(missed, alarms, delta=delta))


def _limit(errors: ArrayLike, trials: int, level: float) -> Array:
    k = np.asarray(errors, dtype=np.float64)
    return np.where(k >= trials, 1.0, special.betainccinv(k + 0.5, trials - k + 0.5, level))
