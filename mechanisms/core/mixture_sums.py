"""Sums r(z) = Σ w_i e^{iνz − (iν)²/2}: the ratio of a mixture of normals N(iν, 1), i >= 0, to N(0, 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ratio:
    """log r at many z, its slope, and a bound of its error: of rounding, of the weights and of ν."""

    value: Array
    slope: Array
    error: Array


def log_ratio(z: Array, unit: Bounds, parts: tuple[tuple[float, Bounds], ...]) -> Ratio:
    """Return log r.

    With exponents x_i it is log1p(Σ w_i expm1(x_i)) where they are small, so that digits are kept where r is near 1,
    and the logarithm of a sum of exponentials elsewhere; its error is the average, weighted by the terms, of the errors
    of their exponents and weights, and a few ulps.
    """
    middle, spread = 0.5 * (unit.lower + unit.upper), unit.width / unit.lower
    shifts = np.array([multiple * middle for multiple, _ in parts])
    weights = np.array([0.5 * (w.lower + w.upper) for _, w in parts])
    doubts = np.array([float(w.width) / max(float(w.lower), 1e-300) for _, w in parts])
    with np.errstate(over="ignore", invalid="ignore"):
        top = np.maximum.reduce([s * z - 0.5 * s * s for s in shifts])
        total, pull, doubt, near = (np.zeros_like(z) for _ in range(4))
        for shift, weight, loose in zip(shifts, weights, doubts, strict=True):
            exponent = shift * z - 0.5 * shift * shift
            term = weight * np.exp(exponent - top)
            moved = np.abs(shift * z) + shift * shift
            total += term
            pull += shift * term
            doubt += term * (loose + (4.0 * UNIT_ROUNDOFF + 2.0 * spread) * moved)
            near += weight * np.expm1(np.minimum(exponent, 2.0))
        far, small = top + np.log(total), (top < 1.0) & (near > -0.5)
        value = np.where(small, np.log1p(np.maximum(near, -0.9)), far)
        gone = abs(1.0 - float(np.sum(weights))) + 8.0 * UNIT_ROUNDOFF * len(parts)  # of 1 + Σ w_i expm1(x_i), to r
        rounding = np.where(small, gone * np.exp(-np.minimum(far, 0.0)), 8.0 * UNIT_ROUNDOFF * (1.0 + np.abs(far)))
    return Ratio(value=value, slope=pull / total, error=doubt / total + rounding)
