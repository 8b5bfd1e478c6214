"""Our trainer made ready for replay: runs that can be forced along the weights of others, and neighbouring datasets."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.extremes import Neighbours, array_neighbours
from audit.replay import Steps, Training
from dpsgd import DPSGD, Dataset, steps
from dpsgd.core.parameters import trainable
from dpsgd.losses import Loss
from mechanisms import Source
from mechanisms.core.process import Adjacency

PER_RECORD = ("sampling",)
"""The streams of `dpsgd` that hold some words for each record."""


def replayed_dpsgd(model: nn.Module, config: DPSGD, *, loss: Loss, **conduct: Any) -> Training:
    """Return `dpsgd.steps` as a training whose steps can be forced.

    Args:
        model: what to train; a copy of it, each time.
        config: what to run.
        loss: one loss for each example.
        **conduct: further keywords of `dpsgd.steps`.
    """

    def training(dataset: Dataset, source: Source) -> Steps:
        twin = copy.deepcopy(model)
        parameters = list(trainable(twin).values())

        def force(weights: Tensor) -> None:
            pieces = torch.split(weights, [parameter.numel() for parameter in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.data.copy_(piece.view(parameter.shape))  # in place: they are views of the run's own weights

        return Steps(releases=steps(twin, dataset, config, loss=loss, randomness=source, **conduct), force=force)

    return training


def dataset_neighbours(dataset: Dataset, *, adjacency: Adjacency | str) -> tuple[Neighbours, ...]:
    """Return neighbours made of `dataset` and of extreme features, the record that differs coming last.

    Targets are those of the dataset; a record added has that of the first. A record is zeroed out by features of NaN,
    whose gradient counts as zero: features of zero would still have one.

    >>> data = Dataset(features=torch.ones(3, 2), targets=torch.zeros(3))
    >>> pair = dataset_neighbours(data, adjacency="replace_one")[0]
    >>> pair.name, len(pair.one), len(pair.other)
    ('NaN in one place in its place', 3, 3)
    """
    pairs = array_neighbours(dataset.features.cpu().numpy(), adjacency=adjacency, nothing=float("nan"))
    return tuple(
        Neighbours(name=pair.name, one=_of(dataset, pair.one), other=_of(dataset, pair.other)) for pair in pairs
    )


def _of(dataset: Dataset, features: np.ndarray[Any, Any]) -> Dataset:
    """Return records with these features, and the targets of the dataset's own as far as there are any."""
    targets = torch.cat([dataset.targets, dataset.targets[:1]])[: len(features)]
    return Dataset(features=torch.from_numpy(features).to(dataset.features.device), targets=targets)
