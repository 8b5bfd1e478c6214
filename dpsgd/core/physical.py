"""Physical batches: the parts of a step's sample that are in memory at once.

A step's sum is the sum of its parts' sums, and neither the sample, the divisor nor the noise is asked again: so there
is no other place for gradient accumulation, and ε cannot depend on it.

Parts are added in float64. With p of them the sum errs by what each errs on its own, one rounding to float32, and p
roundings of 2^-53 relative to the sizes added. One unit more may
move others to other parts: what they add is the same up to the rounding of layers that see batches of other sizes, as
it is without parts.

How many parts a step has follows from the sample, which is private: how long a step takes is not part of the guarantee.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mechanisms import InvalidParameter
from mechanisms.core import validate


def checked_physical_batch(largest: object, *, unit_rows: int) -> int | None:
    """Return the largest number of rows in memory at once, None if there is no such bound.

    Args:
        largest: what was given.
        unit_rows: public bound on the rows of one unit, which are clipped as one and so must fit.

    Raises:
        InvalidParameter: if it is no whole number, or one unit does not fit.
    """
    if largest is None:
        return None
    found = validate.count("steps", "largest_physical_batch", largest, least=1)
    if found < unit_rows:
        raise InvalidParameter(
            f"steps: largest_physical_batch must be at least {unit_rows}, the rows of one unit (examples_per_user · "
            f"copies), got {found}: a unit is clipped as one."
        )
    return found


def added(sums: Iterable[Tensor]) -> Tensor:
    """Return the sum of at least one flat sum (d,), added in float64 and rounded once; a single one is left as it is.

    Whole numbers are added up as such.

    >>> import torch
    >>> added([torch.tensor([1.0]), torch.tensor([2.0**-24]), torch.tensor([2.0**-24])]) - 1.0
    tensor([1.1921e-07])
    """
    parts = iter(sums)
    first = next(parts)
    second = next(parts, None)
    if second is None:
        return first
    total = (first.double() if first.is_floating_point() else first).add(second)
    for part in parts:
        total += part
    return total.to(first.dtype)


def even_parts(rows: NDArray[np.int64], largest: int) -> Iterator[NDArray[np.int64]]:
    """Yield units of one row each in parts of at most `largest`; at least one part, so that no unit is a sum too.

    >>> [part.tolist() for part in even_parts(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, max(1, len(rows)), largest):
        yield rows[start : start + largest]


def uneven_parts(counts: NDArray[np.int64], largest: int | None) -> Iterator[NDArray[np.int64]]:
    """Yield the places of units in parts, from units of many rows to units of few; at least one part.

    A part is a rectangle as wide as its widest unit, of at most `largest` rows. Its units have more than half as many
    rows as that, so that less than half of a rectangle is filled in vain.

    Args:
        counts: (n,) rows of each unit, >= 1.
        largest: at least the largest count; or None.

    >>> [part.tolist() for part in uneven_parts(np.array([1, 8, 1, 5, 1]), 16)]
    [[1, 3], [0, 2, 4]]
    """
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order) or start == 0:
        left = counts[order[start:]]
        alike = int(np.count_nonzero(2 * left > left[0])) if len(left) else 1
        size = alike if largest is None or not len(left) else min(alike, largest // int(left[0]))
        yield order[start : start + size]
        start += size
