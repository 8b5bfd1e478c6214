"""Privacy profiles: what an accountant answers, and the one place where answers are inverted and combined.

A `Curve` encloses δ(ε) for one direction. A `Profile` holds one curve for each direction of an adjacency and takes the
larger of what they say: neighbours are fixed for the whole run, so each direction is composed apart.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accountant.core.ledger import Ledger
from accountant.core.tradeoff import tradeoff
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, largest
from mechanisms.core.process import Adjacency, Direction

SECTIONS = 16
RELATIVE_RESOLUTION = 1e-12
NEARBY = 2.0 ** np.arange(-44, -4)  # where to look beside a guess, relative to it: 6e-14 to .03
LEAST = 1e-12  # guesses below it are looked at from 0
FURTHER = (1.5, 4.0, 64.0, 1e4, 1e9, 1e18)
POINTS, LEAST_DELTA = 400, 1e-15  # of the curve that trade-off functions are made of
SHARE = 0.02  # of the bracket: ends are not narrowed further than this


class Curve(ABC):
    """An enclosure of the privacy profile δ(ε) of a process in one direction."""

    @abstractmethod
    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ at every ε >= 0 of an array of shape (n,)."""

    @property
    def supremum(self) -> Bounds:
        """Enclose the smallest ε with δ(ε) = 0; the upper end is inf where none is known."""
        return Bounds(lower=0.0, upper=math.inf)

    def guess(self, delta: float) -> float:
        """Return about the ε at which δ(ε) = delta, from where a search may start: no guarantee."""
        return 1.0

    def method(self, epsilon: float) -> str:
        """Name what gives the upper end at this ε, where the curve itself chooses; empty otherwise."""
        return ""

    def ledger(self, epsilon: float) -> Ledger:
        """Return the errors that the bounds of δ at this ε were widened by."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Bounds):
    """Certified bounds of ε at a δ, or of δ at an ε, with what they were derived from.

    Args:
        quantity: what is bounded, "epsilon" or "delta".
        at: the other one of the two.
        adjacency: the neighbours that the claim is about.
        method: the accountant that gave the upper end.
        ledger: every error counted, see `accountant.core.ledger`.
    """

    quantity: Literal["epsilon", "delta"]
    at: float
    adjacency: Adjacency
    method: str
    ledger: Ledger = field(repr=False)

    @property
    def delta(self) -> float:
        """The δ at which ε is bounded, or the upper end of δ."""
        return self.at if self.quantity == "epsilon" else float(self.upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The certified privacy profile of a process: a curve for each direction, the worst of which counts.

    Args:
        curves: (direction, curve) for every direction of the adjacency.
        adjacency: the neighbours that it is about.
        method: the accountant's name.
    """

    curves: tuple[tuple[Direction, Curve], ...]
    adjacency: Adjacency
    method: str

    @overload
    def epsilon(self, delta: float) -> Claim: ...
    @overload
    def epsilon(self, delta: Array) -> Bounds: ...
    def epsilon(self, delta: float | Array) -> Claim | Bounds:
        """Enclose the smallest ε for which the process is (ε, delta)-differentially private.

        Args:
            delta: δ in [0, 1], or an array of them, which is answered elementwise by plain bounds.

        Guarantees: δ(upper) <= delta was certified at `upper` itself, and δ(x) > delta at every x < `lower`.

        Raises:
            InvalidParameter: if a δ lies outside [0, 1].
            NumericalFailure: if the accountant's budget does not suffice.
        """
        if np.ndim(delta):
            found = [self._epsilon(validate.probability("Profile", "delta", one))[0] for one in np.ravel(delta)]
            ends = (np.array([getattr(end, side) for end in found]) for side in ("lower", "upper"))
            lower, upper = (end.reshape(np.shape(delta)) for end in ends)
            return Bounds(lower=lower, upper=upper)
        level = validate.probability("Profile", "delta", delta)
        return self._claim(*self._epsilon(level), "epsilon", level)

    @overload
    def delta(self, epsilon: float) -> Claim: ...
    @overload
    def delta(self, epsilon: Array) -> Bounds: ...
    def delta(self, epsilon: float | Array) -> Claim | Bounds:
        """Enclose the smallest δ for which the process is (epsilon, δ)-differentially private.

        Args:
            epsilon: ε >= 0, or an array of them, which is answered elementwise by plain bounds.

        Raises:
            InvalidParameter: if an ε is negative or infinite.
            NumericalFailure: if the accountant's budget does not suffice.
        """
        points = np.array([validate.non_negative("Profile", "epsilon", one) for one in np.ravel(epsilon)])
        found = [(curve.delta(points), direction) for direction, curve in self._different()] if len(points) else []
        bounds = largest([end for end, _ in found]) if found else Bounds.exact(np.zeros_like(points))
        if np.ndim(epsilon):
            shape = np.shape(epsilon)
            return Bounds(lower=np.reshape(bounds.lower, shape), upper=np.reshape(bounds.upper, shape))
        worst = next((direction for end, direction in found if end.upper[0] == bounds.upper[0]), "")
        return self._claim(bounds[0], worst, "delta", float(points[0]))

    def tradeoff(self, alpha: ArrayLike) -> Bounds:
        """Enclose the trade-off function f at every α: the least type II error of tests with type I error α.

        The tests are between neighbours in either order; f is convex and its own inverse, see
        `accountant.core.tradeoff`. Their power, and with it the success of any membership inference, is at most 1 − f.

        Args:
            alpha: type I errors in [0, 1], of any shape.

        Raises:
            InvalidParameter: if an α lies outside [0, 1].
            NumericalFailure: if the accountant's budget does not suffice.
        """
        levels = np.array([validate.probability("Profile", "alpha", one) for one in np.ravel(alpha)])
        most = float(min(self._epsilon(LEAST_DELTA)[0].upper, 600.0))
        points = np.unique(np.concatenate([[0.0], max(most, 1e-3) * np.linspace(0.0, 1.0, POINTS) ** 1.5, [700.0]]))
        found = tradeoff(levels, points, self.delta(points))
        return Bounds(lower=found.lower.reshape(np.shape(alpha)), upper=found.upper.reshape(np.shape(alpha)))

    def _epsilon(self, delta: float) -> tuple[Bounds, str]:
        """Return the enclosure of ε(delta) and the direction that gave its upper end."""
        best, worst = Bounds.exact(0.0), next((direction for direction, _ in self.curves), "")
        for direction, curve in self._different():
            if direction != worst and _cannot_raise(curve, delta, best):
                continue
            ends = _enclosed(curve, delta)
            worst = direction if ends.upper > best.upper else worst
            best = largest([best, ends])
        return best, worst

    def _different(self) -> tuple[tuple[Direction, Curve], ...]:
        """Return the curves, equal ones once."""
        first = self.curves[:1]
        return first + tuple(curve for curve in self.curves[1:] if curve[1] != first[0][1])

    def _claim(self, bounds: Bounds, worst: str, quantity: Literal["epsilon", "delta"], at: float) -> Claim:
        where = bounds.upper if quantity == "epsilon" else at
        curve = next((curve for direction, curve in self.curves if direction == worst), None)
        known = curve is not None and math.isfinite(where)
        return Claim(
            lower=bounds.lower,
            upper=bounds.upper,
            quantity=quantity,
            at=at,
            adjacency=self.adjacency,
            method=(curve.method(where) if known and curve else "") or self.method,
            ledger=curve.ledger(where) if known and curve else (),
        )


