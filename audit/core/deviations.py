"""Standard deviations of scores in any unit: of numbers below 1e-162 the squares are 0, which would say "no noise"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def deviation(values: Array) -> float:
    """Return the standard deviation, with n − 1 in the denominator, of two values or more; 0 only where all are equal.

    >>> deviation(np.array([1e-200, 3e-200]))
    1.41421356237...e-200
    """
    away = values - np.mean(values)
    largest = float(np.max(np.abs(away)))
    return largest * float(np.std(away / largest, ddof=1)) if largest > 0 else 0.0
