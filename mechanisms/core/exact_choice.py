"""Exact choices among candidates of floating-point scores: integers, rationals and correctly rounded floats only.

With r_i = rate · (max u − u_i), a rational, candidates are taken with probabilities made of e^{−r_i}. A table of
integers bounds 2^62 e^{−m/256} from both sides; the level m of a candidate comes from r_i in outward-rounded floats.
What the table leaves open, a fraction of 1/256, is decided by enclosures of e^{−r_i} in integers, as narrow as it
takes: a uniform real number is a cell of width 2^-62, divided by further digits as long as the cell holds the
threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.bounds import Array, Bounds, down, up
from mechanisms.core.exact_reals import exp_minus
from mechanisms.core.exact_uniforms import LazyUniform, uniform_integer, words_of_64
from mechanisms.core.randomness import Source

BITS = 62  # of a uniform cell
LEVELS, LAST = 256, 44  # levels for each nat, and nats, at which 2^62 e^{−r} is below 1
FARTHEST = 16 * LEVELS  # levels from here on have bounds below 2^39, and may hold many candidates
SPARE = 64  # bits of the table's products
Integers = NDArray[np.int64]


@lru_cache(maxsize=1)
def _table() -> tuple[Integers, Integers]:
    """Return integers below and above 2^62 e^{−m/256}, falling, m = 0, …, 44 · 256."""
    work = BITS + SPARE
    low, high = factors = exp_minus(Fraction(1, LEVELS), work)
    least, most = [1 << BITS], [1 << BITS]
    for _ in range(LAST * LEVELS):
        least.append(low >> SPARE)
        most.append((high >> SPARE) + 1)
        low, high = low * factors[0] >> work, (high * factors[1] >> work) + 1
    return np.array(least, dtype=np.int64), np.array(most, dtype=np.int64)


def drawn(scores: Array, rate: Fraction, source: Source, stream: str) -> int:
    """Return i with probability e^{−r_i}/Σ e^{−r_j}.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> drawn(np.array([0.0, 1.0, 1e6]), Fraction(1), KeyedSource(0), "choice")
    2
    """
    return drawn_in_order(scores, rate, 1, source, stream)[0]


def drawn_in_order(scores: Array, rate: Fraction, count: int, source: Source, stream: str) -> tuple[int, ...]:
    """Return `count` different i, each with probability e^{−r_i}/Σ e^{−r_j} among those that are left.

    The levels of r_i serve until all that are left are far behind: then the largest score that is left takes the place
    of max u.
    """
    chosen: list[int] = []
    left = np.arange(len(scores))
    while len(chosen) < count:
        part = scores[left]
        urn = _Urn(np.ones(len(part), dtype=np.int64), _levels(part, rate).lower, partial(_exponent, part, rate))
        found = list[int]()
        while len(found) < count - len(chosen) and urn.has_near_ones():
            found.append(urn.draw(source, stream))
            urn.remove(found[-1])
        chosen.extend(int(left[i]) for i in found)
        left = np.delete(left, found)
    return tuple(chosen)


def drawn_by_weight(
    counts: Integers, exponents: Bounds, exact: Callable[[int], Fraction], source: Source, stream: str
) -> int:
    """Return i with probability n_i e^{−x_i}/Σ n_j e^{−x_j}.

    Args:
        counts: the n_i >= 1, of a sum below 2^63, shape (m,).
        exponents: enclosures of the x_i >= 0, of which one is 0, so that some are taken soon, shape (m,).
        exact: from i to x_i.
        source: a `SystemSource` for real releases.
        stream: of the source.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> gaps = Bounds.exact(np.array([100.0, 0.0]))
    >>> drawn_by_weight(np.array([10, 1]), gaps, lambda i: 100 * Fraction(1 - i), KeyedSource(0), "choice")
    1
    """
    return _Urn(counts, _leveled(exponents).lower, exact).draw(source, stream)


class _Urn:
    """Candidates in numbers n_i, drawn with probability n_i e^{−x_i}/Σ n_j e^{−x_j} of those that are left.

    A level is drawn in proportion to its number of candidates times its bound from above, one of its candidates
    uniformly, and with it a point below that bound, which is taken if it lies below 2^62 e^{−x_i}: nearly always.
    """

    __slots__ = ("_counts", "_exact", "_levels", "_most", "_totals")

    def __init__(self, counts: Integers, levels: Integers, exact: Callable[[int], Fraction]) -> None:
        self._counts, self._levels, self._exact = counts, levels, exact
        self._most = _table()[1]
        self._totals = np.zeros(len(self._most), dtype=np.int64)
        np.add.at(self._totals, levels, counts)

    def has_near_ones(self) -> bool:
        return bool(np.any(self._totals[:FARTHEST]))

    def draw(self, source: Source, stream: str) -> int:
        held = [int(m) for m in np.flatnonzero(self._totals)]
        ends = list(accumulate(int(self._totals[m]) * int(self._most[m]) for m in held))
        while True:
            point = uniform_integer(source, stream, ends[-1])
            at = bisect_right(ends, point)
            which, cell = divmod(point - (ends[at - 1] if at else 0), int(self._most[held[at]]))
            members = np.flatnonzero(self._levels == held[at])
            i = int(members[np.searchsorted(np.cumsum(self._counts[members]), which, side="right")])
            if _below(cell, self._exact(i), source, stream):
                return i

    def remove(self, i: int) -> None:
        self._totals[self._levels[i]] -= self._counts[i]
        self._levels[i] = -1


def flipped(scores: Array, rate: Fraction, source: Source, stream: str) -> int:
    """Return one of the candidates whose coins, of probabilities e^{−r_i}, show heads, uniformly: that of r_i = 0 does.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> flipped(np.array([0.0, 1.0, 1e6]), Fraction(1), KeyedSource(0), "choice")
    2
    """
    (least, most), levels = _table(), _levels(scores, rate)
    cells, _ = _cells(len(scores), source, stream)
    heads = cells < least[levels.upper]
    for i in np.flatnonzero(~heads & (cells < most[levels.lower])):
        heads[i] = _below(int(cells[i]), _exponent(scores, rate, int(i)), source, stream)
    shown = np.flatnonzero(heads)
    return int(shown[uniform_integer(source, stream, len(shown))])


def laplace_race(scores: Array, rate: Fraction, source: Source, stream: str) -> int:
    """Return the i with the largest X_i − r_i, X_i independent double-exponential noise of scale 1.

    X = ∓log U for a uniform U and a fair sign. The table tells log U to 1/128; those that may be the largest are then
    compared by e^{r_i − X_i}, which is U e^{r_i} or e^{r_i}/U, with U and the exponential as narrow as it takes.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> laplace_race(np.array([0.0, 1.0, 1e6]), Fraction(1), KeyedSource(0), "choice")
    2
    """
    cells, odd = _cells(len(scores), source, stream)
    size, gaps = _exponential(cells), _gaps(scores, rate)
    ends = Bounds(lower=np.where(odd, -size.upper, size.lower), upper=np.where(odd, -size.lower, size.upper)) - gaps
    first, *others = (
        _Runner(_exponent(scores, rate, int(i)), LazyUniform(source, stream, int(cells[i]), BITS), int(i), bool(odd[i]))
        for i in np.flatnonzero(ends.upper >= np.max(ends.lower))
    )
    for other in others:
        if other.beats(first):
            first = other
    return first.place


class _Runner(NamedTuple):
    """A candidate of a race: e^{r − X} is U e^r or, divided, e^r/U."""

    exponent: Fraction
    uniform: LazyUniform
    place: int
    divided: bool

    def beats(self, other: _Runner) -> bool:
        """Tell whether e^{r − X} is the smaller one, by as many further digits of either U as it takes."""
        farthest = max(self.exponent, other.exponent)
        while True:
            low, high = self._ends(farthest)
            least, most = other._ends(farthest)
            if high <= least or most <= low:
                return high <= least
            for runner in (self, other):
                runner.uniform.to(runner.uniform.bits + 1)

    def _ends(self, farthest: Fraction) -> tuple[Fraction, Fraction | float]:
        """Enclose e^{r − X − farthest}; what is divided by a U that may be 0 may be anything."""
        cell, bits = self.uniform.known, self.uniform.bits
        low, high = exp_minus(farthest - self.exponent, bits)
        if not self.divided:
            square = 1 << 2 * bits
            return Fraction(low * cell, square), Fraction(high * (cell + 1), square)
        return Fraction(low, cell + 1), Fraction(high, cell) if cell else math.inf


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Levels:
    """Levels around 256 r_i, shape (k,) each; both are 0 for the largest score."""

    lower: Integers
    upper: Integers


def _levels(scores: Array, rate: Fraction) -> _Levels:
    found, best = _leveled(_gaps(scores, rate)), scores == np.max(scores)
    return _Levels(lower=np.where(best, 0, found.lower), upper=np.where(best, 0, found.upper))


def _leveled(exponents: Bounds) -> _Levels:
    scaled = (LEVELS * exponents).clip(0.0, float(LAST * LEVELS))
    return _Levels(lower=np.floor(scaled.lower).astype(np.int64), upper=np.ceil(scaled.upper).astype(np.int64))


def _gaps(scores: Array, rate: Fraction) -> Bounds:
    """Enclose r_i: every operation of floats rounds once."""
    try:
        nearest = float(rate)
        known = Bounds(lower=max(float(down(nearest)), 0.0), upper=float(up(nearest)))
    except OverflowError:
        known = Bounds(lower=np.finfo(np.float64).max, upper=np.inf)
    return ((Bounds.exact(np.max(scores)) - Bounds.exact(scores)) * known).clip(0.0, np.inf)


def _exponent(scores: Array, rate: Fraction, i: int) -> Fraction:
    return rate * (Fraction(float(np.max(scores))) - Fraction(float(scores[i])))


def _cells(n: int, source: Source, stream: str) -> tuple[Integers, NDArray[np.bool_]]:
    """Return uniform integers below 2^62, and fair coins."""
    words = words_of_64(source, stream, n)
    return (words >> np.uint64(64 - BITS)).astype(np.int64), (words & np.uint64(1)).astype(np.bool_)


def _exponential(cells: Integers) -> Bounds:
    """Enclose −log U, U in [cell, cell + 1] 2^-62, by the levels of the table; from the last one on it may be ∞."""
    least, most = _table()
    lower = np.searchsorted(-least, -(cells + 1), side="right") - 1
    upper = np.searchsorted(-most, -cells, side="left")
    return Bounds(lower=lower / LEVELS, upper=np.where(upper < len(most), upper / LEVELS, np.inf))


def _below(cell: int, exponent: Fraction, source: Source, stream: str) -> bool:
    """Tell whether a uniform point of [cell, cell + 1] lies below 2^62 e^−exponent."""
    return LazyUniform(source, stream, cell, BITS).is_below(partial(exp_minus, exponent))
