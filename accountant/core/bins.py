"""One step on a grid: from a dominating pair to masses at x_k = k h, above and below the truth.

Upper: on each bin (x_k, x_{k+1}] with masses p and q, connect the dots: the share f of p that goes to the upper edge
keeps both masses and raises δ(ε) at every ε, because e^L is replaced by two values of the same mean and (· − e^ε)₊ is
convex.                                                                                        [DGKKM22]

    f = (1 − e^{x_k} q / p) / (1 − e^{−h})

Lower: the index of the bin is a function of the outcome, so any test on sums of indices is a test on outcomes.

[DGKKM22] V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi. Connect the Dots: Tighter Discrete
Approximations of Privacy Loss Distributions. PoPETs 2022. arXiv:2207.04380.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, up
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

DUST = 1e-300


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grid:
    """Points x_k = k h for low <= k <= high, exact where h has few binary digits.

    Args:
        step: h > 0.
        low: the least index.
        high: the largest index.
    """

    step: float
    low: int
    high: int

    @property
    def points(self) -> Array:
        """x_low, …, x_high."""
        return self.step * np.arange(self.low, self.high + 1, dtype=np.float64)

    @property
    def slip(self) -> float:
        """By how much a point may be off k h."""
        exact = coarsened(self.step) == self.step
        return 0.0 if exact else UNIT_ROUNDOFF * self.step * max(abs(self.low), abs(self.high))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GriddedStep:
    """The masses of one step at the points of a grid, shape (high − low + 1,) each.

    Args:
        grid: the points.
        above: P-masses at x_k of a pair that dominates the step, apart from `lost` and `shift`.
        lost: the P-mass that was sent to an infinite loss.
        shift: the loss of the step is at most this much above the grid's.
        p: lower ends of P(L ∈ bin k), the bin that begins at x_k; the tails lie in the first and last.
        q: upper ends of e^{x_k} Q(L ∈ bin k).
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


def gridded(pair: DominatingPair, step: float, tail: float) -> GriddedStep:
    """Return the step's masses on a grid of this step that leaves out about `tail` on either side."""
    low, high = (np.clip(end, -1e6, 1e6) for end in pair.loss_range(tail))
    grid = Grid(step=step, low=int(np.floor(low / step)) - 1, high=int(np.ceil(high / step)) + 1)
    points = grid.points
    edges = np.concatenate([[-np.inf], points[1:], [np.inf]])  # bin k begins at x_k; the first reaches down to −∞
    bins = pair.loss_bins(edges, points)
    shift = float(np.max(bins.edge_error)) + grid.slip
    above = _connected(bins.p.upper, bins.q.lower, step, shift)
    dust = above < DUST  # rounding's, at losses that cannot be: their moments would swamp the others'
    lost = float(bins.p.upper[-1] + pair.infinite_mass.upper + np.sum(above[dust]))
    return GriddedStep(
        grid=grid,
        above=np.where(dust, 0.0, above),
        lost=lost * (1 + 8 * UNIT_ROUNDOFF),
        shift=shift,
        p=np.maximum(bins.p.lower, 0.0),
        q=bins.q.upper,
    )


def _connected(p: Array, q: Array, step: float, shift: float) -> Array:
    """Move every bin's P-mass to its edges; the first bin's to its upper edge, the last bin's nowhere: it is lost.

    Rounding and the uncertainty of the edges push f up: P-mass at a larger loss only raises δ(ε).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (1.0 - q / p) / -np.expm1(-step) + (4.0 * shift + 16.0 * UNIT_ROUNDOFF) / step
    share = np.where(p > 0, np.clip(share, 0.0, 1.0), 1.0)
    share[0] = 1.0
    moved = p[:-1] * share[:-1]
    above = np.zeros_like(p)
    above[:-1] += p[:-1] - moved
    above[1:] += moved
    return np.asarray(up(above * (1 + 4 * UNIT_ROUNDOFF)))
