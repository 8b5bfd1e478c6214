"""The privacy profile of a pair of normals of any means and variances, and the ε where it passes δ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
HALVINGS = 44


def one_way(epsilon: float, distance: Array, ratio: Array) -> Array:
    """Return δ(ε) in the direction in which the wider normal comes first, which is the larger one for small δ."""
    wider = ratio >= 1.0
    return pair_delta(epsilon, np.where(wider, distance, distance / ratio), np.where(wider, ratio, 1.0 / ratio))


def pair_delta(epsilon: float, distance: Array, ratio: Array) -> Array:
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


def crossing(excess: Callable[[float], float], delta: float) -> float:
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
