"""Laws of sums of likelihood ratios, bounded in the convex order by laws with few atoms.

Where Q is a product of T copies of Q_1, and P the mean of T products that differ from Q in one copy each, all about
(P, Q) is in the law under Q of the ratio X = (r_1 + … + r_T)/T, the r_t independent with the law of dP_1/dQ_1: the
profile of (P, Q) is E_Q (X − e^ε)₊ and that of (Q, P) is E_Q (1 − e^ε X)₊, both convex in every r_t. So

    spread:    to move the mass of a bin to the bin's two edges, its mean kept, raises both profiles;
    collapse:  to move it to its mean lowers both (Jensen).

Sums are formed two at a time and put back on a grid each time, by positive products and sums only, so that masses keep
their relative precision however small. What rounding may do is counted in `error` and `shift`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from mechanisms.core.bounds import Array, Bounds, down, exp, log, up
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

POINTS = 900
RARE = 1e-34  # mass, of Q below or of P above, beyond which the grid has no points
NARROWEST, WIDEST = 1e-7, 600.0  # of ranges of losses, outside which ratios are all 1 or leave the floats

BESIDE = 1e-9  # how far beside the ends of a range the grid ends, so that atoms there are inside
DOUBT = 1e-9  # relative, of a bin's mean, beyond which a collapsed law leaves the bin out

UNDERFLOW = 1e-300  # mass of Q, far above what a sum's products may lose below the least float

Kind = Literal["spread", "collapse"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioLaw:
    """A law with finitely many atoms that bounds the law of a sum of likelihood ratios.

    There is a law of the stated kind whose atoms are these but for a factor within 1 ± `shift`, and whose masses are at
    most these ÷ (1 − `error`) if spread, at least these ÷ (1 + `error`) if collapsed.

    Args:
        values: the atoms, increasing, >= 0, shape (n,).
        masses: Q's mass at each.
        lost: what is missing of the mean, P's mass times the number of copies where Q has none: an upper end if spread,
            a lower one if collapsed, up to a factor within 1 ± (`error` + `shift`), as what atoms beyond the grid lose
            is counted with their masses and places.
        error: see above.
        shift: see above.
        kind: whether bins were spread to their edges or collapsed to their means.
    """

    values: Array
    masses: Array
    lost: float
    error: float
    shift: float
    kind: Kind

    def plus(self, other: RatioLaw) -> RatioLaw:
        """Return the law of the sum of this one and an independent one of the same kind."""
        values, masses = self._sums(other)
        error = self.error + other.error + 4.0 * UNIT_ROUNDOFF
        shift = max(self.shift, other.shift) + UNIT_ROUNDOFF
        placed = _spread if self.kind == "spread" else _collapse
        return placed(values, masses, lost=self.lost + other.lost, error=error, shift=shift)

    def _sums(self, other: RatioLaw) -> tuple[Array, Array]:
        """Return the sums of two atoms and their masses; where both laws are the same, each pair of atoms once."""
        if other is not self:
            sums = np.add.outer(self.values, other.values), np.multiply.outer(self.masses, other.masses)
            return sums[0].ravel(), sums[1].ravel()
        one, two = np.triu_indices(len(self.values))
        masses = self.masses[one] * self.masses[two]
        return self.values[one] + self.values[two], np.where(one == two, masses, 2.0 * masses)

    def times(self, count: int) -> RatioLaw:
        """Return the law of the sum of `count` >= 1 independent copies."""
        result, power = None, self
        while True:
            if count & 1:
                result = power if result is None else result.plus(power)
            count >>= 1
            if not count:
                return power if result is None else result
            power = power.plus(power)


@lru_cache(maxsize=32)
def summed_ratios(pair: DominatingPair, times: int, kind: Kind) -> RatioLaw:
    """Return a law that bounds that of the sum of `times` independent ratios dP/dQ under Q."""
    return ratio_law(pair, kind).times(times)


def ratio_law(pair: DominatingPair, kind: Kind) -> RatioLaw:
    """Return a law that bounds that of one ratio dP/dQ under Q."""
    if isinstance(pair, DiscretePair):
        return _atoms(pair, kind)
    low, high = (
        end + sign * BESIDE * (1.0 + abs(end)) for end, sign in zip(pair.loss_range(RARE), (-1, 1), strict=True)
    )
    deviation = 2.0 * float(pair.delta(Bounds.exact(0.0)).upper)  # E_Q |r − 1|
    points = _grid(math.exp(low), math.exp(high), 1.0, deviation)
    edges = np.concatenate([[-np.inf], np.log(points), [np.inf]])
    bins = pair.loss_bins(edges, np.zeros(len(edges) - 1))
    shift = float(np.max(bins.edge_error[1:-1])) + 4.0 * UNIT_ROUNDOFF * (1.0 + max(-low, high))
    if kind == "spread":
        values, masses, lost = _to_edges(bins.p, bins.q, points, shift)
        shift += 4.0 * UNIT_ROUNDOFF
        nothing, lost = float(pair.missing_mass.upper), lost + float(pair.infinite_mass.upper)
    else:
        values, masses, doubt = _to_means(bins.p, bins.q)
        nothing, lost, shift = float(pair.missing_mass.lower), float(pair.infinite_mass.lower), shift + doubt
    values, masses = _with_zero(values, masses, nothing)
    return RatioLaw(values=values, masses=masses, lost=lost, error=16.0 * UNIT_ROUNDOFF, shift=shift, kind=kind)


def _atoms(pair: DiscretePair, kind: Kind) -> RatioLaw:
    """Return the pair's own atoms: nothing is rounded but the exponentials."""
    losses = Bounds.exact(np.array(pair.losses))
    ends = [(mass * exp(-Bounds.exact(loss))) for loss, mass in zip(pair.losses, pair.masses, strict=True)]
    spread = kind == "spread"
    masses = np.array([float(end.upper if spread else end.lower) for end in ends])
    nothing, lost = (float(end.upper if spread else end.lower) for end in (pair.missing_mass, pair.infinite_mass))
    values, masses = _with_zero(np.exp(losses.lower), masses, nothing)
    reach = max(map(abs, pair.losses), default=0.0)
    shift = 16.0 * UNIT_ROUNDOFF * (1.0 + reach)
    return RatioLaw(values=values, masses=masses, lost=lost, error=shift, shift=shift, kind=kind)


