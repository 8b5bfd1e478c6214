"""Adapters: trainers seen through the one door that the harness knows, `TrainerTask` in and `Observations` out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.attack import ExpectedSum, FinalModel, Observations, Released, TrainerTask
from audit.canaries import GradientCanaries, InputCanaries
from audit.scores import Coins, Counts
from dpsgd import DPSGD, Dataset, gradient_sum, steps
from dpsgd.clipping import check_flat_clipping
from dpsgd.core.batches import drawn_rows
from dpsgd.core.parameters import assign, trainable
from dpsgd.core.population import Examples, Population, population_of
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.losses import Loss
from mechanisms import Adjacency, InvalidParameter, Poisson, Process, Source

ROWS_AT_ONCE = 8192  # bounds the memory that the gradient sum over all known records takes


@dataclass(frozen=True, slots=True, eq=False)
class DPSGDTrainer:
    """`dpsgd` as a trainer that can be audited: see `dpsgd_trainer`."""

    model: nn.Module
    dataset: Dataset
    config: DPSGD
    loss: Loss
    initial: dict[str, Any] = field(repr=False)

    @property
    def process(self) -> Process:
        """What the configuration says it runs."""
        return self.config.process()

    def __call__(self, task: TrainerTask) -> Observations:
        """Return the releases of one run, which begins from the initial weights and takes place as they are read."""
        self.model.load_state_dict(self.initial)
        dataset, entering = _entering(self.dataset, self.config, task)
        run = steps(self.model, dataset, self.config, loss=self.loss, randomness=task.streams, **entering)
        begun: list[int] = []

        def released() -> Iterator[Released]:
            for release in run:
                begun[:] = [release.run]
                yield release
            yield final_model(self.model, self.loss)

        return Observations(
            released=released(),
            max_grad_norm=self.config.max_grad_norm,
            expected_sum=expected_clipped_sum(self.model, self.dataset, self.config, loss=self.loss),
            known=self.dataset,
            participations=lambda: participations(
                task.streams, task.membership, self.config, run=begun, known=_units(self.dataset)
            ),
        )


def dpsgd_trainer(model: nn.Module, dataset: Dataset, config: DPSGD, *, loss: Loss) -> DPSGDTrainer:
    """Return `dpsgd` as a trainer that can be audited, any number of times.

    Every task trains `model` in place, from the weights that it has now, on `dataset` and the canaries that are in.
    These come after the known records and are drawn for wherever they are out, so that a canary's coin changes no other
    record's part in any step and no noise.

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
    return DPSGDTrainer(model, dataset, config, loss, copy.deepcopy(model.state_dict()))


def _entering(known: Dataset, config: DPSGD, task: TrainerTask) -> tuple[Dataset, dict[str, Any]]:
    """Return the records of a run, and the keywords of `steps` by which canaries enter it."""
    canaries = task.canaries
    if isinstance(canaries, GradientCanaries):
        return known, {"prescribed": canaries.prescribed(task.membership, max_grad_norm=config.max_grad_norm)}
    if not isinstance(canaries, InputCanaries):
        raise InvalidParameter(
            f"dpsgd_trainer: canaries must be GradientCanaries or InputCanaries, got {type(canaries).__name__}."
        )
    if known.owners is not None:
        raise InvalidParameter("dpsgd_trainer: dataset must be without owners for input canaries, which have none.")
    if task.adjacency is Adjacency.REPLACE_ONE:
        return with_records(known, canaries, task.membership), {}
    everyone = np.ones(len(canaries), dtype=np.bool_)
    present = torch.cat([torch.ones(len(known), dtype=torch.bool), torch.tensor(task.membership)])
    return with_records(known, canaries, everyone), {"present": present}


def with_records(known: Dataset, canaries: InputCanaries, membership: Coins) -> Dataset:
    """Return the known records followed by the canaries that are in, each that is out by the record it replaces.

    >>> canaries = InputCanaries(features=np.full((2, 1), 9.0), targets=np.array([1, 1]))
    >>> known = Dataset(features=torch.zeros(1, 1), targets=torch.zeros(1, dtype=torch.int64))
    >>> with_records(known, canaries, np.array([True, False])).features.flatten()
    tensor([0., 9.])
    """
    parts = []
    for name in ("features", "targets"):
        ours, added = getattr(known, name), getattr(canaries, name)
        if canaries.replaced is None:
            added = added[membership]
        else:
            where = membership.reshape(-1, *[1] * (added.ndim - 1))
            added = np.where(where, added, getattr(canaries.replaced, name))
        if ours.shape[1:] != added.shape[1:]:
            raise InvalidParameter(
                f"audit: {name} of input canaries must have the shape {tuple(ours.shape[1:])} of the known records', "
                f"got {added.shape[1:]}."
            )
        parts.append(torch.cat([ours, torch.tensor(added).to(ours)]))
    return Dataset(features=parts[0], targets=parts[1])


def final_model(model: nn.Module, loss: Loss) -> FinalModel:
    """Return a trained model as it may be asked: as it is now, in its mode for use, whatever becomes of it later."""
    frozen = copy.deepcopy(model).eval()
    parameters = list(frozen.parameters())

    def outputs(features: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            given = torch.tensor(features).to(parameters[0].device)
            found: NDArray[Any] = (
                frozen(given.to(parameters[0].dtype) if given.is_floating_point() else given).cpu().numpy()
            )
        return found

    def losses(features: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        with torch.no_grad():
            found: NDArray[np.float64] = loss(torch.tensor(outputs(features)), torch.tensor(targets)).double().numpy()
        return found

    weights = torch.cat([parameter.detach().reshape(-1) for parameter in trainable(frozen).values()])
    return FinalModel(outputs=outputs, losses=losses, weights=weights.cpu().numpy())


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
    at_once = max(ROWS_AT_ONCE, config.examples_per_user or 1)
    summed = clipped_sum_of(
        model,
        dataset,
        loss=loss,
        max_grad_norm=config.max_grad_norm,
        population=lambda examples: population_of(config, examples, largest_physical_batch=at_once),
    )
    return lambda weights: summed(weights).mul_(rate)


def clipped_sum_of(
    model: nn.Module,
    dataset: Dataset,
    *,
    loss: Loss,
    max_grad_norm: float,
    population: Callable[[Examples], Population],
) -> ExpectedSum:
    """Return the function w -> Σ_i clip(g_i(w)) over all units of `dataset`, shape (d,).

    Args:
        model: gives the shape; a copy of it is used.
        dataset: the known records.
        loss: one loss for each example.
        max_grad_norm: C.
        population: of the units that the dataset is made of.
    """
    twin = copy.deepcopy(model)
    parameters = list(trainable(twin).values())
    dimensions = dataset.features.dim() - 1
    clipped = gradient_sum(twin, example_dimensions=dimensions, loss=loss, max_grad_norm=max_grad_norm)
    units = population(Examples(dataset=dataset, clipped_sum=clipped))

    def summed(weights: Tensor) -> Tensor:
        assign(weights, parameters)
        return units.clipped_sum(np.arange(units.units), 0)

    return summed


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
