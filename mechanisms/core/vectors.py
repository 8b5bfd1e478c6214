"""Vectors of whole numbers whose Euclidean norm is bounded exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mechanisms.core.bounds import Array

ENTRIES = 2**20  # at once; clipping makes about ten arrays of that size


def summed(rows: Array, size: float, radius: int) -> Array:
    """Return the exact sum of rows in the ball, int64, shape (d,)."""
    return sum(
        (np.sum(part, axis=0) for part in _in_parts(rows, size, radius)), start=np.zeros(rows.shape[1], np.int64)
    )


def summed_products(rows: Array, size: float, radius: int) -> Array:
    """Return the exact sum of v vᵀ over rows v in the ball of at most 2^14, int64, shape (d, d).

    Sums of 2^20 products of at most 2^28 are exact in float64, in any order and also by fused operations.
    """
    found = np.zeros((rows.shape[1], rows.shape[1]), np.int64)
    for part in _in_parts(rows, size, radius):
        data = part.astype(np.float64)
        found += (data.T @ data).astype(np.int64)
    return found


def _in_parts(rows: Array, size: float, radius: int) -> Iterator[Array]:
    at_once = max(1, ENTRIES // rows.shape[1])
    for start in range(0, len(rows), at_once):
        yield in_ball(rows[start : start + at_once], size, radius)


def in_ball(rows: Array, size: float, radius: int) -> Array:
    """Return rows as whole numbers of steps of `size`, int64, each of Euclidean norm at most `radius` <= 2^24.

    A row of a larger norm is shrunk to it; infinite entries count as equally far off, NaN as 0. Rounding is to the
    nearest where that stays within the ball, for the row or for one shorter by a step, else towards 0, if need be after
    shrinking by what float64 may have lost.

    Guarantees: Σ v² <= radius² in exact arithmetic, however floats round: what fails is replaced by the next candidate,
    in the end by 0. The sum of squares of whole numbers is exact below 2^53 and not below 2^53 above.

    Args:
        rows: float64, shape (n, d).
        size: the step.
        radius: the largest norm, in steps.
    """
    rows = np.where(np.isnan(rows), 0.0, rows)
    with np.errstate(all="ignore"):
        longest = np.max(np.abs(rows), axis=1, keepdims=True, initial=0.0)
        unit = np.where(np.isinf(longest), np.isinf(rows) * np.sign(rows), rows / longest)
        unit = np.where(longest == 0.0, 0.0, unit)
        stretch = np.sqrt(np.sum(unit * unit, axis=1, keepdims=True))
        length = longest / size * stretch
        scaled = np.where(length <= radius, rows / size, unit * (radius / stretch))
    scaled = np.clip(np.nan_to_num(scaled, nan=0.0), -radius, radius)
    shrunk = scaled * (1.0 - (rows.shape[1] + 16) * 2.0**-52)
    shorter = scaled * (1.0 - 1.0 / radius)
    found = np.zeros_like(scaled)
    for candidate in (np.trunc(shrunk), np.trunc(scaled), np.rint(shorter), np.rint(scaled)):
        fits = np.sum(candidate * candidate, axis=1, keepdims=True) <= float(radius * radius)
        found = np.where(fits, candidate, found)
    return np.asarray(found, dtype=np.int64)
