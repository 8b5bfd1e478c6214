"""Trade-off functions from privacy profiles: what the best test can do, at every level.

A process that is (ε, δ(ε))-differentially private for all ε >= 0 makes every test between neighbours, in either order,
that has type I error α miss with probability at least                                                     [DRS22]

    f(α) = sup over ε >= 0 of max{0,  1 − δ(ε) − e^ε α,  e^{−ε} (1 − δ(ε) − α)}.

It is the largest convex function that is its own inverse and lies below all those tests.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

from mechanisms.core.bounds import Array, Bounds, exp

ROUNDING = 1e-13  # absolute: far more than the few operations on numbers up to 1 err by
ENOUGH, SHARE = 1e-7, 1e-3  # how far the ends may lie apart for want of points: that, or this share of f or 1 − f
PASSES = 60  # each asks at one point at most between any two
FIRST = 16  # points of the first guess
AT_ONCE = 2**20  # values that are looked at together
FARTHEST = 700.0  # e^ε must remain a float


def tradeoff(alpha: Array, delta: Callable[[Array], Bounds], floor: float) -> Bounds:
    """Enclose f at every α, asking for δ where it matters for these α.

    Any points give both ends: from below the supremum over them alone; from above, δ as a convex function of x = e^ε
    lies above the lines continued from outside each gap. Where those lines leave the ends apart δ is asked for again,
    as in Kelley's cutting planes.

    Args:
        alpha: type I errors in [0, 1], shape (m,).
        delta: encloses δ at increasing ε >= 0, shape (n,).
        floor: δ is nowhere below this.
    """
    epsilon = np.zeros(1)
    found = delta(epsilon)
    wanted = _guess(alpha, float(found.upper[0]))
    for _ in range(PASSES):
        more = delta(wanted)
        epsilon, order = np.unique(np.concatenate([epsilon, wanted]), return_index=True)
        ends = (np.concatenate([getattr(found, side), getattr(more, side)])[order] for side in ("lower", "upper"))
        found = Bounds(lower=next(ends), upper=next(ends))
        wanted = _wanted(alpha, epsilon, np.asarray(found.upper), floor)
        if not wanted.size:
            break
    return enclosed(alpha, epsilon, found, floor)


def enclosed(alpha: Array, epsilon: Array, delta: Bounds, floor: float) -> Bounds:
    """Enclose f at every α, given δ at two or more increasing ε of which the first is 0."""
    x, heights = exp(Bounds.exact(epsilon)), np.maximum(delta.lower, floor)
    below, _ = _largest(alpha, np.asarray(x.upper), np.asarray(delta.upper))
    middle, slopes = 0.5 * (x.lower + x.upper), (delta[1:] - delta[:-1]) / (x[1:] - x[:-1])
    points, least = _minorant(middle, heights, slopes, floor)
    points, least = np.append(middle, points), np.append(heights, least)
    above, _ = _largest(alpha, points * (1 - 1e-14), least)
    most = 1.0 - Bounds.exact(alpha)
    lower = np.clip(below - ROUNDING, 0.0, np.maximum(most.lower, 0.0))
    return Bounds(lower=lower, upper=np.maximum(lower, np.clip(above + ROUNDING, 0.0, most.upper)))


def _guess(alpha: Array, advantage: float) -> Array:
    """Return some ε at which a Gaussian with this δ(0) has its tangents at these α, one or more, well apart."""
    mu = float(np.clip(2.0 * scipy.special.ndtri(0.5 + 0.5 * advantage), 1e-9, 8.0))
    inside = np.sort(alpha[(alpha > 0) & (alpha < 1)])
    some = inside[np.unique(np.linspace(0, len(inside) - 1, min(FIRST, len(inside))).astype(int))]
    touching = np.abs(scipy.special.ndtri(some) + mu / 2)
    sixteenths = np.unique(np.rint(16.0 * np.append(touching, [0.5, 1.0, 2.0])))
    return mu / 16.0 * sixteenths[sixteenths > 0]


def _wanted(alpha: Array, epsilon: Array, delta: Array, floor: float) -> Array:
    """Return where to ask next: where a minorant of the given values beats the values themselves by too much.

    At most one new ε in a gap, not in its outer tenths, so that neighbouring gaps remain comparable.
    """
    x = np.exp(epsilon)
    slopes = Bounds.exact(np.diff(delta) / np.diff(x))
    points, heights = _minorant(x, delta, slopes, floor)
    below, _ = _largest(alpha, x, delta)
    most, best = _largest(alpha, points, heights)
    tolerance = np.clip(SHARE * np.minimum(below, 1.0 - below), 10 * ROUNDING, ENOUGH)
    gaps = np.unique(best[most - below > tolerance])
    inside, width = gaps[gaps < len(x) - 1], np.diff(x)
    inside = inside[width[inside] > 1e-9 * x[inside]]
    tenth = 0.1 * width[inside]
    new = np.log(np.clip(points[inside], x[inside] + tenth, x[inside + 1] - tenth))
    beyond = min(float(np.log(min(points[-1], 4.0 * x[-1] - 3.0))), FARTHEST)
    return np.append(new, beyond) if len(x) - 1 in gaps and beyond > epsilon[-1] else new


def _largest(alpha: Array, x: Array, delta: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the largest of 1 − δ − x α and (1 − δ − α) / x over the points at every α, and at which point it is."""
    rows = max(1, AT_ONCE // len(x))
    most, best = np.empty(len(alpha)), np.empty(len(alpha), dtype=np.intp)
    for k in range(0, len(alpha), rows):
        values = _values(alpha[k : k + rows], x, delta)
        most[k : k + rows], best[k : k + rows] = np.max(values, axis=1), np.argmax(values, axis=1)
    return most, best


def _values(alpha: Array, x: Array, delta: Array) -> Array:
    """Return the larger of the two at each α and point, shape (m, n)."""
    flat = 1.0 - delta - x * alpha[:, None]
    steep = (1.0 - delta - alpha[:, None]) / x
    return np.asarray(np.maximum(flat, steep))


def _minorant(x: Array, height: Array, slopes: Bounds, floor: float) -> tuple[Array, Array]:
    """Return a point for each gap between x's and one beyond them, with heights: what the largest values can be at.

    Over (x_i, x_{i+1}) δ lies above the chord of (i − 1, i), continued to the right, and that of (i + 1, i + 2),
    continued to the left; at the ends slopes of −1 and 0 stand in, as δ' lies between. Beyond the last point it lies
    above the last chord, until that falls to the floor. A chord is continued from the lower end of its nearer point,
    by that end of its slope which keeps it low. What meets no proper corner (by rounding) is one line.
    """
    s = np.append(-1.0, np.clip(slopes.lower[:-1], -1.0, 0.0))
    t = np.append(np.clip(slopes.upper[1:], -1.0, 0.0), 0.0)
    a, b, proper = x[:-1], x[1:], t > s
    crossing = (height[:-1] - height[1:] + t * b - s * a) / np.where(proper, t - s, np.inf)
    crossing = np.where(proper, np.clip(crossing, a, b), b)
    onward = height[:-1] + s * (crossing - a)
    corner = np.where(proper, np.maximum(onward, height[1:] + t * (crossing - b)), onward)
    falls = max(float(-slopes.lower[-1]), 1e-290)
    end = min(x[-1] + min(max(height[-1] - floor, 0.0) / falls, 1e290), 1e290)
    return np.append(crossing, end), np.append(corner, floor)
