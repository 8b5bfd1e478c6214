"""The noisy mean of numbers clipped to declared bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array
from mechanisms.core.contributions import Contributions, counted, numbers
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.query import (
    LARGEST_TOTAL,
    NORMS,
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
class Mean(Query):
    """The mean of clip(x, lower, upper), from a noisy sum of differences from the middle m, each at most h in size.

    *With `records`*, a public number n: m + (Σ (x − m) + noise) / n. The sum has sensitivity h, the noise on the mean
    standard deviation or scale σ h / n, σ the noise multiplier. n is only what is divided by, under any adjacency: of
    data of another size the result is the mean of nothing.

    *Without*, under add/remove and replace-one: m + S / max(N, 1), clipped to the bounds, S the noisy sum and N the
    noisy number of records, from the two coordinates (Σ (x − m), n h) of one query. Its sensitivity is √2 h for
    `Gaussian`, 2h for `Laplace`, and the standard deviation of the mean at most about 2σh/n or 4σh/n, that of a mean
    near m the √½ of it. The quotient of what is public costs nothing. Lower ends are what neighbours come near as the
    other records grow in number: then the noisy mean shows the difference of S and N m' alone, m' their own mean.

    Values are rounded to whole steps of 2^-24 to 2^-23 of h. The sum saturates at ±2^53 steps, more than 5e8 records at
    a bound, and n h likewise.

    Args:
        lower: finite; smaller values, −inf as well, count as this.
        upper: finite, above `lower`; likewise.
        noise: `Gaussian` or `Laplace`.
        records: the public number of records, at least 1; None where it is private.
        nan: what stands for NaN before clipping; None: a NaN counts as m where `records` is given, else as no record;
            "reject": an error, which reveals that there is one and is no part of the guarantee.

    Raises:
        InvalidParameter: if a bound is not finite, they are equal or out of order, or the noise is of another kind.

    >>> from mechanisms import Gaussian, KeyedSource
    >>> query = Mean(lower=0, upper=8, records=4, noise=Gaussian(noise_multiplier=0.0))
    >>> query.release([1, 2, 3, 9], randomness=KeyedSource(0))
    3.5
    """

    lower: float
    upper: float
    noise: Mechanism
    records: int | None = None
    nan: Filling = None

    def __post_init__(self) -> None:
        lower, upper = interval("Mean", self.lower, self.upper)
        if not (upper - lower) / 2.0 >= 1e-270:
            raise InvalidParameter(f"Mean: lower must be below upper by at least 2e-270, got {lower} and {upper}.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        checked_noise("Mean", self.noise, REAL)
        if self.records is not None:
            object.__setattr__(self, "records", validate.count("Mean", "records", self.records, least=1))
        object.__setattr__(self, "nan", filling("Mean", self.nan))

    @property
    def contributions(self) -> Contributions:
        """Whole numbers of steps in [−h, h], with h steps beside them where records are counted."""
        half = self._half_steps
        if self.records is not None:
            return numbers(-half, half)
        return counted(half, NORMS[type(self.noise).__name__], nothing=self.nan is None)

    @property
    def sensitivity(self) -> float:
        """That of the query to which noise is added, as above."""
        return self.contributions.sensitivity * self._step

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the noise's pairs for the movement of this query between neighbours.

        Raises:
            UnsupportedProcess: under zero_out where `records` is not given: a zeroed record is counted, or is not.
        """
        if self.records is None and adjacency is Adjacency.ZERO_OUT:
            raise UnsupportedProcess(
                "Mean: without records it counts them, and whether a record set to zero counts is not said. "
                "Use Mean(records=...), or adjacency='add_remove' or 'replace_one'."
            )
        return Query.pairs(self, adjacency)

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> float:
        """Return the noisy mean.

        Args:
            value: numbers, shape (n,); may be empty.
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Mean", sensitivity)
        data = real_records("Mean", value, nan=self.nan)
        differences = (np.clip(data, self.lower, self.upper) - self.lower) - self._half
        limit = self._half_steps
        moved = total(np.clip(whole_steps(differences, self._step), -limit, limit))
        middle = self.lower + self._half
        if self.records is not None:
            return float(middle + float(self.noisy(float(moved), randomness)) * self._step / self.records)
        seen = min(int(np.sum(~np.isnan(data))), LARGEST_TOTAL // limit) * float(limit)
        noisy: Array = self.noisy(np.array([moved, seen]), randomness)
        mean = middle + noisy[0] * self._step / max(noisy[1] / limit, 1.0)
        return float(np.clip(mean, self.lower, self.upper))

    @property
    def _half(self) -> float:
        return (self.upper - self.lower) / 2.0

    @property
    def _step(self) -> float:
        return step(self._half, BITS)

    @property
    def _half_steps(self) -> int:
        return int(whole_steps(np.array([self._half]), self._step)[0])
