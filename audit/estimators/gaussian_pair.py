"""Lower bounds of ε from scores that are normal in either world, with means and variances of their own.

    in:  N(m1, s1²)         out:  N(m0, s0²)

is the law of isolated random canaries' scores in one run [AKOMS24], and of a Gaussian mechanism's over many. Up to
shift and scale the pair is Δ = (m1 − m0) / s0 and ρ = s1 / s0; its ε at δ is the larger of both directions'. Two exact
pivots know both: with n scores, sample variances S², pooled V = (ν1 S1²/ρ² + ν0 S0²) / (ν1 + ν0), ν = n − 1,

    F = (S1² / S0²) / ρ² ~ F(ν1, ν0),    t = (gap of means) / √V / w ~ noncentral t(ν1 + ν0, Δ/w),    w² = ρ²/n1 + 1/n0

and t is independent of F [Bas55]. So x = Φ⁻¹(P[F > F seen]) and y = Φ⁻¹(P[t > t seen]) are independent standard
normals, and for any angle θ that depends on ρ alone

    |x| <= a     and     y cos θ + x sin θ > −c        (− x where ρ < 1)

holds with probability 1 − 2Φ(−a) − Φ(−c) at least. For every ρ it says how small Δ can be. ε rises with Δ >= 0, so the
bound is the least ε of that set. With equal variances ε is least at ρ = 1, and θ = 0 there pays nothing for ρ but
2Φ(−a). Away from 1 θ turns towards where ε falls fastest, slowly, so that what refutes ρ = 1 mostly refutes the rest.

[AKOMS24] G. Andrew, P. Kairouz, S. Oh, A. Oprea, H. B. McMahan, V. Suriyakumar. One-shot Empirical Privacy Estimation
for Federated Learning. ICLR 2024. arXiv:2302.03098.
[Bas55] D. Basu. On Statistics Independent of a Complete Sufficient Statistic. Sankhyā 15 (1955).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from accountant import Estimate
from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, IndependentRuns, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
OWNER = "gaussian_pair"
SHARE = 0.05  # of the error, that goes to the ratio of variances alone
TURN = 0.2  # of the turn of θ at which equal variances would cost nothing if ρ were seen without error
RATIOS = 32  # looked at on either side of 1
REACH = 14.0  # the normal quantiles of χ² run over ±14: what lies outside weighs nothing against Φ(−12)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(160)
STEEPEST = 3.0  # t ÷ √(2ν) is cut there, where the quadrature still has its digits: less evidence, not more
NEWTON_STEPS, HALVINGS = 5, 44
ROUNDING = 1e-7  # relative, by which Δ is lowered: above the errors of quadrature and Newton's method
FARTHEST, NEAREST = 12.0, 5.0  # y below −12 is taken to refute nothing, above 5 to refute no more than 5
AT_ONCE = 64  # sets of moments that are looked at together


def epsilon_of_pair(*, distance: float, ratio: float, delta: float) -> float:
    """Return the ε at δ of N(m1, s1²) against N(m0, s0²), the larger of both directions'.

    Args:
        distance: |m1 − m0| ÷ s0.
        ratio: s1 ÷ s0, > 0.
        delta: in [0, 1); at 0 ε is infinite for any two normals that differ.

    >>> round(epsilon_of_pair(distance=1.0, ratio=1.0, delta=1e-5), 6)
    4.377178
    >>> round(epsilon_of_pair(distance=2.0, ratio=1.2, delta=1e-5), 6)
    15.36733
    """
    check_level(OWNER, delta=delta, confidence=0.5)
    away = validate.non_negative(OWNER, "distance", distance)
    ratio = validate.positive(OWNER, "ratio", ratio)

    def excess(epsilon: float) -> float:
        directions = _pair_delta(epsilon, np.array([away, away / ratio]), np.array([ratio, 1.0 / ratio]))
        return float(np.max(directions)) - delta

    return _crossing(excess, delta)


def lower_bound_from_moments(
    *,
    gap: float,
    deviation_in: float,
    deviation_out: float,
    included: int,
    excluded: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the least ε at δ of all pairs of normals that the moments do not refute.

    Args:
        gap: mean in-score − mean out-score, in any unit.
        deviation_in: standard deviation of the in-scores, with n1 − 1 in the denominator, in the same unit, >= 0.
        deviation_out: likewise of the out-scores.
        included: n1 >= 2.
        excluded: n0 >= 2.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the ε of the pair of laws with probability `confidence`, if all scores are independent and
    normal in either world, with any means and variances. Where a world does not vary at all the bound is infinite,
    unless nothing varies.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> round(lower_bound_from_moments(gap=1.666, deviation_in=1.0, deviation_out=1.0, included=500, excluded=500,
    ...                                delta=1e-5, confidence=0.95), 2)
    7.29
    """
    check_level(OWNER, delta=delta, confidence=confidence)
    validate.count(OWNER, "included", included, least=2)
    validate.count(OWNER, "excluded", excluded, least=2)
    gap = validate.finite(OWNER, "gap", gap)
    deviations = [validate.non_negative(OWNER, "deviation", one) for one in (deviation_in, deviation_out)]
    if 0.0 in deviations:
        return np.inf if gap or any(deviations) else 0.0
    moments = np.array([[gap], deviations[:1], deviations[1:]])
    ratio, distance = _possible(moments, included, excluded, delta, confidence)

    def excess(epsilon: float) -> float:
        return float(np.min(_one_way(epsilon, distance, ratio))) - delta

    return _crossing(excess, delta)


