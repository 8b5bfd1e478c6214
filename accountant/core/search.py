"""The search for ε(δ): the one place where curves are inverted, both ends certified."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from accountant.core.crossing import Crossing
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure

if TYPE_CHECKING:
    from accountant.core.curve import Curve

LEAST = 1e-12  # guesses below it are looked at from 0
SHARP = 2e-13  # relative distance of a very good guess from both ends
SECANT, CLOSEST, SECANTS = 1e-4, 1e-7, 12  # relative distance of the two points of a secant; how many to try
STRAIGHT = 1e-9  # relative distance from the root within which a secant is believed, or a tenth of the bracket
MARGIN, FINEST = 0.02, (1e-14, 1e-13, 2e-12)  # beyond an end: of the bracket, and of ε
MARGINS = np.array([0.05, 0.1, 0.2, 0.4])  # of the bracket, where it is not as straight as that
RELATIVE_RESOLUTION = 1e-12
NEARBY = 2.0 ** np.arange(-44, -11)  # where to look beside a guess, relative to it: 6e-14 to 2e-4
PROBES = np.array([0.0, 1e-3])  # relative to a guess: where a curve that has any lower end has one
FARTHEST = 1e290  # beyond it secants are not followed
WIDE, SHARPENED = 1e-6, 3  # of ε; secants
NEARER = np.array([1e-6, 1e-4, 1e-2, 0.1, 0.3])  # of the way from the root that is expected to the end
SHARE = 0.02  # of the bracket: ends are not narrowed further than this


def enclosed(curve: Curve, delta: float) -> Bounds:
    """Enclose the smallest ε with δ(ε) <= delta: δ > delta is certified all below the lower end, <= at the upper.

    Points are laid out at both sides of the guess, ever further, and then between those that enclose each end. As δ
    falls, what is certified at one point holds for all below it, or above it, where the curve itself may say less.
    Where more than delta is certain to give everything away, both ends are infinite.
    """
    if delta >= 1.0:
        return Bounds.exact(0.0)
    if curve.lost.lower > delta:
        return Bounds.exact(math.inf)
    supremum = curve.supremum
    if delta == 0.0:
        return Bounds(lower=max(0.0, float(supremum.lower)), upper=max(0.0, float(supremum.upper)))

    guess = curve.guess(delta)
    if guess <= LEAST and curve.delta(np.zeros(1)).upper[0] <= delta:
        return Bounds.exact(0.0)
    guess = float(np.clip(guess, LEAST, 1e280)) if math.isfinite(guess) else 1.0
    ends = guess * (1 - SHARP), guess * (1 + SHARP)
    lower, upper = _kept(curve, delta, *ends) or _smooth(curve, delta, guess) or _sectioned(curve, delta, guess)
    return Bounds(lower=lower, upper=max(lower, min(upper, float(supremum.upper))))


def _sharpened(curve: Curve, delta: float, lower: float, upper: float) -> float:
    """Return an upper end nearer to where that of δ meets delta, by secants, if the bracket is wide.

    Ends are otherwise certified a share of the bracket beyond where they might be: much where that is wide, so that a
    δ asked for at this ε would be kept and the ε asked for at that δ not.
    """
    if not WIDE * upper < upper - lower < math.inf:
        return upper
    x, found = np.array([lower, upper]), curve.delta(np.array([lower, upper])).upper
    for _ in range(SHARPENED):
        with np.errstate(divide="ignore"):
            over, under = np.log(found) - math.log(delta)
        if not over > 0.0 >= under > -math.inf or x[1] - x[0] <= FINEST[0] * x[1]:
            break
        root = x[0] + (x[1] - x[0]) * over / (over - under)
        points = np.concatenate([x[:1], np.minimum(root + (x[1] - root) * NEARER, x[1]), x[1:]])
        try:
            found = np.concatenate([found[:1], curve.delta(points[1:-1]).upper, found[1:]])
        except NumericalFailure:  # the end that is certified stays
            break
        first = int(np.argmax(found <= delta))
        x, found = points[first - 1 : first + 1], found[first - 1 : first + 1]
    return float(x[1])


def _smooth(curve: Curve, delta: float, guess: float) -> tuple[float, float] | None:
    """Return both ends where log δ is about a straight line beside a good guess, by secants; None where it is not.

    The ends are then where that line says that each end of the enclosure of δ meets delta, and a little beyond.
    """
    x = np.array([guess, guess * (1 + SECANT)])
    for _ in range(SECANTS):
        bounds = curve.delta(x)
        if not (np.all(bounds.lower > 0.0) and np.all(bounds.upper < 1.0)):
            return None
        logs = np.log(bounds.lower) + np.log(bounds.upper)
        slope = 0.5 * float(logs[1] - logs[0]) / float(x[1] - x[0])
        if not slope < 0.0:
            return None
        gaps = np.log([bounds.lower[0], bounds.upper[0]]) - math.log(delta)
        with np.errstate(over="ignore"):
            ends = x[0] - gaps / slope
        if not np.all(np.abs(ends) < FARTHEST):
            return None
        if abs(float(np.mean(ends)) - x[0]) <= max(STRAIGHT * x[0], 0.1 * float(ends[1] - ends[0])):
            certified = _certified(curve, delta, ends, x[0])
            return certified and (certified[0], _sharpened(curve, delta, *certified))
        root = max(float(np.mean(ends)), LEAST)
        apart = min(max(abs(root - x[0]) / root, CLOSEST), SECANT)
        x = root * np.array([1.0, 1 + apart])
    return None


def _certified(curve: Curve, delta: float, ends: Array, x: float) -> tuple[float, float] | None:
    """Return two points a little beyond these ends at which δ > delta and δ <= delta are certified."""
    for finest in FINEST:
        away = MARGIN * float(ends[1] - ends[0]) + finest * x
        kept = _kept(curve, delta, max(float(ends[0]) - away, 0.0), float(ends[1]) + away)
        if kept:
            return kept
    beyond = float(ends[1] - ends[0]) * MARGINS
    bounds = curve.delta(np.concatenate([np.maximum(ends[0] - beyond, 0.0), ends[1] + beyond]))
    over, under = bounds.lower[: len(beyond)] > delta, bounds.upper[len(beyond) :] <= delta
    if not (np.any(over) and np.any(under)):
        return None
    return max(float(ends[0] - beyond[np.argmax(over)]), 0.0), float(ends[1] + beyond[np.argmax(under)])


def _kept(curve: Curve, delta: float, lower: float, upper: float) -> tuple[float, float] | None:
    """Return these two points if δ > delta is certified at the one and δ <= delta at the other."""
    bounds = curve.delta(np.array([lower, upper]))
    return (lower, upper) if bounds.lower[0] > delta and bounds.upper[1] <= delta else None


def _sectioned(curve: Curve, delta: float, guess: float) -> tuple[float, float]:
    """Return both ends for any δ that falls: by points beside the guess, ever further, then by sections."""
    points = np.concatenate([guess * (1 - NEARBY[::-1]), [guess], guess * (1 + NEARBY)])
    bounds = curve.delta(points)
    low = Crossing(end=lambda x: curve.delta(x).lower, level=delta, last=True)
    if np.any(bounds.lower > 0.0) or np.any(curve.delta(guess * PROBES).lower > 0.0):  # else it has upper ends only
        low = low.around(points, bounds.lower)
    high = Crossing(end=lambda x: curve.delta(x).upper, level=delta, last=False).around(points, bounds.upper)
    while True:
        worth = SHARE * (high.right - low.left) if low.left > 0.0 and math.isfinite(high.right) else 0.0
        if (closer := _closer(low, worth)) is not None:
            low = closer
        elif (closer := _closer(high, worth)) is not None:  # also where no float is left between the points of `low`
            high = closer
        else:
            break
    return low.left, high.right


def _closer(crossing: Crossing, worth: float) -> Crossing | None:
    """Return closer points, or None where they are close enough or no closer ones are to be had."""
    wide = crossing.right - crossing.left > max(RELATIVE_RESOLUTION * crossing.right, worth)
    return crossing.narrowed() if wide else None
