"""Where one end of the enclosure of δ(ε) crosses a level: two points around it, and how to bring them closer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mechanisms.core.bounds import Array

FURTHER = (1.002, 1.03, 1.5, 4.0, 64.0, 1e4, 1e9, 1e18)
FAR, FARTHEST = 16.0, 1e64  # ratio of points between which logarithms are halved, and where those begin above 0
NEAR = 0.02  # of the distance of both points: how far beside the root of a straight line to look
SECTIONS, CLOSE, FEW = 16, 1.02, 4  # of points that are close and others, whose compositions are their own
LEAST_EXCESS = 5e-324


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A point where the end exceeds the level and one further on where it does not; both 0 if it nowhere does.

    Args:
        end: the end of δ's enclosure at points of shape (n,).
        level: the δ to cross.
        last: whether the point where it is crossed for the last time is sought, as for lower ends, or for the first.
        left: the end exceeds the level there, unless `left` is 0.
        right: the end does not exceed it there; inf if no such point is known.
        at_left: log(end ÷ level), where it is known.
        at_right: the same.
    """

    end: Callable[[Array], Array]
    level: float
    last: bool
    left: float = 0.0
    right: float = 0.0
    at_left: float = math.inf
    at_right: float = -math.inf

    def around(self, points: Array, ends: Array) -> Crossing:
        """Return the two points around the crossing: among these, whose ends are known, else ever further from them."""
        excess = self._excess(ends)
        first = self._first(excess)
        if 0 < first < len(points):
            return self._moved(points, excess, first)
        down, place, there = first == 0, float(points[-1 if first else 0]), float(excess[-1 if first else 0])
        for factor in FURTHER:
            beyond = place / factor if down else place * factor
            found = float(self._excess(self.end(np.array([beyond])))[0])
            if down and found > 0.0:
                return replace(self, left=beyond, at_left=found, right=place, at_right=there)
            if not down and found <= 0.0:
                return replace(self, left=place, at_left=there, right=beyond, at_right=found)
            place, there = beyond, found
        if not down:
            return replace(self, left=place, at_left=there, right=math.inf)
        at_zero = float(self._excess(self.end(np.zeros(1)))[0])
        return replace(self, right=place, at_left=at_zero, at_right=there) if at_zero > 0.0 else self

    def narrowed(self) -> Crossing | None:
        """Return closer points; None where no float, or nothing finite, lies between."""
        points = self._between() if math.isfinite(self.right) else np.zeros(0)
        points = np.unique(points[(points > self.left) & (points < self.right)])
        if not len(points):
            return None
        excess = self._excess(self.end(points))
        return self._moved(points, excess, self._first(excess))

    def _between(self) -> Array:
        """Return points between both: beside the root that a straight line has, and half-way to the farther one.

        Where the two are far apart, or an end is 0 or not known, the points are laid out evenly.
        """
        left, right = self.left, self.right
        least = max(left, right / FARTHEST)
        if right > FAR * left and least > 0.0:
            return np.geomspace(least, right, FEW + 1)[:-1]
        if math.isinf(self.at_left) or math.isinf(self.at_right):
            return np.linspace(left, right, (SECTIONS if right < CLOSE * left else FEW) + 1)
        root = left + self.at_left / (self.at_left - self.at_right) * (right - left)
        beside, farther = NEAR * (right - left), left if root - left > right - root else right
        return np.array([root - beside, root + beside, 0.5 * (root + farther)])

    def _excess(self, ends: Array) -> Array:
        """Return log(end ÷ level), above 0 if and only if the end exceeds the level."""
        with np.errstate(divide="ignore"):
            excess = np.log(ends) - math.log(self.level)
        return np.where(ends > self.level, np.maximum(excess, LEAST_EXCESS), np.minimum(excess, 0.0))

    def _first(self, excess: Array) -> int:
        """Return the index of the first point from which on it is crossed, or at which it is."""
        over = np.flatnonzero(excess > 0.0) if self.last else np.flatnonzero(excess <= 0.0)
        if self.last:
            return int(over[-1]) + 1 if len(over) else 0
        return int(over[0]) if len(over) else len(excess)

    def _moved(self, points: Array, excess: Array, first: int) -> Crossing:
        """Return the crossing with the points beside this index for its own, where there are such."""
        found = self
        if first > 0:
            found = replace(found, left=float(points[first - 1]), at_left=float(excess[first - 1]))
        if first < len(points):
            found = replace(found, right=float(points[first]), at_right=float(excess[first]))
        return found
