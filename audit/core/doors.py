"""Checks of arrays at the doors of estimators: what is no number, count or ε is refused before anything is computed.

Errors name the rule and never the values: scores, outputs and counts of errors are private.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.finite import LARGEST
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Array = NDArray[np.float64]
MOST_RUNS = 2**53  # doubles count no further


def array(owner: str, name: str, values: ArrayLike) -> NDArray[Any]:
    """Return an array, of whatever it holds.

    Raises:
        InvalidParameter: if rows are of unequal length.

    >>> array("doors", "membership", [True, False])
    array([ True, False])
    """
    try:
        return np.asarray(values)
    except ValueError:
        raise InvalidParameter(f"{owner}: {name} must be an array, got rows of unequal length.") from None


def numbers(owner: str, name: str, values: ArrayLike) -> Array:
    """Return real numbers as floats, which may be infinite or NaN.

    Raises:
        InvalidParameter: if they are text, complex, objects, or rows of unequal length.

    >>> numbers("doors", "scores", [True, 2])
    array([1., 2.])
    """
    given = array(owner, name, values)
    if given.dtype.kind not in "biuf":
        raise InvalidParameter(f"{owner}: {name} must be real numbers, got an array of {given.dtype}.")
    return given.astype(np.float64)


def sized(owner: str, name: str, values: ArrayLike, *, least: float = -LARGEST) -> Array:
    """Return real numbers as floats, none beyond `LARGEST` in size, so that sums and squares of them are floats.

    Raises:
        InvalidParameter: if one is larger, infinite, NaN or below `least`.

    >>> float(sized("doors", "gap", -2))
    -2.0
    """
    given = numbers(owner, name, values)
    if not np.all((given >= least) & (given <= LARGEST)):
        raise InvalidParameter(
            f"{owner}: {name} must be finite, at least {least:g} and at most {LARGEST:g}, got others.\n"
            "Measure in other units, or did training diverge?"
        )
    return given


def losses(owner: str, epsilon: ArrayLike) -> Array:
    """Return values of ε, each at least 0; it may be infinite.

    Raises:
        InvalidParameter: if one is negative, NaN or no number.

    >>> losses("doors", [0, 1.5])
    array([0. , 1.5])
    """
    asked = numbers(owner, "epsilon", epsilon)
    if not np.all(asked >= 0):
        raise InvalidParameter(f"{owner}: epsilon must be at least 0, got less or nan.")
    return asked


def loss(owner: str, epsilon: object) -> float:
    """Return one ε, at least 0.

    Raises:
        InvalidParameter: as `losses`, and if there are several.

    >>> loss("doors", 2)
    2.0
    """
    if (asked := validate.real(owner, "epsilon", epsilon)) < 0:
        raise InvalidParameter(f"{owner}: epsilon must be at least 0, got {asked}.")
    return asked


def trials(owner: str, name: str, value: object, *, least: int = 1, most: int = MOST_RUNS) -> int:
    """Return a number of runs, canaries or guesses.

    Raises:
        InvalidParameter: if it is fractional, below `least` or above `most`.

    >>> trials("doors", "included", 3.0)
    3
    """
    if (number := validate.count(owner, name, value, least=least)) > most:
        raise InvalidParameter(f"{owner}: {name} must be at most {most:,}, got more.")
    return number


def counts(owner: str, name: str, values: ArrayLike, most: int) -> Array:
    """Return counts as floats.

    Raises:
        InvalidParameter: if one is negative, fractional or above `most`.

    >>> counts("doors", "correct", [0, 3], 3)
    array([0., 3.])
    """
    given = numbers(owner, name, values)
    with np.errstate(invalid="ignore"):  # of infinities
        whole = (given >= 0) & (given <= most) & (given % 1 == 0)
    if not np.all(whole):
        raise InvalidParameter(f"{owner}: {name} must be whole numbers, at least 0 and at most all there are.")
    return given


def check_errors(
    owner: str,
    *,
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    delta: float = 0.0,
    confidence: float,
) -> None:
    """Refuse errors that so many runs in and out cannot have, and impossible levels.

    Raises:
        InvalidParameter: naming the one that breaks its rule.
    """
    check_level(owner, delta=delta, confidence=confidence)
    counts(owner, "false_negatives", false_negatives, trials(owner, "included", included))
    counts(owner, "false_positives", false_positives, trials(owner, "excluded", excluded))
