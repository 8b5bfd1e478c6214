"""All that may be sampled in a run: whose clipped contributions a step sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.batches import Rows
from dpsgd.datasets import Dataset
from dpsgd.gradients import GradientSum
from dpsgd.prescribed import PrescribedGradients


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """How many units there are, and the sum of the clipped contributions of some of them, each as often as it is drawn.

    Args:
        units: the number that the sampling scheme draws from: of records.
        clipped_sum: from the rows drawn, shape (m,), to the flat sum (d,).
    """

    units: int
    clipped_sum: Callable[[Rows], Tensor]


def of_records(dataset: Dataset, clipped_sum: GradientSum) -> Population:
    """Return the population in which every record is a unit of its own."""

    def sum_of(rows: Rows) -> Tensor:
        taken = torch.from_numpy(rows).to(dataset.features.device)
        return clipped_sum(dataset.features.index_select(0, taken), dataset.targets.index_select(0, taken))

    return Population(units=len(dataset), clipped_sum=sum_of)


def with_prescribed(
    real: Population, prescribed: PrescribedGradients, *, max_grad_norm: float, like: Tensor
) -> Population:
    """Return the real units followed by the prescribed ones, whose parts are drawn whether included or not."""
    prescribed.check_dimension(len(like))
    coordinates = prescribed.coordinates.to(like.device)
    contributions = prescribed.contributions(max_grad_norm=max_grad_norm, dtype=like.dtype).to(like.device)

    def sum_of(rows: Rows) -> Tensor:
        drawn = torch.zeros(len(prescribed), dtype=torch.bool)
        drawn[torch.from_numpy(rows[rows >= real.units] - real.units)] = True
        total = real.clipped_sum(rows[rows < real.units])
        return total.index_add_(0, coordinates, torch.where(drawn.to(like.device), contributions, 0.0))

    return Population(units=real.units + len(prescribed), clipped_sum=sum_of)
