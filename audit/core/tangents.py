"""Lines that what guesses get wrong lies above, made only where they are asked for.

With R, W, F and the shares of `audit.core.curves`, every loss ε gives two of them: that of guesses, R <= δ̄ + e^ε W, and
that of their complements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accountant.core.curve import Curve as DeltaCurve
from accountant.tightest import Tightest
from mechanisms import Process
from mechanisms.core.process import Adjacency

Array = NDArray[np.float64]
Curve = Callable[[float], float]
Side = Literal["in", "out", "either"]
SIDES = ("in", "out", "either")

INVERSE_ERROR = 1e-12  # relative, by which F is lowered: the normal quantile errs by less than 1e-14 of itself
LINE_ERROR = 1e-15  # absolute, in units of e^ε: steep lines are differences of numbers of that size
BEND, LAST = 1.2, 31  # of the losses at which profiles are asked, up to the farthest: any are valid
FARTHEST, LONGEST = 4.0, 12.0  # standard deviations of a normal's loss that are looked at; the largest ε asked
LEAST = 1e-16  # that probabilities are kept from 0 and 1, where normal quantiles are no numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangents:
    """The lines under F of one run at `LAST` + 1 losses, which lie where a normal of as large a δ(0) has its own.

    In order of their slopes they are those of guesses by falling loss, then those of complements by rising loss. Lines
    that touch a convex F have heights that rise up to the best one and fall behind it, at any R. So the best is looked
    for from where the normal has it, and profiles are asked at a third of the losses or fewer. Whichever line is
    taken, F is too small, if anything.

    Args:
        removing: δ of removing a record, of which upper ends are used alone.
        adding: that of adding one.
        mu: of the normal.
    """

    removing: DeltaCurve
    adding: DeltaCurve
    mu: float
    _deltas: dict[int, tuple[Array, Array]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, process: Process) -> Tangents:
        """Return those of a process, whose profiles are asked once at every loss."""
        curves = dict(Tightest().profile(process, adjacency=Adjacency.ADD_REMOVE).curves)
        removing, adding = curves["remove"], curves["add"]
        advantage = max(float(curve.delta(np.zeros(1)).upper[0]) for curve in (removing, adding))
        return cls(removing=removing, adding=adding, mu=2.0 * _quantile(0.5 + 0.5 * advantage))

    def curve(self, side: Side) -> Curve:
        """Return F, for guesses that all say in, all say out, or either."""
        share, known = 1.0 if side == "either" else 0.5, dict[int, tuple[float, float]]()

        def height(number: int, right: float) -> float:
            if number not in known:
                known[number] = self._line(number, side)
            slope, at_zero = known[number]
            return slope * right + at_zero

        def least_wrong(right: float) -> float:
            best = self._expected(right / share)
            highest = height(best, right)
            for way in (-1, 1):
                while 0 <= best + way <= 2 * LAST and (next_one := height(best + way, right)) > highest:
                    best, highest = best + way, next_one
            return max(0.0, highest)

        return least_wrong

    def _expected(self, mass: float) -> int:
        """Return the number of the line that touches a normal's curve near this R, as a part of the share."""
        loss = self.mu * (0.5 * self.mu - _quantile(mass))
        place = round(LAST * min(abs(loss) / self._farthest, 1.0) ** (1 / BEND)) if self.mu > 0 else 0
        return LAST - place if loss > 0 else LAST + place

    @property
    def _farthest(self) -> float:
        return min(self.mu * (0.5 * self.mu + FARTHEST), LONGEST)

    def _line(self, number: int, side: Side) -> tuple[float, float]:
        """Return slope and height at 0 of a line, of guesses up to the one at no loss and of complements beyond."""
        place = abs(number - LAST)
        loss = np.array([self._farthest * (place / LAST) ** BEND])
        if place not in self._deltas:
            self._deltas[place] = self.removing.delta(loss).upper, self.adding.delta(loss).upper
        slopes, heights = lines(loss, *self._deltas[place], side)
        kind = 0 if number <= LAST else 1
        return float(slopes[kind]), float(heights[kind])


def lines(losses: Array, removing: Array, adding: Array, side: Side) -> tuple[Array, Array]:
    """Return slopes and heights at 0 of the lines under F: those of guesses, then those of complements.

    Args:
        losses: ε >= 0, shape (j,).
        removing: upper ends of δ there, of removing a record, shape (j,).
        adding: those of adding one, shape (j,).
        side: whether guesses all say in, all say out, or either.
    """
    mean = 0.5 * (removing + adding)
    right, other = {"in": (0.5 * removing, 0.5 * adding), "out": (0.5 * adding, 0.5 * removing)}.get(side, (mean, mean))
    share = 1.0 if side == "either" else 0.5
    growth = np.exp(losses) * (1 + INVERSE_ERROR)
    slopes = np.concatenate([1.0 / growth, growth])
    heights = np.concatenate([-right / growth, share - other - growth * (share + LINE_ERROR)])
    return slopes, heights


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(min(max(probability, LEAST), 1.0 - LEAST))
