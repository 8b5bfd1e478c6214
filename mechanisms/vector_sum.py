"""The noisy sum of vectors clipped to a declared Euclidean norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mechanisms.core import validate
from mechanisms.core.contributions import Contributions, ball
from mechanisms.core.process import Mechanism
from mechanisms.core.query import Filling, Query, checked_noise, derived, filling, radius, real_records, saturated, step
from mechanisms.core.randomness import Source
from mechanisms.core.vectors import summed

BITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSum(Query):
    """Σ x min(1, C/‖x‖) + noise in every coordinate, C = `max_norm`.

    Coordinates are rounded to whole steps of 2^-24 to 2^-23 of C, and C down to one: `sensitivity`. A record is thus
    changed by about half a step at most in each coordinate and, where it is clipped, by one more in length. Each
    coordinate saturates at ±2^53 steps, more than 5e8 records of norm C along an axis.

    Args:
        max_norm: C > 0.
        dimensions: at least 1.
        noise: `Gaussian`.
        nan: what stands for a NaN coordinate before clipping; None: 0; "reject": an error, which reveals that there
            is one and is no part of the guarantee.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import Gaussian, KeyedSource
    >>> query = VectorSum(max_norm=5.0, dimensions=2, noise=Gaussian(noise_multiplier=0.0))
    >>> query.release([[3.0, 4.0], [0.0, -9.0]], randomness=KeyedSource(0)).tolist()
    [3.0, -1.0]
    """

    max_norm: float
    dimensions: int
    noise: Mechanism
    nan: Filling = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_norm", radius("VectorSum", self.max_norm))
        dimensions = validate.count("VectorSum", "dimensions", self.dimensions, least=1)
        object.__setattr__(self, "dimensions", dimensions)
        checked_noise("VectorSum", self.noise, ("Gaussian",))
        object.__setattr__(self, "nan", filling("VectorSum", self.nan))

    @property
    def contributions(self) -> Contributions:
        """Whole numbers of steps, of norm at most C."""
        return ball(self._radius)

    @property
    def sensitivity(self) -> float:
        """C, rounded down to a step."""
        return self._radius * self._step

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> Any:
        """Return the noisy sum, float64 of shape (d,); of no records, noise.

        Guarantees: neighbours' sums differ by at most what `pairs` says, exactly; for the noise see its own `release`.

        Args:
            value: numbers, shape (n, d).
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("VectorSum", sensitivity)
        data = real_records("VectorSum", value, nan=self.nan, columns=self.dimensions)
        sums = saturated(summed(data, self._step, self._radius))
        return self.noisy(sums, randomness) * self._step

    @property
    def _step(self) -> float:
        return step(self.max_norm, BITS)

    @property
    def _radius(self) -> int:
        return int(self.max_norm / self._step)
