"""Approximate lower bounds of ε from the ratio of two rates, by Katz's logarithmic interval.

With TPR and FPR the rates at which a test calls "in" where the canary was in and where it was out, an (ε, δ)-private
computation has TPR <= e^ε FPR + δ. The logarithm of the ratio of two observed rates is about normal [KBAP78].

[KBAP78] D. Katz, J. Baptista, S. P. Azen, M. C. Pike. Obtaining Confidence Intervals for the Risk Ratio in Cohort
Studies. Biometrics 34 (1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.counts import Array, Counts, CountsEstimator
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
    """Return the lower end of Katz's interval for the logarithm of the ratio of the two rates, 0 if that is negative.

        ε = ln((TPR − δ) / FPR) − z √( TPR (1 − TPR) / (n_in (TPR − δ)²) + (1 − FPR) / FP )

    with z the normal quantile of the confidence. At δ = 0 this is Katz's [KBAP78]; for δ > 0 the same first-order
    variance of ln(TPR − δ). No alarm at all counts as half of one, so that the interval has an end. Only "in" against
    "out" is looked at: a test that is better at calling "out" should be turned round before the runs.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: none at a finite number of runs. False claims at a nominal 5 %, by exact enumeration over the boundary
    of what (ε, δ) allows: up to 6 % for 50 to 1,000 runs of each kind at δ <= 1e-5, but up to 53 % for 50 runs in and
    500 out at ε = 0 where nearly all are called in: then all 50 are, and the variance is taken for next to nothing.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(lower_bound_from_counts(true_positives=100, false_negatives=10, false_positives=10, true_negatives=70,
    ...                               delta=0.0, confidence=0.95), 6)
    1.495056
    """
    counts = Counts(
        owner="katz_log",
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
        "katz_log",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    end = _lower_end(false_negatives, included, false_positives, excluded, delta, confidence)
    refuted: NDArray[np.bool_] = doors.losses("katz_log", epsilon) < end
    return refuted


@dataclass(frozen=True, slots=True)
class KatzLog(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test; the process plays no part.

    >>> KatzLog().guarantee
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
    errors = (counts.false_negatives, counts.included, counts.false_positives, counts.excluded)
    return max(0.0, float(_lower_end(*errors, delta, confidence)))


def _lower_end(
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    delta: float,
    confidence: float,
) -> Array:
    """Return the interval's lower end, −inf where TPR is no more than δ."""
    called = included - np.asarray(false_negatives, dtype=np.float64)
    alarms = np.maximum(np.asarray(false_positives, dtype=np.float64), 0.5)
    hit_rate, alarm_rate = called / included, alarms / excluded
    excess = hit_rate - delta
    usable = np.where(excess > 0, excess, 1.0)
    variance = hit_rate * (1 - hit_rate) / (included * usable**2) + (1 - alarm_rate) / alarms
    end = np.log(usable / alarm_rate) - special.ndtri(confidence) * np.sqrt(variance)
    return np.where(excess > 0, end, -np.inf)
