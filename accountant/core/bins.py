"""One step on a grid: from a dominating pair to masses at x_k = o + k h, above and below the truth.

Upper: on each bin (x_k, x_{k+1}] with masses p and q, connect the dots: the share f of p that goes to the upper edge
keeps both masses and raises δ(ε) at every ε, because e^L is replaced by two values of the same mean and (· − e^ε)₊ is
convex.                                                                                        [DGKKM22]

    f = (1 − e^{x_k} q / p) / (1 − e^{−h})

Lower: the index of the bin is a function of the outcome, so any test on sums of indices is a test on outcomes. Losses
below all bins have the index −∞, so that no threshold is reached with one of them: their masses count for nothing.

[DGKKM22] V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi. Connect the Dots: Tighter Discrete
Approximations of Privacy Loss Distributions. PoPETs 2022. arXiv:2207.04380.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, up
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

DUST = 1e-300
LARGEST_SCALE = 600.0
MOST_INDEX = 2.0**50  # beside which neighbouring indices are still apart as floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grid:
    """Points x_k = o + k h for low <= k <= high, exact where o = 0 and h has few binary digits.

    Args:
        step: h > 0.
        low: the least index.
        high: the largest index.
        origin: o; each kind of step may have its own.
    """

    step: float
    low: int
    high: int
    origin: float = 0.0

    @property
    def points(self) -> Array:
        """x_low, …, x_high."""
        return self.origin + self.step * np.arange(self.low, self.high + 1, dtype=np.float64)

    @property
    def slip(self) -> float:
        """By how much a point may be off o + k h."""
        exact = self.origin == 0.0 and coarsened(self.step) == self.step
        largest = abs(self.origin) + self.step * max(abs(self.low), abs(self.high))
        return 0.0 if exact else 2 * UNIT_ROUNDOFF * largest * (1 + 8 * UNIT_ROUNDOFF)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GriddedStep:
    """The masses of one step at the points of a grid, shape (high − low + 1,) each.

    Args:
        grid: the points.
        above: P-masses at x_k of a pair that dominates the step, apart from `lost` and `shift`.
        lost: the P-mass that was sent to an infinite loss.
        shift: the loss of the step is at most this much above the grid's.
        p: lower ends of P(L ∈ bin k), which begins at x_k or h/2 before; 0 for the first, the last reaches to ∞.
        q: upper ends of e^{x_k} Q(L ∈ bin k), 0 for the first.
    """

    grid: Grid
    above: Array
    lost: float
    shift: float
    p: Array
    q: Array


def coarsened(step: float) -> float:
    """Return `step` rounded down to 20 binary digits, so that its multiples are exact."""
    mantissa, exponent = np.frexp(step)
    return float(np.ldexp(np.floor(mantissa * 2**20), int(exponent) - 20))


def gridded(
    pair: DominatingPair, step: float, ends: tuple[float, float], *, origin: float = 0.0, centred: bool = False
) -> GriddedStep:
    """Return the step's masses on a grid of this step and origin.

    From above, what lies below the lower of the two ends is moved up to it, and what lies above the upper one is lost.
    If `centred`, bin k of the test below is (x_k − h/2, x_k + h/2]: atoms on grid points are then where other losses of
    their bin are on average.
    """
    low, high = (float(np.clip((end - origin) / step, -MOST_INDEX, MOST_INDEX)) for end in ends)
    grid = Grid(step=step, low=math.floor(low) - 2, high=math.ceil(high) + 1, origin=origin)
    points = grid.points
    edges = np.concatenate([[-np.inf], points[1:], [np.inf]])  # bin k begins at x_k; the first reaches down to −∞
    scale = np.clip(points, -LARGEST_SCALE, max(LARGEST_SCALE, ends[1]))  # other e^x may leave the floats
    scale[0] = min(0.0, float(scale[0]))  # as may e^x times all of Q's mass, which the first bin may hold
    bins = pair.loss_bins(edges, scale)
    shift = float(np.max(bins.edge_error)) + grid.slip
    above = _connected(bins.p.upper, np.where(scale == points, bins.q.lower, 0.0), step, shift)
    dust = above < DUST  # rounding's, at losses that cannot be: their moments would swamp the others'
    lost = float(bins.p.upper[-1] + pair.infinite_mass.upper + np.sum(above[dust]))
    if centred:
        bins = pair.loss_bins(edges - 0.5 * step, scale)
    beyond = math.exp(min(2.0 * shift + (0.5 * step if centred else 0.0), 700.0))
    q = np.where(scale < points, bins.p.upper * beyond, bins.q.upper)  # e^x dQ <= dP on losses above x
    return GriddedStep(
        grid=grid,
        above=np.where(dust, 0.0, above),
        lost=lost * (1 + 8 * UNIT_ROUNDOFF),
        shift=shift,
        p=np.append(0.0, np.maximum(bins.p.lower[1:], 0.0)),
        q=np.append(0.0, q[1:]),
    )


def _connected(p: Array, q: Array, step: float, shift: float) -> Array:
    """Move every bin's P-mass to its edges; the first bin's to its upper edge, the last bin's nowhere: it is lost.

    Rounding and the uncertainty of the edges push f up: P-mass at a larger loss only raises δ(ε).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (1.0 - q / p) / -np.expm1(-step) + (4.0 * shift + 16.0 * UNIT_ROUNDOFF) / step
    share = np.where(p > 0, np.clip(share, 0.0, 1.0), 1.0)
    share[0] = 1.0
    moved = p[:-1] * share[:-1]
    above = np.zeros_like(p)
    above[:-1] += p[:-1] - moved
    above[1:] += moved
    return np.asarray(up(above * (1 + 4 * UNIT_ROUNDOFF)))
