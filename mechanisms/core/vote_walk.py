"""How much one vote can change what GNMax shows of given votes, after so many others have changed.

One changed vote takes q = (m − 1) Φ(z), for m classes, to (m − 1) Φ(z ± √2/σ) at most: B_U(q) and B_L(q). The walk goes
from the votes' own q by the shortest way to q₀, where the bound β(q) of `mechanisms.core.votes` meets the α/σ² of all
votes. It finds the largest change if β(q) rises up to q₀ and β(B_U(q)) − β(q) up to B_L(q₀): checked on a grid.

[PSMRTE18] see `mechanisms.pate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.votes import GaussianVotes, gaussian_divergences

POINTS, LOWEST = 2000, 40.0  # of the grid of conditions, and how many noises wide it is
TOLERANCE, NUDGE = 1e-9, 1e-12
FARTHEST = -1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Local sensitivities of β at every distance from given votes                             [PSMRTE18, Alg 3–5].

    Args:
        sigma: σ > 0, in votes.
        classes: m >= 2.
        order: α > 1.

    >>> Walk(sigma=0.5, classes=3, order=1.5).local_sensitivities(np.array([10, 0, 0])).round(4).tolist()[:5]
    [0.0, 0.0, 0.0059, 5.9998, 5.9998]
    """

    sigma: float
    classes: int
    order: float

    @property
    def worst(self) -> float:
        """What the worst votes show: α/σ²."""
        return float((Bounds.exact(self.order) / self.sigma / self.sigma).upper)

    def cost(self, log_q: Array) -> Array:
        """Return β(q): the bound of the theorem below q₀, that of all votes from there on."""
        known = gaussian_divergences(np.minimum(log_q, 0.0), self.sigma, self.order)
        return np.where(log_q >= self.start, self.worst, known)

    @property
    def start(self) -> float:
        """log q₀."""
        return _start(self.sigma, self.order)

    def moved(self, log_q: Array, votes: float) -> Array:
        """Return log B_U(q) for 1 vote, log B_L(q) for −1."""
        place = scipy.special.ndtri_exp(np.minimum(log_q - math.log(self.classes - 1), 0.0))
        found = math.log(self.classes - 1) + scipy.special.log_ndtr(place + votes * math.sqrt(2.0) / self.sigma)
        return np.asarray(np.minimum(found, 0.0))

    @property
    def plateau(self) -> float:
        """log B_L(q₀): from there to q₀ a vote changes most."""
        return float(self.moved(np.array([self.start]), -1.0)[0])

    def local(self, log_q: Array) -> Array:
        """Bound how much one vote changes β at q: as at B_L(q₀) for q between that and q₀."""
        at = np.where((log_q >= self.plateau) & (log_q <= self.start), self.plateau, log_q)
        above = self.moved(at, 1.0)
        above = above + NUDGE * np.abs(above)  # B_U(B_L(q₀)) is q₀, where β may jump, and must not fall short of it
        low, here, high = (self.cost(one) for one in (self.moved(at, -1.0), at, above))
        return np.asarray(np.maximum(high - here, here - low))

    def local_sensitivities(self, counts: Array) -> Array:
        """Return the bounds LS_0, …, LS_n for n teachers: from the votes' own q the shortest way to q₀, then the most.

        Args:
            counts: votes for every class, shape (classes,), whole numbers.
        """
        votes = np.sort(np.asarray(counts, dtype=np.float64))[::-1].copy()
        kind = GaussianVotes(noise_multiplier=self.sigma)
        agree = bool(kind.log_errors(votes[None, :])[0] > self.start)
        path = _agreeing(votes) if agree else _disagreeing(votes)
        log_q = kind.log_errors(path)
        arrived = log_q <= self.start if agree else log_q >= self.plateau
        found = np.full(int(votes.sum()) + 1, self.local(np.array([self.plateau]))[0])
        steps = int(np.argmax(arrived)) + 1 if arrived.any() else len(path)
        found[:steps] = self.local(log_q[:steps])
        return found

    def check(self) -> None:
        """Refuse where β(q) falls somewhere below q₀, or β(B_U(q)) − β(q) somewhere below B_L(q₀), on a grid.

        Raises:
            UnsupportedProcess: then.
        """
        if self.conditions() != (True, True):
            raise UnsupportedProcess(
                f"release_divergence: no smooth sensitivity is known for sigma={self.sigma}, order={self.order} and "
                f"{self.classes} classes, as the conditions of its theorem fail. Use another order, or more noise."
            )

    def conditions(self) -> tuple[bool, bool]:
        """Tell whether the first one holds, and then the second one too."""
        return _conditions(self)

    def _on_a_grid(self) -> tuple[bool, bool]:
        share = math.log(self.classes - 1)
        top = float(scipy.special.ndtri_exp(min(self.start - share, 0.0)))
        places = top + math.sqrt(2.0) / self.sigma * np.linspace(-max(LOWEST, LOWEST * self.sigma), 0.0, POINTS)
        log_q = np.minimum(share + scipy.special.log_ndtr(places), self.start - NUDGE * abs(self.start))
        costs = self.cost(log_q)
        first = bool(np.all(np.diff(costs) >= -TOLERANCE * self.worst))
        below = self.moved(log_q, -1.0)
        rises = self.cost(self.moved(below, 1.0) - NUDGE * abs(self.start)) - self.cost(below)
        return first, first and bool(np.all(np.diff(rises) >= -TOLERANCE * self.worst))


def _disagreeing(votes: Array) -> Array:
    """Return the histograms on the way to two classes of equal counts, the larger counts first."""
    steps = np.arange(int(votes[0] - votes[1]) // 2 + 1)
    path = np.tile(votes, (len(steps), 1))
    path[:, 0] -= steps
    path[:, 1] += steps
    return path


def _agreeing(votes: Array) -> Array:
    """Return the histograms on the way to one class that has all votes, each taken from the second one."""
    path, now = [votes], votes
    while now[1] > 0:
        now = now.copy()
        now[0] += 1.0
        now[1] -= 1.0
        now[1:] = np.sort(now[1:])[::-1]
        path.append(now)
    return np.array(path)


@lru_cache(maxsize=64)
def _conditions(walk: Walk) -> tuple[bool, bool]:
    return walk._on_a_grid()


@lru_cache(maxsize=256)
def _start(sigma: float, order: float) -> float:
    """Return log q₀: below it the theorem holds, and gives less than α/σ²."""
    worst = float((Bounds.exact(order) / sigma / sigma).upper)

    def gains(log_q: float) -> bool:
        return bool(gaussian_divergences(np.array([log_q]), sigma, order)[0] < worst)

    high = -max(x * x for x in (1.0 + 1.0 / sigma, (order - 0.99) / sigma))
    if gains(high):
        return high
    low = 2.0 * high
    while not gains(low):
        if low < FARTHEST:
            raise UnsupportedProcess(
                f"release_divergence: no agreement of teachers gains anything at order={order} and sigma={sigma}. "
                "Use a smaller order."
            )
        low *= 1.5
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gains(middle) else (low, middle)
    return high
