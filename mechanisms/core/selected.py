"""The Rényi divergences of the best of a random number of runs, from those of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, largest
from mechanisms.core.pair import DominatingPair
from mechanisms.core.renyi import RenyiBound, log_gain
from mechanisms.core.renyi_steps import RenyiSteps, divergences
from mechanisms.core.stopping import Stopping

PLACES = np.arange(-12.0, 43.0)  # thirds of octaves of α − 1: from 1/16 to 2^14
REFINEMENTS, FINER = 3, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """What is known of one run, whatever the order of the neighbours.

    Args:
        directions: the steps' Rényi bounds, for every direction.
        pairs: pairs of the whole run, one for each direction; empty where none is known.

    >>> from mechanisms.core.renyi import LinearDivergence
    >>> run = KnownRun(directions=((((LinearDivergence(rho=0.5),), 2),),), pairs=())
    >>> bool(3.0 <= run.divergences(np.array([3.0]))[0] < 3.0000001)
    True
    """

    directions: tuple[RenyiSteps, ...]
    pairs: tuple[DominatingPair, ...]

    @property
    def largest(self) -> float:
        """D_∞: inf unless the loss of every step is bounded."""
        found = []
        for steps in self.directions:
            total = Bounds.exact(0.0)
            for bounds, times in steps:
                total = total + float(times) * Bounds.exact(min(bound.divergence(math.inf) for bound in bounds))
            found.append(float(total.upper) if steps else 0.0)
        return max(found)

    def divergences(self, orders: Array) -> Array:
        """Bound D_α from above at every finite order."""
        asked = tuple(np.asarray(orders, dtype=np.float64).tolist())
        return np.asarray(np.max([divergences(steps, asked) for steps in self.directions], axis=0))

    def delta(self, epsilons: Array) -> Array:
        """Bound δ(ε) from above: by the pairs, or by the best order [CKS20]."""
        if self.pairs:
            return np.asarray(largest([pair.delta(Bounds.exact(epsilons)) for pair in self.pairs]).upper)
        orders = 1.0 + 2.0 ** (PLACES / 3.0)
        alpha, known = Bounds.exact(orders), Bounds.exact(self.divergences(orders))
        logs = (alpha - 1.0) * (known - epsilons[:, None]) + log_gain(alpha)
        return np.asarray(np.minimum(exp(Bounds.exact(np.min(logs.upper, axis=1))).upper, 1.0))

    def least_mean(self, price: float) -> float:
        """Bound min (1 − 1/α) D_α + price/α over α >= 1 from above, at the best α that is found, 1 and ∞ included."""
        return _least_mean(self, price)


@lru_cache(maxsize=64)
def _least_mean(run: KnownRun, price: float) -> float:
    least, place = min(price, run.largest), PLACES
    unit = 1.0
    for _ in range(REFINEMENTS + 1):
        orders = 1.0 + 2.0 ** (place / unit / 3.0)
        inverse = 1.0 / Bounds.exact(orders)
        found = (1.0 - inverse) * Bounds.exact(run.divergences(orders)) + price * inverse
        least = min(least, float(np.min(found.upper)))
        centre, unit = place[int(np.argmin(found.upper))] * FINER, unit * FINER
        place = centre + np.arange(-FINER, FINER + 1.0)
    return least


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(RenyiBound):
    """Divergences of the best of K runs.

    Args:
        run: what is known of one.
        runs: the law of K.
    """

    run: KnownRun
    runs: Stopping

    def divergence(self, order: float) -> float:
        """Bound D_order from above."""
        if math.isinf(order):
            return self.runs.pure(self.run.largest)
        return float(self.divergences(np.array([order]))[0])

    def divergences(self, orders: Array) -> Array:
        """Bound D_λ from above at many finite orders: by the theorem of the law of K, and by D_∞."""
        return np.minimum(self.runs.divergences(self.run, orders), self.runs.pure(self.run.largest))