def rejects(
    *,
    gap: ArrayLike,
    deviation_in: ArrayLike,
    deviation_out: ArrayLike,
    included: int,
    excluded: int,
    epsilon: float,
    delta: float,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether every pair of normals with no more than this ε at δ is refuted.

    Arguments are those of `lower_bound_from_moments`, which inverts this test; the three moments are arrays that
    broadcast, the deviations above 0.
    """
    moments = np.array(np.broadcast_arrays(gap, deviation_in, deviation_out), dtype=np.float64)
    sets, refuted = moments.reshape(3, -1), np.empty(moments[0].size, dtype=bool)
    for k in range(0, len(refuted), AT_ONCE):
        ratio, distance = _possible(sets[:, k : k + AT_ONCE], included, excluded, delta, confidence)
        refuted[k : k + AT_ONCE] = np.min(_one_way(epsilon, distance, ratio), axis=1) > delta
    return refuted.reshape(moments.shape[1:])


def estimate_from_moments(*, gap: float, deviation_in: float, deviation_out: float, delta: float) -> Estimate:
    """Return the ε of the pair of normals with these moments: an estimate, to either side of the truth, no evidence.

    >>> estimate_from_moments(gap=2.0, deviation_in=1.2, deviation_out=1.0, delta=1e-5).method
    'gaussian_pair'
    """
    ratio = validate.positive(OWNER, "deviation_in", deviation_in) / validate.positive(
        OWNER, "deviation_out", deviation_out
    )
    away = max(0.0, validate.finite(OWNER, "gap", gap)) / deviation_out
    return Estimate(
        value=epsilon_of_pair(distance=away, ratio=ratio, delta=delta),
        method=OWNER,
        validity="for many independent normal scores in either world; it errs to either side, and is no bound",
    )


@dataclass(frozen=True, slots=True)
class GaussianPair(Estimator):
    """The bound of `lower_bound_from_moments`; the process plays no part.

    It needs normal scores in either world, independent of each other: in one run, canaries so isolated that none moves
    another's score.

    >>> GaussianPair().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns, OneRun)
    guarantee: ClassVar[Guarantee] = "parametric"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound.

        Raises:
            InvalidParameter: if fewer than two scores were in, or out.
        """
        return lower_bound_from_moments(
            **_moments(data),
            included=len(data.included),
            excluded=len(data.excluded),
            delta=delta,
            confidence=confidence,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether every pair of normals with no more than this ε at δ is refuted."""
        found = self.epsilon(data, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) < found
        return refuted

    def estimate(self, data: LabelledScores, *, delta: float) -> Estimate:
        """Return the ε of the pair with the moments seen: an estimate, no evidence."""
        return estimate_from_moments(**_moments(data), delta=delta)


