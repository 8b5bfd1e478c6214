"""The steps of DP-SGD, one after the other, each shown as an adversary inside the training would see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from dpsgd.batches import check_records, drawn_rows
from dpsgd.clipping import check_flat_clipping
from dpsgd.config import DPSGD
from dpsgd.datasets import Dataset
from dpsgd.gradients import gradient_sum_by
from dpsgd.isolation import check_private
from dpsgd.losses import Loss
from dpsgd.noise import Noise
from dpsgd.operator_log import OperatorLog
from dpsgd.parameters import assign, check_flat, flatten, trainable
from dpsgd.population import Population, of_records, with_prescribed
from dpsgd.prescribed import PrescribedGradients, check_independent
from dpsgd.run_clipping import RunClipping, run_clipping
from dpsgd.runs import begin_run
from mechanisms import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Release:
    """One step as a white-box adversary sees it; noisy_sum and noisy_count alone are fresh information on the records.

    Args:
        step: number of the step, from 0.
        weights_before: the flat weights at which gradients were taken, shape (d,).
        noisy_sum: Σ clipped gradients of the records drawn + N(0, σ² C² I), before any division, shape (d,).
        max_grad_norm: C, the bound in use.
        noisy_count: of examples within the bound, less half, where the bound is adaptive: see `AdaptiveQuantile`.
    """

    step: int
    weights_before: Tensor
    noisy_sum: Tensor
    max_grad_norm: float
    noisy_count: float | None = None


def steps(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    prescribed: PrescribedGradients | None = None,
    operator_log: str | PathLike[str] | None = None,
) -> Iterator[Release]:
    """Return an iterator that takes one step of `config` on `model`, in place, for every release it yields.

        w ← w − learning_rate · noisy_sum / expected_batch_size

    Args:
        model: a module whose layers keep examples apart; it is changed.
        dataset: the private records: any number of them, unless the sampling scheme declares it.
        config: what to run.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of samples and noise; every call takes a part of its streams that no other call has had.
        prescribed: further records with prescribed gradients, for gradient canaries; with Poisson or BallsInBins,
            and with Flat() clipping.
        operator_log: file for exact counts of every step, private: see `dpsgd.operator_log`. It changes nothing else.

    Guarantees: the releases taken so far have the guarantee of `config.process_after(their number)`, where the number
    of records is declared for neighbours of the same number. Step and noise depend on the records through the clipped
    sums and noisy counts alone: an empty sample gives noise like any other.

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
    check_records(config, len(dataset))
    parameters = trainable(model)
    check_private(model)
    check_flat(parameters)
    dimensions = dataset.features.dim() - 1
    if prescribed is not None:
        check_flat_clipping("steps", config.clipping)
    clipping = run_clipping(config, model)
    clipped_sum = gradient_sum_by(clipping.clip, model, example_dimensions=dimensions, loss=loss)
    population = of_records(dataset, clipped_sum)
    if prescribed is not None:
        check_independent(config.sampling)
        like = flatten(parameters.values())
        population = with_prescribed(population, prescribed, max_grad_norm=config.max_grad_norm, like=like)
    if operator_log is not None:
        clipping.log_to(OperatorLog(path=Path(operator_log)))
    return _descend(list(parameters.values()), population, clipping, config, randomness)


def _descend(
    parameters: list[nn.Parameter], population: Population, clipping: RunClipping, config: DPSGD, randomness: Source
) -> Iterator[Release]:
    weights = flatten(parameters)
    assign(weights, parameters)  # from here on the parameters are views of the weights
    run = begin_run(randomness)
    rows = drawn_rows(randomness, config, run=run, records=population.units)
    noise = Noise(source=randomness, run=run, steps=config.steps, like=weights)
    for step in range(config.steps):
        noisy_sum = population.clipped_sum(rows(step))
        noise.add_to(noisy_sum, step=step, scale=clipping.noise_scale)
        bound, count = clipping.bound, clipping.end_step(step, source=randomness, run=run)
        release = Release(
            step=step, weights_before=weights.clone(), noisy_sum=noisy_sum, max_grad_norm=bound, noisy_count=count
        )
        weights.sub_(noisy_sum, alpha=config.learning_rate / config.expected_batch_size)
        yield release
