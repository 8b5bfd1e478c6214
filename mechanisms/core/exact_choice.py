"""Exact choices among candidates of floating-point scores: integers, rationals and correctly rounded floats only.

With r_i = rate · (max u − u_i), a rational, candidates are taken with probabilities made of e^{−r_i}. A table of
integers bounds 2^62 e^{−m/256} from both sides; the level m of a candidate comes from r_i in outward-rounded floats.
What the table leaves open, a fraction of 1/256, is decided by enclosures of e^{−r_i} in integers, as narrow as it
takes: a uniform real number is a cell of width 2^-62, divided by further bits as long as the cell holds the threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.bounds import Array, Bounds, down, up
from mechanisms.core.randomness import Source, uniform_integer

BITS, MORE = 62, 64  # of a uniform cell, and by how many it is divided when that is too coarse
LEVELS, LAST = 256, 44  # levels for each nat, and nats, at which 2^62 e^{−r} is below 1
FARTHEST = 16 * LEVELS  # levels from here on have bounds below 2^39, and may hold many candidates
GUARD = 32
Integers = NDArray[np.int64]


@lru_cache(maxsize=1)
def _table() -> tuple[Integers, Integers]:
    """Return integers below and above 2^62 e^{−m/256}, falling, m = 0, …, 44 · 256."""
    work = BITS + 2 * GUARD
    low, high = factors = exp_bounds(Fraction(1, LEVELS), work)
    least, most = [1 << BITS], [1 << BITS]
    for _ in range(LAST * LEVELS):
        least.append(low >> (work - BITS))
        most.append((high >> (work - BITS)) + 1)
        low, high = low * factors[0] >> work, (high * factors[1] >> work) + 1
    return np.array(least, dtype=np.int64), np.array(most, dtype=np.int64)


def exp_bounds(exponent: Fraction, bits: int) -> tuple[int, int]:
    """Return integers around 2^bits e^−exponent, for an exponent >= 0, at most 2 apart.

    With y = exponent/2^s < 2^-8 in units of 2^-w: y is off by one unit, each term of the series by three, what follows
    the last by four, and squaring doubles the error and rounds: (4 n + 10) 2^s units after s squarings, n terms.

    >>> low, high = exp_bounds(Fraction(1), 60)
    >>> low <= 424136118829305329 <= high <= low + 2
    True
    """
    if exponent == 0:
        return 1 << bits, 1 << bits
    if exponent > bits:
        return 0, 1
    halvings = int(exponent).bit_length() + 8
    work = bits + halvings + GUARD
    y = (exponent.numerator << (work - halvings)) // exponent.denominator
    total, term, n = 0, 1 << work, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = (term * y >> work) // n
    for _ in range(halvings):
        total = total * total >> work
    error, cut = (4 * n + 10) << halvings, work - bits
    return max(total - error, 0) >> cut, ((total + error) >> cut) + 1


def drawn(scores: Array, rate: Fraction, source: Source, stream: str) -> int:
    """Return i with probability e^{−r_i}/Σ e^{−r_j}.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> drawn(np.array([0.0, 1.0, 1e6]), Fraction(1), KeyedSource(0), "choice")
    2
    """
    return drawn_in_order(scores, rate, 1, source, stream)[0]


def drawn_in_order(scores: Array, rate: Fraction, count: int, source: Source, stream: str) -> tuple[int, ...]:
    """Return `count` different i, each with probability e^{−r_i}/Σ e^{−r_j} among those that are left.

    A level is drawn in proportion to its number of candidates times its bound from above, one of its candidates
    uniformly, and with it a point below that bound, which is taken if it lies below 2^62 e^{−r_i}: nearly always. These
    levels serve until all that are left are far behind: then the largest score that is left takes the place of max u.
    """
    chosen: list[int] = []
    left = np.arange(len(scores))
    while len(chosen) < count:
        part = scores[left]
        found = _drawn_above(part, rate, count - len(chosen), source, stream)
        chosen.extend(int(left[i]) for i in found)
        left = np.delete(left, found)
    return tuple(chosen)


def _drawn_above(scores: Array, rate: Fraction, count: int, source: Source, stream: str) -> list[int]:
    """Return up to `count`, fewer where only candidates of the farthest levels are left."""
    levels, (_, most) = _levels(scores, rate).lower, _table()
    counts = np.bincount(levels, minlength=len(most))
    best, found = Fraction(float(np.max(scores))), list[int]()
    while len(found) < count and np.any(counts[:FARTHEST]):
        held = [int(m) for m in np.flatnonzero(counts)]
        ends = list(accumulate(int(counts[m]) * int(most[m]) for m in held))
        while True:
            point = uniform_integer(source, stream, ends[-1])
            at = bisect_right(ends, point)
            which, cell = divmod(point - (ends[at - 1] if at else 0), int(most[held[at]]))
            i = int(np.flatnonzero(levels == held[at])[which])
            if _below(cell, rate * (best - Fraction(float(scores[i]))), source, stream):
                break
        found.append(i)
        counts[levels[i]] -= 1
        levels[i] = -1
    return found


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
        heads[i] = _below(int(cells[i]), _exponent(scores, int(i), rate), source, stream)
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
        _Runner(index=int(i), exponent=_exponent(scores, int(i), rate), cell=int(cells[i]), divided=bool(odd[i]))
        for i in np.flatnonzero(ends.upper >= np.max(ends.lower))
    )
    for other in others:
        if other.beats(first, source, stream):
            first = other
    return first.index


@dataclass(slots=True, kw_only=True)
class _Runner:
    """A candidate of a race: e^{r − X} is U e^r or, divided, e^r/U, with U in [cell, cell + 1] 2^-bits."""

    index: int
    exponent: Fraction
    cell: int
    divided: bool
    bits: int = BITS

    def beats(self, other: _Runner, source: Source, stream: str) -> bool:
        """Tell whether e^{r − X} is the smaller one, by as many further bits of either U as it takes."""
        farthest = max(self.exponent, other.exponent)
        while True:
            low, high = self._ends(farthest)
            least, most = other._ends(farthest)
            if high <= least or most <= low:
                return high <= least
            for runner in (self, other):
                runner.cell = runner.cell << MORE | uniform_integer(source, stream, 1 << MORE)
                runner.bits += MORE

    def _ends(self, farthest: Fraction) -> tuple[Fraction, Fraction | float]:
        """Enclose e^{r − X − farthest}; what is divided by a U that may be 0 may be anything."""
        low, high = exp_bounds(farthest - self.exponent, self.bits)
        if not self.divided:
            square = 1 << 2 * self.bits
            return Fraction(low * self.cell, square), Fraction(high * (self.cell + 1), square)
        return Fraction(low, self.cell + 1), Fraction(high, self.cell) if self.cell else math.inf


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Levels:
    """Levels around 256 r_i, shape (k,) each; both are 0 for the largest score."""

    lower: Integers
    upper: Integers


def _levels(scores: Array, rate: Fraction) -> _Levels:
    scaled = (LEVELS * _gaps(scores, rate)).clip(0.0, float(LAST * LEVELS))
    best = scores == np.max(scores)
    lower, upper = np.floor(scaled.lower).astype(np.int64), np.ceil(scaled.upper).astype(np.int64)
    return _Levels(lower=np.where(best, 0, lower), upper=np.where(best, 0, upper))


def _gaps(scores: Array, rate: Fraction) -> Bounds:
    """Enclose r_i: every operation of floats rounds once."""
    try:
        nearest = float(rate)
        known = Bounds(lower=max(float(down(nearest)), 0.0), upper=float(up(nearest)))
    except OverflowError:
        known = Bounds(lower=np.finfo(np.float64).max, upper=np.inf)
    return ((Bounds.exact(np.max(scores)) - Bounds.exact(scores)) * known).clip(0.0, np.inf)


def _exponent(scores: Array, i: int, rate: Fraction) -> Fraction:
    return rate * (Fraction(float(np.max(scores))) - Fraction(float(scores[i])))


def _cells(n: int, source: Source, stream: str) -> tuple[Integers, NDArray[np.bool_]]:
    """Return uniform integers below 2^62, and fair coins."""
    words = source.words(stream, source.reserve(stream, 2 * n), 2 * n).astype(np.uint64).reshape(-1, 2)
    joined = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return (joined >> np.uint64(64 - BITS)).astype(np.int64), (joined & np.uint64(1)).astype(np.bool_)


def _exponential(cells: Integers) -> Bounds:
    """Enclose −log U, U in [cell, cell + 1] 2^-62, by the levels of the table; from the last one on it may be ∞."""
    least, most = _table()
    lower = np.searchsorted(-least, -(cells + 1), side="right") - 1
    upper = np.searchsorted(-most, -cells, side="left")
    return Bounds(lower=lower / LEVELS, upper=np.where(upper < len(most), upper / LEVELS, np.inf))


def _below(cell: int, exponent: Fraction, source: Source, stream: str) -> bool:
    """Tell whether a uniform point of [cell, cell + 1] lies below 2^62 e^−exponent."""
    bits = BITS
    while True:
        low, high = exp_bounds(exponent, bits)
        if cell < low:
            return True
        if cell >= high:
            return False
        cell = cell << MORE | uniform_integer(source, stream, 1 << MORE)
        bits += MORE
