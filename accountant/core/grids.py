"""One grid for all kinds of steps: its step fitted to their atoms, its origin apart for each kind.

Connecting the dots adds a variance of up to h²/4 to a step where its loss lies between two points; losses that are
points of the grid are spared it. So each kind's largest loss is one, where it is an atom, and the step divides the
distance of the atoms of the kind that gridding would cost most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accountant.core.base import Steps
from accountant.core.bins import coarsened, gridded
from accountant.core.composed import Composed, read
from accountant.core.convolve import Window, fast_size
from accountant.core.saddle import Tilt
from mechanisms.core.mixtures import BoundedMixture
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

LEAST_STEP = 1e-290
FILLED, MOST = 0.98, 4 / 3  # of a window that is aimed at; of the points that steps and lattices may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Atoms:
    """Where the atoms of a step's loss are.

    Args:
        top: the largest of them.
        apart: the distance of which all, or the outer two, are multiples apart; 0 where there are none.
        doubt: about how far points of a grid have to lie above them, so that rounding puts no atom beyond its point.
        among: whether other losses lie between them.
    """

    top: float = 0.0
    apart: float = 0.0
    doubt: float = 0.0
    among: bool = False

    @classmethod
    def of(cls, pair: DominatingPair) -> Atoms:
        """Return the atoms of a discrete or a Laplace step, Poisson-sampled or not."""
        mixture = pair.mixture
        if not isinstance(mixture, BoundedMixture) and not pair.lattice:
            return cls()
        top, bottom = (0.5 * (end.lower + end.upper) for end in (pair.supremum, -pair.reverse().supremum))
        if not (math.isfinite(top) and math.isfinite(bottom)):
            return cls()
        doubt = 4.0 * UNIT_ROUNDOFF * max(abs(top), abs(bottom))
        if isinstance(mixture, BoundedMixture) and mixture.probability < 1.0:
            doubt += 16.0 * UNIT_ROUNDOFF * (1.0 - math.log(mixture.probability))
        among = isinstance(mixture, BoundedMixture) and mixture.reach.upper > 0
        return cls(top=float(top), apart=float(pair.lattice or top - bottom), doubt=doubt, among=among)

    def origin(self, step: float) -> float:
        """Return the origin of a grid of this step that has a point at `top`, but for the doubt."""
        return math.remainder(self.top, step) + min(self.doubt, 0.125 * step) if self.apart else 0.0


def composed_on(parts: Steps, tilt: Tilt, points: int) -> Composed:
    """Compose on a grid whose window has about so many points, and whose steps have no more than a third more."""
    atoms = [Atoms.of(pair) for pair, _ in parts]
    kinds = sorted(((n, one.apart) for (_, n), one in zip(parts, atoms, strict=True)), reverse=True)
    lattices = [apart for _, apart in kinds if apart > 0]
    points = fast_size(points)
    step, fitted = step_for(max(tilt.span / (FILLED * points), tilt.reach / (MOST * points), LEAST_STEP), lattices)
    while True:
        grids = [
            (gridded(pair, step, ends, origin=one.origin(step), centred=one.among), n)
            for (pair, n), ends, one in zip(parts, tilt.ranges, atoms, strict=True)
        ]
        origin = math.fsum(n * g.grid.origin for g, n in grids)
        low = max(math.floor((tilt.below - origin) / step), sum(n * g.grid.low for g, n in grids))
        high = max(low, min(math.ceil((tilt.above - origin) / step), sum(n * g.grid.high for g, n in grids)))
        if high - low < points or (fitted and high - low < MOST * points):
            break
        wider, before = step * (high - low) / (FILLED * points), step
        step, fitted = step_for(wider, lattices)
        step = max(step, coarsened(wider) if step <= before else 0.0)
    window = Window(step=step, low=low, size=fast_size(high - low + 1))
    return read(grids, tilt.theta, window, tilt.probes, parts)


def step_for(step: float, lattices: list[float]) -> tuple[float, bool]:
    """Return a step about as large as asked for, and whether it is a whole lattice's, which may be half of that.

    It is a fraction of the first lattice that is not much smaller.
    """
    for lattice in lattices:
        if 0.5 * step <= lattice:
            return lattice / math.ceil(lattice / step), lattice <= step
    return coarsened(step), False
