"""Private training from a configuration to a model that knows what it has spent."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from torch import nn

from dpsgd.augmentation import Augmentation
from dpsgd.averaging import Average, RunningAverage
from dpsgd.budget import Budget
from dpsgd.callbacks import Callback, asked_to_stop, shown_by
from dpsgd.card import Circumstances, PrivacyCard
from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.core.card_of import card_of, circumstances_of
from dpsgd.core.conduct import Conduct, check_kinds
from dpsgd.core.course import Course
from dpsgd.core.generators import set_apart
from dpsgd.core.parameters import trainable
from dpsgd.core.reporting import Reporting, checked_reports
from dpsgd.core.schemes import check_neighbours
from dpsgd.core.updates import MakeOptimizer, Schedule
from dpsgd.datasets import Dataset
from dpsgd.descent import Release, begun
from dpsgd.isolation import check_private
from dpsgd.logs import Log
from dpsgd.losses import Loss
from dpsgd.meter import Meter
from dpsgd.prescribed import Prescribed
from mechanisms import InvalidParameter, Process, Source
from mechanisms.core import validate

MOST_SEEDS = 2**64
"""Of torch's generators."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainResult:
    """A trained model and what its training has spent.

    Args:
        model: the trained model; a model trained on real records may leave only under the ε below.
        reproducible: whether the noise was made with a key that others may know: then the model is not private.
        executed: number of steps taken.
        averaged_model: the model of the averaged weights, private to the same ε; None without an average, or if the
            run stopped before its first step.
        config: what ran, of the steps planned: those that the budget allows.
        circumstances: how the run was carried out, for its card.
        versions: of what it ran with, by name.
    """

    model: nn.Module
    reproducible: bool
    executed: int
    averaged_model: nn.Module | None = None
    config: DPSGD
    circumstances: Circumstances
    versions: Mapping[str, str]

    @property
    def process(self) -> Process:
        """The description of the steps planned. All were executed, unless a callback stopped the run by what it saw.

        Then this is still what holds, see `dpsgd.callbacks`.
        """
        return self.config.process()

    @property
    def unit(self) -> str:
        """Whose ε it is: "record", or "user" with all that the user owns."""
        return self.process.unit

    def epsilon(self, *, delta: float, adjacency: str = "add_remove") -> float:
        """Return the certified ε of the process, at `delta` in [0, 1], for the `adjacency` named.

        Neighbours differ in one `unit`.

        Raises:
            InvalidParameter: if delta or adjacency is out of range, or the run would have been refused for another
                number of records than it declares, which neighbours by "add_remove" have.
            UnsupportedProcess: if there is no theorem for these neighbours.
        """
        from accountant import compute_epsilon

        check_neighbours("TrainResult", self.process, adjacency)
        return compute_epsilon(self.process, delta=delta, adjacency=adjacency)

    def card(
        self,
        *,
        delta: float,
        adjacency: str = "add_remove",
        public_data: str | None = None,
        not_accounted: Sequence[str] | None = None,
    ) -> PrivacyCard:
        """Return the privacy card of the run: what it guarantees, and what that rests on.

        Args:
            delta: as in `epsilon`.
            adjacency: as in `epsilon`.
            public_data: what was done on public data before, in words; None leaves it unsaid, which the card says.
            not_accounted: what else was done with the records that ε leaves out, such as tuning or preprocessing;
                () for nothing, None leaves it unsaid, which the card says.

        Raises:
            InvalidParameter: as `epsilon`, and if a text is none.
            UnsupportedProcess: as `epsilon`.
        """
        return card_of(
            self.config,
            self.circumstances,
            executed=self.executed,
            reproducible=self.reproducible,
            versions=self.versions,
            delta=delta,
            adjacency=adjacency,
            public_data=public_data,
            not_accounted=not_accounted,
        )


