"""Privacy profiles: what an accountant answers, and the one place where answers are inverted and combined.

A `Curve` encloses δ(ε) for one direction. A `Profile` holds one curve for each direction of an adjacency and takes the
larger of what they say: neighbours are fixed for the whole run, so each direction is composed apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from accountant.core.curve import Curve
from accountant.core.ledger import Ledger
from accountant.core.tradeoff import tradeoff
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, largest
from mechanisms.core.process import Adjacency, Direction


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

        Guarantees: where both ends are known, they lie within 1e-6 of each other; a small f or 1 − f is known to a
        thousandth of itself as well, down to 1e-12.

        Raises:
            InvalidParameter: if an α lies outside [0, 1].
            NumericalFailure: if the accountant's budget does not suffice.
        """
        levels = np.array([validate.probability("Profile", "alpha", one) for one in np.ravel(alpha)])
        different = self._different()
        floor = max((float(curve.lost.lower) for _, curve in different), default=0.0)
        own = different[0][1].tradeoff(levels) if len(different) == 1 else None
        found = own or tradeoff(levels, self.delta, floor)
        if not np.ndim(alpha):
            return found[0]
        return Bounds(lower=found.lower.reshape(np.shape(alpha)), upper=found.upper.reshape(np.shape(alpha)))

    def _epsilon(self, delta: float) -> tuple[Bounds, str]:
        """Return the enclosure of ε(delta) and the direction that gave its upper end."""
        best, worst = Bounds.exact(0.0), next((direction for direction, _ in self.curves), "")
        for direction, curve in self._different():
            if direction != worst and _cannot_raise(curve, delta, best):
                continue
            ends = curve.epsilon(delta)
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
    """Tell whether ε(delta) of this direction is certified to raise neither end of the enclosure found already."""
    if not (0.0 < delta < 1.0 and math.isfinite(best.upper)):
        return False
    if best.lower > 0.0 and curve.keeps(float(best.lower), delta):
        return True
    return curve.keeps(float(best.upper), delta) and bool(curve.delta(np.array([best.lower])).lower[0] <= delta)