def _moments(data: LabelledScores) -> dict[str, float]:
    """Return gap and deviations."""
    inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
    for name, scores in (("included", inside), ("excluded", outside)):
        if len(scores) < 2:
            raise InvalidParameter(f"{OWNER}: {name} must be at least 2, got {len(scores)}: a variance needs two.")
    return {
        "gap": float(np.mean(inside) - np.mean(outside)),
        "deviation_in": float(np.std(inside, ddof=1)),
        "deviation_out": float(np.std(outside, ddof=1)),
    }


def _possible(moments: Array, included: int, excluded: int, delta: float, confidence: float) -> tuple[Array, Array]:
    """Return ratios ρ that F does not refute, and the least Δ >= 0 for them and their neighbours, both (n, k).

    `moments` holds gap, deviation in and deviation out, shape (3, n).
    """
    gap, deviation_in, deviation_out = moments[..., None]
    a, c = -special.ndtri(0.5 * SHARE * (1 - confidence)), -special.ndtri((1 - SHARE) * (1 - confidence))
    seen, degrees = (deviation_in / deviation_out) ** 2, (included - 1, excluded - 1)
    limits = special.fdtri(*degrees, special.ndtr(np.array([a, -a])))
    ratio = _ratios(np.sqrt(seen / limits))
    x = -special.ndtri(special.fdtr(*degrees, seen / ratio**2))
    theta = _turn(np.log(ratio) / np.sqrt(0.5 / degrees[0] + 0.5 / degrees[1]), included, excluded, delta, max(c, 0.5))
    y = (-c - np.sign(ratio - 1.0) * x * np.sin(theta)) / np.cos(theta)
    scale = np.sqrt(ratio**2 / included + 1.0 / excluded)
    pooled = np.sqrt((degrees[0] * (deviation_in / ratio) ** 2 + degrees[1] * deviation_out**2) / sum(degrees))
    least = scale * _noncentrality(gap / pooled / scale, y, sum(degrees))
    least = np.maximum(np.where(y < -FARTHEST, 0.0, least), 0.0)
    around = np.pad(least, ((0, 0), (1, 1)), mode="edge")
    return ratio, np.min([around[:, :-2], least, around[:, 2:]], axis=0)


def _ratios(ends: Array) -> Array:
    """Return ratios from the lower to the upper end, densest near 1, where ε has its kink; shape (n, k)."""
    below, above = np.log(ends).T
    squares = np.linspace(0.0, 1.0, RATIOS + 1) ** 2
    steps = np.concatenate([below[:, None] * squares[::-1], above[:, None] * squares], axis=1)
    ratios: Array = np.exp(np.clip(np.sort(steps, axis=1), below[:, None], above[:, None]))
    return ratios


def _turn(away: Array, included: int, excluded: int, delta: float, c: float) -> Array:
    """Return θ for a ratio `away` standard deviations from 1.

    ε falls with log ρ about −Φ⁻¹(δ) times as fast as with Δ, so on its level set Δ falls by that, in standard
    deviations `slope`, as ρ goes away from 1. Scores at (c, 0), which refute ρ = 1, then lie c + slope · away and
    −away from the set, and θ is the largest angle under which they refute it: from 0 up to arctan(slope).
    """
    log_ratio = np.sqrt(0.5 / (included - 1) + 0.5 / (excluded - 1))
    slope = (
        TURN * max(1.0, -float(special.ndtri(max(delta, 1e-300)))) * log_ratio / np.sqrt(1 / included + 1 / excluded)
    )
    up, side = c + slope * np.abs(away), np.abs(away)
    theta: Array = np.arccos(np.minimum(c / np.hypot(up, side), 1.0)) - np.arctan2(side, up)
    return theta


