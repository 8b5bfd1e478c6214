"""Adapters: trainers seen through the one door that the harness knows, `TrainerTask` in and `Observations` out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.attack import FinalModel, Observations, Released, TrainerTask
from audit.canaries import GradientCanaries, InputCanaries
from audit.core.expected_sums import expected_clipped_sum, units_of
from audit.core.faults import refusing
from audit.core.public_turns import check_noise, known_sum_of_step, turns_of
from audit.scores import Coins, Counts
from dpsgd import DPSGD, Dataset, steps
from dpsgd.clipping import FLAT, AdaptiveQuantile, Automatic
from dpsgd.core.batches import drawn_rows
from dpsgd.core.parameters import trainable
from dpsgd.core.updates import MakeOptimizer, Schedule
from dpsgd.cyclic import Cyclic
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.losses import Loss
from mechanisms import Adjacency, BallsInBins, InvalidParameter, Poisson, Process, Source

FAR, LONGEST = 2.0**30, 2.0**100
"""Times the bound: how long gradients of canaries are made where clipping does more than cut; and the longest."""


@dataclass(frozen=True, slots=True, eq=False)
class DPSGDTrainer:
    """`dpsgd` as a trainer that can be audited: see `dpsgd_trainer`."""

    model: nn.Module
    dataset: Dataset
    config: DPSGD
    loss: Loss
    initial: dict[str, Any] = field(repr=False)
    optimizer: MakeOptimizer | None = None
    schedule: Schedule | None = None

    @property
    def process(self) -> Process:
        """What the configuration says it runs."""
        return self.config.process()

    def __call__(self, task: TrainerTask) -> Observations:
        """Return the releases of one run, which begins from the initial weights and takes place as they are read.

        Raises:
            TrainerRefusal: if a task asks for what cannot be run, or `dpsgd` refuses the model, the data or the loss.
            TrainerFailure: if a number that `dpsgd` needs could not be had.
        """
        with refusing():
            return self._observations(task)

    def _observations(self, task: TrainerTask) -> Observations:
        self.model.load_state_dict(self.initial)
        dataset, entering = _entering(self.dataset, self.config, task)
        run = steps(
            self.model,
            dataset,
            self.config,
            loss=self.loss,
            randomness=task.streams,
            optimizer=self.optimizer,
            schedule=self.schedule,
            **entering,
        )
        begun: list[int] = []
        unit = _unit(self.config)

        def released() -> Iterator[Released]:
            for release in run:
                begun[:] = [release.run]
                yield replace(release, max_grad_norm=unit * release.max_grad_norm)
            yield final_model(self.model, self.loss)

        return Observations(
            released=released(),
            known=self.dataset,
            participations=lambda: participations(
                task.streams, task.membership, self.config, run=begun, known=units_of(self.dataset)
            ),
            **self._white_box(task),
        )

    def _white_box(self, task: TrainerTask) -> dict[str, Any]:
        """Return what white-box scores rest on; for records under other clippings and noises there is nothing."""
        flat = self.config.clipping == FLAT and isinstance(self.config.noise, IndependentGaussian)
        if isinstance(task.canaries, InputCanaries) and (not flat or isinstance(self.config.sampling, Cyclic)):
            return {}
        if isinstance(self.config.sampling, Cyclic):
            return {
                "max_grad_norm": self.config.max_grad_norm,
                "expected_sum": known_sum_of_step(self.model, self.dataset, self.config, loss=self.loss),
                "turns": turns_of(self.config, known=units_of(self.dataset), canaries=len(task.canaries)),
            }
        expected = expected_clipped_sum(
            self.model, self.dataset, self.config, loss=self.loss, canaries=len(task.canaries)
        )
        unit = _unit(self.config)
        return {
            "max_grad_norm": unit * self.config.max_grad_norm,
            "expected_sum": lambda weights, **bound: expected(weights, **{name: c / unit for name, c in bound.items()}),
        }


def dpsgd_trainer(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
) -> DPSGDTrainer:
    """Return `dpsgd` as a trainer that can be audited, any number of times.

    Every task trains `model` in place, from the weights that it has now, on `dataset` and the canaries that are in.
    These come after the known records and are drawn for wherever they are out, so that a canary's coin changes no other
    record's part in any step and no noise. Where the scheme declares `records`, they are known records and canaries.
    With AdaptiveQuantile a release's `max_grad_norm` is z C_t ÷ noise_multiplier, the unit in which the noise z C_t of
    the sum is the described; a canary then stands at noise_multiplier ÷ z, and its part in the count is not looked at.

    | canaries     | what can be run                                                                                  |
    |--------------|--------------------------------------------------------------------------------------------------|
    | of gradients | any clipping, at whose bound they stand; independent float noise, with Cyclic correlated, too:   |
    |              | attack "whitened". With Poisson and BallsInBins neighbours are of either kind, with all other    |
    |              | schemes "zero_out": one that is out holds its place. All of PerLayer's bound is reached in       |
    |              | `directions_across_layers`                                                                       |
    | records      | any configuration, seen at its end; at every step, Flat() and independent float noise. Added or  |
    |              | removed with Poisson and BallsInBins alone; replaced in any scheme                               |

    Args:
        model: what to train; after a task it holds the weights that the task ended with.
        dataset: the known records.
        config: what is run; whether it is what is claimed is for the audit to find out.
        loss: one loss for each example.
        optimizer: as in `dpsgd.steps`; what it makes of noisy sums costs nothing and hides nothing.
        schedule: as there.

    Raises:
        InvalidParameter: when a task asks for what the table does not hold.
    """
    return DPSGDTrainer(model, dataset, config, loss, copy.deepcopy(model.state_dict()), optimizer, schedule)


def _entering(known: Dataset, config: DPSGD, task: TrainerTask) -> tuple[Dataset, dict[str, Any]]:
    """Return the records of a run, and the keywords of `steps` by which canaries enter it."""
    canaries = task.canaries
    if isinstance(canaries, GradientCanaries):
        check_noise("dpsgd_trainer", config)
        _check_neighbours(config, task.adjacency)
        return known, {"prescribed": canaries.prescribed(task.membership, max_grad_norm=_length(config))}
    if not isinstance(canaries, InputCanaries):
        raise InvalidParameter(
            f"dpsgd_trainer: canaries must be GradientCanaries or InputCanaries, got {type(canaries).__name__}."
        )
    if known.owners is not None:
        raise InvalidParameter("dpsgd_trainer: dataset must be without owners for input canaries, which have none.")
    if task.adjacency is Adjacency.REPLACE_ONE:
        return with_records(known, canaries, task.membership), {}
    everyone = np.ones(len(canaries), dtype=np.bool_)
    present = torch.from_numpy(np.concatenate([np.ones(len(known), dtype=np.bool_), task.membership]))
    return with_records(known, canaries, everyone), {"present": present}


def _check_neighbours(config: DPSGD, adjacency: Adjacency) -> None:
    if adjacency is not Adjacency.ZERO_OUT and not isinstance(config.sampling, (Poisson, BallsInBins)):
        raise InvalidParameter(
            f"dpsgd_trainer: adjacency must be 'zero_out' for gradient canaries with {config.sampling!r}, got "
            f"{adjacency.value!r}: one that is out holds its place in a batch, where its contribution is zero."
        )


def _length(config: DPSGD) -> float:
    """Return how long the gradients of canaries are made, so that clipping leaves C of them, or C_t, but for 2^-22."""
    if config.clipping == FLAT:
        return config.max_grad_norm
    least = config.clipping.stability if isinstance(config.clipping, Automatic) else 0.0
    found = FAR * max(config.max_grad_norm, least)
    if found > LONGEST:
        raise InvalidParameter(
            f"dpsgd_trainer: max_grad_norm and stability must be at most {LONGEST / FAR:.3g} for gradient canaries "
            f"with {config.clipping!r}, got {config.max_grad_norm}."
        )
    return found


def _unit(config: DPSGD) -> float:
    """Return the noise on a sum ÷ (noise_multiplier C): above 1 where a count takes its share of what a step may lose.

    In this unit the noise is the described, and a canary, of which the count tells the rest, stands at 1 ÷ unit.
    """
    if not isinstance(config.clipping, AdaptiveQuantile) or config.noise_multiplier == 0:
        return 1.0
    return config.clipping.sum_noise_multiplier(config.noise_multiplier) / config.noise_multiplier


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
    like = next(frozen.parameters())

    def run(features: NDArray[Any]) -> Tensor:
        given = torch.tensor(features, device=like.device)
        outputs: Tensor = frozen(given.to(like.dtype) if given.is_floating_point() else given)
        return outputs

    def outputs(features: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            found: NDArray[Any] = run(features).cpu().numpy()
        return found

    def losses(features: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        with torch.no_grad():  # where the model lies, as what the loss holds does
            told = loss(run(features), torch.tensor(targets, device=like.device))
            found: NDArray[np.float64] = told.double().cpu().numpy()
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


def sample_rate(config: DPSGD) -> float:
    """Return the probability with which a record takes part in a step, independently of all others.

    Raises:
        InvalidParameter: if samples are not Poisson ones.

    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=600, steps=100, learning_rate=0.5)
    >>> sample_rate(config)
    0.01
    """
    if isinstance(config.sampling, Poisson):
        return config.sampling.probability
    raise InvalidParameter(
        f"audit: sampling must be Poisson(probability=...), got {config.sampling!r}, in which records are not drawn "
        "independently in every step."
    )
