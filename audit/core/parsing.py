"""What was read from outside, held against the types that our fields are declared to have."""

from __future__ import annotations

import math
import sys
import types
import typing
from typing import Any, Literal

from mechanisms.core.errors import InvalidParameter

LONGEST = 40  # of a value told in an error


def check_kind(what: str, value: Any, hint: Any) -> None:
    """Refuse a value that is of another kind than declared.

    Args:
        what: it is, for the message.
        value: as it was read, lists as tuples.
        hint: the type of the field: a class, a union, a tuple or literals.

    Raises:
        InvalidParameter: naming it.
    """
    if not fits(value, hint):
        raise InvalidParameter(f"{what} must be {_wanted(hint)}, got {_shortly(value)}.")


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of the kind that a field is declared to be; NaN is of none.

    >>> fits((1.0, 2), tuple[float, ...]), fits(True, int | None), fits("a", Literal["b"])
    (True, False, False)
    """
    kinds = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, one) for one in kinds)
    if origin is Literal:
        return isinstance(value, str) and value in kinds
    if origin is tuple:
        each = [kinds[0]] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(each) and all(map(fits, value, each))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _a_float(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _a_float(value: float) -> bool:
    return not math.isnan(value) if isinstance(value, float) else abs(value) <= sys.float_info.max


def _wanted(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _shortly(value: Any) -> str:
    told = repr(value) if isinstance(value, (str, float, bool)) or value is None else type(value).__name__
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"
