"""The steps of DP-SGD, one after the other, each shown as an adversary inside the training would see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from dpsgd.augmentation import Augmentation
from dpsgd.batches import STEP, check_records, drawn_rows
from dpsgd.config import DPSGD
from dpsgd.datasets import Dataset
from dpsgd.gradients import gradient_sum
from dpsgd.isolation import check_private
from dpsgd.losses import Loss
from dpsgd.noise import Noise
from dpsgd.parameters import assign, check_flat, flatten, trainable
from dpsgd.population import Examples, Population, population_of, with_prescribed
from dpsgd.prescribed import PrescribedGradients, check_independent
from dpsgd.runs import begin_run
from mechanisms import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Release:
    """One step as a white-box adversary sees it; noisy_sum alone is fresh information about the records.

    Args:
        step: number of the step, from 0.
        weights_before: the flat weights at which gradients were taken, shape (d,).
        noisy_sum: Σ clipped gradients of the records drawn + N(0, σ² C² I), before any division, shape (d,).
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
    augmentation: Augmentation | None = None,
    largest_physical_batch: int | None = None,
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
        prescribed: further units with prescribed gradients, for gradient canaries; with Poisson or BallsInBins.
        augmentation: of every record drawn, whose copies' mean loss then gives its gradient; None for the record alone.
        largest_physical_batch: most rows, copies counted, that go through the model at once, at least those of one
            unit; None for no bound. It changes the sums by their rounding alone, and nothing else.

    Guarantees: the releases taken so far have the guarantee of `config.process_after(their number)`, where the number
    of records is declared for neighbours of the same number. Step and noise depend on the records through the clipped
    sums alone: an empty sample gives noise like any other. How long a step takes does depend on them.

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
    parameters = trainable(model)
    check_private(model)
    check_flat(parameters)
    dimensions = dataset.features.dim() - 1
    clipped_sum = gradient_sum(model, example_dimensions=dimensions, loss=loss, max_grad_norm=config.max_grad_norm)
    examples = Examples(dataset=dataset, clipped_sum=clipped_sum, augmentation=augmentation, source=randomness)
    population = population_of(config, examples, largest_physical_batch=largest_physical_batch)
    check_records(config, population.units)
    if prescribed is not None:
        check_independent(config.sampling)
        like = flatten(parameters.values())
        population = with_prescribed(population, prescribed, max_grad_norm=config.max_grad_norm, like=like)
    return _descend(list(parameters.values()), population, config, randomness)


def _descend(
    parameters: list[nn.Parameter], population: Population, config: DPSGD, randomness: Source
) -> Iterator[Release]:
    weights = flatten(parameters)
    assign(weights, parameters)  # from here on the parameters are views of the weights
    run = begin_run(randomness)
    rows = drawn_rows(randomness, config, run=run, records=population.units)
    noise = Noise(source=randomness, run=run, steps=config.steps, like=weights)
    for step in range(config.steps):
        noisy_sum = population.clipped_sum(rows(step), run + step * STEP)
        noise.add_to(noisy_sum, step=step, scale=config.noise_multiplier * config.max_grad_norm)
        release = Release(step=step, weights_before=weights.clone(), noisy_sum=noisy_sum)
        weights.sub_(noisy_sum, alpha=config.learning_rate / config.expected_batch_size)
        yield release
