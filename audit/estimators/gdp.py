"""Lower bounds of ε from the two error rates of one test, for computations that are Gaussian mechanisms.

Every test of "in" against "out" on the output of a μ-Gaussian-differentially private computation obeys

    Φ⁻¹(1 − FPR) − Φ⁻¹(FNR) <= μ                                                             [DRS22, NHSBT23]

so upper limits of both rates bound μ from below, and an accountant turns μ into ε.

[DRS22] J. Dong, A. Roth, W. J. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[NHSBT23] M. Nasr, J. Hayes, T. Steinke, B. Balle, F. Tramèr, M. Jagielski, N. Carlini, A. Terzis. Tight Auditing of
Differentially Private Machine Learning. USENIX Security 2023. arXiv:2302.07956.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.binomial import upper_limit
from audit.core.counts import RELATIVE_ERROR, Array, Counts, CountsEstimator
from audit.core.described import check_gaussian
from audit.evidence import About, Guarantee, Null, check_level
from audit.scores import LabelledScores
from mechanisms import Gaussian, Process

FARTHEST = 1e100  # of ε: nothing is refuted there
DELTA_ERROR = 1e-9  # relative, taken off δ(ε) where ε is tested: its terms and their difference err by less


def lower_bound_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """Return ε at `delta` of the Gaussian mechanism with the least μ that the counts do not refute, 0 if that is 0.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1); at δ = 0 the answer is inf as soon as any μ is refuted.
        confidence: in (0, 1), one-sided.

    Guarantees: those of `mu_lower_bound_from_counts`, in ε: at most the true ε with probability `confidence` if the
    computation's trade-off curve is that of a Gaussian mechanism, whatever its μ. It says nothing of others: a
    computation may be (ε, δ)-differentially private and μ-Gaussian private for no μ that the counts allow. Subsampled
    Gaussians, and so DP-SGD, are such others.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(lower_bound_from_counts(true_positives=800, false_negatives=200, false_positives=200, true_negatives=800,
    ...                               delta=1e-5, confidence=0.95), 6)
    7.068908
    """
    counts = _counts(true_positives, false_negatives, false_positives, true_negatives)
    return _bound(counts, delta, confidence)


def mu_lower_bound_from_counts(
    *, true_positives: int, false_negatives: int, false_positives: int, true_negatives: int, confidence: float
) -> float:
    """Return the least μ that the counts do not refute.

        μ = max{0, Φ⁻¹(1 − FPR⁺) − Φ⁻¹(FNR⁺)}

    FNR⁺, FPR⁺ are Clopper–Pearson upper limits, each at (1 − confidence)/2. A gap of the wrong sign is no gap: its
    size is never used, so that a test that guesses at random shows nothing.

    Args:
        true_positives: as in `lower_bound_from_counts`, and so the rest.
        false_negatives: as there.
        false_positives: as there.
        true_negatives: as there.
        confidence: in (0, 1), one-sided.

    Guarantees: if the computation is μ-Gaussian private, the runs are independent and the test was fixed without
    looking at them, at most that μ with probability `confidence`.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(mu_lower_bound_from_counts(true_positives=800, false_negatives=200, false_positives=200,
    ...                                  true_negatives=800, confidence=0.95), 6)
    1.50311
    """
    counts = _counts(true_positives, false_negatives, false_positives, true_negatives)
    check_level(counts.owner, delta=0.0, confidence=confidence)
    errors = (counts.false_negatives, counts.included, counts.false_positives, counts.excluded)
    return float(_mu(*errors, confidence))


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
    """Tell, elementwise, whether a Gaussian mechanism of this ε at δ is refuted: what the bound inverts.

    It is where δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) at the least μ that the counts do not refute is above δ. The two
    counts of errors and `epsilon` >= 0 are arrays that broadcast; `included` and `excluded` are the numbers of runs
    with the canary in and out, both >= 1; δ and the confidence are as there.
    """
    doors.check_errors(
        "gdp",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    mu = _mu(false_negatives, included, false_positives, excluded, confidence)
    shift, point = np.broadcast_arrays(np.where(mu > 0, mu, 1.0), np.minimum(doors.losses("gdp", epsilon), FARTHEST))
    log_p = special.log_ndtr(shift / 2 - point / shift)
    log_q = point + special.log_ndtr(-shift / 2 - point / shift)
    with np.errstate(invalid="ignore"):  # both are −inf where ε/μ is beyond 1e154: nothing is refuted there
        lost = np.exp(log_p) * -np.expm1(log_q - log_p)
    refuted: NDArray[np.bool_] = (mu > 0) & (lost * (1 - DELTA_ERROR) > delta)
    return refuted


@dataclass(frozen=True, slots=True)
class GDP(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test, for compositions of Gaussian mechanisms.

    It refutes a description rather than measures a loss: it takes from the process that its trade-off curve is a
    Gaussian one, not which.

    >>> GDP().guarantee
    'parametric'
    """

    guarantee: ClassVar[Guarantee] = "parametric"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "gdp"

    def bound(self, counts: Counts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound that these counts give.

        Raises:
            UnsupportedProcess: if the process is anything but Gaussian mechanisms, composed and not sampled.
        """
        check_gaussian(self.name, process)
        return _bound(counts, delta, confidence)

    def refutes(
        self, counts: Counts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether a Gaussian mechanism of this ε at δ is refuted.

        Raises:
            UnsupportedProcess: as `bound`.
        """
        check_gaussian(self.name, process)
        return rejects(**counts.errors, epsilon=epsilon, delta=delta, confidence=confidence)

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that no error at all would give."""
        return _bound(Counts.of(self.name, data).flawless, delta, confidence)


def _counts(true_positives: int, false_negatives: int, false_positives: int, true_negatives: int) -> Counts:
    return Counts(
        owner="gdp",
        true_positives=true_positives,
        false_negatives=false_negatives,
        false_positives=false_positives,
        true_negatives=true_negatives,
    )


def _bound(counts: Counts, delta: float, confidence: float) -> float:
    check_level(counts.owner, delta=delta, confidence=confidence)
    mu = float(_mu(counts.false_negatives, counts.included, counts.false_positives, counts.excluded, confidence))
    if mu == 0 or delta == 0:
        return np.inf if mu else 0.0
    from accountant import epsilon_bounds

    return float(epsilon_bounds(Gaussian(noise_multiplier=1 / mu), delta=delta, adjacency="add_remove").lower)


def _mu(
    false_negatives: ArrayLike, included: int, false_positives: ArrayLike, excluded: int, confidence: float
) -> Array:
    missed = upper_limit(false_negatives, included, (1 - confidence) / 2)
    alarms = upper_limit(false_positives, excluded, (1 - confidence) / 2)
    gap = -special.ndtri(alarms) - special.ndtri(missed)  # one limit of 1 makes it −inf; none is ever 0
    mu: Array = np.maximum(gap, 0.0) * (1 - RELATIVE_ERROR)
    return mu
