"""Checks of single values at the library's doors: each returns the cleaned value or raises `InvalidParameter`."""

import math
import operator
from collections.abc import Iterable, Mapping, Set
from typing import SupportsFloat, SupportsIndex, cast

import numpy as np

from mechanisms.core.errors import InvalidParameter


def real(owner: str, name: str, value: object) -> float:
    """Return `value` as a float that is not NaN.

    Raises:
        InvalidParameter: if `value` is no real number (text, a complex number, an array) or is NaN.

    >>> real("Gaussian", "noise_multiplier", 2)
    2.0
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "")  # numpy's bool and complex scalars have __float__ too
    if isinstance(value, (str, bytes, bool)) or kind in ("b", "c") or not hasattr(value, "__float__"):
        raise InvalidParameter(f"{owner}: {name} must be a real number, got {value!r}.")
    try:
        number = float(cast(SupportsFloat, value))
    except OverflowError:
        raise InvalidParameter(f"{owner}: {name} must fit a double, got an integer beyond 1.8e308.") from None
    except (TypeError, ValueError):
        raise InvalidParameter(f"{owner}: {name} must be a single real number, got {value!r}.") from None
    if math.isnan(number):
        raise InvalidParameter(f"{owner}: {name} must be a number, got nan.")
    return number + 0.0  # -0.0 becomes 0.0


def finite(owner: str, name: str, value: object) -> float:
    """Return `value` as a finite float.

    Raises:
        InvalidParameter: as `real`, and for infinities.
    """
    number = real(owner, name, value)
    if math.isinf(number):
        raise InvalidParameter(f"{owner}: {name} must be finite, got {number}.")
    return number


def non_negative(owner: str, name: str, value: object, hint: str = "") -> float:
    """Return `value` as a finite float that is at least 0.

    Raises:
        InvalidParameter: as `finite`, and for negative values.
    """
    number = finite(owner, name, value)
    if number < 0:
        raise InvalidParameter(f"{owner}: {name} must be at least 0, got {number}.{_spaced(hint)}")
    return number


def positive(owner: str, name: str, value: object, hint: str = "") -> float:
    """Return `value` as a finite float above 0.

    Raises:
        InvalidParameter: as `finite`, and for values of 0 or less.
    """
    number = finite(owner, name, value)
    if number <= 0:
        raise InvalidParameter(f"{owner}: {name} must be above 0, got {number}.{_spaced(hint)}")
    return number


def probability(owner: str, name: str, value: object, hint: str = "") -> float:
    """Return `value` as a float in [0, 1].

    Raises:
        InvalidParameter: as `real`, and for values outside [0, 1].
    """
    number = real(owner, name, value)
    if not 0 <= number <= 1:
        raise InvalidParameter(f"{owner}: {name} must lie in [0, 1], got {number:.15g}.{_spaced(hint)}")
    return number


def count(owner: str, name: str, value: object, *, least: int = 0) -> int:
    """Return `value` as an int that is at least `least`; a float is taken only if it is a whole number.

    Raises:
        InvalidParameter: for fractions, text, and values below `least`.
    """
    if isinstance(value, (bool, str, bytes)):
        raise InvalidParameter(f"{owner}: {name} must be a whole number, got {value!r}.")
    try:
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        as_real = finite(owner, name, value)
        if not as_real.is_integer():
            raise InvalidParameter(f"{owner}: {name} must be a whole number, got {as_real}.") from None
        number = int(as_real)
    if number < least:
        raise InvalidParameter(f"{owner}: {name} must be at least {least}, got {number}.")
    return number


def sequence(owner: str, name: str, value: object, hint: str = "") -> tuple[object, ...]:
    """Return the items of `value` as a tuple.

    Raises:
        InvalidParameter: if it is text, has no items, or has them in no order.
    """
    if not isinstance(value, (str, bytes, Set, Mapping)):
        try:
            return tuple(cast(Iterable[object], value))
        except TypeError:
            pass
    raise InvalidParameter(f"{owner}: {name} must be a sequence, got {value!r}.{_spaced(hint)}")


def truth(owner: str, name: str, value: object) -> bool:
    """Return `value` as a bool if it is one, of Python or numpy: "no" would count as true.

    Raises:
        InvalidParameter: otherwise.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InvalidParameter(f"{owner}: {name} must be True or False, got {value!r}.")


def choice(owner: str, name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        InvalidParameter: otherwise; the message lists what is allowed.
    """
    if isinstance(value, str) and value in allowed:
        return value
    raise InvalidParameter(f"{owner}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def _spaced(hint: str) -> str:
    return f"\n{hint}" if hint else ""
