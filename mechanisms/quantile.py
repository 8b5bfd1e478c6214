"""A private quantile by the exponential mechanism on the ranks of the records.

[Smi11] A. Smith. Privacy-preserving statistical estimation with optimal convergence rates. STOC 2011.
[MT07] F. McSherry, K. Talwar. Mechanism Design via Differential Privacy. FOCS 2007.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np

from mechanisms.approximate_dp import guaranteed
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, largest
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_choice import drawn_by_weight
from mechanisms.core.exact_uniforms import uniform_integer
from mechanisms.core.fixed_size import ratio
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.query import Filling, derived, filling, interval, real_records
from mechanisms.core.randomness import Source
from mechanisms.core.range_pair import RangeDivergence, RangePair
from mechanisms.core.renyi import LinearDivergence, RenyiBound

STEPS = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile(Mechanism):
    """A point of a grid on [lower, upper], the more probable the nearer its rank is to that of the quantile.

        P(point t) ∝ e^{−ε d(t)/2},   d(t) = max(0, #{x < t} − q n, q n − #{x <= t})            [Smi11] on a grid

    over the 2^24 + 1 points that cut [lower, upper] into equal steps, to the nearest of which records are clipped and
    rounded. A point at which many records lie has rank 0 from all their ranks. One record more moves each d by at most
    max(q, 1 − q), and one replaced by at most 1. So the choice is ε-private under replace-one and max(q, 1 − q)
    ε-private under add/remove and zero-out [MT07], ε/2 for a median; and as −ε d(t)/2 of two points differ by so much
    more or less at most, its losses have no larger range, which tells far less.

    With probability 1 − β the point's rank is off by d(t) <= (2/ε) log((2^24 + 1)/β): some point has d = 0.

    Args:
        quantile: q in [0, 1]; 0.5 is the median.
        lower: finite; smaller values, −inf as well, count as this.
        upper: finite, above `lower`; likewise.
        epsilon: ε >= 0 under replace-one.
        nan: what stands for NaN before clipping; None: a NaN is no record; "reject": an error, which reveals that
            there is one and is no part of the guarantee.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import KeyedSource
    >>> median = Quantile(quantile=0.5, lower=0, upper=128, epsilon=8.0)
    >>> 39 < median.release([1.0, 2.0, 3.0] * 5 + [40.0] * 20 + [99.0] * 16, randomness=KeyedSource(0)) < 41
    True
    """

    quantile: float
    lower: float
    upper: float
    epsilon: float
    nan: Filling = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantile", validate.probability("Quantile", "quantile", self.quantile))
        lower, upper = interval("Quantile", self.lower, self.upper)
        if not upper - lower >= 1e-270:
            raise InvalidParameter(f"Quantile: lower must be below upper by at least 1e-270, got {lower} and {upper}.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "epsilon", validate.non_negative("Quantile", "epsilon", self.epsilon))
        object.__setattr__(self, "nan", filling("Quantile", self.nan))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of losses of the range above, which dominates (`mechanisms.core.range_pair`)."""
        reach = self._reach(adjacency)
        if not reach:
            found = guaranteed(self, 0.0, 0.0, stated=adjacency, asked=adjacency)
            return {direction: replace(cast(DiscretePair, pair), attained=False) for direction, pair in found.items()}
        return dict.fromkeys(adjacency.directions, RangePair(reach=Bounds.exact(reach), attained=False))

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the largest divergences of losses of the range above."""
        reach = self._reach(adjacency)
        return RangeDivergence.of(reach) if reach else LinearDivergence(rho=0.0)

    def _reach(self, adjacency: Adjacency) -> float:
        share = Bounds.exact(1.0)
        if adjacency is not Adjacency.REPLACE_ONE:
            share = largest([Bounds.exact(self.quantile), 1.0 - Bounds.exact(self.quantile)])
        return float((Bounds.exact(self.epsilon) * share).clip(0.0, self.epsilon).upper)

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> float:
        """Return the point chosen; of no records, a uniformly random one.

        Guarantees: the law above, exactly, by whole numbers and rationals alone.

        Args:
            value: numbers, shape (n,).
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Quantile", sensitivity)
        data = real_records("Quantile", value, nan=self.nan)
        kept = np.clip(data[~np.isnan(data)], self.lower, self.upper)
        width = self.upper - self.lower
        runs = Runs.of(np.rint((kept - self.lower) / width * STEPS).astype(np.int64))
        target, rate = Fraction(self.quantile) * len(kept), Fraction(self.epsilon) / 2
        chosen = drawn_by_weight(
            runs.lengths,
            runs.distances(target) * (Bounds.exact(self.epsilon) / 2.0),
            lambda i: rate * max(Fraction(0), int(runs.below[i]) - target, target - int(runs.upto[i])),
            randomness,
            "quantile",
        )
        point = int(runs.starts[chosen]) + uniform_integer(randomness, "quantile", int(runs.lengths[chosen]))
        return min(self.lower + width * (point / STEPS), self.upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The points 0, …, 2^24 in runs that records do not tell apart: those that hold some, and what lies between.

    Args:
        starts: the first point of each run, int64, as all of these, of shape (m,).
        lengths: how many points.
        below: how many records lie below a point of the run.
        upto: how many lie below or at it.
    """

    starts: Array
    lengths: Array
    below: Array
    upto: Array

    @classmethod
    def of(cls, points: Array) -> Runs:
        """Return the runs that records at these points make."""
        held, numbers = np.unique(points, return_counts=True)
        upto = np.cumsum(numbers)
        starts = np.concatenate([[0], held + 1])
        lengths = np.concatenate([held, [STEPS + 1]]) - starts
        between = np.concatenate([[0], upto])
        some = lengths > 0
        return cls(
            starts=np.concatenate([held, starts[some]]),
            lengths=np.concatenate([np.ones_like(held), lengths[some]]),
            below=np.concatenate([upto - numbers, between[some]]),
            upto=np.concatenate([upto, between[some]]),
        )

    def distances(self, target: Fraction) -> Bounds:
        """Enclose max(0, below − target, target − upto)."""
        near = ratio(target.numerator, target.denominator) if target else Bounds.exact(0.0)
        over, under = self.below.astype(np.float64) - near, near - self.upto.astype(np.float64)
        return largest([over, under]).clip(0.0, np.inf)