def _with_zero(values: Array, masses: Array, nothing: float) -> tuple[Array, Array]:
    """Put what only Q shows at 0."""
    if not nothing:
        return values, masses
    if len(values) and values[0] == 0.0:
        return values, np.append(up(masses[0] + nothing), masses[1:])
    return np.append(0.0, values), np.append(nothing, masses)


def _to_edges(p: Bounds, q: Bounds, points: Array, shift: float) -> tuple[Array, Array, float]:
    """Spread bins (0, x_1], …, (x_n, ∞) with these masses to their edges; of the last, Q's mass stays at x_n.

    The mass at either edge is known to an enclosure, of which the upper end is taken. A bin's own edges may lie beside
    the points, so that it is spread to what lies outside of both, a factor of 1 ± `shift` from the points.
    """
    low, high = down(np.append(0.0, points[:-1]) * (1.0 - shift)).clip(0.0), up(points * (1.0 + shift))
    some = Bounds(lower=np.maximum(q.lower[:-1], 5e-324), upper=np.maximum(q.upper[:-1], 5e-324))
    share = (((p[:-1] / some).clip(low, high) - low) / (Bounds.exact(high) - low)).clip(0.0, 1.0)
    masses = np.zeros(len(points) + 1)
    masses[1:] += (q[:-1] * share).upper
    masses[:-1] += (q[:-1] * (1.0 - share)).upper
    masses[-1] += q.upper[-1]
    return np.append(0.0, points), masses, float(p.upper[-1])


def _to_means(p: Bounds, q: Bounds) -> tuple[Array, Array, float]:
    """Collapse bins with these masses to their means, and tell how well these are known at worst."""
    some = q.lower > 0
    mean, masses = p[some] / q[some], q.lower[some]
    middle = 0.5 * (mean.lower + mean.upper)
    doubt = np.asarray(mean.width) / np.maximum(middle, 5e-324)
    known = doubt < DOUBT
    return middle[known], masses[known], float(np.max(doubt[known], initial=0.0))


def _grid(low: float, high: float, centre: float, deviation: float) -> Array:
    """Return `POINTS` values from low to high: close near the centre, in equal ratios far from it and near 0."""
    x = np.geomspace(low, high, 8 * POINTS)
    x = np.union1d(x, np.clip(centre + deviation * np.sinh(np.linspace(-40.0, 40.0, 8 * POINTS)), low, high))
    spacing = np.minimum(x, np.hypot(deviation, x - centre))
    steps = np.diff(x) * 2.0 / (spacing[:-1] + spacing[1:])
    place = np.append(0.0, np.cumsum(steps))
    return np.unique(np.interp(np.linspace(0.0, place[-1], POINTS), place, x))


