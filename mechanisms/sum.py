"""The noisy sum of numbers clipped to declared bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core.contributions import Contributions, numbers
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Mechanism
from mechanisms.core.query import (
    REAL,
    Filling,
    Query,
    checked_noise,
    derived,
    filling,
    interval,
    real_records,
    step,
    total,
    whole_steps,
)
from mechanisms.core.randomness import Source

BITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum(Query):
    """Σ clip(x, lower, upper) + noise.

    The noise multiplier stands for the scale of the noise ÷ s, s = max(−lower, upper, 0), which is the most that a
    record adds. Replacing one moves the sum by max(upper, 0) − min(lower, 0), often less than the 2s of a plain
    `Gaussian`. Values in [100, 101] have s = 101: subtract the lower bound first, or use `Mean`, which centres them.

    Values are rounded to whole steps of 2^-24 to 2^-23 of s, and so are the bounds: `sensitivity` is s of these. A
    record is thus changed by at most 2^-24 s, and the sum, without noise, is exact for values that are multiples of a
    step. It saturates at ±2^53 steps, more than 5e8 records of the largest size.

    Args:
        lower: finite; smaller values, −inf as well, count as this.
        upper: finite, at least `lower`; likewise.
        noise: `Gaussian` or `Laplace`.
        nan: what stands for NaN before clipping; None: a NaN adds nothing; "reject": an error, which reveals that there
            is one and is no part of the guarantee.

    Raises:
        InvalidParameter: if a bound is not finite, they are out of order or both 0, or the noise is of another kind.

    >>> from mechanisms import Adjacency, Gaussian, KeyedSource
    >>> query = Sum(lower=0.0, upper=10.0, noise=Gaussian(noise_multiplier=2.0))
    >>> query.sensitivity, query.pairs(Adjacency.REPLACE_ONE)["replace"].shift.contains(0.5)
    (10.0, True)
    >>> Sum(lower=0, upper=10, noise=Gaussian(noise_multiplier=0.0)).release([1, 2.5, 99], randomness=KeyedSource(0))
    13.5
    """

    lower: float
    upper: float
    noise: Mechanism
    nan: Filling = None

    def __post_init__(self) -> None:
        lower, upper = interval("Sum", self.lower, self.upper)
        if lower == upper == 0.0:
            raise InvalidParameter("Sum: bounds must not both be 0, got 0.0 and 0.0: no record could add anything.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        checked_noise("Sum", self.noise, REAL)
        object.__setattr__(self, "nan", filling("Sum", self.nan))

    @property
    def contributions(self) -> Contributions:
        """Whole numbers of steps between those of the bounds, or, for a NaN that adds nothing, 0."""
        low, high = whole_steps(np.array([self.lower, self.upper]), self._step).tolist()
        return numbers(low, high, nothing=self.nan is None)

    @property
    def sensitivity(self) -> float:
        """The most that one record adds."""
        return self.contributions.sensitivity * self._step

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> float:
        """Return the noisy sum; of no records, noise.

        Guarantees: neighbours' sums differ by at most what `pairs` says, exactly; for the noise see its own `release`.

        Args:
            value: numbers, shape (n,).
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Sum", sensitivity)
        data = real_records("Sum", value, nan=self.nan)
        steps = whole_steps(np.clip(data, self.lower, self.upper), self._step)
        return float(self.noisy(float(total(steps)), randomness)) * self._step

    @property
    def _step(self) -> float:
        return step(max(-self.lower, self.upper), BITS)
