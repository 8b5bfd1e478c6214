"""Pairs of finitely many outcomes as concave curves: the largest P(S) for every Q(S), in exact rational arithmetic.

The curve R(b) = max {P(S) : Q(S) <= b} of a pair (P, Q) has δ of ε = log α as its largest distance from a line,

    H_α(P ‖ Q) = sup_S P(S) − α Q(S) = max_b R(b) − α b,

so that a pair dominates another one where its curve is nowhere lower [DRS22, upside down]. The curve of
(Q, P) is that of (P, Q) mirrored, (b, a) to (1 − a, 1 − b). The least concave curve above two curves is that of a pair
which dominates both, and by no more than it must: its H_α is the larger one of theirs, for every α.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter

Point = tuple[Fraction, Fraction]
Curve = tuple[Point, ...]
"""Corners (b, a) of a concave curve from b = 0 to (1, 1), b and a increasing; the curve may begin above a = 0."""


def curve_of(p: tuple[Fraction, ...], q: tuple[Fraction, ...]) -> Curve:
    """Return the curve of two probability vectors over the same outcomes."""
    nothing = sum((a for a, b in zip(p, q, strict=True) if b == 0), start=Fraction(0))
    steps = sorted(((a / b, b, a) for a, b in zip(p, q, strict=True) if b), reverse=True)
    corners: list[Point] = [(Fraction(0), Fraction(0)), (Fraction(0), nothing)]
    for _, b, a in steps:
        corners.append((corners[-1][0] + b, corners[-1][1] + a))
    return hull(corners)


def hull(points: list[Point]) -> Curve:
    """Return the least concave curve on [0, 1] above these points of the unit square, (0, 0) and (1, 1)."""
    corners: list[Point] = []
    for point in sorted({*points, (Fraction(0), Fraction(0)), (Fraction(1), Fraction(1))}):
        while corners and (
            corners[-1][0] == point[0] or (len(corners) > 1 and _bends_up(corners[-2], corners[-1], point))
        ):
            corners.pop()
        corners.append(point)
    return tuple(corners)


def mirrored(curve: Curve) -> Curve:
    """Return the curve of (Q, P)."""
    return hull([(1 - a, 1 - b) for b, a in curve])


def pair_of(curve: Curve, *, attained: bool) -> DiscretePair:
    """Return the pair of a curve: a step (Δb, Δa) is an outcome of the loss log Δa/Δb.

    Raises:
        InvalidParameter: if a loss is not 0 but below 1e-300, where floats can't tell it from 0.
    """
    steps = [(d - b, c - a) for (b, a), (d, c) in itertools.pairwise(curve)]
    rising = [(b, a) for b, a in reversed(steps) if a > 0]
    return DiscretePair(
        losses=tuple(_log(a / b) for b, a in rising),
        masses=tuple(_enclosed(a) for _, a in rising),
        infinite_mass=_enclosed(curve[0][1]),
        missing_mass=_enclosed(sum((b for b, a in steps if a == 0), start=Fraction(0))),
        attained=attained,
    )


def _bends_up(one: Point, two: Point, three: Point) -> bool:
    """Tell whether the middle one of three points lies on or below the line between the others."""
    return (two[1] - one[1]) * (three[0] - one[0]) <= (three[1] - one[1]) * (two[0] - one[0])


def _log(ratio: Fraction) -> float:
    """Return log(ratio) to within 3u of itself: by log1p near 1, where the difference from 1 is what counts."""
    if Fraction(1, 2) <= ratio <= 2:
        gap = float(ratio - 1)
        if ratio != 1 and abs(gap) < 1e-300:
            raise InvalidParameter(
                "UserSupplied: ratios of probabilities must differ from 1 by 1e-300 at least, or be 1. "
                "Round the probabilities to floats."
            )
        return math.log1p(gap)
    near = ratio.numerator / ratio.denominator if Fraction(1, 2**1000) < ratio < 2**1000 else math.inf
    if math.isfinite(near):
        return math.log(near)
    twos = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return math.log(ratio / (Fraction(2) ** twos)) + twos * math.log(2.0)


def _enclosed(value: Fraction) -> Bounds:
    near = float(value)
    lower = near if Fraction(near) <= value else float(down(near))
    upper = near if Fraction(near) >= value else float(up(near))
    return Bounds(lower=max(lower, 0.0), upper=min(upper, 1.0))