def _points(values: Array, masses: Array) -> Array:
    """Return a grid for these atoms, from where Q has `RARE` mass below it to where P has that much above it."""
    whole = float(np.sum(masses))
    share = masses * values
    centre = float(np.sum(share)) / whole
    deviation = float(np.sum(masses * np.abs(values - centre))) / whole
    floor = float(np.min(values, where=values > 0, initial=np.inf))
    least = math.log(floor)
    scale = max(1e-3, (math.log(float(np.max(values))) - least) / 1024)
    place = np.maximum(np.floor((np.log(np.maximum(values, floor)) - least) / scale), 0.0).astype(np.int64)
    below = np.cumsum(np.bincount(place, masses))
    above = np.cumsum(np.bincount(place, share)[::-1])[::-1]
    first = int(np.searchsorted(below, RARE * whole))
    last = int(np.count_nonzero(above > RARE * centre))
    low, high = math.exp(least + scale * first), math.exp(least + scale * max(last, first + 1))
    return _grid(low, high, min(max(centre, low), high), max(deviation, 1e-9 * centre))


def _spread(values: Array, masses: Array, *, lost: float, error: float, shift: float) -> RatioLaw:
    """Move every atom to the two grid points about it; of atoms above the grid, Q's mass to the last point.

    An atom's share (s − a)/(b − a) is rounded by at most 3u of itself, as if the atom had been 3u s away.
    """
    grid = np.append(0.0, _points(values, masses))
    index = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    share = np.clip((values - grid[index]) / (grid[index + 1] - grid[index]), 0.0, 1.0)
    placed = np.zeros(len(grid))
    placed[1:] += np.bincount(index, masses * share, minlength=len(grid) - 1)
    placed[:-1] += np.bincount(index, masses * (1.0 - share), minlength=len(grid) - 1)
    terms = 2.0 * float(np.max(np.bincount(index))) + 8.0
    over = float(np.sum(masses * np.maximum(values - grid[-1], 0.0))) * (1.0 + len(values) * UNIT_ROUNDOFF)
    placed[0] += UNDERFLOW
    over += UNDERFLOW * float(np.max(values))
    return RatioLaw(
        values=grid,
        masses=placed,
        lost=up(lost + over),
        error=error + terms * UNIT_ROUNDOFF,
        shift=shift + 4.0 * UNIT_ROUNDOFF,
        kind="spread",
    )


def _collapse(values: Array, masses: Array, *, lost: float, error: float, shift: float) -> RatioLaw:
    """Move the atoms between two grid points to their mean, but leave out where floats may have lost masses to 0."""
    grid = _points(values, masses)
    index = np.searchsorted(grid, values, side="right")
    placed = np.bincount(index, masses, minlength=len(grid) + 1)
    share = np.bincount(index, masses * values, minlength=len(grid) + 1)
    nothing = np.bincount(index, values > 0, minlength=len(grid) + 1) == 0
    held = (placed > UNDERFLOW) & (nothing | (share > UNDERFLOW))
    mean = share[held] / placed[held]
    terms = (float(np.max(np.bincount(index))) + 4.0) * UNIT_ROUNDOFF
    return RatioLaw(
        values=mean,
        masses=placed[held],
        lost=lost,
        error=error + terms,
        shift=shift + 2.0 * terms,
        kind="collapse",
    )


def ratio_pair(law: RatioLaw, copies: int, *, reverse: bool) -> DiscretePair:
    """Return the pair (P, Q), or reversed (Q, P), of X = the law's sum ÷ copies.

    Spread, it dominates; collapsed, named neighbours tell at least so much apart, so that it counts as attained.
    """
    dominates = law.kind == "spread"
    ratio = Bounds.exact(law.values) / float(copies)
    ratio = ratio * Bounds(lower=1.0 - 2.0 * law.shift, upper=1.0 + 2.0 * law.shift)
    masses = Bounds.exact(law.masses).inflate(2.0 * law.error)
    held = (law.values > 0) & (masses.lower > 0)
    loss = log(ratio[held])
    loss = -loss if reverse else loss
    shown = masses[held] if reverse else masses[held] * ratio[held]
    losses = loss.upper if dominates else loss.lower
    kept = shown.upper if dominates else shown.lower
    order = np.argsort(losses)
    nothing = float(np.sum(masses.upper[law.values == 0]) if dominates else np.sum(masses.lower[law.values == 0]))
    lost = Bounds.exact(law.lost).inflate(2.0 * (law.error + law.shift)) / float(copies)
    infinite = Bounds.exact(float(min(1.0, lost.upper) if dominates else max(0.0, lost.lower)))
    ends = (Bounds.exact(nothing), infinite) if reverse else (infinite, Bounds.exact(nothing))
    return DiscretePair(
        losses=tuple(losses[order].tolist()),
        masses=tuple(Bounds.exact(mass) for mass in kept[order].tolist()),
        infinite_mass=ends[0],
        missing_mass=ends[1],
        attained=not dominates,
    )
