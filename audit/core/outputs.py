"""What a computation released, taken apart: the numbers that noise was added to, and the form that is public."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def form(value: Any) -> Any:
    """Return types, keys, lengths, shapes and words of an output: all of it but its numbers.

    >>> form({"edges": [0.0, 1.0], "label": "x"}) == form({"edges": [0.0, 7.5], "label": "x"})
    True
    >>> form([1.0]) == form([1]), form(np.zeros(2)) == form(np.zeros(3))
    (False, False)
    """
    if (inside := _parts(value)) is not None:
        return type(value).__name__, tuple((name, form(part)) for name, part in inside)
    array = _array(value)
    if array is None:
        return type(value).__name__, repr(value)
    return type(value).__name__, array.dtype.str, array.shape


def numbers(value: Any) -> Numbers:
    """Return all numbers of an output in their order, float64 (k,).

    >>> numbers({"sums": [1, 2.5], "label": "x"})
    array([1. , 2.5])
    """
    if (inside := _parts(value)) is not None:
        return np.concatenate([np.zeros(0), *(numbers(part) for _, part in inside)])
    array = _array(value)
    return np.zeros(0) if array is None else array.astype(np.float64).ravel()


def precision(value: Any) -> float:
    """Return the coarsest relative rounding among the floats of an output, 0 if it holds none.

    >>> precision([1, np.float32(2)]), precision(3)
    (1.1920928955078125e-07, 0.0)
    """
    if (inside := _parts(value)) is not None:
        return max((precision(part) for _, part in inside), default=0.0)
    array = _array(value)
    return float(np.finfo(array.dtype).eps) if array is not None and array.dtype.kind == "f" else 0.0


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the named parts of a container, None of anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def _array(value: Any) -> NDArray[Any] | None:
    """Return a number, an array or a tensor as an array, None where it is neither, or holds truth values or words."""
    plain = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if isinstance(plain, (bool, np.bool_)) or not isinstance(plain, (int, float, np.number, np.ndarray)):
        return None
    array = np.asarray(plain)
    return array if array.dtype.kind in "iuf" or isinstance(plain, int) else None
