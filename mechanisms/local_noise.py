"""Local noise: every record's own number, clamped to a declared interval and released with additive noise.

For ε-local privacy by Laplace noise, whose scale is then (high − low)/ε:

    LocalNoise(low=low, high=high, mechanism=Laplace(noise_multiplier=2 / epsilon))

Two records' numbers differ by high − low at most, which is twice the sensitivity s = (high − low)/2 that the mechanism
is run with: so far do its pairs under replace-one let a query move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.local import half_width, only_replace_one, only_unit_sensitivity
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.gaussian import Gaussian
from mechanisms.laplace import Laplace


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNoise(Mechanism):
    """Clamp numbers to [low, high] and add noise to each: what one record releases is its own number.

    Args:
        low: the least number, finite.
        high: the largest number, finite, above low.
        mechanism: `Laplace` or `Gaussian`; its noise multiplier is the noise scale ÷ ((high − low)/2).
        missing: the number in [low, high] that stands for NaN; None refuses NaN.

    Raises:
        InvalidParameter: if the interval is empty or too wide for floats, or a field breaks its rule.

    >>> noise = LocalNoise(low=0.0, high=4.0, mechanism=Laplace(noise_multiplier=2.0))
    >>> noise.pairs(Adjacency.REPLACE_ONE)["replace"].supremum.contains(1.0)  # the scale is (4 − 0)/1
    True
    """

    low: float
    high: float
    mechanism: Mechanism
    missing: float | None = None

    def __post_init__(self) -> None:
        low, high = (validate.finite("LocalNoise", name, getattr(self, name)) for name in ("low", "high"))
        if not low < high:
            raise InvalidParameter(f"LocalNoise: low must lie below high, got {low} and {high}.")
        if not np.isfinite(half_width(low, high)[0]):
            raise InvalidParameter(f"LocalNoise: half of high − low must fit a double, got {low} and {high}.")
        if not isinstance(self.mechanism, (Laplace, Gaussian)):
            raise InvalidParameter(
                f"LocalNoise: mechanism must add noise to a number, got {self.mechanism!r}. "
                "Use Laplace(...) or Gaussian(...)."
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if self.missing is not None:
            missing = validate.finite("LocalNoise", "missing", self.missing)
            if not low <= missing <= high:
                raise InvalidParameter(f"LocalNoise: missing must lie in [low, high], got {missing}.")
            object.__setattr__(self, "missing", missing)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return those of the mechanism; attained by low and high, if half of their distance is a float.

        Raises:
            UnsupportedProcess: under any adjacency but replace-one.
        """
        only_replace_one("LocalNoise", adjacency)
        found = self.mechanism.pairs(adjacency)
        if half_width(self.low, self.high)[1]:
            return found
        return {direction: replace(cast(DiscretePair, pair), attained=False) for direction, pair in found.items()}

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the clamped numbers plus noise: a float for a number, float64 of the same shape for an array.

        Guarantees: those of the mechanism's own release; each number is a record of its own. Numbers outside the
        interval, infinities among them, are moved to its nearer end.

        Args:
            value: number or array of numbers.
            sensitivity: must be 1: the interval says how far apart two records are.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no array of real numbers, or NaN where `missing` is None; what it is is
            not shown.

        >>> from mechanisms import KeyedSource
        >>> noise = LocalNoise(low=0.0, high=1.0, mechanism=Laplace(noise_multiplier=1e-9))
        >>> noise.release([0.25, 7.0], randomness=KeyedSource(0)).round(3).tolist()
        [0.25, 1.0]
        """
        only_unit_sensitivity("LocalNoise", "record", sensitivity)
        half = half_width(self.low, self.high)[0]
        return self.mechanism.release(self.clamped(value), sensitivity=half, randomness=randomness)

    def clamped(self, value: Any) -> Any:
        """Return the numbers as float64 in [low, high], `missing` in place of NaN.

        Raises:
            InvalidParameter: as `release`.
        """
        known = _numbers(value)
        unknown = np.isnan(known)
        if unknown.any() and self.missing is None:
            raise InvalidParameter(
                "LocalNoise: value must not be NaN. Declare missing=..., the number that stands for it."
            )
        return np.where(unknown, self.missing or 0.0, np.clip(known, self.low, self.high))


def _numbers(value: Any) -> Any:
    """Return an array of real numbers as float64."""
    data = plain_array("LocalNoise", value, rule="value must be a number or an array of real numbers")
    if data.dtype.kind not in "iuf":
        raise InvalidParameter(
            "LocalNoise: value must be a number or an array of real numbers. Write NaN for one that is missing."
        )
    with np.errstate(over="ignore"):  # a long double beyond all doubles is clamped like any other
        return data.astype(np.float64)
