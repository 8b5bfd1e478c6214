"""Runs whose participants are public: what known records add to a step, exactly, and the turns of the canaries."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from audit.attack import ExpectedSum, Turns
from audit.core.expected_sums import ROWS_AT_ONCE, check_independent_noise, clipped_sum_of, units_of
from audit.scores import Coins
from dpsgd import DPSGD, Dataset
from dpsgd.clipping import AdaptiveQuantile
from dpsgd.core.population import population_of
from dpsgd.core.run_clipping import run_clipping
from dpsgd.correlated_laws import CorrelatedLaw
from dpsgd.cyclic import Cyclic
from dpsgd.losses import Loss
from mechanisms import InvalidParameter


def check_noise(owner: str, config: DPSGD) -> None:
    """Refuse noise that white-box scores would take for more or less than there is: correlated noise of hidden turns.

    Raises:
        InvalidParameter: naming the law, or the clipping whose bound moves where turns are public.
    """
    if isinstance(config.sampling, Cyclic) and isinstance(config.clipping, AdaptiveQuantile):
        raise InvalidParameter(
            f"{owner}: clipping must keep its bound where turns are public, got {config.clipping!r}: whitened scores "
            "add up steps in one unit."
        )
    if not (isinstance(config.sampling, Cyclic) and isinstance(config.noise, CorrelatedLaw)):
        check_independent_noise(owner, config)


def known_sum_of_step(model: nn.Module, dataset: Dataset, config: DPSGD, *, loss: Loss) -> ExpectedSum:
    """Return the function (w, step=t) -> Σ clip(g_i(w)) over the known units whose turn it is in step t, shape (d,).

    Known units come first, so that their turns depend on no canary: unit i takes part where t and i leave the same rest
    by steps_per_epoch, see `dpsgd.cyclic`.

    Args:
        model: gives the shape; a copy of it is used.
        dataset: the known records.
        config: with Cyclic().
        loss: one loss for each example.
    """
    every, units = _epoch(config), units_of(dataset)
    summed = clipped_sum_of(
        model,
        dataset,
        loss=loss,
        clipper=lambda twin: run_clipping(config, twin).clip,
        population=lambda examples: population_of(
            config, examples, largest_physical_batch=max(ROWS_AT_ONCE, config.examples_per_user or 1)
        ),
    )

    def known(weights: Tensor, *, step: int) -> Tensor:
        return summed(weights, np.arange(step % every, units, every))

    return known


def turns_of(config: DPSGD, *, known: int, canaries: int) -> Turns:
    """Return the turns of canaries, which follow the known units.

    Args:
        config: with Cyclic().
        known: number of known units.
        canaries: m.

    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Cyclic(), expected_batch_size=2, steps=6,
    ...                learning_rate=0.1, steps_per_epoch=3)
    >>> turns_of(config, known=4, canaries=3)(1)
    array([ True, False, False])
    """
    places, every = np.arange(known, known + canaries), _epoch(config)

    def turns(step: int) -> Coins:
        told: Coins = places % every == step % every
        return told

    return turns


def _epoch(config: DPSGD) -> int:
    assert config.steps_per_epoch is not None
    return config.steps_per_epoch
