"""Records whose gradient is prescribed, not computed: what gradient canaries are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.core.clip import clipping_bound
from dpsgd.core.schemes import Scheme
from mechanisms import BallsInBins, InvalidParameter, Poisson


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrescribedGradients:
    """m further records of the training population, each with the same sparse gradient in every step it is sampled.

    Record i's gradient is `values[i]` at flat coordinate `coordinates[i]` and 0 elsewhere. It is sampled and clipped as
    any record's. The parts of all m are drawn whether or not they are included, so that to include one changes no other
    record's part and no noise: this takes a scheme that draws every record independently, Poisson or BallsInBins.

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
        return torch.where(self.included & torch.isfinite(self.values), clipped, 0.0)


def check_independent(sampling: Scheme) -> None:
    """Refuse a scheme in which a record that is not included would still take a place from others.

    Raises:
        InvalidParameter: unless every record is drawn independently of all others.
    """
    if not isinstance(sampling, (Poisson, BallsInBins)):
        raise InvalidParameter(
            f"PrescribedGradients: sampling must draw every record independently, got {sampling!r}, in which one that "
            "is left out would take the place of another.\nUse Poisson(probability=...) or BallsInBins()."
        )
