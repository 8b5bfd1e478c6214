"""Rows of a stream as whole numbers of steps, so that what is made of them before the noise is exact.

A float64 sum rounds, and may move by more than its rows do [CSVW22]. So with Δ the bound of a record's contribution to
a row of d coordinates, and 2^k a public power of two, 2^k √d at most 2^-24 Δ,

    q = clip(⌊x/2^k⌉, ±2^K)

in every coordinate, K public. Rounding moves two numbers apart by at most 1 and clipping by nothing, so that
neighbours' rows, at most Δ apart and equal but where the record takes part, become whole numbers at most

    D = Δ/2^k + √d <= (1 + 2^-24) Δ/2^k

apart, and equal elsewhere; at most 2 Δ, at most 2 D. Noise is scaled to D where the ideal mechanism has Δ: the claim
holds for all floats, for noise that is larger by 2^-24.

**Sums over nodes** are clipped to ±2^61, level by level. Clipping moves nothing apart: a coordinate of a node moves by
at most the sum of the moves of its leaves, all as if in one direction, as the sensitivity of the tree presumes.

**Products with coefficients.** The coefficients c, at most 2^e in size, are rounded to whole numbers ĉ of 2^(e − w),
which depends on no data. With x's whole numbers split as q = 2^w h + l, 0 <= l < 2^w,

    y_t = ⌊2^-w Σ_m ĉ_m q_{t−m}⌉ = Σ_m ĉ_m h_{t−m} + ⌊2^-w Σ_m ĉ_m l_{t−m} + 1/2⌋,

in int64: w and K are such that both sums stay at or below 2^61. A record moves y by at most 2^-w sens(ĉ) D, and, as a
coordinate of each row that it reaches is rounded, √(d rows) more.

[CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.bounds import Bounds, sqrt

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]
FINER = 24  # binary digits that a step, times √d, is finer than the bound
MOST_DIGITS = 61  # of sums: what is added to them, and two of them, stay within int64


class Step(NamedTuple):
    """2^exponent, and an enclosure of the most that a record moves a row in it, D."""

    exponent: int
    bound: Bounds


class WholeCoefficients(NamedTuple):
    """ĉ, in units of 2^(exponent − digits); all are at most 2^digits in size."""

    values: Wholes
    digits: int
    exponent: int

    @property
    def scaled(self) -> tuple[float, ...]:
        """In units of 2^exponent, exactly: at most 1 in size."""
        return tuple(math.ldexp(int(c), -self.digits) for c in self.values)


def step_for(sensitivity: float, coordinates: int) -> Step:
    """Return the step for rows of so many coordinates, from public parameters alone.

    >>> step_for(1.0, 1).exponent, float(step_for(1.0, 1).bound.upper) >= 2**24 + 1
    (-24, True)
    """
    root = (max(coordinates - 1, 0).bit_length() + 1) // 2  # √d <= 2^root
    exponent = math.frexp(sensitivity)[1] - 1 - FINER - root
    return Step(exponent, math.ldexp(sensitivity, -exponent) + sqrt(Bounds.exact(float(coordinates))))


def whole(rows: Floats, step: Step, *, digits: int = MOST_DIGITS) -> Wholes:
    """Return finite rows as the nearest whole numbers of steps, clipped to ±2^digits."""
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(rows, -step.exponent)
    return np.clip(np.rint(scaled), -(2.0**digits), 2.0**digits).astype(np.int64)


def node_sums(rows: Wholes) -> list[Wholes]:
    """Return the sums of the complete nodes of a binary tree, level by level, each clipped to ±2^61.

    >>> [level.tolist() for level in node_sums(np.array([2**61, 5, 1]))]
    [[2305843009213693952, 5, 1], [2305843009213693952]]
    """
    levels = [rows]
    while len(levels[-1]) > 1:
        pairs = levels[-1][: len(levels[-1]) // 2 * 2]
        levels.append(np.clip(pairs[0::2] + pairs[1::2], -(2**MOST_DIGITS), 2**MOST_DIGITS))
    return levels


def whole_coefficients(coefficients: tuple[float, ...]) -> WholeCoefficients:
    """Return the coefficients rounded to w digits: 30 for a single one, 20 for a million, 2 w + log₂(number) <= 61.

    >>> whole_coefficients((1.0, 0.5)).scaled, whole_coefficients((1.0, 0.5)).exponent
    ((0.5, 0.25), 1)
    """
    digits = (MOST_DIGITS - len(coefficients).bit_length()) // 2
    exponent = math.frexp(max(map(abs, coefficients)))[1]
    with np.errstate(under="ignore"):
        scaled = np.ldexp(np.array(coefficients), digits - exponent)
    return WholeCoefficients(np.rint(scaled).astype(np.int64), digits, exponent)


def mixed(rows: Floats, step: Step, coefficients: WholeCoefficients) -> Wholes:
    """Return y: the product of the Toeplitz matrix and the rows, in steps times 2^exponent of the coefficients.

    Rows are clipped to 2^(61 + w) steps over the power of two above Σ |ĉ|.

    >>> step, half = step_for(1.0, 1), whole_coefficients((0.5, 0.25))
    >>> (mixed(np.array([[1.0], [2.0]]), step, half) * 2.0**step.exponent).tolist()
    [[0.5], [1.25]]
    """
    digits = coefficients.digits
    size = int(np.abs(coefficients.values).sum()).bit_length()
    data = whole(rows, step, digits=MOST_DIGITS + digits - size)
    high, low = data >> digits, data & ((1 << digits) - 1)
    sums, rest = np.zeros_like(data), np.full_like(data, 1 << (digits - 1))
    for m in np.flatnonzero(coefficients.values).tolist():
        c, end = coefficients.values[m], len(data) - m
        sums[m:] += c * high[:end]
        rest[m:] += c * low[:end]
    return sums + (rest >> digits)
