"""Integers in, integers out: what the releases of discrete noise have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import Array
from mechanisms.core.errors import InvalidParameter


def check_sensitivity(owner: str, declared: int, given: object) -> None:
    """Check that a release is for the sensitivity that was declared: the guarantee is about that one alone.

    Raises:
        InvalidParameter: if it is another one.
    """
    if validate.count(owner, "sensitivity", given, least=1) != declared:
        raise InvalidParameter(
            f"{owner}: sensitivity must be the declared one, {declared}, got {given!r}.\n"
            f"What discrete noise guarantees depends on it: declare {owner}(sensitivity={given!r}, ...)."
        )


def noisy_integers(owner: str, value: Any, noise: Callable[[int], Array], size: int | None = None) -> Any:
    """Return `value` plus as many draws of `noise`: an int for a number, else an array of the same shape.

    Guarantees: exact sums. An array is int64 where all of the released numbers fit, else of Python's integers: it tells
    nothing but these.

    Args:
        owner: whose errors these are.
        value: an int, or an array of integers of any width, or of Python's integers.
        noise: from n to n integers.
        size: how many numbers there must be, where that matters.

    Raises:
        InvalidParameter: if the value holds anything but integers, or not as many.

    >>> noisy_integers("Noise", 2**63, lambda n: np.ones(n, dtype=np.int64))
    9223372036854775809
    """
    data = _integers(owner, value)
    if size is not None and data.size != size:
        raise InvalidParameter(f"{owner}: value must hold as many integers as there are dimensions, {size}.")
    drawn = noise(data.size)
    sums = [one + two for one, two in zip(data.ravel().tolist(), drawn.tolist(), strict=True)]
    if data.ndim == 0:
        return int(sums[0])
    narrow = all(-(2**63) <= one < 2**63 for one in sums)
    found = np.empty(len(sums), dtype=np.int64 if narrow else object)
    found[:] = sums
    return found.reshape(data.shape)


def _integers(owner: str, value: Any) -> Array:
    """Return the integers as an array; one of Python's where they are too wide for others."""
    rule = "value must be an integer or an array of integers"
    data = np.asarray(value, dtype=object) if isinstance(value, int) else plain_array(owner, value, rule=rule)
    whole = data.dtype.kind in "iu" or (
        data.dtype == object
        and all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in data.ravel().tolist())
    )
    if not whole:
        raise InvalidParameter(
            f"{owner}: {rule}.\nCount, or round each record's contribution to integers, before any noise is added."
        )
    return data
