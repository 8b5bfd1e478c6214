"""The noisy matrix of second moments of vectors clipped to a declared Euclidean norm.

[DTTZ14] C. Dwork, K. Talwar, A. Thakurta, L. Zhang. Analyze Gauss: Optimal Bounds for Privacy-Preserving Principal
Component Analysis. STOC 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, up
from mechanisms.core.contributions import Contributions, outer_products
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Mechanism
from mechanisms.core.query import Filling, Query, checked_noise, derived, filling, radius, real_records, saturated
from mechanisms.core.randomness import Source
from mechanisms.core.vectors import summed_products

RADIUS = 2**14


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance(Query):
    """Σ x xᵀ over records clipped to norm C, + symmetric noise: not centred, and not divided.

    x xᵀ has Frobenius norm at most C², the sensitivity. Noise of standard deviation σ C² is added on the diagonal and,
    less than in [DTTZ14], σ C² / √2 above it, mirrored below. In the coordinates (x_i², √2 x_i x_j, i < j), whose
    Euclidean norm is the Frobenius norm, it is the same in all. Orthogonal records that replace each other move the sum
    by √2 C²; no other ones move it further.

    The result need not be positive semi-definite: `nearest_positive` makes it so. The covariance is Σ x xᵀ / n − x̄ x̄ᵀ:
    subtract a public guess of the mean from the records first, or release a `VectorSum` too.

    Coordinates are rounded to whole steps of 2^-14 C before they are multiplied; a record that is clipped is about a
    step shorter at most. Each entry saturates at ±2^53 square steps, more than 3e7 records of norm C along an axis.

    Args:
        max_norm: C > 0.
        dimensions: at least 1.
        noise: `Gaussian`.
        nan: what stands for a NaN coordinate before clipping; None: 0; "reject": an error, which reveals that there
            is one and is no part of the guarantee.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import Gaussian, KeyedSource
    >>> query = Covariance(max_norm=2.0, dimensions=2, noise=Gaussian(noise_multiplier=0.0))
    >>> query.release([[1.0, 0.5], [0.0, 8.0]], randomness=KeyedSource(0)).tolist()
    [[1.0, 0.5], [0.5, 4.25]]
    """

    max_norm: float
    dimensions: int
    noise: Mechanism
    nan: Filling = None

    def __post_init__(self) -> None:
        max_norm = radius("Covariance", self.max_norm)
        if not 1e-130 <= max_norm <= 1e130:
            raise InvalidParameter(f"Covariance: max_norm must be between 1e-130 and 1e130, got {max_norm}.")
        object.__setattr__(self, "max_norm", max_norm)
        dimensions = validate.count("Covariance", "dimensions", self.dimensions, least=1)
        object.__setattr__(self, "dimensions", dimensions)
        checked_noise("Covariance", self.noise, ("Gaussian",))
        object.__setattr__(self, "nan", filling("Covariance", self.nan))

    @property
    def contributions(self) -> Contributions:
        """v vᵀ of whole numbers of steps."""
        return outer_products(RADIUS, self.dimensions)

    @property
    def sensitivity(self) -> float:
        """C²."""
        return self.max_norm * self.max_norm

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> Array:
        """Return the noisy matrix, float64 of shape (d, d), symmetric; of no records, noise.

        Guarantees: neighbours' sums differ by at most what `pairs` says, exactly; for the noise see its own `release`.

        Args:
            value: numbers, shape (n, d).
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Covariance", sensitivity)
        data = real_records("Covariance", value, nan=self.nan, columns=self.dimensions)
        size = self.max_norm / RADIUS
        sums = saturated(summed_products(data, size, RADIUS))
        found = np.diag(self.noisy(np.diag(sums), randomness))
        above = np.triu_indices(self.dimensions, 1)
        smaller = float(up(self.contributions.sensitivity / np.sqrt(2.0)))  # never less noise than described
        found[above] = self.noise.release(sums[above], sensitivity=smaller, randomness=randomness)
        found.T[above] = found[above]
        return found * (size * size)


def nearest_positive(matrix: Array) -> Array:
    """Return the positive semi-definite matrix nearest to a symmetric one in the Frobenius norm.

    Negative eigenvalues are set to 0: what is made of a release costs nothing more.

    Args:
        matrix: symmetric and finite, shape (d, d).

    Raises:
        InvalidParameter: if it is not.

    >>> nearest_positive(np.array([[1.0, 0.0], [0.0, -2.0]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    if matrix.ndim != 2 or not np.array_equal(matrix, matrix.T) or not np.isfinite(matrix).all():
        raise InvalidParameter("nearest_positive: matrix must be symmetric and finite.")
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    found: Array = root @ root.T
    return found
