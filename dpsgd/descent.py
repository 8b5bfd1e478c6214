"""The steps of DP-SGD, one after the other, each shown as an adversary inside the training would see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from dpsgd.batches import check_records, drawn_rows
from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.course import Course, Parts, set_out
from dpsgd.datasets import Dataset
from dpsgd.gradients import gradient_sum
from dpsgd.isolation import check_private
from dpsgd.losses import Loss
from dpsgd.noising import check_noise, noising
from dpsgd.parameters import assign, check_flat, flatten, trainable
from dpsgd.parts import LayerDraws, Weights
from dpsgd.population import Population, of_records, with_prescribed
from dpsgd.prescribed import PrescribedGradients, check_independent
from dpsgd.whole import summed
from mechanisms import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Release:
    """One step as a white-box adversary sees it; noisy_sum alone is fresh information about the records.

    Args:
        step: number of the step, from 0.
        weights_before: the flat weights at which gradients were taken, shape (d,).
        noisy_sum: Σ clipped gradients of the records drawn + noise, before any division, shape (d,); the noise is
            N(0, σ² C² I) unless `config.noise` names another law.
    """

    step: int
    weights_before: Tensor
    noisy_sum: Tensor


def steps(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    prescribed: PrescribedGradients | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Release]:
    """Return an iterator that takes one step of `config` on `model`, in place, for every release it yields.

        w ← w − learning_rate · noisy_sum / expected_batch_size

    Args:
        model: a module whose layers keep examples apart; it is changed.
        dataset: the private records: any number of them, unless the sampling scheme declares it.
        config: what to run.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of samples and noise; every call takes a part of its streams that no other call has had.
        prescribed: further records with prescribed gradients, for gradient canaries; with Poisson or BallsInBins.
        checkpoint: where the run is kept, and goes on from if it is found there; only steps still to come are shown.

    Guarantees: the releases taken so far, those before a checkpoint among them, have the guarantee of
    `config.process_after(their number)`, where the number of records is declared for neighbours of the same number.
    Step and noise depend on the records through the clipped sums alone: an empty sample gives noise like any other.

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
    _, releases = begun(
        model, dataset, config, loss=loss, randomness=randomness, prescribed=prescribed, checkpoint=checkpoint
    )
    return releases


def begun(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    prescribed: PrescribedGradients | None,
    checkpoint: Checkpoint | None,
) -> tuple[Course, Iterator[Release]]:
    """Return the course of the run and the iterator of `steps`, whose arguments these are.

    Raises:
        InvalidParameter: as `steps`.
    """
    check_records(config, len(dataset))
    parameters = trainable(model)
    check_private(model)
    check_flat(parameters)
    dimensions = dataset.features.dim() - 1
    clipped_sum = gradient_sum(model, example_dimensions=dimensions, loss=loss, max_grad_norm=config.max_grad_norm)
    check_noise(config, dimension=len(flatten(parameters.values())), prescribed=prescribed)
    population = of_records(dataset, summed(config, clipped_sum))
    if prescribed is not None:
        check_independent(config.sampling)
        like = flatten(parameters.values())
        population = with_prescribed(population, prescribed, max_grad_norm=config.max_grad_norm, like=like)
    course = set_out(checkpoint, randomness, config=config, model=model)
    return course, _descend(list(parameters.values()), course.ranks.share(population), config, course)


def _descend(
    parameters: list[nn.Parameter], population: Population, config: DPSGD, course: Course
) -> Iterator[Release]:
    weights = flatten(parameters)
    assign(weights, parameters)  # from here on the parameters are views of the weights
    rows = drawn_rows(course.source, config, run=course.run, records=population.units)
    noisy = noising(config, source=course.source, run=course.run, like=weights)
    scale = config.noise_multiplier * config.max_grad_norm
    course.ranks.agree(weights)
    draws = LayerDraws(source=course.source, run=course.run, ranks=course.ranks)
    parts: Parts = {"weights": Weights(flat=weights), "layers": draws}
    course.begin(parts)
    for step in range(course.start, config.steps):
        with draws.of(step):
            clipped_sum = population.clipped_sum(rows(step))
        noisy_sum = noisy(clipped_sum, step=step, scale=scale)
        course.ranks.agree(noisy_sum)
        release = Release(step=step, weights_before=weights.clone(), noisy_sum=noisy_sum)
        weights.sub_(noisy_sum, alpha=config.learning_rate / config.expected_batch_size)
        yield release
        course.after(step + 1, parts)
    course.end()