def train(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    initialisation_seed: int | None = None,
    prescribed: Prescribed | None = None,
    augmentation: Augmentation | None = None,
    largest_physical_batch: int | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    average: Average | None = None,
    budget: Budget | None = None,
    callbacks: Sequence[Callback] = (),
    logs: Sequence[Log] = (),
    meter: Meter | None = None,
    checkpoint: Checkpoint | None = None,
    operator_log: str | PathLike[str] | None = None,
    compiled: bool = False,
    progress: bool = False,
) -> TrainResult:
    """Return a copy of `model` trained by `config` on `dataset`, and the process that this was.

    Args:
        model: what to train; it is left as it is.
        dataset: the private records.
        config: what to run.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of samples and noise: a `SystemSource` for anything that matters.
        initialisation_seed: of fresh weights for every layer; None keeps the weights of `model`.
        prescribed: as in `steps`.
        augmentation: as in `steps`.
        largest_physical_batch: as in `steps`.
        optimizer: (trainable parameters, config) -> an optimiser of torch that takes noisy_sum / expected_batch_size
            for the gradient, such as `DPAdam`; None for the plain steps of `DPSGD`.
        schedule: number of the step -> factor of the learning rate, a public function such as `Cosine`; None for 1.
        average: which average of the weights to return beside the last ones.
        budget: the run ends before the first step that would exceed it; None to take all of `config.steps`.
        callbacks: are shown every release; whoever reads them is the adversary that the accountants assume. One that
            answers `STOP`, on any rank, ends the run for good, which still costs what all its steps would have. What
            one has in an attribute `shown` stands under the progress bar.
        logs: are written a row for every step.
        meter: when progress bar and logs say which ε has been spent; None for the budget's, or never without one.
        checkpoint: where the run is kept: a call that finds it there goes on from it, and one that finds it complete
            takes no step. With torch.distributed initialised every rank makes the same call, see `dpsgd.core.ranks`.
        operator_log: a new file for exact counts of every step, of examples, of those clipped and of those that counted
            as zero because they were not finite. It is private as the records are, and no part of the result.
        compiled: as in `steps`: whether clipped sums are compiled, which shortens the steps of small models on the CPU.
        progress: whether to show the number of steps done on stderr.

    Guarantees: `result.process` describes what ran, and all of it. Optimiser, schedule and averages are
    post-processing: they cost nothing as long as they read nothing private. The same model, data, seed and key give
    the same weights, bit for bit, on one machine, also where layers draw from torch's generators (Dropout): those are
    set anew in every step, from the key, and are afterwards as they were.

    Raises:
        InvalidParameter: before the first step, if the model cannot be private or something does not fit.
        BudgetExceeded: before the first step, if it would already exceed the budget.
        UnsupportedProcess: before the first step, if there is no theorem for the budget's or the meter's neighbours.

    >>> from dpsgd.models import mlp
    >>> from mechanisms import Poisson, SystemSource
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.5),
    ...                expected_batch_size=4, steps=3, learning_rate=0.1)
    >>> data = Dataset(features=torch.rand(8, 2), targets=torch.arange(8) % 2)
    >>> loss = nn.CrossEntropyLoss(reduction="none")
    >>> train(mlp(2, (), 2), data, config, loss=loss, randomness=SystemSource(), initialisation_seed=0).process.times
    3
    """
    check_kinds(model, dataset, config)
    callbacks, logs = checked_reports(callbacks=callbacks, logs=logs, meter=meter, progress=progress, average=average)
    if budget is not None:
        config, meter = _within(budget, config, meter)
    conduct = Conduct(
        loss=loss,
        randomness=randomness,
        prescribed=prescribed,
        augmentation=augmentation,
        largest_physical_batch=largest_physical_batch,
        optimizer=optimizer,
        schedule=schedule,
        checkpoint=checkpoint,
        operator_log=operator_log,
        compiled=compiled,
        average=average,
        fresh=initialisation_seed is not None,
    )
    trained = initialised(model, initialisation_seed).train()
    running = None if average is None else RunningAverage(average=average, steps=config.steps)
    course, releases = begun(trained, dataset, config, conduct, {} if running is None else {"average": running})
    parameters = list(trainable(trained).values())
    with Reporting(
        config=config,
        steps=config.steps,
        schedule=schedule,
        meter=meter,
        logs=logs if course.ranks.first else (),
        progress=progress and course.ranks.first,
    ) as reporting:
        executed = course.ahead.start
        for release in releases:
            executed = release.step + 1
            if running is not None:
                running.add(release.step, parameters)
            reporting.report(release)
            if _shown(release, callbacks, reporting, course):
                with contextlib.suppress(StopIteration):
                    releases.send(True)
                break
    return TrainResult(
        model=trained,
        reproducible=randomness.reproducible,
        executed=executed,
        averaged_model=None if running is None else _averaged(trained, running),
        config=config,
        circumstances=circumstances_of(config, conduct, course, parameters, budget=budget),
        versions=course.history.versions,
    )


def _within(budget: Budget, config: DPSGD, meter: Meter | None) -> tuple[DPSGD, Meter]:
    """Return the configuration of the steps that the budget allows, and the meter given or else the budget's."""
    if not isinstance(budget, Budget):
        raise InvalidParameter(
            f"train: budget must be a Budget, got {type(budget).__name__}.\nWrite Budget(epsilon=..., delta=...)."
        )
    within = config.of_first(budget.steps_within(config))
    return within, meter or Meter(delta=budget.delta, adjacency=budget.adjacency)


def _shown(release: Release, callbacks: Sequence[Callback], reporting: Reporting, course: Course) -> bool:
    """Show a release to the callbacks, and tell whether one of them, on any rank, asks to stop."""
    stop = course.ranks.any(lambda: asked_to_stop(callbacks, release))
    reporting.tell(shown_by(callbacks), release)
    return stop


def _averaged(model: nn.Module, running: RunningAverage) -> nn.Module | None:
    """Return a copy of `model` with the average of its weights; None where there is none."""
    if not running.values:
        return None
    averaged = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, value in zip(trainable(averaged).values(), running.values, strict=True):
            parameter.copy_(value)
    return averaged


def initialised(model: nn.Module, seed: int | None) -> nn.Module:
    """Return a copy of `model`, with weights drawn anew by each module's own `reset_parameters` if there is a seed.

    Raises:
        InvalidParameter: if a layer has none, or cannot be private, or the seed is no whole number in [0, 2^64).
    """
    check_private(model)  # some layers of those that it refuses cannot be copied
    fresh = copy.deepcopy(model)
    if seed is None:
        return fresh
    if validate.count("train", "initialisation_seed", seed) >= MOST_SEEDS:
        raise InvalidParameter(f"train: initialisation_seed must be below 2^64, got {seed}.")
    with set_apart(next(fresh.parameters(), torch.empty(0, device="cpu")).device, seed=seed):
        for name, module in fresh.named_modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise InvalidParameter(
                    f"train: every layer must have reset_parameters, but {name!r} ({type(module).__name__}) has none.\n"
                    "Initialise the model yourself and pass initialisation_seed=None."
                )
    return fresh
