"""Where a falling or rising function of one unknown changes sign, in as few of its costly values as possible."""

from __future__ import annotations

import math
from collections.abc import Callable

RELATIVE_RESOLUTION = 1e-6
MOST_QUICK, MOST_TRIALS, PATIENCE = 6, 100, 6
WIDTH = 1e-3  # of w, over which the slope of `place` is taken
LARGEST_STRIDE, LARGEST_LOGARITHM = 3.0, 700.0


def secants(excess: Callable[[float], float], place: Callable[[float], float], *, safe: float) -> tuple[float, bool]:
    """Return an x with excess(x) <= 0 that by the slope there lies within 2e-6 of the root, if secants in w find it.

    x = place(w), and excess(place(w)) rises with w, at best by as much as w. If secants do not find it, the x that came
    nearest is where to look further.

    Args:
        excess: of x > 0.
        place: of w, monotone; w = 0 is the first guess.
        safe: +1 if the excess falls with x, −1 if it rises.

    >>> x, found = secants(lambda x: 1 - x * x, lambda w: math.exp(-w), safe=+1.0)
    >>> found and 0 <= x - 1 <= 1e-6
    True
    """
    w, slope, last, before, best = 0.0, 1.0, math.nan, math.nan, (math.inf, math.nan)
    for trial in range(MOST_QUICK):
        x = place(w)
        value = excess(x)
        best = min(best, (abs(value), x))
        stretch = safe * (math.log(place(w - WIDTH)) - math.log(x)) / WIDTH  # d log x / dw, safer to the left
        if trial:
            slope = (value - before) / (w - last) if w != last else math.nan
        if not (stretch > 0.0 and slope > 0.0):
            break
        margin = RELATIVE_RESOLUTION * slope / stretch
        if -2 * margin <= value <= 0.0:
            return x, True
        last, before = w, value
        w -= (value + 0.5 * margin) / slope
    return best[1], False


def boundary(
    excess: Callable[[float], float], start: float, *, safe: float, snap: Callable[[float], float] = float
) -> float | None:
    """Return an x with excess(x) <= 0 next to one with excess > 0: within a relative 1e-6, or the next that `snap` has.

    `safe` is +1 if the excess falls with x and −1 if it rises: in v = safe · log x it falls, about in a straight line.
    Where no x up to e^±700 is exceeded it is the last one tried; None where none is kept.

    >>> boundary(lambda x: x - 7.5, 100.0, safe=-1.0, snap=math.floor)
    7
    """
    kept: float | None = None
    broken: float | None = None
    x, slope, last, before = snap(start), -10.0, math.nan, math.nan
    for trial in range(MOST_TRIALS):
        v, value = safe * math.log(x), excess(x)
        kept, broken = (x, broken) if value <= 0 else (kept, x)
        if v != last and (value - before) * (v - last) < 0:
            slope = (value - before) / (v - last)
        stride = min(max(-value / slope, -LARGEST_STRIDE), LARGEST_STRIDE)
        if abs(stride) < 0.4 * RELATIVE_RESOLUTION:  # at the root: look just beyond it, on the side not yet seen
            stride += (-0.9 if value <= 0 else 0.05) * RELATIVE_RESOLUTION
        if trial >= PATIENCE and (kept is None or broken is None):  # the excess hardly falls: ever longer strides
            longer = min(RELATIVE_RESOLUTION * 4.0 ** (trial - PATIENCE), LARGEST_STRIDE)
            stride = math.copysign(max(abs(stride), longer), value if value else -1.0)
        last, before = v, value
        x = snap(math.exp(min(max(safe * (v + stride), -LARGEST_LOGARITHM), LARGEST_LOGARITHM)))
        if kept is not None and broken is not None:
            if abs(math.log(kept / broken)) <= RELATIVE_RESOLUTION:
                break
            low, high = sorted((kept, broken))
            x = x if low < x < high else snap(math.sqrt(low) * math.sqrt(high))
            x = x if low < x < high else snap(0.5 * (low + high))
            if not low < x < high:
                break
        elif x in (kept, broken):  # a stride too short for `snap`
            nearer, x = x, _beyond(x, -safe if kept else safe, snap)
            if x == nearer:
                break
    return kept


def _beyond(x: float, sign: float, snap: Callable[[float], float]) -> float:
    """Return about the next value that `snap` has above x, or below it; x itself at the end of its range."""
    strides = (sign * RELATIVE_RESOLUTION * 2.0**k for k in range(22))
    logs = (min(max(math.log(x) + stride, -LARGEST_LOGARITHM), LARGEST_LOGARITHM) for stride in strides)
    return next((found for found in map(snap, map(math.exp, logs)) if found != x), x)
