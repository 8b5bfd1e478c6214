"""Squared norms of the rows of a matrix, never smaller than they are.

float32 rows are taken in blocks of at most BLOCK entries: norms of blocks in float32, of those norms in float64, which
takes a quarter of the time of float64 throughout. What rounding can take from a norm is given back:

    one square, and a sum of L squares in any order     at least (1 − u)^L of them, u = 2^-24; an underflow loses 2^-126
    the root of the sum, its square                     (1 − u)² of it
    all blocks, in float64                              (1 − 2^-53)^k, k <= width / L + 4, below one u together

so that ‖row‖² <= (1 − u)^-(L + 3) · what is computed + width · 2^-126 for any order of the sums, fused or not. A square
past the range of float32 makes the norm infinite, and its example then counts as zero.

All rows of float32 are given width · 2^-125, and those of float64 (width + 2) · 2^-1022: beside what squares lose, it
covers entries that count as 0 where torch is told to flush what is subnormal, and what products of clipped rows lose to
underflow (`dpsgd.core.clip`).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

BLOCK = 128
"""Entries summed in float32, at most: norms come out up to (BLOCK + 3) / 2 · 2^-24 = 4e-6 of them too large."""
UNIT = 2.0**-24
UNDERFLOW = 2.0**-125
LEAST = 2.0**-1022
"""What a square of float64 may lose to underflow, at most, where it is flushed."""
NORM_ENTRIES = 2**16
"""Entries of which norms are taken in float64 at once: they are copied first, which should stay in the cache."""


def squared_norms(rows: Tensor, *, plus: float = 0.0) -> Tensor:
    """Return ‖row‖² + plus of every row of (n, k), float64 (n,), rounded up.

    What a row gets depends on that row and on k alone, not on n. It is NaN or infinite where an entry is.

    >>> squared_norms(torch.tensor([[3.0, 4.0], [0.0, float("nan")]]))
    tensor([25., nan], dtype=torch.float64)
    """
    width = rows.shape[1]
    if rows.dtype != torch.float32 or width <= BLOCK:
        return _squared(_norms(rows), 1.0, lost(width, rows.dtype) + plus)
    blocks, size, rounding = _blocks(width)
    taken = blocks * size
    each = (rows if taken == width else rows[:, :taken]).view(rows.shape[0], blocks, size)
    norms = torch.linalg.vector_norm(torch.linalg.vector_norm(each, dim=2), dim=1, dtype=torch.float64)
    squares = _squared(norms, rounding, lost(width, rows.dtype) + plus)
    return squares if taken == width else squares.add_(_norms(rows[:, taken:]).square_())


def lost(width: int, dtype: torch.dtype) -> float:
    """Return what is added to squared norms of rows of so many entries."""
    return (width + 2) * LEAST if dtype == torch.float64 else width * UNDERFLOW


@functools.cache
def _blocks(width: int) -> tuple[int, int, float]:
    """Return the blocks' number and size, which leave nothing over if the width divides so, and 1 + their rounding."""
    size = next((size for size in range(BLOCK, BLOCK // 2, -1) if width % size == 0), BLOCK)
    return width // size, size, (1.0 - UNIT) ** -(size + 3)


def _squared(norms: Tensor, factor: float, plus: float) -> Tensor:
    """Return factor · norm² + plus."""
    return torch.addcmul(_constant(plus, norms.device), norms, norms, value=factor)


@functools.cache
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)


def _norms(rows: Tensor) -> Tensor:
    """Return norms from sums in float64."""
    size = max(1, NORM_ENTRIES // max(1, rows.shape[1]))
    if rows.shape[0] <= size:
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        return norms
    return torch.cat([torch.linalg.vector_norm(some, dim=1, dtype=torch.float64) for some in torch.split(rows, size)])
