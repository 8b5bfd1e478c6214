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
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack import Observations, Observe, TrainerTask
from audit.canaries import GradientCanaries, InputCanaries
from audit.core.expected_sums import ROWS_AT_ONCE, clipped_sum_of, parameterwise_sum
from audit.core.faults import TrainerRefusal
from audit.core.opacus_loops import Fetched, pieces, without_hooks, write_over
from audit.core.regularity import Regularity
from audit.trainers import final_model, with_records
from dpsgd import Dataset, Release
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.parameters import trainable
from dpsgd.core.population import records_of
from dpsgd.losses import Loss
from mechanisms import Adjacency
from mechanisms.core import validate

NEEDED = ("original_optimizer", "clip_and_accumulate", "expected_batch_size", "params")
ROUND_OFF = 1e-6  # of the bounds of layers, whose squares Opacus adds up in float32
OVER = 10.0  # times the bound: what does not clip adds ten contributions, what does adds one

Train = Callable[[Any, "Watch"], object]
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
        watch = _watch_of(self, task)

        def run(observe: Observe) -> None:
            watch.observe = observe
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(_seed(task))
                self.train(watch.dataset, watch)
            watch.end(self.loss)

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
            (`num_workers=0`). torch's generator is seeded for it, from the run's streams.
        records: the known records, without owners.
        loss: one loss for each example, of which the loop takes the mean: for what the known records add on average.
        max_grad_norm: C, as it is claimed; an optimiser of another is refused. With clipping="per_layer" it is the root
            of the sum of squares.
        poisson_sampling: as in `make_private`. True: a loader that draws no Poisson samples is refused, and a run whose
            steps took records too regularly for them is at fault. False: what is claimed must say what is drawn.

    Raises:
        InvalidParameter: if C is not above 0.
    """
    bound = validate.positive("opacus_trainer", "max_grad_norm", max_grad_norm)
    return OpacusTrainer(train, records, loss, bound, poisson_sampling)


@dataclass(slots=True, kw_only=True, eq=False)
class Watch:
    """What a loop calls once with its model, optimiser and loader.

    Args:
        dataset: what the loop trains on.
        known: number of records that are no canaries, which come first.
        canaries: whose gradients are written over; None where canaries are records.
        membership: of the canaries.
        max_grad_norm: C.
        poisson_sampling: whether samples must be Poisson ones.
        observe: where releases go.
    """

    dataset: Fetched
    known: int
    canaries: GradientCanaries | None
    membership: np.ndarray[Any, np.dtype[np.bool_]]
    max_grad_norm: float
    poisson_sampling: bool
    observe: Observe | None = None
    optimizer: Any = None
    model: nn.Module | None = None
    bare: nn.Module | None = None
    rate: float = 0.0
    regularity: Regularity | None = None
    steps: int = 0
    clipped: int = 0
    written: bool = False
    _expected: Callable[[Tensor], Tensor] | None = field(default=None)

    def __call__(self, model: nn.Module, optimizer: Any, loader: Any) -> None:
        """Watch what `make_private` returned.

        Raises:
            TrainerRefusal: if it is not what Opacus makes, or has another bound or parameters, or comes a second time.
        """
        if self.optimizer is not None:
            raise TrainerRefusal("opacus_trainer: watch must be called once in a run, and was called again.")
        bare = getattr(model, "_module", model)
        self._check(bare, optimizer)
        self.optimizer, self.model = optimizer, bare
        self.bare = without_hooks(self.model)
        self.rate = self._rate(loader)
        optimizer.original_optimizer.register_step_pre_hook(lambda *_: self._release())
        self.dataset.order.clear()  # to make a loader takes a record, for its shape
        if self.poisson_sampling:
            self.regularity = Regularity(records=len(self.dataset), probability=self.rate)
        if self.canaries is not None:
            clip = optimizer.clip_and_accumulate

            def write_over_and_clip() -> None:
                self._write_over()
                clip()

            optimizer.clip_and_accumulate = write_over_and_clip

    def expected_sum(self, weights: Tensor, trainer: OpacusTrainer) -> Tensor:
        """Return what the known records add to a step on average, at these weights."""
        if self._expected is None:
            assert self.bare is not None
            bounds = getattr(self.optimizer, "max_grad_norms", None)
            if bounds is not None:
                summed = parameterwise_sum(self.bare, trainer.records, loss=trainer.loss, bounds=bounds)
            else:
                summed = clipped_sum_of(
                    self.bare,
                    trainer.records,
                    loss=trainer.loss,
                    clipper=lambda _: FlatClipper(max_grad_norm=trainer.max_grad_norm),
                    population=lambda examples: records_of(examples, ROWS_AT_ONCE),
                )
            self._expected = lambda flat: summed(flat).mul_(self.rate)
        return self._expected(weights)

    def _rate(self, loader: Any) -> float:
        """Return how often a record takes part in a step, on average."""
        if not self.poisson_sampling:
            return 1 / len(loader)
        rate = getattr(loader, "sample_rate", None)
        if rate is None:
            raise TrainerRefusal(
                f"opacus_trainer: loader must draw Poisson samples, as make_private has one do, got "
                f"{type(loader).__name__}, which has no sample_rate.\nGive poisson_sampling=False where the loop does, "
                "and claim what it draws, such as Repeat(Allocated(Repeat(Gaussian(...), steps), Shuffled()), epochs)."
            )
        if not 0 < float(rate) <= 1:
            raise TrainerRefusal(f"opacus_trainer: loader.sample_rate must lie in (0, 1], got {rate}.")
        return float(rate)

    def end(self, loss: Loss) -> None:
        """Release the final model, if there is one.

        Raises:
            TrainerFault: if steps took records too regularly for the samples that they were to be drawn by.
        """
        if self.regularity is not None:
            self.regularity.check()
        if self.model is not None and self.bare is not None and self.observe is not None:
            self.bare.load_state_dict(self.model.state_dict())
            self.observe(final_model(self.bare, loss))

    def _check(self, model: nn.Module, optimizer: Any) -> None:
        missing = [name for name in NEEDED if not hasattr(optimizer, name)]
        if missing:
            raise TrainerRefusal(
                f"opacus_trainer: optimizer must be what make_private returned, got {type(optimizer).__name__}, "
                f"which has no {missing[0]}."
            )
        self._check_bound(optimizer)
        if list(map(id, optimizer.params)) != list(map(id, trainable(model).values())):
            raise TrainerRefusal("opacus_trainer: optimizer must hold model.parameters() in their order, got others.")
        dimension = sum(parameter.numel() for parameter in optimizer.params)
        if self.canaries is not None and self.canaries.dimension != dimension:
            raise TrainerRefusal(
                f"opacus_trainer: canaries must have the dimension of the model, {dimension} trainable parameters, "
                f"got {self.canaries.dimension}."
            )

    def _check_bound(self, optimizer: Any) -> None:
        if not math.isclose(optimizer.max_grad_norm, self.max_grad_norm, rel_tol=ROUND_OFF):
            used, claimed = optimizer.max_grad_norm, self.max_grad_norm
            raise TrainerRefusal(
                f"opacus_trainer: max_grad_norm must be the optimizer's in every step, {used}, got {claimed}."
            )

    def _release(self) -> None:
        """Hand over weights and noisy sum, as the optimiser is about to step."""
        assert self.observe is not None
        self._check_bound(self.optimizer)
        if self.canaries is not None and not self.written:
            what = "canaries must be InputCanaries where no per-example gradients can be written over (ghost clipping)"
            raise TrainerRefusal(f"opacus_trainer: {what}.")
        self.written = False
        optimizer, parameters = self.optimizer, self.optimizer.params
        divisor = 1.0
        if optimizer.loss_reduction == "mean":
            divisor = optimizer.expected_batch_size * optimizer.accumulated_iterations
        with torch.no_grad():
            weights = torch.cat([parameter.reshape(-1) for parameter in parameters])
            noisy_sum = torch.cat([parameter.grad.reshape(-1) for parameter in parameters]) * divisor
        if self.regularity is not None:
            self.regularity.add(self.dataset.order)
        self.dataset.order.clear()
        step, self.steps, self.clipped = self.steps, self.steps + 1, 0
        self.observe(Release(step=step, weights_before=weights, noisy_sum=noisy_sum, max_grad_norm=self.max_grad_norm))

    def _write_over(self) -> None:
        """Give the canaries among the examples about to be clipped their gradients."""
        assert self.canaries is not None
        self.written = True
        order = np.array(self.dataset.order[self.clipped :], dtype=np.int64)
        self.clipped = len(self.dataset.order)
        waiting = [list(pieces(parameter)) for parameter in self.optimizer.params]
        if len(order) != sum(map(len, waiting[0])):
            raise TrainerRefusal(
                "opacus_trainer: every record fetched must have one gradient until the optimizer steps, and there are "
                "more or fewer.\nFetch them in this process, with num_workers=0, and use each batch once."
            )
        places = np.flatnonzero(order >= self.known)
        drawn = order[places] - self.known
        rows = self.canaries.rows(drawn) * (OVER * self.max_grad_norm * self.membership[drawn])[:, None]
        start = 0
        for parameter, samples in zip(self.optimizer.params, waiting, strict=True):
            block = torch.from_numpy(rows[:, start : start + parameter.numel()])
            write_over(samples, places, block.reshape(-1, *parameter.shape))
            start += parameter.numel()


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
    )


def _seed(task: TrainerTask) -> int:
    high, low = task.streams.words("torch", 0, 2)
    return (int(high) << 31) ^ int(low)
