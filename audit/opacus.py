"""Opacus seen through the door of the harness: a training loop as it stands, watched where its optimiser steps.

    def train(dataset, watch):                                # the loop, a function of its records
        model, optimizer, loader = PrivacyEngine().make_private(…, data_loader=DataLoader(dataset, …))
        watch(model, optimizer, loader)
        …                                                     # as it stands

    trainer = opacus_trainer(train, records, loss=…, max_grad_norm=…)

What is seen is what leaves the optimiser: `p.grad` just before the step, times the divisor that it was given, is the
noisy sum. Input canaries are records of `dataset`. A gradient canary is a record of `dataset` whatever its coin, whose
per-example gradient is written over, before Opacus clips it, with ten times the bound in the canary's direction, or
with zeros: coins are those of zero_out neighbours, and clipping, sum, noise and samples are Opacus's own. Nothing of
Opacus is imported: the loop brings it.

| of Opacus                              | here                                                                        |
|----------------------------------------|-----------------------------------------------------------------------------|
| hooks, functorch, ew; wrap_model=False | audited                                                                     |
| grad_sample_mode="ghost"               | audited; gradient canaries by their norms, see `audit.core.opacus_watching` |
| BatchMemoryManager                     | audited: a step is what its small batches add up to                         |
| clipping="per_layer"                   | audited; `directions_across_layers` reach all of C                          |
| poisson_sampling=False                 | audited where said so; the claim must say what is drawn                     |
| several batches a step                 | audited without Poisson samples; with them Opacus raises. Refused with      |
|                                        | ghost clipping, of which Opacus keeps the last batch alone                  |
| clipping="adaptive"                    | refused: no claim describes what it releases besides                        |
| rand_on_empty=True                     | gradient canaries are refused once a sample is empty                        |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from audit.attack import Observations, Observe, TrainerTask
from audit.canaries import GradientCanaries, InputCanaries
from audit.core.faults import TrainerRefusal, refusing
from audit.core.opacus_loops import Fetched
from audit.core.opacus_watching import Watch
from audit.trainers import with_records
from dpsgd import Dataset
from dpsgd.core.generators import set_apart
from dpsgd.losses import Loss
from mechanisms import Adjacency, InvalidParameter
from mechanisms.core import validate

Train = Callable[[Any, Watch], object]
"""(dataset of torch, watch) -> anything: builds model, optimiser and loader, has them watched, and trains."""


@dataclass(frozen=True, slots=True, eq=False)
class OpacusTrainer:
    """A loop with Opacus as a trainer that can be audited: see `opacus_trainer`."""

    train: Train
    records: Dataset
    loss: Loss
    max_grad_norm: float
    poisson_sampling: bool = True

    def __call__(self, task: TrainerTask) -> Observations:
        """Return the releases of one run, which takes place as they are watched."""
        with refusing():
            watch = _watch_of(self, task)

        def run(observe: Observe) -> None:
            watch.observe = observe
            with set_apart(torch.device("cuda" if torch.cuda.is_available() else "cpu"), seed=_seed(task)):
                self.train(watch.dataset, watch)
            watch.end()

        return Observations(
            released=run,
            max_grad_norm=self.max_grad_norm,
            expected_sum=lambda weights: watch.expected_sum(weights, self),
            known=self.records,
        )


def opacus_trainer(
    train: Train, records: Dataset, *, loss: Loss, max_grad_norm: float, poisson_sampling: bool = True
) -> OpacusTrainer:
    """Return a training loop with Opacus as a trainer that can be audited, any number of times.

    Args:
        train: is handed a dataset of torch and `watch`. It must make everything anew, call
            `watch(model, optimizer, loader)` with what `make_private` returned, and fetch records in its own process
            (`num_workers=0`). torch's generators of the CPU and of the current CUDA device are seeded for it, from the
            run's streams, and afterwards are as they were.
        records: the known records, without owners.
        loss: one loss for each example, of which the loop takes the mean: for what the known records add on average.
        max_grad_norm: C, as it is claimed; an optimiser of another is refused. With clipping="per_layer" it is the root
            of the sum of squares.
        poisson_sampling: as in `make_private`. True: a loader that draws no Poisson samples is refused, and a run whose
            steps took records too regularly for them is at fault. False: what is claimed must say what is drawn.

    Raises:
        InvalidParameter: if C is not above 0, or the records are no Dataset.
    """
    if not isinstance(records, Dataset):
        raise InvalidParameter(
            f"opacus_trainer: records must be a dpsgd.Dataset, got {type(records).__name__}.\n"
            "Make one of tensors: Dataset(features=..., targets=...)."
        )
    bound = validate.positive("opacus_trainer", "max_grad_norm", max_grad_norm)
    return OpacusTrainer(train, records, loss, bound, poisson_sampling)


def _watch_of(trainer: OpacusTrainer, task: TrainerTask) -> Watch:
    canaries, known = task.canaries, trainer.records
    if isinstance(canaries, InputCanaries):
        data, written = with_records(known, canaries, task.membership), None
    elif isinstance(canaries, GradientCanaries) and task.adjacency is Adjacency.ZERO_OUT:
        stand_ins = torch.arange(len(canaries)) % len(known)
        data = Dataset(
            features=torch.cat([known.features, known.features[stand_ins]]),
            targets=torch.cat([known.targets, known.targets[stand_ins]]),
        )
        written = canaries
    else:
        raise TrainerRefusal(
            "opacus_trainer: canaries must be InputCanaries, or GradientCanaries with adjacency 'zero_out', for which "
            f"they are in the dataset whatever the coins, got {type(canaries).__name__} with {task.adjacency.value!r}."
        )
    return Watch(
        dataset=Fetched(data),
        known=len(known),
        canaries=written,
        membership=task.membership,
        max_grad_norm=trainer.max_grad_norm,
        poisson_sampling=trainer.poisson_sampling,
        loss=trainer.loss,
    )


def _seed(task: TrainerTask) -> int:
    high, low = task.streams.words("torch", 0, 2)
    return (int(high) << 31) ^ int(low)
