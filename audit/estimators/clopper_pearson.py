"""Lower bounds of ε from the two error rates of one test, over independent runs.

Every test of "in" against "out" on the output of an (ε, δ)-differentially private computation obeys

    FNR + e^ε FPR >= 1 − δ        and        FPR + e^ε FNR >= 1 − δ                                          [KOV15]

so upper confidence limits of both rates [CP34] refute every ε that breaks either.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
[CP34] C. J. Clopper, E. S. Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.
Biometrika 26 (1934).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import upper_limit
from audit.core.counts import Counts, CountsEstimator, rectangle_bound, rectangle_refutes
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
    """Return the largest ε refuted by the error rates of one test, 0 if none is.

        ε = max{0, ln((1 − δ − FNR⁺) / FPR⁺), ln((1 − δ − FPR⁺) / FNR⁺)}                                     [KOV15]

    FNR⁺, FPR⁺ are Clopper–Pearson upper limits, each at (1 − confidence)/2; both directions use the same two limits.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and the test was fixed
    without looking at them. Holds for any computation.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(lower_bound_from_counts(true_positives=500, false_negatives=0, false_positives=0, true_negatives=500,
    ...                               delta=0.0, confidence=0.99), 4)
    4.5419
    """
    counts = Counts(
        owner="clopper_pearson",
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
        "clopper_pearson",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    missed = upper_limit(false_negatives, included, (1 - confidence) / 2)
    alarms = upper_limit(false_positives, excluded, (1 - confidence) / 2)
    return rectangle_refutes(missed, alarms, epsilon=doors.losses("clopper_pearson", epsilon), delta=delta)


@dataclass(frozen=True, slots=True)
class ClopperPearson(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test; the process plays no part.

    >>> ClopperPearson().name
    'clopper_pearson'
    """

    guarantee: ClassVar[Guarantee] = "frequentist"

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
    missed = upper_limit(counts.false_negatives, counts.included, (1 - confidence) / 2)
    alarms = upper_limit(counts.false_positives, counts.excluded, (1 - confidence) / 2)
    return float(rectangle_bound(missed, alarms, delta=delta))
