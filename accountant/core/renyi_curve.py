"""δ(ε) and ε(δ) from composed Rényi divergences, at the best order that is found.

Every order gives a bound, so that the search for the best one can only tighten: a fixed grid first, then four finer and
finer grids around the best order so far. The grids are the same for every question: same input, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accountant.core import renyi_conversions
from accountant.core.curve import Curve
from accountant.core.renyi_conversions import Conversion
from accountant.core.renyi_steps import RenyiSteps, divergences
from mechanisms.core.bounds import Array, Bounds, exp

PLACES = np.arange(-30.0, 43.0)  # thirds of octaves of α − 1: from 2^-10 to 2^14
FURTHER, FARTHEST = 15.0, (-120.0, 240.0)  # how much further is looked where the best order is the last, and how far
WHOLE = np.arange(2.0, 34.0)  # those of the moments accountant, which then is never better
REFINEMENTS, FINER = 4, 4.0
Score = Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenyiCurve(Curve):
    """The least of what the orders say.

    Args:
        steps: what bounds the Rényi divergences of each step, and how often it runs.
        conversion: see `accountant.core.renyi_conversions`.
        orders: the α > 1 to minimise over; None for the best that is found.

    >>> from mechanisms.core.renyi import LinearDivergence
    >>> curve = RenyiCurve(steps=(((LinearDivergence(rho=0.5),), 1),), conversion="cks")
    >>> round(curve.epsilon(1e-6).upper, 6)
    5.221535
    """

    steps: RenyiSteps
    conversion: Conversion
    orders: tuple[float, ...] | None = None

    def delta(self, epsilon: Array) -> Bounds:
        """Return 0 as lower ends and the least of the orders' δ as upper ends."""
        points = np.asarray(epsilon, dtype=np.float64)
        log_delta = self._least(
            lambda kind: lambda a, d: renyi_conversions.log_delta(kind, a, d, points[:, None]), points
        )
        upper = np.minimum(exp(Bounds.exact(np.minimum(log_delta, 0.0))).upper, 1.0)
        return Bounds(lower=np.zeros_like(points), upper=upper)

    def epsilon(self, delta: float) -> Bounds:
        """Return 0 as the lower end and the least of the orders' ε as the upper end."""
        if not 0.0 < delta < 1.0:
            return Bounds.exact(0.0) if delta >= 1.0 else Bounds(lower=0.0, upper=math.inf)
        return Bounds(lower=0.0, upper=_epsilon(self, float(delta)))

    def keeps(self, epsilon: float, delta: float) -> bool:
        """Tell whether δ(ε) <= delta is certified."""
        return bool(self.epsilon(delta).upper <= epsilon)

    def _least(self, score: Callable[[Conversion], Score], points: Array) -> Array:
        """Return the least score over the orders, shape (n,); by the best conversion, never above that by `cks`."""
        kinds: tuple[Conversion, ...] = ("asoodeh", "cks") if self.conversion == "asoodeh" else (self.conversion,)
        found = [self._searched(score(kind), len(points)) for kind in kinds]
        return np.asarray(np.min(found, axis=0))

    def _searched(self, score: Score, rows: int) -> Array:
        if self.orders is not None:
            return np.asarray(np.min(self._scored(score, np.array([self.orders]))[1], axis=1))
        grid = np.unique(np.concatenate([1.0 + 2.0 ** (PLACES / 3.0), WHOLE]))
        orders, least = self._best(score, np.broadcast_to(grid, (rows, len(grid))))
        for sign, end in zip((-1.0, 1.0), FARTHEST, strict=True):
            orders, least = self._beyond(score, orders, least, sign, end)
        for level in range(1, REFINEMENTS + 1):
            unit = FINER**level
            place = np.round(3.0 * np.log2(orders - 1.0) * unit)[:, None] + np.arange(-FINER, FINER + 1)
            finer, lower = self._best(score, 1.0 + 2.0 ** (place / unit / 3.0))
            orders, least = np.where(lower < least, finer, orders), np.minimum(lower, least)
        return least

    def _beyond(self, score: Score, orders: Array, least: Array, sign: float, end: float) -> tuple[Array, Array]:
        """Look beyond the grid while some question's best order is its last."""
        last = float(PLACES[-1] if sign > 0 else PLACES[0])
        while sign * (end - last) > 0 and np.any(
            (orders == 1.0 + 2.0 ** (last / 3.0)) & np.isfinite(least) & (least > 0)
        ):
            place = last + sign * np.arange(1.0, FURTHER + 1.0)
            last = float(place[-1])
            further, lower = self._best(score, np.broadcast_to(1.0 + 2.0 ** (place / 3.0), (len(orders), len(place))))
            orders, least = np.where(lower < least, further, orders), np.minimum(lower, least)
        return orders, least

    def _best(self, score: Score, orders: Array) -> tuple[Array, Array]:
        """Return the order of the least score of every row, and that score."""
        orders, scores = self._scored(score, orders)
        best = np.argmin(scores, axis=1)
        return orders[np.arange(len(best)), best], scores[np.arange(len(best)), best]

    def _scored(self, score: Score, orders: Array) -> tuple[Array, Array]:
        asked, places = np.unique(orders, return_inverse=True)
        found = np.array(divergences(self.steps, tuple(asked.tolist())))
        return orders, score(orders, found[places.reshape(orders.shape)])


@lru_cache(maxsize=64)
def _epsilon(curve: RenyiCurve, delta: float) -> float:
    point = np.array([delta])
    least = curve._least(lambda kind: lambda a, d: renyi_conversions.epsilon(kind, a, d, point[:, None]), point)
    return max(0.0, float(least[0]))