def _cannot_raise(curve: Curve, delta: float, best: Bounds) -> bool:
    """Tell whether ε(delta) of this direction is certified to lie below the enclosure found already."""
    return 0.0 < delta < 1.0 and bool(curve.delta(np.array([best.lower])).upper[0] <= delta)


def _enclosed(curve: Curve, delta: float) -> Bounds:
    """Enclose the smallest ε with δ(ε) <= delta: δ > delta is certified all below the lower end, <= at the upper.

    Points are laid out at both sides of the guess, ever further, and then between those that enclose each end. As δ
    falls, what is certified at one point holds for all below it, or above it, where the curve itself may say less.
    """
    supremum = curve.supremum
    if delta >= 1.0:
        return Bounds.exact(0.0)
    if delta == 0.0:
        return Bounds(lower=max(0.0, float(supremum.lower)), upper=max(0.0, float(supremum.upper)))

    def refuted(points: Array) -> NDArray[np.bool_]:
        return _from_last(np.logical_not(curve.delta(points).lower > delta))

    def kept(points: Array) -> NDArray[np.bool_]:
        return np.logical_or.accumulate(curve.delta(points).upper <= delta)

    guess = curve.guess(delta)
    if guess <= LEAST and np.all(kept(np.zeros(1))):
        return Bounds.exact(0.0)
    guess = float(np.clip(guess, LEAST, 1e280)) if math.isfinite(guess) else 1.0
    points = np.concatenate([guess * (1 - NEARBY[::-1]), [guess], guess * (1 + NEARBY)])
    bounds = curve.delta(points)
    below, over = _enclosing(points, _from_last(np.logical_not(bounds.lower > delta)), refuted)
    under, above = _enclosing(points, np.logical_or.accumulate(bounds.upper <= delta), kept)
    while True:
        worth = SHARE * (above - below) if math.isfinite(above) else 0.0
        if over - below > max(RELATIVE_RESOLUTION * over, worth):
            below, over, narrowed = _narrowed(refuted, below, over)
        elif math.isfinite(above) and above - under > max(RELATIVE_RESOLUTION * above, worth):
            under, above, narrowed = _narrowed(kept, under, above)
        else:
            break
        if not narrowed:
            break
    return Bounds(lower=below, upper=max(below, min(above, float(supremum.upper))))


def _from_last(hits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell of every point whether it and all that follow are hit."""
    return np.logical_and.accumulate(hits[::-1])[::-1]


def _enclosing(
    points: Array, hits: NDArray[np.bool_], crossed: Callable[[Array], NDArray[np.bool_]]
) -> tuple[float, float]:
    """Return (last point not crossed, first point crossed): among these, else beyond them; (0, 0) if 0 is crossed."""
    if np.any(hits) and not hits[0]:
        first = int(np.argmax(hits))
        return float(points[first - 1]), float(points[first])
    last = float(points[0] if hits[0] else points[-1])
    for factor in FURTHER:
        beyond = last / factor if hits[0] else last * factor
        if crossed(np.array([beyond]))[0] != hits[0]:
            return min(last, beyond), max(last, beyond)
        last = beyond
    if hits[0]:
        return (0.0, 0.0) if crossed(np.zeros(1))[0] else (0.0, last)
    return last, math.inf


def _narrowed(crossed: Callable[[Array], NDArray[np.bool_]], below: float, above: float) -> tuple[float, float, bool]:
    """Return (last not crossed, first crossed) of points between the two, and whether there were any."""
    if not math.isfinite(above):
        return below, above, False
    sections = SECTIONS if above < 1.02 * below else 4  # ε far apart need compositions of their own
    points = np.linspace(below, above, sections + 1)[1:-1]
    points = points[(points > below) & (points < above)]
    if not len(points):
        return below, above, False
    hits = crossed(points)
    first = int(np.argmax(hits)) if np.any(hits) else len(points)
    below = float(points[first - 1]) if first > 0 else below
    return below, float(points[first]) if first < len(points) else above, True
