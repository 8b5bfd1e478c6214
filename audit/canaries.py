"""Canaries: records that enter a training run by coins, made to be found again.

A gradient canary prescribes its gradient, which is what an adversary who may choose records freely comes down to. An
input canary is a record like others, its gradient computed by the trainer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency

if TYPE_CHECKING:
    from dpsgd.prescribed import Prescribed

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Canaries(ABC):
    """m records, each in or out by a coin; frozen, and public but for the coins."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return m."""

    @property
    @abstractmethod
    def adjacencies(self) -> tuple[Adjacency, ...]:
        """The neighbours that two runs can be which differ in the coin of one canary."""


class GradientCanaries(Canaries):
    """Canaries with a prescribed gradient: C g_i in every step they take part in, C the clip norm and ‖g_i‖ = 1.

    One that is out adds nothing, be it that it is not there or that its contribution is zero.
    """

    __slots__ = ()

    @property
    def adjacencies(self) -> tuple[Adjacency, ...]:
        """One record more or less, or one contribution set to zero."""
        return (Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT)

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d, the number of trainable parameters."""

    @abstractmethod
    def total(self, included: Mask) -> Vector:
        """Return Σ g_i over the canaries that are `included`, bool (m,), as float64 (d,), in units of C."""

    @abstractmethod
    def projections(self, vector: Vector) -> Vector:
        """Return ⟨g_i, vector⟩ for every canary, float64 (m,), of a vector (d,)."""

    def rows(self, indices: NDArray[np.int64]) -> Vector:
        """Return g_i of the canaries named, float64 (k, d)."""
        each = np.arange(len(self))
        return np.array([self.total(each == index) for index in indices]).reshape(-1, self.dimension)

    def cosines(self, indices: NDArray[np.int64]) -> Vector:
        """Return ⟨g_i, g_j⟩ of the canaries named, float64 (k, k)."""
        return np.array([self.projections(self.rows(indices[[place]])[0])[indices] for place in range(len(indices))])

    @abstractmethod
    def prescribed(self, included: Mask, *, max_grad_norm: float) -> Prescribed:
        """Return what `dpsgd.steps` takes for these canaries; it loads torch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputCanaries(Canaries):
    """m canaries that are records: row i of `features` and of `targets`.

    Args:
        features: (m, …), as the trainer's own records have them.
        targets: (m, …), likewise; whole numbers are kept as int64, which losses of classes ask for.
        replaced: m ordinary records, each in the data where its canary is out; None where nothing takes its place.

    Raises:
        InvalidParameter: if there is none, the numbers of rows differ, or the replaced records have another shape.

    >>> len(InputCanaries(features=np.zeros((3, 2)), targets=np.arange(3)))
    3
    """

    features: NDArray[Any]
    targets: NDArray[Any]
    replaced: InputCanaries | None = None

    def __post_init__(self) -> None:
        for name in ("features", "targets"):
            array = np.array(getattr(self, name))
            if array.dtype.kind not in "biuf" or array.ndim == 0 or not np.all(np.isfinite(array)):
                raise InvalidParameter(f"InputCanaries: {name} must be finite numbers with one row a canary.")
            if name == "targets" and array.dtype.kind in "iu":
                array = array.astype(np.int64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not 1 <= len(self.features) == len(self.targets):
            raise InvalidParameter(
                "InputCanaries: features and targets must have one row a canary, of m >= 1, "
                f"got {len(self.features)} and {len(self.targets)}."
            )
        other = self.replaced
        if other is not None and (other.features.shape, other.targets.shape) != (
            self.features.shape,
            self.targets.shape,
        ):
            raise InvalidParameter("InputCanaries: replaced must hold records of the shapes of the canaries.")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def adjacencies(self) -> tuple[Adjacency, ...]:
        """One record changed where there is another in its place, else one more or less."""
        return (Adjacency.ADD_REMOVE,) if self.replaced is None else (Adjacency.REPLACE_ONE,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignedCoordinates(GradientCanaries):
    """m canaries: the gradient of number i is `signs[i]` times the clip norm at flat coordinate `coordinates[i]`.

    Two canaries never touch the same coordinate, so each shows in its own entry of a noisy sum and in no other's: that
    is the worst pair of neighbours of the Gaussian mechanism, many times over in a single run.

    Args:
        coordinates: int64 (m,), all different, in [0, dimension).
        signs: float64 (m,), each 1 or −1.
        dimension: number of trainable parameters.

    Raises:
        InvalidParameter: if the shapes differ, a coordinate is no whole number, is used twice or lies outside, or a
            sign is no sign.
    """

    coordinates: NDArray[np.int64]
    signs: NDArray[np.float64]
    dimension: int

    def __post_init__(self) -> None:
        dimension = validate.count("SignedCoordinates", "dimension", self.dimension, least=1)
        object.__setattr__(self, "dimension", dimension)
        coordinates, signs = np.array(self.coordinates), np.array(self.signs, dtype=np.float64)
        if coordinates.ndim != 1 or coordinates.shape != signs.shape or len(coordinates) == 0:
            raise InvalidParameter(
                f"SignedCoordinates: coordinates and signs must have one shape (m,) with m >= 1, "
                f"got {coordinates.shape} and {signs.shape}."
            )
        if coordinates.dtype.kind not in "iu":
            raise InvalidParameter(f"SignedCoordinates: coordinates must be whole numbers, got {coordinates.dtype}.")
        coordinates = coordinates.astype(np.int64)
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

    def total(self, included: Mask) -> Vector:
        """Return the signs of those included at their coordinates, 0 elsewhere."""
        total = np.zeros(self.dimension)
        total[self.coordinates] = np.where(included, self.signs, 0.0)
        return total

    def rows(self, indices: NDArray[np.int64]) -> Vector:
        """Return rows of one entry each."""
        rows = np.zeros((len(indices), self.dimension))
        rows[np.arange(len(indices)), self.coordinates[indices]] = self.signs[indices]
        return rows

    def projections(self, vector: Vector) -> Vector:
        """Return the signed entries of the vector."""
        projected: Vector = self.signs * vector[self.coordinates]
        return projected

    def prescribed(self, included: Mask, *, max_grad_norm: float) -> Prescribed:
        """Return them as records of one entry each."""
        import torch

        from dpsgd.prescribed import PrescribedGradients

        return PrescribedGradients(
            coordinates=torch.tensor(self.coordinates),
            values=torch.tensor(self.signs * max_grad_norm),
            included=torch.tensor(included),
        )


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
