"""Privacy loss distributions: the loss of every step on a grid, composed by tilted Fourier transforms, as a bracket.

The mathematics is in `accountant.core.bins` (one step) and `accountant.core.convolve` (their sum); here the sums are
read off at an ε, from above by the dominating masses and from below by the Neyman–Pearson test on sums of indices:

    δ(ε) <= P(L = ∞) + Σ_S P(S) (1 − e^{ε − x_S})₊          δ(ε) >= P(S >= t) − e^ε Q(S >= t)  for any t
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accountant.core.base import Accountant, Steps, largest_loss, steps
from accountant.core.bins import coarsened, gridded
from accountant.core.composed import Composed, read
from accountant.core.convolve import Window, fast_size
from accountant.core.curve import Curve
from accountant.core.ledger import Ledger
from accountant.core.profile import Profile
from accountant.core.saddle import Tilt, saddle
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.process import Adjacency, Process

FIRST_POINTS = 2**12


@dataclass(frozen=True, slots=True, kw_only=True)
class PLD(Accountant):
    """Brackets any composition of dominating pairs.

    Guarantees: lower <= ε <= upper with discretisation, truncation, aliasing and round-off counted, see the ledger; the
    round-off constants of the transforms and of the special functions are `validated`. Lower ends are 0 unless every
    step's pair is attained. Same input, same bits: the budget is a number of grid points, never a clock.

    Args:
        relative_width: the width of the bracket aimed at, relative to ε; wider where the grid would exceed the budget.
        most_points: the budget, the largest number of grid points.

    >>> from mechanisms import Gaussian
    >>> PLD().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).contains(4.377178)
    True
    """

    relative_width: float = 1e-6
    most_points: int = 2**19

    def __post_init__(self) -> None:
        object.__setattr__(self, "relative_width", validate.positive("PLD", "relative_width", self.relative_width))
        object.__setattr__(self, "most_points", validate.count("PLD", "most_points", self.most_points, least=2**10))

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile."""
        curves = tuple(
            (direction, LossCurve(steps=parts, relative_width=self.relative_width, most_points=self.most_points))
            for direction, parts in steps(process, adjacency).items()
            if parts
        )
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve(Curve):
    """δ(ε) of the composition of one direction's steps.

    Args:
        steps: the pairs and how often each runs.
        relative_width: see `PLD`.
        most_points: see `PLD`.
    """

    steps: Steps
    relative_width: float
    most_points: int

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        return largest_loss(self.steps)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, each ε with the tilt that suits it.

        Raises:
            NumericalFailure: if losses are too small or too large for any grid.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        if self._certain:
            return Bounds.exact(np.ones_like(epsilon))
        lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
        inside = epsilon < self.supremum.upper  # beyond the largest loss δ is exactly 0
        if not np.any(inside):
            return Bounds(lower=lower, upper=upper)
        found = saddle(self.steps)
        if found is None:  # no loss to speak of, or one that leaves the floats
            return Bounds(lower=lower, upper=np.where(inside, 1.0, 0.0))
        rungs = found.rungs(epsilon)
        for rung in np.unique(rungs[inside]).tolist():
            chosen = inside & (rungs == rung)
            bounds = self._composed(rung).delta(epsilon[chosen])
            lower[chosen], upper[chosen] = bounds.lower, bounds.upper
        attained = all(pair.attained for pair, _ in self.steps)
        return Bounds(lower=np.minimum(lower, upper) if attained else np.zeros_like(lower), upper=upper)

    def guess(self, delta: float) -> float:
        """Invert the saddle-point approximation of δ(ε)."""
        found = None if self._certain else saddle(self.steps)
        return found.epsilon(delta) if found else 1e-9

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added at the tilt used for this ε."""
        found = saddle(self.steps)
        if epsilon >= self.supremum.upper or self._certain or found is None:
            return ()
        return self._composed(int(found.rungs(np.array([epsilon]))[0])).ledger(epsilon)

    @property
    def _certain(self) -> bool:
        """Whether an infinite loss is certain."""
        return any(pair.infinite_mass.lower >= 1 for pair, _ in self.steps)

    def _composed(self, rung: int) -> Composed:
        return _compose(self.steps, rung, self.relative_width, self.most_points)


@lru_cache(maxsize=16)
def _compose(parts: Steps, rung: int, relative_width: float, most_points: int) -> Composed:
    """Compose on ever finer grids, until the bracket at this rung's ε is as narrow as asked or the budget is spent.

    The bracket of δ widens with the square of the step, so each composition tells the step of the next one.

    Raises:
        NumericalFailure: if there is no grid for these losses.
    """
    found = saddle(parts)
    tilt = found.tilt(rung) if found else None
    if tilt is None or not tilt.usable:
        raise NumericalFailure("pld: losses are too small or too large for any grid. Use accountant='rdp'.")
    points = FIRST_POINTS
    while True:
        composed = _composed_on(parts, tilt, min(points, most_points))
        if points >= most_points:
            return composed
        wide = composed.relative_width() / relative_width
        if wide <= 1.0:
            return composed
        points = math.ceil(points * min(max(1.2 * math.sqrt(wide), 1.5), 32.0))


def _composed_on(parts: Steps, tilt: Tilt, points: int) -> Composed:
    """Compose on a grid whose window has about so many points, and whose steps have no more than twice as many."""
    lattice = _lattice(parts)
    step = _fitted(max(tilt.span / points, tilt.reach / (2 * points), 1e-290), lattice)
    while True:
        grids = [(gridded(pair, step, tilt.tail), times) for pair, times in parts]
        low = max(math.floor(tilt.below / step), sum(n * g.grid.low for g, n in grids))
        high = max(low, min(math.ceil(tilt.above / step), sum(n * g.grid.high for g, n in grids)))
        if high - low <= 1.01 * points or (step == lattice and high - low <= 2.02 * points):
            break
        wider = 1.01 * step * (high - low) / points
        step = max(_fitted(wider, lattice), coarsened(wider) if _fitted(wider, lattice) <= step else 0.0)
    window = Window(step=step, low=low, size=fast_size(high - low + 1))
    return read(grids, tilt.theta, window, tilt.probes, tilt.mean, parts)


def _lattice(parts: Steps) -> float:
    """Return the spacing of the losses of the steps that gridding would cost most, 0 if they have none.

    A step of variance h²/4 is added for each; losses that are points of the grid are spared it.
    """
    return max(((times, pair.lattice) for pair, times in parts), default=(0, 0.0))[1]


def _fitted(step: float, lattice: float) -> float:
    """Return a step about as large as asked for: a fraction of the lattice's where that is not much smaller."""
    return lattice / math.ceil(lattice / step) if 0.5 * step <= lattice else coarsened(step)
