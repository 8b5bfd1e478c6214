"""Gradient canaries: records whose gradient is one signed coordinate at the clip norm, each a coordinate of its own.

Two canaries never touch the same coordinate, so each shows in its own entry of a noisy sum and in no other's: that is
the worst pair of neighbours of the Gaussian mechanism, many times over in a single run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignedCoordinates:
    """m canaries: the gradient of number i is `signs[i]` times the clip norm at flat coordinate `coordinates[i]`.

    Args:
        coordinates: int64 (m,), all different, in [0, dimension).
        signs: float64 (m,), each 1 or −1.
        dimension: number of trainable parameters.

    Raises:
        InvalidParameter: if the shapes differ, a coordinate is used twice or lies outside, or a sign is no sign.
    """

    coordinates: NDArray[np.int64]
    signs: NDArray[np.float64]
    dimension: int

    def __post_init__(self) -> None:
        coordinates = np.array(self.coordinates, dtype=np.int64)
        signs = np.array(self.signs, dtype=np.float64)
        if coordinates.ndim != 1 or coordinates.shape != signs.shape or len(coordinates) == 0:
            raise InvalidParameter(
                f"SignedCoordinates: coordinates and signs must have one shape (m,) with m >= 1, "
                f"got {coordinates.shape} and {signs.shape}."
            )
        if len(np.unique(coordinates)) < len(coordinates):
            raise InvalidParameter("SignedCoordinates: coordinates must all be different, or canaries hide each other.")
        if coordinates.min() < 0 or coordinates.max() >= self.dimension:
            raise InvalidParameter(
                f"SignedCoordinates: coordinates must lie in [0, {self.dimension}), "
                f"got {coordinates.min()} to {coordinates.max()}."
            )
        if not np.all(np.abs(signs) == 1):
            raise InvalidParameter("SignedCoordinates: signs must be 1 or −1.")
        for name, array in (("coordinates", coordinates), ("signs", signs)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.coordinates)


def signed_coordinates(*, canaries: int, dimension: int, rng: np.random.Generator) -> SignedCoordinates:
    """Return canaries on coordinates drawn without replacement, with fair signs.

    Args:
        canaries: m, 1 <= m <= dimension.
        dimension: number of trainable parameters.
        rng: public randomness: the attack knows all directions, only membership is secret.

    Raises:
        InvalidParameter: if there are more canaries than coordinates.

    >>> signed_coordinates(canaries=2, dimension=10, rng=np.random.default_rng(0)).coordinates
    array([7, 6])
    """
    canaries = validate.count("signed_coordinates", "canaries", canaries, least=1)
    dimension = validate.count("signed_coordinates", "dimension", dimension, least=1)
    if canaries > dimension:
        raise InvalidParameter(
            f"signed_coordinates: canaries must be at most the {dimension} trainable parameters, got {canaries}.\n"
            "Use fewer canaries or a larger model."
        )
    return SignedCoordinates(
        coordinates=rng.choice(dimension, size=canaries, replace=False),
        signs=rng.choice([-1.0, 1.0], size=canaries),
        dimension=dimension,
    )
