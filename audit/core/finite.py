"""Numbers that scores may be: finite ones, kept from being written to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.errors import InvalidParameter

LARGEST = 1e60  # in size, of a score: fourth powers of it, summed, are floats


class NotFinite(InvalidParameter):
    """A score is infinite, NaN, or so large that it may as well be."""


def finite(owner: str, name: str, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers, read-only from now on.

    Raises:
        NotFinite: if one is not finite, or too large.
    """
    if not np.all(np.abs(numbers) <= LARGEST):
        raise NotFinite(
            f"{owner}: {name} must be finite, and some are not, or beyond {LARGEST:.0e}, where squares overflow. "
            "Did training diverge?"
        )
    numbers.flags.writeable = False
    return numbers
