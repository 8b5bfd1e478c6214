"""Trade-off functions from privacy profiles: what the best test can do, at every level.

A process that is (ε, δ(ε))-differentially private for all ε >= 0 makes every test between neighbours, in either order,
that has type I error α miss with probability at least                                                     [DRS22]

    f(α) = sup over ε >= 0 of max{0,  1 − δ(ε) − e^ε α,  e^{−ε} (1 − δ(ε) − α)}.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp

ROUNDING = 1e-13  # absolute: far more than the few operations on numbers up to 1 err by


def tradeoff(alpha: Array, epsilon: Array, delta: Bounds) -> Bounds:
    """Enclose f at every α, given δ at increasing ε of which the first is 0.

    From below the supremum is taken over the given ε alone. From above, δ as a function of x = e^ε is convex, so that
    between two given points it lies above the lines through the two to their left and the two to their right, with the
    ends of their enclosures that keep it so; on each piece both expressions are largest at an end.

    Args:
        alpha: type I errors in [0, 1], shape (m,).
        epsilon: shape (n,), n >= 4, the last one so large that e^{−ε} does not matter.
        delta: enclosure of δ at each, shape (n,).
    """
    x = exp(Bounds.exact(epsilon))
    low, high = np.asarray(x.lower), np.asarray(x.upper)
    below = _largest(alpha, high, np.asarray(delta.upper))
    points, least = _minorant(0.5 * (low + high), np.asarray(delta.lower), np.asarray(delta.upper))
    beyond = np.maximum(1.0 - low[-1] * alpha, (1.0 - alpha) / low[-1])
    above = np.maximum(_largest(alpha, points * (1 - 1e-14), least), beyond)
    lower = np.clip(below - ROUNDING, 0.0, 1.0 - alpha)
    return Bounds(lower=lower, upper=np.maximum(lower, np.clip(above + ROUNDING, 0.0, 1.0 - alpha)))


def _largest(alpha: Array, x: Array, delta: Array) -> Array:
    """Return the largest of 1 − δ − x α and (1 − δ − α) / x over the points, shape (m,)."""
    flat = 1.0 - delta - x * alpha[:, None]
    steep = (1.0 - delta - alpha[:, None]) / x
    return np.asarray(np.max(np.maximum(flat, steep), axis=1))


def _minorant(x: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return points and values: between neighbours δ lies above the straight line, or at the ends above those values.

    On (x_i, x_{i+1}) it lies above the lines through i − 1 and i and through i + 1 and i + 2, the nearer point of each
    taken low and the farther one high; where they cross is one more point.
    """
    rises = (lower[1:] - upper[:-1]) / (x[1:] - x[:-1])  # of the lines that are continued to the right
    falls = (upper[1:] - lower[:-1]) / (x[1:] - x[:-1])  # to the left
    left, right, s, t = x[1:-2], x[2:-1], rises[:-2], falls[2:]
    apart = np.where(t == s, np.inf, t - s)
    crossing = np.clip((lower[1:-2] - lower[2:-1] + t * right - s * left) / apart, left, right)
    height = np.maximum(lower[1:-2] + s * (crossing - left), lower[2:-1] + t * (crossing - right))
    first, last = lower[1] - falls[1] * (x[1] - x[0]), lower[-2] + rises[-2] * (x[-1] - x[-2])
    points = np.concatenate([x, crossing, x[[0, -1]]])
    return points, np.clip(np.concatenate([lower, height, [first, last]]), 0.0, 1.0)
