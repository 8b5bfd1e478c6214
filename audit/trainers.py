"""Adapters: trainers seen through the one door that the harness knows, `TrainerTask` in and `Observations` out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack import ExpectedSum, Observations, Trainer, TrainerTask
from audit.scores import Coins, Counts
from dpsgd import DPSGD, Dataset, PrescribedGradients, gradient_sum, steps
from dpsgd.clipping import check_flat_clipping
from dpsgd.core.batches import drawn_rows
from dpsgd.core.parameters import assign, trainable
from dpsgd.core.population import Examples, population_of
from dpsgd.descent import Release
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.losses import Loss
from mechanisms import InvalidParameter, Poisson, Source

ROWS_AT_ONCE = 8192  # bounds the memory that the gradient sum over all known records takes


def dpsgd_trainer(model: nn.Module, dataset: Dataset, config: DPSGD, *, loss: Loss) -> Trainer:
    """Return `dpsgd` as a trainer that can be audited, any number of times.

    Every task trains `model` in place, from the weights that it has now, on `dataset` and the canaries that are in.

    Args:
        model: what to train; after a task it holds the weights that the task ended with.
        dataset: the known records.
        config: what is run; whether it is what is claimed is for the audit to find out.
        loss: one loss for each example.

    Raises:
        InvalidParameter: if samples are not Poisson ones, noise is not independent floats, or clipping is not Flat().
    """
    sample_rate(config)
    check_flat_clipping("audit", config.clipping)
    initial = copy.deepcopy(model.state_dict())

    def trainer(task: TrainerTask) -> Observations:
        model.load_state_dict(initial)
        prescribed = PrescribedGradients(
            coordinates=torch.tensor(task.canaries.coordinates),
            values=torch.tensor(task.canaries.signs * config.max_grad_norm),
            included=torch.tensor(task.membership),
        )
        begun: list[int] = []

        def released() -> Iterator[Release]:
            for release in steps(model, dataset, config, loss=loss, randomness=task.streams, prescribed=prescribed):
                begun[:] = [release.run]
                yield release

        return Observations(
            released=released(),
            max_grad_norm=config.max_grad_norm,
            expected_sum=expected_clipped_sum(model, dataset, config, loss=loss),
            participations=lambda: participations(
                task.streams, task.membership, config, run=begun, known=_units(dataset)
            ),
        )

    return trainer


def participations(source: Source, membership: Coins, config: DPSGD, *, run: Sequence[int], known: int) -> Counts:
    """Return how many times each canary took part in a run, shape (m,), 0 where it was out.

    Args:
        source: what the run drew from.
        membership: of the canaries, which follow the known units.
        config: what was run, to its last step.
        run: where it began in the source's streams, alone; nothing if it has not.
        known: number of known units.

    Raises:
        InvalidParameter: if no run has begun.
    """
    if not run:
        raise InvalidParameter("audit: participations must be asked for after the run, and it has not begun.")
    units = known + len(membership)
    rows = drawn_rows(source, config, run=run[0], records=units)
    counts = np.zeros(units, dtype=np.int64)
    for step in range(config.steps):
        np.add.at(counts, rows(step), 1)
    return np.where(membership, counts[known:], 0)


def _units(dataset: Dataset) -> int:
    return len(dataset) if dataset.owners is None else len(torch.unique(dataset.owners))


def expected_clipped_sum(model: nn.Module, dataset: Dataset, config: DPSGD, *, loss: Loss) -> ExpectedSum:
    """Return the function w -> q Σ_i clip(g_i(w)) over all units of `dataset`, shape (d,).

    Args:
        model: gives the shape; a copy of it is used.
        dataset: the known records.
        config: gives q, the clip norm and the unit.
        loss: one loss for each example.

    Raises:
        InvalidParameter: if samples are not Poisson ones, noise is not independent floats, or clipping is not Flat().
    """
    rate = sample_rate(config)
    check_flat_clipping("audit", config.clipping)
    twin = copy.deepcopy(model)
    parameters = list(trainable(twin).values())
    dimensions = dataset.features.dim() - 1
    clipped = gradient_sum(twin, example_dimensions=dimensions, loss=loss, max_grad_norm=config.max_grad_norm)
    examples = Examples(dataset=dataset, clipped_sum=clipped)
    at_once = max(ROWS_AT_ONCE, config.examples_per_user or 1)
    population = population_of(config, examples, largest_physical_batch=at_once)

    def expected(weights: Tensor) -> Tensor:
        assign(weights, parameters)
        return population.clipped_sum(np.arange(population.units), 0).mul_(rate)

    return expected


def sample_rate(config: DPSGD) -> float:
    """Return the probability with which a record takes part in a step.

    Raises:
        InvalidParameter: if samples are not Poisson ones, or noise is not independent floats.

    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=600, steps=100, learning_rate=0.5)
    >>> sample_rate(config)
    0.01
    """
    if not isinstance(config.noise, IndependentGaussian):
        raise InvalidParameter(
            f"audit: noise must be IndependentGaussian(), got {config.noise!r}: scores assume that every step's noise "
            "is drawn anew, on float sums; nothing else is audited yet."
        )
    if isinstance(config.sampling, Poisson):
        return config.sampling.probability
    raise InvalidParameter(
        f"audit: sampling must be Poisson(probability=...), got {config.sampling!r}: nothing else is audited yet."
    )
