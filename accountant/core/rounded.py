"""One step on a grid with its mean kept: every loss moves to the nearest point, and all move on by one and the same m.

X is the loss L given that it lies in cells (x_k − h/2, x_k + h/2] that are kept, X~ = x_k + m with m = E[X − x_k], so
that E[X~] = E[X], and X − X~ lies in an interval of length h           [GLW21, cell-centred discretisation].

m needs no integral of the loss: with D = L − x_k the cell's masses p_k under P and q_k under Q have
E[e^{−D}] = e^{x_k} q_k / p_k, and 0 <= D − (1 − e^{−D}) <= D² e^{|D|} / 2, so that

    Σ_k (p_k − e^{x_k} q_k) / Σ_k p_k  <=  m  <=  that + h² e^{h/2} / 8.

[GLW21] S. Gopi, Y. T. Lee, L. Wutschitz. Numerical Composition of Differential Privacy. NeurIPS 2021. arXiv:2106.02848.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.normal_cells import normal_cells
from mechanisms.core.bounds import Array
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

DUST = 1e-290
COARSE, LONG = 256, 2**13  # cells by which ends are drawn in, and from how many on
SUMMED = 64.0 * UNIT_ROUNDOFF  # of numpy's pairwise sums of up to 2^32 terms, relative to the sum of absolute values


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rounded:
    """A step's P-masses at x_k = k h.

    Args:
        masses: at low, low + 1, …, shape (n,).
        low: the least index.
        relative: bound of the masses' relative error.
        edge: the masses are exact, but for that, for cells whose edges are off by this at most.
        mean: about m.
        doubt: how far m may be off.
        left_out: bound of the P-mass of finite losses in no cell.
    """

    masses: Array
    low: int
    relative: float
    edge: float
    mean: float
    doubt: float
    left_out: float


def ends(pair: DominatingPair, step: float, tail: float) -> tuple[float, float]:
    """Return (low, high) such that P has mass of about `tail` at most on either side.

    The loss is rarely very negative: P(L < −t) <= e^{−t}.
    """
    low, high = pair.loss_range(tail)
    low = max(low, math.log(tail))
    if not (high - low) / step > LONG:
        return low, max(low, high)
    edges = np.linspace(low, high, COARSE + 1)
    mass = pair.loss_bins(np.concatenate([[-np.inf], edges, [np.inf]]), np.zeros(COARSE + 2)).p.upper
    first = int(np.searchsorted(np.cumsum(mass), tail, side="right"))
    last = int(np.searchsorted(np.cumsum(mass[::-1]), tail, side="right"))
    return float(edges[max(min(first, COARSE) - 1, 0)]), float(edges[min(COARSE + 1 - min(last, COARSE), COARSE)])


def rounded(pair: DominatingPair, step: float, low: float, high: float) -> Rounded:
    """Return the step rounded to multiples of `step`, a number of few binary digits, between about `low` and `high`."""
    first, last = math.floor(low / step), math.ceil(high / step)
    points = step * np.arange(first, last + 1, dtype=np.float64)
    edges = step * (np.arange(first, last + 2, dtype=np.float64) - 0.5)
    mixture = pair.mixture
    if isinstance(mixture, NormalMixture):
        cells = normal_cells(mixture, edges, points)
        if cells:
            p, q, edge, error, outer, relative = cells
            return _settled(first, step, (p, p), (q, q), edge, error, outer, relative)
    scale = np.concatenate([[0.0], points, [0.0]])
    bins = pair.loss_bins(np.concatenate([[-np.inf], edges, [np.inf]]), scale)
    outer = float(bins.p.upper[0] + bins.p.upper[-1])
    edge = float(np.max(bins.edge_error))
    lower, upper = bins.p.lower[1:-1], bins.p.upper[1:-1]
    bend = math.exp(min(0.5 * step + edge, 700.0)) * (1 + 8 * UNIT_ROUNDOFF)
    near = np.minimum(bins.q.upper[1:-1], upper * bend)
    return _settled(first, step, (lower, upper), (np.maximum(bins.q.lower[1:-1], 0.0), near), edge, 0.0, outer, 0.0)


def _settled(
    first: int,
    step: float,
    p: tuple[Array, Array],
    q: tuple[Array, Array],
    edge: float,
    error: float,
    outer: float,
    relative: float,
) -> Rounded:
    """Return the step of these enclosures of p_k and e^{x_k} q_k, those of them kept that are known well enough."""
    known = (p[1] >= DUST) & (p[0] >= 0.5 * p[1])
    masses = np.where(known, 0.5 * (p[0] + p[1]), 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        off = float(np.max(np.where(known, (p[1] - p[0]) / (2 * p[0]), 0.0), initial=0.0))
    total = float(np.sum(masses))
    gap = np.where(known, masses - 0.5 * (q[0] + q[1]), 0.0)
    width = float(np.sum(np.where(known, 0.5 * (p[1] - p[0]) + 0.5 * (q[1] - q[0]), 0.0)))
    size = float(np.sum(np.abs(gap)))
    second = 0.5 * (0.5 * step + edge) ** 2 * math.exp(min(0.5 * step + edge, 700.0))
    shift = float(np.sum(gap)) / total if total > 0 else 0.0
    doubt = (width * (1 + SUMMED) + SUMMED * size + error) / total if total > 0 else 0.0
    doubt += 2 * (off + relative + SUMMED) * abs(shift) + 0.5 * second * (1 + 16 * UNIT_ROUNDOFF)
    return Rounded(
        masses=masses,
        low=first,
        relative=(off + relative) * (1 + 8 * UNIT_ROUNDOFF) + 2 * UNIT_ROUNDOFF,
        edge=edge,
        mean=shift + 0.5 * second,
        doubt=doubt,
        left_out=(outer + float(np.sum(np.where(known, 0.0, p[1])))) * (1 + SUMMED),
    )
