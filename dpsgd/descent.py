"""The steps of DP-SGD, one after the other, each shown as an adversary inside the training would see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from torch import Tensor, nn
from torch.optim import Optimizer

from dpsgd.augmentation import Augmentation
from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.core.arithmetic import repeatable, whole_floats
from dpsgd.core.batches import STEP, Rows, check_records, drawn_rows
from dpsgd.core.clippers import Clipper
from dpsgd.core.conduct import Conduct, check_compiled, check_kinds, told_apart
from dpsgd.core.course import Course, Parts, set_out
from dpsgd.core.digits import check_loss, seen_by_model
from dpsgd.core.failures import check_attempt
from dpsgd.core.noising import Noising, check_noise, check_range, compile_noise, noising
from dpsgd.core.parameters import assign, check_flat, check_place, flatten, layer_slices, trainable
from dpsgd.core.parts import LayerDraws, Weights, draw_in
from dpsgd.core.population import Examples, Population, population_of, runs_alone, with_absent, with_prescribed
from dpsgd.core.run_clipping import RunClipping, run_clipping
from dpsgd.core.summing import examples_of
from dpsgd.core.unaltered import Unaltered
from dpsgd.core.updates import MakeOptimizer, Schedule, Updates, made_optimizer, updates_of
from dpsgd.datasets import Dataset
from dpsgd.isolation import check_private, known_apart
from dpsgd.losses import Loss
from dpsgd.prescribed import Prescribed, check_independent
from mechanisms import InvalidParameter, Source

NO_PARTS: Parts = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Release:
    """One step as a white-box adversary sees it; noisy_sum and noisy_count alone are fresh information on the records.

    Args:
        step: number of the step, from 0.
        weights_before: the flat weights at which gradients were taken, shape (d,).
        noisy_sum: Σ clipped gradients of the units drawn + noise, before any division, shape (d,); the noise is
            N(0, σ² C² I) unless `config.noise` names another law.
        max_grad_norm: C, the bound in use.
        noisy_count: of examples within the bound, less half, where the bound is adaptive: see `AdaptiveQuantile`.
        run: where the run begins in its source's streams, see `dpsgd.core.runs`.
    """

    step: int
    weights_before: Tensor
    noisy_sum: Tensor
    max_grad_norm: float
    noisy_count: float | None = None
    run: int = 0


def steps(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    prescribed: Prescribed | None = None,
    present: Tensor | None = None,
    augmentation: Augmentation | None = None,
    largest_physical_batch: int | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    checkpoint: Checkpoint | None = None,
    operator_log: str | PathLike[str] | None = None,
    compiled: bool = False,
) -> Iterator[Release]:
    """Return an iterator that takes one step of `config` on `model`, in place, for every release it yields.

        w ← w − learning_rate · noisy_sum / expected_batch_size

    Args:
        model: a module whose layers keep examples apart; it is changed.
        dataset: the private records: any number of them, unless the sampling scheme declares it; with owners exactly
            where the configuration's unit is the user.
        config: what to run.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of samples and noise; every call takes a part of its streams that no other call has had.
        prescribed: further units with prescribed gradients, for gradient canaries, which count where the scheme
            declares `records`; those not included hold their place in batches where units are not independent.
        present: bool (n,), which records are in the data, for input canaries: the others are drawn for in vain, so that
            one more changes no other's part and no noise; None for all. With Poisson or BallsInBins, without owners.
        augmentation: of every record drawn, whose copies' mean loss then gives its gradient; None for the record alone.
        largest_physical_batch: most rows, copies counted, that go through the model at once, at least those of one
            unit; None for no bound. It changes the sums by their rounding alone, and nothing else. Where it is one
            record, what lies between float32 weights and losses may be computed in bfloat16 or float16.
        optimizer: (trainable parameters, config) -> an optimiser of torch that takes noisy_sum / expected_batch_size
            for the gradient; None for the steps above.
        schedule: number of the step -> factor of the learning rate, a public function; None for 1.
        checkpoint: where the run is kept, and goes on from if it is found there; only steps still to come are shown.
        operator_log: file of each step's exact counts, private: see `dpsgd.core.operator_log`. Nothing else changes.
        compiled: whether clipped sums and noise are compiled, by `torch.compile` and a compiler of C++: up to a minute
            before the first step for shorter steps of small models, of linear layers and functions of single entries on
            the CPU, one row a unit, one factor an example; see `dpsgd.core.compiled` and `dpsgd.core.compiled_noise`.
            What does not fit is refused. Sums and noise differ by their rounding alone.

    Guarantees: the first n releases, those before a checkpoint among them, have the guarantee of
    `config.process_after(n)`, for an n fixed before the run; if what was released decides how many are taken, these
    have that of `config.process()`. Where the number of records is declared, this is about neighbours of the same
    number. Step and noise depend on the records through the clipped sums and noisy counts alone: an empty sample gives
    noise like any other. How long a step takes does depend on them.

    Raises:
        InvalidParameter: before the first step, if the model cannot be private or something does not fit.

    >>> import torch
    >>> from mechanisms import KeyedSource, Poisson
    >>> config = DPSGD(noise_multiplier=0.0, max_grad_norm=1.0, sampling=Poisson(probability=1.0),
    ...                expected_batch_size=2, steps=1, learning_rate=1.0)
    >>> data = Dataset(features=torch.ones(2, 1), targets=torch.zeros(2))
    >>> line = nn.Linear(1, 1, bias=False)
    >>> [step.noisy_sum for step in steps(line, data, config, loss=lambda o, t: o[:, 0] / 2, randomness=KeyedSource(0))]
    [tensor([1.])]
    """
    conduct = Conduct(
        loss=loss,
        randomness=randomness,
        prescribed=prescribed,
        present=present,
        augmentation=augmentation,
        largest_physical_batch=largest_physical_batch,
        optimizer=optimizer,
        schedule=schedule,
        checkpoint=checkpoint,
        operator_log=operator_log,
        compiled=compiled,
    )
    return begun(model, dataset, config, conduct)[1]


def begun(
    model: nn.Module, dataset: Dataset, config: DPSGD, conduct: Conduct, parts: Parts = NO_PARTS
) -> tuple[Course, Generator[Release, bool | None]]:
    """Return the course of the run and the iterator of `steps`, to which True is sent to take no further step ever.

    Args:
        model: as in `steps`, and so the rest.
        dataset: as there.
        config: as there.
        conduct: its keywords.
        parts: what the caller carries from step to step, to be kept with the run.

    Raises:
        InvalidParameter: as `steps`.
    """
    parameters, like = _checked(model, dataset, config, conduct)
    clipping = run_clipping(config, model)
    examples, settle = examples_of(model, dataset, like, config, conduct, clipping.clip)
    population = _population(examples, config, conduct, clip=clipping.clip, model=model)
    made = made_optimizer(conduct.optimizer, parameters, config)

    def pass_of_zeros() -> None:
        examples.sum_of_zeros()
        clipping.forget()

    if conduct.compiled:
        compile_noise(config, like=flatten(parameters))
    course = _course(model, dataset, config, conduct, made)
    examples.source = course.source
    with whole_floats(like.device):  # before a record is touched, or a file is made
        check_attempt(pass_of_zeros, device=like.device)
        course = settle(course)
        check_attempt(pass_of_zeros, device=like.device)  # again, in the forms that are taken
        course = dataclasses.replace(course, layers_draw=draw_in(pass_of_zeros, device=like.device))
    if conduct.operator_log is not None:
        clipping.log_to(Path(conduct.operator_log), course.ranks)

    def releases() -> Generator[Release, bool | None]:
        weights = flatten(parameters)
        assign(weights, parameters)  # from here on the parameters are views of the weights
        updates = updates_of(weights, parameters, config, optimizer=made, schedule=conduct.schedule)
        apart = known_apart(model, like)
        draws = _draws(course, pass_of_zeros, clipping, shown=apart and conduct.of_torch)
        own: Parts = {"weights": Weights(flat=weights), "layers": draws, "clipping": clipping, "updates": updates}
        watched = _watched(population, Unaltered(model, any_mode=apart))
        shared = course.ranks.share(draws.over(watched))
        noisy = noising(config, source=course.source, run=course.run, like=weights, compiled=conduct.compiled)
        yield from _descend(weights, shared, noisy, clipping, updates, config, course, {**own, **parts})

    return course, releases()


def _draws(course: Course, pass_of_zeros: Callable[[], None], clipping: RunClipping, *, shown: bool) -> LayerDraws:
    return LayerDraws(
        source=course.source,
        run=course.run,
        ranks=course.ranks,
        pass_of_zeros=pass_of_zeros,
        expected=course.layers_draw or not shown,
        forget=clipping.forget,
    )


def _watched(population: Population, unaltered: Unaltered) -> Population:
    """Return the population with sums of an unaltered model alone."""

    def clipped_sum(rows: Rows, position: int) -> Tensor:
        unaltered.check()
        return population.clipped_sum(rows, position)

    return dataclasses.replace(population, clipped_sum=clipped_sum)


def _course(model: nn.Module, dataset: Dataset, config: DPSGD, conduct: Conduct, optimizer: Optimizer | None) -> Course:
    """Return the course of a run with the optimiser that its conduct has made."""
    return set_out(
        conduct.checkpoint,
        conduct.randomness,
        config=config,
        model=model,
        dataset=dataset,
        conduct=told_apart(conduct, optimizer, steps=config.steps),
        fresh=conduct.fresh,
    )


def _descend(
    weights: Tensor,
    population: Population,
    noisy: Noising,
    clipping: RunClipping,
    updates: Updates,
    config: DPSGD,
    course: Course,
    parts: Parts,
) -> Generator[Release, bool | None]:
    source, run, ranks = course.source, course.run, course.ranks
    rows = drawn_rows(source, config, run=run, records=population.units)
    ranks.agree(weights)
    course.begin(parts)
    for step in course.ahead:
        with whole_floats(weights.device), repeatable(weights.device):
            clipped_sum = population.clipped_sum(rows(step), run + step * STEP)
        noisy_sum = noisy(clipped_sum, step=step, scale=clipping.noise_scale)
        ranks.agree(noisy_sum)
        bound, count = clipping.bound, clipping.end_step(step, source=source, run=run, ranks=ranks)
        release = Release(
            step=step,
            weights_before=weights.clone(),
            noisy_sum=noisy_sum,
            max_grad_norm=bound,
            noisy_count=count,
            run=run,
        )
        updates.apply(noisy_sum, step=step)
        stopped = bool((yield release))
        course.after(step + 1, parts, stopped=stopped)
        if stopped:
            break
    course.end()


def _checked(model: nn.Module, dataset: Dataset, config: DPSGD, conduct: Conduct) -> tuple[list[nn.Parameter], Tensor]:
    """Return the trainable parameters of a model that the run fits, and features like those that it is given."""
    check_kinds(model, dataset, config)
    parameters = trainable(model)
    check_flat(parameters)
    check_place(model, dataset.features, dataset.targets)
    check_compiled(config, conduct)
    alone = runs_alone(config, conduct)
    like = seen_by_model(dataset, conduct, alone=alone)
    check_private(model, like=like, alone=alone)
    check_loss(model, conduct.loss, like, dataset.targets, alone=alone)
    check_range(config, like=next(iter(parameters.values())))
    check_noise(config, dimension=sum(p.numel() for p in parameters.values()), prescribed=conduct.prescribed)
    if conduct.prescribed is not None:
        conduct.prescribed.check_run(config)
    if conduct.present is not None:
        check_independent(config.sampling)
    return list(parameters.values()), like


def _population(examples: Examples, config: DPSGD, conduct: Conduct, *, clip: Clipper, model: nn.Module) -> Population:
    """Return all that may be sampled."""
    population = population_of(config, examples, largest_physical_batch=conduct.largest_physical_batch)
    check_records(config, population.units + (0 if conduct.prescribed is None else len(conduct.prescribed)))
    if conduct.present is not None:
        if config.unit == "user":
            raise InvalidParameter("steps: present must be None where config.unit is 'user'.")
        population = with_absent(population, conduct.present)
    if conduct.prescribed is None:
        return population
    like = flatten(trainable(model).values())
    return with_prescribed(population, conduct.prescribed, clip=clip, layers=layer_slices(model), like=like)
