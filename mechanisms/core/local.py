"""What mechanisms share in which every record answers for itself: their only adjacency, and the checks of records."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import up
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mechanisms.core.process import Adjacency


def only_replace_one(owner: str, adjacency: Adjacency) -> None:
    """Refuse neighbours of which one lacks a record.

    Raises:
        UnsupportedProcess: under any adjacency but replace-one.
    """
    if adjacency.value != "replace_one":
        raise UnsupportedProcess(
            f"{owner}: its neighbours are replace_one, got {adjacency.value}: "
            "every record answers, so none can be missing. Use adjacency='replace_one'."
        )


def is_one(value: object) -> bool:
    """Tell whether it is the number 1: neither True nor an array is."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(value == 1)


def only_unit_sensitivity(owner: str, of: str, sensitivity: float) -> None:
    """Refuse a sensitivity where the mechanism itself says how far apart two records are.

    Raises:
        InvalidParameter: if it is not 1.
    """
    if not is_one(sensitivity):
        raise InvalidParameter(f"{owner}: sensitivity must be 1 for a {of}, got {sensitivity!r}.")


def checked_categories(owner: str, name: str, value: Any, categories: int) -> NDArray[Any]:
    """Return whole numbers in [0, categories) as an integer array of their shape.

    Raises:
        InvalidParameter: if one is something else; it is not shown, as it may be a record's.
    """
    data = plain_array(owner, value, rule=f"{name} must hold whole numbers in [0, {categories})")
    if data.size == 0 and data.dtype.kind == "f":
        data = data.astype(np.int64)
    if data.dtype.kind not in "iu" or np.any(data < 0) or np.any(data >= categories):
        raise InvalidParameter(
            f"{owner}: {name} must hold whole numbers in [0, {categories}). "
            "Declare categories for all that may occur, not only for those that do."
        )
    return data


def half_width(low: float, high: float) -> tuple[float, bool]:
    """Return (high − low)/2 as a float, rounded up, and whether it is exact.

    Two records' values in [low, high] differ by twice that at most, and by just that where it is exact.

    >>> half_width(0.0, 3.0)
    (1.5, True)
    """
    exact = (Fraction(high) - Fraction(low)) / 2
    rounded = float(exact)
    if Fraction(rounded) < exact:
        rounded = float(up(rounded))
    return (rounded, Fraction(rounded) == exact) if math.isfinite(rounded) else (rounded, False)
