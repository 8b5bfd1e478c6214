"""One step's masses of losses in a band, and of those below it, on a grid: what `accountant.core.bands` composes.

On a grid of points x_k the bin of a or b is divided there. Each part of it is connected to the bin's own two points,
which lie at either side of it, so that it is dominated as in `accountant.core.bins`. Edges of bins are off by a
little: from above the band begins so much lower that no outcome is in neither part, from below so much higher that none
is in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.bins import DUST, LARGEST_SCALE, Grid, GriddedStep
from mechanisms.core.bounds import Array, up
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

GAP = 64.0 * UNIT_ROUNDOFF  # of 1 − log q and the like, see below, by which bands begin lower or higher


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Spread:
    """Masses of a step on a grid between two losses: see `GriddedStep`, whose q are e^{x_k} Q."""

    above: Array
    p: Array
    q: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BandedStep:
    """A step's base and band on one grid, and its shift as of a `GriddedStep`.

    Args:
        lost: P-mass beyond b.
        dust: P-mass at or below b that was left out.
    """

    grid: Grid
    base: Spread
    band: Spread
    lost: float
    dust: float
    shift: float


def unbanded(step: GriddedStep) -> BandedStep:
    """Return a step as one that is all base."""
    none = np.zeros_like(step.p)
    base, band = Spread(above=step.above, p=step.p, q=step.q), Spread(above=none, p=none, q=none)
    return BandedStep(grid=step.grid, base=base, band=band, lost=step.lost, dust=0.0, shift=step.shift)


def banded(pair: DominatingPair, step: float, low: float, band: tuple[float, float]) -> BandedStep:
    """Return the step's base and band on a grid of this step; base that lies below `low` is moved up to it or so.

    Raises:
        NumericalFailure: if losses are too large, or edges of bins are not known well.
    """
    a, b = band
    if not -LARGEST_SCALE < low <= a <= b < LARGEST_SCALE:
        raise NumericalFailure("pld: losses are too large to be split. Use accountant='rdp'.")
    grid = Grid(step=step, low=math.floor(low / step) - 2, high=math.ceil(b / step) + 1)
    probe = pair.loss_bins(np.array([a, b, np.inf]), np.zeros(2))
    gap = 4.0 * float(np.max(probe.edge_error)) + GAP
    base, slip = _between(pair, grid, (-math.inf, a), gap)
    above, more = _between(pair, grid, (a - gap, b), gap)
    (base_p, base_q), further = _tested(pair, grid, (-math.inf, a))
    (band_p, band_q), least = _tested(pair, grid, (a + gap, b))
    slip = max(slip, more, further, least)
    if not 2.0 * slip < gap:
        raise NumericalFailure("pld: edges of bins are not known well. Use accountant='rdp'.")
    lost = float(probe.p.upper[1] + pair.infinite_mass.upper) * (1 + 8 * UNIT_ROUNDOFF)
    (of_base, dust), (of_band, finer) = _dusted(base), _dusted(above)
    return BandedStep(
        grid=grid,
        base=Spread(above=of_base, p=base_p, q=base_q),
        band=Spread(above=of_band, p=band_p, q=band_q),
        lost=lost,
        dust=(dust + finer) * (1 + 1e-9),
        shift=slip + gap + grid.slip,
    )


def _dusted(masses: Array) -> tuple[Array, float]:
    """Return the masses without what is rounding's, see `accountant.core.bins`, and the sum of that."""
    dust = masses < DUST
    return np.where(dust, 0.0, masses), float(np.sum(masses[dust]))


def _between(pair: DominatingPair, grid: Grid, ends: tuple[float, float], shift: float) -> tuple[Array, float]:
    """Return the dominating masses of losses between two ends, and how far edges of bins are off."""
    found = np.zeros(grid.high - grid.low + 1)
    if not ends[0] < ends[1]:
        return found, 0.0
    edges, first, last = _edges(grid.points, ends)
    bins = pair.loss_bins(edges, grid.points[first:last])
    p, q = np.maximum(bins.p.upper, 0.0), np.maximum(bins.q.lower, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (1.0 - q / p) / -math.expm1(-grid.step) + (4.0 * (shift + grid.slip) + 16.0 * UNIT_ROUNDOFF) / grid.step
    share = np.where(p > 0, np.clip(share, 0.0, 1.0), 1.0)
    share[0] = 1.0 if ends[0] == -math.inf else share[0]
    found[first:last] += up(p * (1.0 - share) * (1 + 4 * UNIT_ROUNDOFF))
    found[first + 1 : last + 1] += up(p * share * (1 + 4 * UNIT_ROUNDOFF))
    return np.asarray(up(found)), float(np.max(bins.edge_error))


def _tested(pair: DominatingPair, grid: Grid, ends: tuple[float, float]) -> tuple[tuple[Array, Array], float]:
    """Return the masses (p, q) of losses between two ends by index, and how far edges of bins are off.

    Bin k is (x_k − h/2, x_k + h/2]: a step without a jump has a loss of next to 0, of either sign, and is then in one.
    """
    p, q = np.zeros(grid.high - grid.low + 1), np.zeros(grid.high - grid.low + 1)
    if not ends[0] < ends[1]:
        return (p, q), 0.0
    edges, first, last = _edges(grid.points - 0.5 * grid.step, ends)
    bins = pair.loss_bins(edges, grid.points[first:last])
    p[first:last], q[first:last] = np.maximum(bins.p.lower, 0.0), bins.q.upper
    if ends[0] == -math.inf:
        p[0] = 0.0
    q[p == 0.0] = 0.0  # of such bins the index is −∞, so that no threshold is reached
    return (p, q), float(np.max(bins.edge_error))


def _edges(points: Array, ends: tuple[float, float]) -> tuple[Array, int, int]:
    """Return the ends and the points between them, the last at or below the lower end, the first not below the upper.

    Bins reach from one edge to the next; −∞ is taken to lie in the first.
    """
    first = 0 if ends[0] == -math.inf else int(np.searchsorted(points, ends[0], side="right")) - 1
    last = int(np.searchsorted(points, ends[1], side="left"))
    return np.concatenate([[ends[0]], points[first + 1 : last], [ends[1]]]), first, last
