"""The noisy mean of vectors clipped to a declared Euclidean norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mechanisms.core import validate
from mechanisms.core.contributions import Contributions
from mechanisms.core.process import Mechanism
from mechanisms.core.query import Filling, Query
from mechanisms.core.randomness import Source
from mechanisms.vector_sum import VectorSum


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorMean(Query):
    """(Σ x min(1, C/‖x‖) + noise) / n, n = `records`: a `VectorSum`, divided by a public number.

    The noise on a coordinate of the mean has the standard deviation σ C / n, σ the noise multiplier. n is only what is
    divided by, under any adjacency: of data of another size the result is the mean of nothing.

    Args:
        max_norm: C > 0.
        dimensions: at least 1.
        records: the public number of records, at least 1.
        noise: `Gaussian`.
        nan: as for `VectorSum`.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import Gaussian, KeyedSource
    >>> query = VectorMean(max_norm=5.0, dimensions=2, records=2, noise=Gaussian(noise_multiplier=0.0))
    >>> query.release([[3.0, 4.0], [0.0, -9.0]], randomness=KeyedSource(0)).tolist()
    [1.5, -0.5]
    """

    max_norm: float
    dimensions: int
    records: int
    noise: Mechanism
    nan: Filling = None

    def __post_init__(self) -> None:
        checked = VectorSum(max_norm=self.max_norm, dimensions=self.dimensions, noise=self.noise, nan=self.nan)
        for name in ("max_norm", "dimensions", "noise", "nan"):
            object.__setattr__(self, name, getattr(checked, name))
        object.__setattr__(self, "records", validate.count("VectorMean", "records", self.records, least=1))

    @property
    def contributions(self) -> Contributions:
        """Those to the sum."""
        return self._sum.contributions

    @property
    def sensitivity(self) -> float:
        """That of the sum, to which noise is added."""
        return self._sum.sensitivity

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> Any:
        """Return the noisy mean, float64 of shape (d,).

        Args:
            value: numbers, shape (n, d).
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        return self._sum.release(value, sensitivity=sensitivity, randomness=randomness) / self.records

    @property
    def _sum(self) -> VectorSum:
        return VectorSum(max_norm=self.max_norm, dimensions=self.dimensions, noise=self.noise, nan=self.nan)
