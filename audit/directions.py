"""Gradient canaries in any direction, all numbers kept: random ones, and sets at right angles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.canaries import GradientCanaries, Mask, Vector
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

if TYPE_CHECKING:
    from dpsgd.prescribed import Prescribed

BYTES = 2**30  # what the vectors of one set may take: the trainer holds them once more
AT_ONCE = 4096  # coordinates that products are taken over
ROUND_OFF = 1e-6  # how far the norm of a float32 vector may be from 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Directions(GradientCanaries):
    """m canaries: the gradient of number i is C times row i of `vectors`, of length 1.

    Args:
        vectors: float32 (m, d), 4 m d bytes in all; rows of length 1 up to rounding.

    Raises:
        InvalidParameter: if the shape differs or a row is not of length 1.

    >>> Directions(vectors=[[0.6, 0.8]]).projections(np.array([5.0, 0.0]))
    array([3.])
    """

    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=np.float32)
        if vectors.ndim != 2 or not vectors.size:
            raise InvalidParameter(f"Directions: vectors must have shape (m, d) with m >= 1, got {vectors.shape}.")
        lengths = np.sqrt(np.einsum("md,md->m", vectors, vectors, dtype=np.float64))
        if not np.all(np.abs(lengths - 1) <= ROUND_OFF):
            raise InvalidParameter("Directions: vectors must all be of length 1: the clip norm is put to them later.")
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """The length of the vectors."""
        return int(self.vectors.shape[1])

    def total(self, included: Mask) -> Vector:
        """Return the sum of the rows included."""
        total: Vector = np.asarray(included, dtype=np.float64) @ self.vectors
        return total

    def projections(self, vector: Vector) -> Vector:
        """Return the products of all rows with the vector."""
        products: Vector = (self.vectors @ vector.astype(np.float32)).astype(np.float64)
        return products

    def rows(self, indices: NDArray[np.int64]) -> Vector:
        """Return the rows named."""
        return self.vectors[indices].astype(np.float64)

    def cosines(self, indices: NDArray[np.int64]) -> Vector:
        """Return the products of the rows named, summed in float64, a part of the coordinates after the other."""
        products = np.zeros((len(indices), len(indices)))
        for start in range(0, self.dimension, AT_ONCE):
            part = self.vectors[indices, start : start + AT_ONCE].astype(np.float64)
            products += part @ part.T
        return products

    def prescribed(self, included: Mask, *, max_grad_norm: float) -> Prescribed:
        """Return them as records of whole vectors."""
        import torch

        from dpsgd.prescribed import PrescribedVectors

        return PrescribedVectors(vectors=torch.tensor(self.vectors) * max_grad_norm, included=torch.tensor(included))


def random_directions(*, canaries: int, dimension: int, rng: np.random.Generator) -> Directions:
    """Return directions uniform on the sphere. Two of them have a cosine of about 1/√d.

    Args:
        canaries: m >= 1.
        dimension: d, the number of trainable parameters.
        rng: public randomness.

    Raises:
        InvalidParameter: if a number breaks its rule, or the vectors would take more than a gibibyte.

    >>> len(random_directions(canaries=3, dimension=10, rng=np.random.default_rng(0)))
    3
    """
    canaries, dimension = _checked("random_directions", canaries, dimension)
    drawn = rng.standard_normal((canaries, dimension), dtype=np.float32)
    return Directions(vectors=drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def orthogonal_directions(*, canaries: int, dimension: int, rng: np.random.Generator) -> Directions:
    """Return directions at right angles to each other, up to float32, that no coordinate is special to.

    They are the columns of Q in a QR decomposition of normal numbers, with signs that make them uniform.

    Args:
        canaries: m, 1 <= m <= d.
        dimension: d, the number of trainable parameters.
        rng: public randomness.

    Raises:
        InvalidParameter: if a number breaks its rule, or the vectors would take more than a gibibyte.

    >>> made = orthogonal_directions(canaries=2, dimension=10, rng=np.random.default_rng(0)).vectors
    >>> bool(abs(made[0] @ made[1]) < 1e-6)
    True
    """
    canaries, dimension = _checked("orthogonal_directions", canaries, dimension)
    if canaries > dimension:
        raise InvalidParameter(
            f"orthogonal_directions: canaries must be at most the {dimension} trainable parameters, got {canaries}.\n"
            "Use fewer canaries, or random_directions."
        )
    basis, triangle = np.linalg.qr(rng.standard_normal((dimension, canaries)))
    return Directions(vectors=(basis * np.sign(np.diag(triangle))).T)


def directions_across_layers(
    *, canaries: int, layers: Mapping[str, int], shares: Mapping[str, float] | None = None, rng: np.random.Generator
) -> Directions:
    """Return directions at right angles that reach all of the bound where every layer is clipped by itself.

    Canary i has one entry in every layer l, ±√share_l, at a coordinate that no other has: C_l, where Σ C_l² = C².

    Args:
        canaries: m >= 1, at most the parameters of the smallest layer.
        layers: numbers of trainable parameters by layer, in the order of the flat gradient: `dpsgd.layer_sizes(model)`.
        shares: C_l² ÷ C² of every layer, as in `dpsgd.PerLayer`; None: the same for each.
        rng: public randomness.

    Raises:
        InvalidParameter: if a number breaks its rule, shares name other layers, or the vectors would take more than a
            gibibyte.

    >>> made = directions_across_layers(canaries=2, layers={"0": 3, "2": 2}, rng=np.random.default_rng(0)).vectors
    >>> np.count_nonzero(made[:, :3], axis=1), np.count_nonzero(made[:, 3:], axis=1)
    (array([1, 1]), array([1, 1]))
    """
    owner = "directions_across_layers"
    dimension = sum(validate.count(owner, "layers", size, least=1) for size in layers.values())
    canaries, dimension = _checked(owner, canaries, dimension)
    if canaries > min(layers.values()):
        raise InvalidParameter(
            f"{owner}: canaries must be at most the {min(layers.values())} parameters of the smallest layer, got "
            f"{canaries}: two canaries would share a coordinate."
        )
    given = dict.fromkeys(layers, 1 / len(layers)) if shares is None else dict(shares)
    if set(given) != set(layers):
        raise InvalidParameter(f"{owner}: shares must name just the layers {sorted(layers)}, got {sorted(given)}.")
    total, vectors, start = sum(given.values()), np.zeros((canaries, dimension), dtype=np.float32), 0
    for name, size in layers.items():
        places = start + rng.choice(size, size=canaries, replace=False)
        vectors[np.arange(canaries), places] = rng.choice([-1.0, 1.0], size=canaries) * np.sqrt(given[name] / total)
        start += size
    return Directions(vectors=vectors)


def _checked(owner: str, canaries: int, dimension: int) -> tuple[int, int]:
    canaries = validate.count(owner, "canaries", canaries, least=1)
    dimension = validate.count(owner, "dimension", dimension, least=1)
    if 4 * canaries * dimension > BYTES:
        raise InvalidParameter(
            f"{owner}: canaries must take at most {BYTES} bytes, 4 for each of {dimension} numbers, got {canaries}.\n"
            "Use signed_coordinates: they are at right angles too, and take two numbers each."
        )
    return canaries, dimension
