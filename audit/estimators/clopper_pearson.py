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
from scipy import special

from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, IndependentRuns, LabelledScores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
RELATIVE_ERROR = 1e-12  # by which the limits are raised: far above the error of scipy's inverse, which is some ulps


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
    included = _positives(true_positives, false_negatives)
    excluded = _positives(false_positives, true_negatives)
    check_level("clopper_pearson", delta=delta, confidence=confidence)
    missed = float(_upper_limit(false_negatives, included, (1 - confidence) / 2))
    alarms = float(_upper_limit(false_positives, excluded, (1 - confidence) / 2))
    ratio = max((1 - delta - missed) / alarms, (1 - delta - alarms) / missed)
    return float(np.log(ratio)) * (1 - RELATIVE_ERROR) if ratio > 1 else 0.0


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
    missed = _upper_limit(false_negatives, included, (1 - confidence) / 2)
    alarms = _upper_limit(false_positives, excluded, (1 - confidence) / 2)
    growth = np.exp(np.asarray(epsilon, dtype=np.float64)) * (1 + RELATIVE_ERROR)
    broken: NDArray[np.bool_] = (missed + growth * alarms < 1 - delta) | (alarms + growth * missed < 1 - delta)
    return broken


@dataclass(frozen=True, slots=True)
class ClopperPearson(Estimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test.

    >>> ClopperPearson().name
    'clopper_pearson'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; the process plays no part. A run that the rule does not guess counts as called out."""
        return lower_bound_from_counts(**_counts(data), delta=delta, confidence=confidence)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted; the process plays no part."""
        counts = _counts(data)
        return rejects(
            false_negatives=counts["false_negatives"],
            included=len(data.included),
            false_positives=counts["false_positives"],
            excluded=len(data.excluded),
            epsilon=epsilon,
            delta=delta,
            confidence=confidence,
        )

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that no error at all would give."""
        return lower_bound_from_counts(
            true_positives=len(data.included),
            false_negatives=0,
            false_positives=0,
            true_negatives=len(data.excluded),
            delta=delta,
            confidence=confidence,
        )


def _counts(data: LabelledScores) -> dict[str, int]:
    """Return the four counts by their names, a run that is not guessed counting as called out."""
    called_in = data.scores.guesses == 1
    return {
        "true_positives": int(np.count_nonzero(called_in & data.membership)),
        "false_negatives": int(np.count_nonzero(~called_in & data.membership)),
        "false_positives": int(np.count_nonzero(called_in & ~data.membership)),
        "true_negatives": int(np.count_nonzero(~called_in & ~data.membership)),
    }


def _positives(called: object, missed: object) -> int:
    total = validate.count("clopper_pearson", "count", called) + validate.count("clopper_pearson", "count", missed)
    if total == 0:
        raise InvalidParameter(
            "clopper_pearson: counts must hold runs with the canary in and runs with it out, got none of one kind."
        )
    return total


def _upper_limit(successes: ArrayLike, trials: int, level: float) -> Array:
    """Return u with P[Bin(trials, u) <= successes] = level, rounded up; 1 where all trials are successes."""
    k = np.asarray(successes, dtype=np.float64)
    limit = special.betainccinv(k + 1, np.maximum(trials - k, 0.5), level)
    return np.where(k >= trials, 1.0, np.minimum(limit * (1 + RELATIVE_ERROR), 1.0))
