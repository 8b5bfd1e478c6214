"""Records whose gradient is prescribed, not computed: what gradient canaries are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dpsgd.clipping import check_flat_clipping
from dpsgd.config import DPSGD
from dpsgd.core.clip import clip_factors, clipping_bound, weigh
from dpsgd.core.clippers import Clipper
from dpsgd.core.norms import squared_norms
from dpsgd.core.schemes import Scheme
from mechanisms import BallsInBins, InvalidParameter, Poisson

Layers = list[tuple[nn.Module, slice]]
"""Modules that hold trainable parameters, with the part of the flat gradient that is theirs, in its order."""


class Prescribed(ABC):
    """m further records of the training population, each with the same gradient in every step it is sampled.

    They are sampled and clipped as any record. The parts of all m are drawn whether or not they are included, so that
    to include one changes no other record's part and no noise. One that is not included contributes zero: where every
    record is drawn independently, by Poisson or BallsInBins, that is as good as absent; in all other schemes it still
    takes a place in a batch, so that runs with and without it are those of "zero_out" neighbours.

    `repeatable` says whether they add the same to a step that is taken again, as Checkpoint has it be.
    """

    __slots__ = ()
    repeatable: ClassVar[bool] = True

    @abstractmethod
    def __len__(self) -> int:
        """Return m."""

    @abstractmethod
    def check_dimension(self, dimension: int) -> None:
        """Refuse records that do not fit a flat gradient of that many entries.

        Raises:
            InvalidParameter: naming what does not fit.
        """

    def check_run(self, config: DPSGD) -> None:
        """Refuse a run in which they cannot take part: any but with Flat() clipping and independent draws.

        Raises:
            InvalidParameter: naming what does not fit.
        """
        check_flat_clipping("steps", config.clipping)
        check_independent(config.sampling)

    @abstractmethod
    def placed(self, *, max_grad_norm: float, like: Tensor) -> Prescribed:
        """Return the same records, clipped, where and of what type `like` is, those not included contributing zero."""

    @abstractmethod
    def add_to(self, total: Tensor, drawn: Tensor) -> Tensor:
        """Return `total`, which may be written to, plus what records that are `drawn`, bool (m,), hold; if placed."""


class Clippable(Prescribed):
    """Prescribed records for any clipping, which a clipper of the run brings within its bound as it does others."""

    __slots__ = ()

    def check_run(self, config: DPSGD) -> None:
        """Take part in any run."""

    def add_clipped_to(self, total: Tensor, drawn: Tensor, *, clip: Clipper, layers: Layers) -> Tensor:
        """Return `total`, which may be written to, plus what records drawn and included contribute, clipped by `clip`.

        Args:
            total: (d,).
            drawn: bool (m,).
            clip: of the run, which counts them if it counts.
            layers: of the model that it clips.
        """
        taken = torch.nonzero(drawn.cpu() & self.included.cpu()).flatten()
        pieces = self._pieces(taken, layers, like=total)
        squares = [squared_norms(piece) for piece in pieces]
        factors = clip.factors(squares, layers=[layer for layer, _ in layers], multiplied=pieces)
        weighed = [weigh(piece, factor) for piece, factor in zip(pieces, factors, strict=True)]
        return self._add(total, taken, weighed, layers)

    included: Tensor

    @abstractmethod
    def _pieces(self, taken: Tensor, layers: Layers, *, like: Tensor) -> list[Tensor]:
        """Return what the gradients of k records have in every layer, (k, …), without further zeros if that helps."""

    @abstractmethod
    def _add(self, total: Tensor, taken: Tensor, pieces: list[Tensor], layers: Layers) -> Tensor:
        """Return `total` plus the sum of such pieces."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrescribedGradients(Clippable):
    """Records of one entry: record i's gradient is `values[i]` at flat coordinate `coordinates[i]` and 0 elsewhere.

    Args:
        coordinates: int64 (m,), from 0 to the number of trainable parameters − 1.
        values: float32 or float64 (m,); a value that is not finite counts as zero.
        included: bool (m,): which of the m are in the data.

    Raises:
        InvalidParameter: if a shape or type differs.

    >>> one_of_two = torch.tensor([True, False])
    >>> len(PrescribedGradients(coordinates=torch.tensor([0, 3]), values=torch.ones(2), included=one_of_two))
    2
    """

    coordinates: Tensor
    values: Tensor
    included: Tensor

    def __post_init__(self) -> None:
        allowed = {"coordinates": (torch.int64,), "values": (torch.float32, torch.float64), "included": (torch.bool,)}
        for name, dtypes in allowed.items():
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or tensor.dtype not in dtypes or tensor.dim() != 1:
                kinds = " or ".join(map(str, dtypes))
                raise InvalidParameter(f"PrescribedGradients: {name} must be a {kinds} tensor of shape (m,).")
            if len(tensor) != len(self.coordinates):
                raise InvalidParameter(
                    f"PrescribedGradients: {name} must have one entry for each of the {len(self.coordinates)} "
                    f"coordinates, got {len(tensor)}."
                )

    def __len__(self) -> int:
        return len(self.coordinates)

    def check_dimension(self, dimension: int) -> None:
        """Refuse coordinates outside the flat gradient of that many entries.

        Raises:
            InvalidParameter: naming the smallest and the largest coordinate.
        """
        if len(self) and not 0 <= int(self.coordinates.min()) <= int(self.coordinates.max()) < dimension:
            raise InvalidParameter(
                f"PrescribedGradients: coordinates must lie in [0, {dimension}), one for each trainable parameter, "
                f"got {int(self.coordinates.min())} to {int(self.coordinates.max())}."
            )

    def contributions(self, *, max_grad_norm: float, dtype: torch.dtype) -> Tensor:
        """Return what every record adds at its coordinate when sampled: clipped, 0 if not included, shape (m,).

        >>> both, values = torch.tensor([True, True]), torch.tensor([-9.0, 0.5])
        >>> records = PrescribedGradients(coordinates=torch.tensor([0, 1]), values=values, included=both)
        >>> records.contributions(max_grad_norm=1.0, dtype=torch.float32)
        tensor([-1.0000,  0.5000])
        """
        bound = clipping_bound(max_grad_norm)
        clipped = self.values.double().clamp(-bound, bound).to(dtype)
        return torch.where(self.included.to(clipped.device) & torch.isfinite(self.values), clipped, 0.0)

    def placed(self, *, max_grad_norm: float, like: Tensor) -> PrescribedGradients:
        """Return the records with their contributions for values."""
        contributions = self.contributions(max_grad_norm=max_grad_norm, dtype=like.dtype)
        return PrescribedGradients(
            coordinates=self.coordinates.to(like.device), values=contributions.to(like.device), included=self.included
        )

    def add_to(self, total: Tensor, drawn: Tensor) -> Tensor:
        """Return `total` plus the values drawn, at their coordinates."""
        return total.index_add_(0, self.coordinates, torch.where(drawn.to(total.device), self.values, 0.0))

    def _pieces(self, taken: Tensor, layers: Layers, *, like: Tensor) -> list[Tensor]:
        """Return the values, (k, 1), in the layers of their coordinates, and 0 in all others."""
        coordinates, values = self.coordinates[taken].to(like.device), self.values[taken].to(like)
        inside = [(coordinates >= part.start) & (coordinates < part.stop) for _, part in layers]
        return [torch.where(own, values, 0.0)[:, None] for own in inside]

    def _add(self, total: Tensor, taken: Tensor, pieces: list[Tensor], layers: Layers) -> Tensor:
        coordinates = self.coordinates[taken].to(total.device)
        for piece in pieces:
            total.index_add_(0, coordinates, piece[:, 0])
        return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrescribedVectors(Clippable):
    """Records of any gradient: that of record i is row i of `vectors`; one with an entry not finite counts as zero.

    Args:
        vectors: float32 or float64 (m, d).
        included: bool (m,): which of the m are in the data.

    Raises:
        InvalidParameter: if a shape or type differs.

    >>> records = PrescribedVectors(vectors=torch.tensor([[3.0, 4.0]]), included=torch.tensor([True]))
    >>> records.placed(max_grad_norm=1.0, like=torch.zeros(2)).vectors
    tensor([[0.6000, 0.8000]])
    """

    vectors: Tensor
    included: Tensor

    def __post_init__(self) -> None:
        for name, dtypes, dimensions in (
            ("vectors", (torch.float32, torch.float64), 2),
            ("included", (torch.bool,), 1),
        ):
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or tensor.dtype not in dtypes or tensor.dim() != dimensions:
                kinds = " or ".join(map(str, dtypes))
                raise InvalidParameter(
                    f"PrescribedVectors: {name} must be a {kinds} tensor of {dimensions} dimensions."
                )
        if len(self.vectors) != len(self.included):
            raise InvalidParameter(
                "PrescribedVectors: included must have one entry for each of the "
                f"{len(self.vectors)} vectors, got {len(self.included)}."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def check_dimension(self, dimension: int) -> None:
        """Refuse vectors of another length.

        Raises:
            InvalidParameter: naming it.
        """
        if self.vectors.shape[1] != dimension:
            raise InvalidParameter(
                f"PrescribedVectors: vectors must have {dimension} entries, one for each trainable parameter, "
                f"got {self.vectors.shape[1]}."
            )

    def placed(self, *, max_grad_norm: float, like: Tensor) -> PrescribedVectors:
        """Return the records with their contributions for vectors."""
        vectors = self.vectors.to(like.dtype)
        factors = clip_factors(squared_norms(vectors).sqrt(), max_grad_norm=max_grad_norm, dtype=like.dtype)
        clipped = torch.where(self.included.to(vectors.device)[:, None], weigh(vectors, factors), 0.0)
        return PrescribedVectors(vectors=clipped.to(like.device), included=self.included)

    def add_to(self, total: Tensor, drawn: Tensor) -> Tensor:
        """Return `total` plus the sum of the vectors drawn."""
        return total.add_(drawn.to(total) @ self.vectors)

    def _pieces(self, taken: Tensor, layers: Layers, *, like: Tensor) -> list[Tensor]:
        rows = self.vectors[taken].to(like)
        return [rows[:, part] for _, part in layers]

    def _add(self, total: Tensor, taken: Tensor, pieces: list[Tensor], layers: Layers) -> Tensor:
        for piece, (_, part) in zip(pieces, layers, strict=True):
            total[part] += piece.sum(dim=0)
        return total


def check_independent(sampling: Scheme) -> None:
    """Refuse a scheme in which a record that is not included would still take a place from others.

    Raises:
        InvalidParameter: unless every record is drawn independently of all others.
    """
    if not isinstance(sampling, (Poisson, BallsInBins)):
        raise InvalidParameter(
            f"steps: sampling must draw every record independently, got {sampling!r}, in which a record prescribed or "
            "absent that is left out would take the place of another.\nUse Poisson(probability=...) or BallsInBins()."
        )