def _noncentrality(t: Array, y: Array, degrees: int) -> Array:
    """Return λ with P[noncentral t(degrees, λ) > t] = ∫ Φ(λ − t χ) dP(χ) = Φ(y), lowered by more than its error.

    Newton's method for Φ⁻¹ of the integral, which is nearly straight in λ.
    """
    quantiles = REACH * NODES
    mass = REACH * WEIGHTS * np.exp(-0.5 * quantiles**2) / np.sqrt(2 * np.pi)
    tail = special.ndtr(-np.abs(quantiles))
    half = 0.5 * degrees
    chi = np.sqrt(np.where(quantiles < 0, special.gammaincinv(half, tail), special.gammainccinv(half, tail)) / half)
    y, t = np.clip(y, -FARTHEST, NEAREST), np.minimum(t, STEEPEST * np.sqrt(2.0 * degrees))
    width = np.sqrt(1.0 + t * t / (2.0 * degrees))
    found = t + y * width
    for _ in range(NEWTON_STEPS):
        z = found[..., None] - t[..., None] * chi
        level = np.clip(special.ndtri(special.ndtr(z) @ mass), -37.0, 8.0)
        slope = (np.exp(-0.5 * z * z) @ mass) * np.exp(0.5 * level * level)
        found = found - (level - y) / np.maximum(slope, 0.2 / width)
    lowered: Array = found - ROUNDING * (1.0 + np.abs(found))
    return lowered


def _one_way(epsilon: float, distance: Array, ratio: Array) -> Array:
    """Return δ(ε) in the direction in which the wider normal comes first, which is the larger one for small δ."""
    wider = ratio >= 1.0
    return _pair_delta(epsilon, np.where(wider, distance, distance / ratio), np.where(wider, ratio, 1.0 / ratio))


def _pair_delta(epsilon: float, distance: Array, ratio: Array) -> Array:
    """Return δ(ε) of N(distance, ratio²) against N(0, 1), elementwise, for distances >= 0.

    The loss A x² + B x + C + ε, A = (1 − 1/ratio²) / 2, B = distance / ratio², exceeds ε beyond two roots or, if A < 0,
    between them: near = C / r and far = r / A, r = −(B + (B² − 4 A C)^½) / 2, in which nothing cancels.
    """
    a, b = 0.5 * (ratio - 1.0) * (ratio + 1.0) / ratio**2, distance / ratio**2
    c = -0.5 * (distance / ratio) ** 2 - np.log(ratio) - epsilon
    square = b * b - 4.0 * a * c
    r = np.minimum(-0.5 * (b + np.sqrt(np.maximum(square, 0.0))), -1e-300)
    with np.errstate(divide="ignore", over="ignore"):
        near, far = c / r, r / np.where(a == 0.0, 1e-300, a)

    def between(sign: float, x: Array) -> Array:
        """Return the excess mass above x (sign −1) or below it (1)."""
        heavy = special.ndtr(sign * (x - distance) / ratio)
        light = np.exp(np.minimum(epsilon + special.log_ndtr(sign * x), 1.0))  # <= heavy wherever it is used
        excess: Array = heavy - light
        return excess

    inside = np.where(square > 0.0, between(-1.0, near) - between(-1.0, far), 0.0)
    return np.maximum(np.where(a >= 0.0, between(-1.0, near) + between(1.0, far), inside), 0.0)


def _crossing(excess: Callable[[float], float], delta: float) -> float:
    """Return where a falling function of ε >= 0 passes 0, from its positive side; 0 if it starts below."""
    if excess(0.0) <= 0.0:
        return 0.0
    if delta == 0.0:
        return np.inf
    low, high = 0.0, 1.0
    while excess(high) > 0.0:
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return low
