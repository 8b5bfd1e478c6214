"""Lower bounds of ε from a confidence bound on the noise, pushed through the accountant.

Scores in units of the clip norm, of a run with noise multiplier σ, sampling probability q and T steps, are

    out:  N(0, T σ²)                    in:  Bin(T, q) + N(0, T σ²)

up to one common scale C. The gap D of the two means over the standard deviation S of the out-scores knows no scale:

    D / S  =  (q T + τ Z) / (σ √T χ),     τ² = T q (1 − q) / n_in + T σ² (1 / n_in + 1 / n_out)

with Z standard normal and (n_out − 1) χ² chi-square of n_out − 1 degrees, independent: a noncentral t. It falls as σ
grows, so a small p-value of D / S refutes every noise at least so large, and no error is split over two parameters.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.described import SampledGaussianRun
from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.process import Process

Array = NDArray[np.float64]
REACH = 9.0  # the normal quantiles of χ² run over ±9: what lies outside has probability 2e-19
NODES, WEIGHTS = np.polynomial.legendre.leggauss(192)
QUADRATURE_ERROR = 1e-9  # absolute, added to p-values; against 30-digit values it is below 1e-11
HALVINGS = 60


def noise_multiplier_upper_bound(
    *, gap: float, deviation: float, included: int, excluded: int, probability: float, steps: int, confidence: float
) -> float:
    """Return the least noise multiplier that is refuted as being at least that large, inf if none is.

    Args:
        gap: mean in-score − mean out-score, in any unit.
        deviation: standard deviation of the out-scores, with n_out − 1 in the denominator, in the same unit, >= 0;
            0 refutes every noise, if there is a gap.
        included: n_in >= 1.
        excluded: n_out >= 2.
        probability: q in (0, 1].
        steps: T >= 1.
        confidence: in (0, 1), one-sided.

    Guarantees: at least the true σ with probability `confidence`, if the scores have the law above: the noise is
    normal and independent, the samples are Poisson with this q, an included canary adds exactly C whenever it is
    sampled. The mean of n_in counts Bin(T, q) is taken as normal, which wants n_in T q (1 − q) of a hundred or more.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> round(noise_multiplier_upper_bound(gap=50.0, deviation=50.0, included=2500, excluded=2500, probability=0.5,
    ...                                    steps=100, confidence=0.99), 3)
    5.398
    """
    probability = validate.probability("accountant_inversion", "probability", probability)
    steps = validate.count("accountant_inversion", "steps", steps, least=1)
    check_level("accountant_inversion", delta=0.0, confidence=confidence)
    contrast = _contrast(gap, deviation, included, excluded) / np.sqrt(steps)
    if contrast == np.inf:
        return 0.0

    def refuted(signal: float) -> bool:
        p = _p_value(np.asarray(contrast), np.asarray(signal), included, excluded, probability, steps)
        return bool(p <= 1 - confidence)

    if not refuted(0.0):
        return np.inf
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return 1.0 / low if low > 0 else np.inf


def rejects(
    *,
    gap: ArrayLike,
    deviation: ArrayLike,
    included: int,
    excluded: int,
    probability: float,
    steps: int,
    noise_multiplier: ArrayLike,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether a noise at least so large is refuted: the test that the upper bound inverts.

    Arguments are those of `noise_multiplier_upper_bound`; gap, deviation and noise multiplier, which may be inf, are
    arrays that broadcast.
    """
    contrast = np.asarray(gap, dtype=np.float64) / np.asarray(deviation, dtype=np.float64) / np.sqrt(steps)
    signal = 1.0 / np.asarray(noise_multiplier, dtype=np.float64)
    refuted: NDArray[np.bool_] = _p_value(contrast, signal, included, excluded, probability, steps) <= 1 - confidence
    return refuted


@dataclass(frozen=True, slots=True)
class AccountantInversion(Estimator):
    """The accountant's lower end of ε at `noise_multiplier_upper_bound`, with q and T as described.

    It refutes a description rather than measures a loss: noise that is too small, or samples drawn in another way,
    show as an ε above the claim's.

    >>> AccountantInversion().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "parametric"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; 0 if no noise is refuted.

        Raises:
            InvalidParameter: if fewer than one canary was in or fewer than two were out.
            UnsupportedProcess: if the process is no repeated Gaussian on Poisson samples.
        """
        run = SampledGaussianRun.of(process)
        noise_multiplier = noise_multiplier_upper_bound(
            gap=_mean(data.included) - _mean(data.excluded),
            deviation=float(np.std(data.excluded, ddof=1)) if len(data.excluded) > 1 else 0.0,
            included=len(data.included),
            excluded=len(data.excluded),
            probability=run.probability,
            steps=run.steps,
            confidence=confidence,
        )
        if noise_multiplier in (0.0, np.inf):
            return 0.0 if noise_multiplier else np.inf
        from accountant import epsilon_bounds

        noisiest = dataclasses.replace(run, noise_multiplier=noise_multiplier).process()
        return float(epsilon_bounds(noisiest, delta=delta, adjacency="add_remove").lower)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether every noise whose certified ε may be at most this one is refuted."""
        found = self.epsilon(data, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) < found
        return refuted


def _contrast(gap: float, deviation: float, included: int, excluded: int) -> float:
    """Return D / S, 0 if D is not positive, inf if only S is 0; refuse numbers that give neither."""
    owner = "accountant_inversion"
    validate.count(owner, "included", included, least=1)
    validate.count(owner, "excluded", excluded, least=2)
    gap = max(0.0, validate.finite(owner, "gap", gap))
    deviation = validate.non_negative(owner, "deviation", deviation)
    if deviation == 0:
        return np.inf if gap else 0.0
    return gap / deviation


def _p_value(contrast: Array, signal: Array, included: int, excluded: int, probability: float, steps: int) -> Array:
    """Return P[D / S >= the one seen] at σ = 1 / signal, given contrast = D / (S √T), elementwise.

        ∫ Φ((q √T signal − contrast √T χ) / t) dP(χ),      t² = q (1 − q) signal² / n_in + 1 / n_in + 1 / n_out

    over normal quantiles of χ², whose upper ones come from the complement, where they do not cancel.
    """
    quantiles = REACH * NODES
    mass = REACH * WEIGHTS * np.exp(-0.5 * quantiles**2) / np.sqrt(2 * np.pi)
    half = 0.5 * (excluded - 1)
    tail = special.ndtr(-np.abs(quantiles))
    gamma = np.where(quantiles < 0, special.gammaincinv(half, tail), special.gammainccinv(half, tail))
    contrast, signal = contrast[..., None], signal[..., None]
    participation = signal * np.sqrt(probability * (1 - probability) / included)
    spread = np.hypot(participation, np.sqrt(1 / included + 1 / excluded))
    z = np.sqrt(steps) * (probability * signal - contrast * np.sqrt(gamma / half)) / spread
    p: Array = special.ndtr(z) @ mass + QUADRATURE_ERROR
    return p


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0
