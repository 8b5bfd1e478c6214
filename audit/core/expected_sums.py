"""What the known records of a run add to a step on average, which white-box scores subtract.

Over what a step draws, at given weights, a sum of contributions is on average

    E Σ_drawn c_i(w)  =  r Σ_i c_i(w),    c_i(w) the clipped gradient of unit i at the weights w,

with r the mean number of times a unit takes part in a step, the same for all in every scheme here, as all are alike:

    Poisson(q)              q                               BallsInBins      1 / steps of an epoch
    FixedSize, batch b      b / n                           Shuffled         b / n, b = expected_batch_size
    WithReplacement, b      b / n, counting repeats         TruncatedPoisson  E[min(Bin(n, q), largest)] / n

n counts the canaries, which are drawn for as well. Where the steps of an epoch share out the records, r is that of a
step by itself: who knew the parts in earlier steps, as no adversary of these schemes does, would expect another sum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.attack import ExpectedSum
from audit.core.described import truncated_participation
from audit.core.example_gradients import ENTRIES, per_example_gradients
from dpsgd import DPSGD, Dataset
from dpsgd.clipping import AdaptiveQuantile
from dpsgd.core.clip import clip_factors, weigh
from dpsgd.core.clippers import Clipper, FlatClipper
from dpsgd.core.parameters import assign, trainable
from dpsgd.core.population import Examples, Population, population_of
from dpsgd.core.run_clipping import run_clipping
from dpsgd.gradients import gradient_sum_by
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.losses import Loss
from mechanisms import (
    BallsInBins,
    FixedSize,
    InvalidParameter,
    Poisson,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)

ROWS_AT_ONCE = 8192  # bounds the memory that the gradient sum over all known records takes


def expected_clipped_sum(
    model: nn.Module, dataset: Dataset, config: DPSGD, *, loss: Loss, canaries: int = 0
) -> ExpectedSum:
    """Return the function w -> r Σ_i clip(g_i(w)) over all units of `dataset`, shape (d,); see the module.

    Where the bound moves it takes the one in use as `max_grad_norm`, without which it is the first.

    Args:
        model: gives the shape; a copy of it is used.
        dataset: the known records.
        config: gives r, the clipping and the unit.
        loss: one loss for each example.
        canaries: number of further units that are drawn for.

    Raises:
        InvalidParameter: if the noise of steps is not independent, or parts in a step are not drawn.
    """
    check_independent_noise("audit", config)
    rate = mean_participation(config, units_of(dataset) + canaries)
    at_once = max(ROWS_AT_ONCE, config.examples_per_user or 1)
    moving = isinstance(config.clipping, AdaptiveQuantile)
    flat = FlatClipper(max_grad_norm=config.max_grad_norm)
    summed = clipped_sum_of(
        model,
        dataset,
        loss=loss,
        clipper=lambda twin: flat if moving else run_clipping(config, twin).clip,
        population=lambda examples: population_of(config, examples, largest_physical_batch=at_once),
    )

    def expected(weights: Tensor, *, max_grad_norm: float = config.max_grad_norm) -> Tensor:
        flat.max_grad_norm = max_grad_norm
        return summed(weights).mul_(rate)

    return expected


def clipped_sum_of(
    model: nn.Module,
    dataset: Dataset,
    *,
    loss: Loss,
    clipper: Callable[[nn.Module], Clipper],
    population: Callable[[Examples], Population],
) -> Callable[..., Tensor]:
    """Return the function (w, units) -> Σ_i clip(g_i(w)) over these units of `dataset`, or over all, shape (d,).

    Args:
        model: gives the shape; a copy of it is used.
        dataset: the known records.
        loss: one loss for each example.
        clipper: of the copy.
        population: of the units that the dataset is made of.
    """
    twin = copy.deepcopy(model)
    parameters = list(trainable(twin).values())
    dimensions = dataset.features.dim() - 1
    clipped = gradient_sum_by(clipper(twin), twin, example_dimensions=dimensions, loss=loss)
    units = population(Examples(dataset=dataset, clipped_sum=clipped))

    def summed(weights: Tensor, taken: NDArray[np.int64] | None = None) -> Tensor:
        assign(weights, parameters)
        return units.clipped_sum(np.arange(units.units) if taken is None else taken, 0)

    return summed


def parameterwise_sum(
    model: nn.Module, dataset: Dataset, *, loss: Loss, bounds: Sequence[float]
) -> Callable[[Tensor], Tensor]:
    """Return the function w -> Σ_i of gradients clipped parameter by parameter, as Opacus clips what it calls layers.

    Args:
        model: gives the shape; it is left alone.
        dataset: the known records.
        loss: one loss for each example.
        bounds: of every parameter, in their order.
    """
    each, size = per_example_gradients(model, loss)
    sizes = [parameter.numel() for parameter in trainable(model).values()]
    at_once = max(1, ENTRIES // size)

    def summed(weights: Tensor) -> Tensor:
        total = torch.zeros_like(weights)
        for start in range(0, len(dataset), at_once):
            part = slice(start, start + at_once)
            gradients = each(weights, dataset.features[part], dataset.targets[part])
            pieces = zip(torch.split(gradients, sizes, dim=1), bounds, strict=True)
            clipped = [
                weigh(piece, clip_factors(piece.double().norm(dim=1), max_grad_norm=float(bound), dtype=piece.dtype))
                for piece, bound in pieces
            ]
            total += torch.cat(clipped, dim=1).sum(dim=0)
        return total

    return summed


def mean_participation(config: DPSGD, units: int) -> float:
    """Return r, how many times a unit takes part in a step on average.

    Args:
        config: gives the scheme.
        units: n, all that is drawn for.

    Raises:
        InvalidParameter: if nothing is drawn.

    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=BallsInBins(), expected_batch_size=600,
    ...                steps=100, learning_rate=0.5, steps_per_epoch=50)
    >>> mean_participation(config, 30_000)
    0.02
    """
    match config.sampling:
        case Poisson(probability=probability):
            return probability
        case BallsInBins():
            assert config.steps_per_epoch is not None
            return 1 / config.steps_per_epoch
        case FixedSize(batch_size=batch) | WithReplacement(batch_size=batch):
            return batch / units
        case Shuffled():
            return config.expected_batch_size / units
        case TruncatedPoisson(probability=probability, largest_batch=largest):
            return truncated_participation(probability, largest, units)
    raise InvalidParameter(
        f"audit: sampling must be drawn, got {config.sampling!r}: who takes part in which of its steps is public, so "
        "that no one sum is what known records add to a step on average."
    )


def check_independent_noise(owner: str, config: DPSGD) -> None:
    """Refuse noise that white-box scores, which add up steps, would take for more or less than there is.

    Raises:
        InvalidParameter: naming the law.
    """
    if not isinstance(config.noise, IndependentGaussian):
        raise InvalidParameter(
            f"{owner}: noise must be IndependentGaussian(), got {config.noise!r}: scores assume that every step's "
            "noise is drawn anew, on float sums. Noise that cancels over the steps leaves less of it in a sum of "
            "projections than any one step has.\nWith Cyclic() it is made white first: attack='whitened'."
        )


def units_of(dataset: Dataset) -> int:
    """Return the number of units: of users where there are owners, else of records."""
    return len(dataset) if dataset.owners is None else len(torch.unique(dataset.owners))
