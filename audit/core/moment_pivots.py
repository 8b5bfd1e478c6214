"""Which pairs of normals, N(m1, s1²) and N(m0, s0²), the moments of scores from both leave possible.

Up to shift and scale a pair is Δ = (m1 − m0) / s0 and ρ = s1 / s0. Two exact pivots know both: with n scores,
sample variances S², pooled V = (ν1 S1²/ρ² + ν0 S0²) / (ν1 + ν0), ν = n − 1,

    F = (S1² / S0²) / ρ² ~ F(ν1, ν0),    t = (gap of means) / √V / w ~ noncentral t(ν1 + ν0, Δ/w),    w² = ρ²/n1 + 1/n0

and t is independent of F [Bas55]. So x = Φ⁻¹(P[F > F seen]) and y = Φ⁻¹(P[t > t seen]) are independent standard
normals, and for any angle θ that depends on ρ alone

    |x| <= a     and     y cos θ + x sin θ > −c        (− x where ρ < 1)

holds with probability 1 − 2Φ(−a) − Φ(−c) at least. For every ρ it says how small Δ can be. ε rises with Δ >= 0, so the
bound is the least ε of that set. With equal variances ε is least at ρ = 1, and θ = 0 there pays nothing for ρ but
2Φ(−a). Away from 1 θ turns towards where ε falls fastest, slowly, so that what refutes ρ = 1 mostly refutes the rest.

[Bas55] D. Basu. On Statistics Independent of a Complete Sufficient Statistic. Sankhyā 15 (1955).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
SHARE = 0.05  # of the error, that goes to the ratio of variances alone
TURN = 0.2  # of the turn of θ at which equal variances would cost nothing if ρ were seen without error
RATIOS = 32  # looked at on either side of 1
NEAR_ONE = slice(RATIOS - 3, RATIOS + 5)
REACH = 14.0  # the normal quantiles of χ² run over ±14: what lies outside weighs nothing against Φ(−12)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(160)
STEEPEST = 3.0  # t ÷ √(2ν) is cut there, where the quadrature still has its digits: less evidence, not more
NEWTON_STEPS = 5
ROUNDING = 1e-7  # relative, by which Δ is lowered: above the errors of quadrature and Newton's method
FARTHEST, NEAREST = 12.0, 5.0  # y below −12 is taken to refute nothing, above 5 to refute no more than 5


def possible(
    moments: Array, included: int, excluded: int, delta: float, confidence: float, *, near: bool = False
) -> tuple[Array, Array]:
    """Return ratios ρ that F does not refute, and the least Δ >= 0 for them and their neighbours, both (n, k).

    `moments` holds gap, deviation in and deviation out, shape (3, n). With `near` only the ratios nearest 1 are
    returned, a fraction of the work.
    """
    gap, deviation_in, deviation_out = moments[..., None]
    a, c = -special.ndtri(0.5 * SHARE * (1 - confidence)), -special.ndtri((1 - SHARE) * (1 - confidence))
    seen, degrees = (deviation_in / deviation_out) ** 2, (included - 1, excluded - 1)
    limits = special.fdtri(*degrees, special.ndtr(np.array([a, -a])))
    ratio = _ratios(np.sqrt(seen / limits))
    ratio = ratio[:, NEAR_ONE] if near else ratio
    x = -special.ndtri(special.fdtr(*degrees, seen / ratio**2))
    theta = _turn(np.log(ratio) / np.sqrt(0.5 / degrees[0] + 0.5 / degrees[1]), included, excluded, delta, max(c, 0.5))
    y = (-c - np.sign(ratio - 1.0) * x * np.sin(theta)) / np.cos(theta)
    scale = np.sqrt(ratio**2 / included + 1.0 / excluded)
    pooled = np.sqrt((degrees[0] * (deviation_in / ratio) ** 2 + degrees[1] * deviation_out**2) / sum(degrees))
    least = scale * noncentrality(gap / pooled / scale, y, sum(degrees))
    least = np.maximum(np.where(y < -FARTHEST, 0.0, least), 0.0)
    if near:  # those at either end serve as neighbours alone
        return ratio[:, 1:-1], np.min([least[:, :-2], least[:, 1:-1], least[:, 2:]], axis=0)
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


def noncentrality(t: Array, y: Array, degrees: int) -> Array:
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
