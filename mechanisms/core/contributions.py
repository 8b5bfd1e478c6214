"""What one record may contribute to a query, and how far its neighbours can therefore move the result.

Noise is scaled by the sensitivity, the largest norm of a contribution. In the mechanism's own norm a query moves by

| contributions | add/remove, zero-out | replace-one |
|---|---|---|
| numbers in [l, u], or nothing | max(−l, u, 0) = s | max(u, 0) − min(l, 0), between s and 2s |
| vectors of norm at most C | C | 2C |
| 1 in one of several cells (L2; L1) | 1 | √2; 2, as two cells change by 1 each |
| x xᵀ of vectors of norm at most C, in the Frobenius norm | C² | √2 C² (C² in one dimension) |
| (x, h) with |x| <= h, counting records beside a sum (L2; L1) | √2 h; 2h | 2h; 2h |

The last but one: ‖x xᵀ − y yᵀ‖² = ‖x‖⁴ + ‖y‖⁴ − 2 <x, y>² <= 2C⁴. Where 0 lies outside [l, u], replacing a record still
counts as leaving it out: samples may do either (`mechanisms.core.poisson_replaced`).

Only opposite contributions of the largest norm attain what the noise's own pairs under replace-one and zero-out stand
for on samples too (`mechanisms.core.shuffled` zeroes a record among opposite ones). Where there are none, the pair
merely dominates, and the neighbours that move the query the farthest are a witness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from mechanisms.core.bounds import Bounds, sqrt, up
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.fixed_size import ratio
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.renyi import LinearDivergence, RenyiBound

if TYPE_CHECKING:
    from mechanisms.core.process import Direction

ONE, TWO = Bounds(lower=1.0, upper=1.0), Bounds(lower=2.0, upper=2.0)
ROOT = sqrt(TWO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """How far one record moves a query, in units of the sensitivity.

    Args:
        sensitivity: at least the largest norm of a contribution, in the query's own units; noise is scaled by it.
        farthest: enclosure of the largest distance of two contributions, or of one and none.
        largest: enclosure of the largest norm.
        reached: whether one record may contribute that much, for L1 in one coordinate, and another one nothing.
        opposite: whether two contributions of the largest norm may be opposite.
        shown: what named records that replace each other move, in one coordinate for L1; None where none is known.
    """

    sensitivity: float
    farthest: Bounds
    largest: Bounds = ONE
    reached: bool = True
    opposite: bool = False
    shown: Bounds | None = None

    def movement(self, adjacency: Adjacency) -> Bounds:
        """Enclose how far neighbours move the query, ÷ sensitivity."""
        return self.farthest if adjacency is Adjacency.REPLACE_ONE else self.largest

    def pairs(self, noise: Mechanism, adjacency: Adjacency) -> Pairs:
        """Return the pairs of the query with this noise.

        Raises:
            UnsupportedProcess: if the noise has no pair for this movement.
        """
        if self.opposite:
            return noise.pairs(adjacency)
        if adjacency is Adjacency.ADD_REMOVE:
            return {one: _moved(pair, self.largest, self.reached) for one, pair in noise.pairs(adjacency).items()}
        unit = noise.pairs(Adjacency.ADD_REMOVE)["remove"]  # noise is symmetric: either order has the same profile
        if adjacency is Adjacency.ZERO_OUT:
            return _with_witness(adjacency, _moved(unit, self.largest, False), unit, ONE if self.reached else None)
        if self.farthest == TWO:  # of two cells, by 1 each: one that moves by 2 is worse, see the noises of that norm
            return _with_witness(adjacency, _moved(noise.pairs(adjacency)["replace"], ONE, False), unit, self.shown)
        return _with_witness(adjacency, _moved(unit, self.farthest, False), unit, self.shown)

    def renyi(self, noise: Mechanism, adjacency: Adjacency) -> RenyiBound:
        """Return D_α <= α m² ρ for the movement m, of noise with D_α <= α s² ρ for every movement of s sensitivities.

        Raises:
            UnsupportedProcess: if no such bound of the noise is known.
        """
        known = noise.renyi(Adjacency.ADD_REMOVE)
        if not isinstance(known, LinearDivergence):
            raise UnsupportedProcess(
                f"{type(noise).__name__}: its Rényi bound does not follow the movement of a query. Use its pairs."
            )
        moved = self.movement(adjacency)
        return replace(known, rho=float((moved * moved * known.rho).upper))


def numbers(low: int, high: int, *, nothing: bool = True) -> Contributions:
    """Return what whole numbers in [low, high] contribute; not both ends are 0.

    Args:
        low: the least of them.
        high: the largest.
        nothing: whether a record may contribute nothing even if 0 is none of them.

    >>> numbers(-2, 8).movement(Adjacency.REPLACE_ONE).contains(1.25)
    True
    """
    least, most = min(low, 0), max(high, 0)
    largest, reached = max(-least, most), nothing or low <= 0 <= high
    farthest, named = ratio(most - least, largest), most - least if reached else high - low
    return Contributions(
        sensitivity=float(largest),
        farthest=farthest,
        reached=reached,
        opposite=most == -least,
        shown=ratio(named, largest) if named else None,
    )


def ball(radius: int) -> Contributions:
    """Return what vectors of whole numbers of Euclidean norm at most `radius` contribute."""
    return Contributions(sensitivity=float(radius), farthest=TWO, opposite=True)


def one_cell(norm: int) -> Contributions:
    """Return what a 1 in one of several cells contributes; looking at one cell alone is what L1 noise surely shows."""
    farthest = ROOT if norm == 2 else TWO
    return Contributions(sensitivity=1.0, farthest=farthest, shown=ROOT if norm == 2 else ONE)


def outer_products(radius: int, dimensions: int) -> Contributions:
    """Return what v vᵀ contributes, v of whole numbers and norm at most `radius`, in the Frobenius norm."""
    farthest = ONE if dimensions == 1 else ROOT
    return Contributions(sensitivity=float(radius * radius), farthest=farthest, shown=farthest)


def counted(half: int, norm: int, *, nothing: bool) -> Contributions:
    """Return what (c, half) contributes, c a whole number in [−half, half].

    Args:
        half: above 0.
        norm: 1 or 2.
        nothing: whether a record may contribute (0, 0).
    """
    if norm == 1:
        return Contributions(sensitivity=2.0 * half, farthest=ONE, reached=False, shown=ONE)
    sensitivity = float(up(math.sqrt(2.0) * half))
    largest = ROOT * (half / Bounds.exact(sensitivity))
    farthest = ROOT * largest
    return Contributions(sensitivity=sensitivity, farthest=farthest, largest=largest, reached=nothing, shown=farthest)


def _with_witness(adjacency: Adjacency, pair: DominatingPair, unit: DominatingPair, shown: Bounds | None) -> Pairs:
    """Return a pair that dominates in every direction, and one of named neighbours that move the query by `shown`."""
    found: dict[Direction, DominatingPair] = dict.fromkeys(adjacency.directions, pair)
    if shown is not None:
        found["witness"] = found["witness_reversed"] = _moved(unit, shown, True)
    return found


def _moved(pair: DominatingPair, movement: Bounds, attained: bool) -> DominatingPair:
    """Return the noise's pair for a movement of one sensitivity as that of another movement."""
    shift = getattr(pair, "shift", None)
    if movement != ONE and isinstance(shift, Bounds):
        moved = shift * movement
        known = math.isfinite(moved.upper)
        changed = {"shift": moved, "attained": attained and pair.attained}
        return cast(DominatingPair, replace(cast(Any, pair), **changed)) if known else _everything()
    if movement != ONE and pair.infinite_mass.lower < 1.0:
        raise UnsupportedProcess(
            f"{type(pair).__name__}: it has no pair for a movement of {movement.upper:.4g} sensitivities. "
            "Use Gaussian(...) or Laplace(...) as noise, adjacency='add_remove', or, for DiscreteGaussian(...), "
            "accountant='zcdp' or 'rdp'."
        )
    return pair if attained else cast(DominatingPair, replace(cast(Any, pair), attained=False))


def _everything() -> DominatingPair:
    """Return the pair of what may tell the record for certain."""
    return DiscretePair(losses=(), masses=(), infinite_mass=ONE, missing_mass=ONE, attained=False)
