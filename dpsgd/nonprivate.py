"""Training without privacy, for models that attacks are calibrated on: plain minibatches, nothing clipped, no noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from dpsgd.core.batches import STEP, Rows, uniform_order
from mechanisms import InvalidParameter, Source
from mechanisms.core import validate

OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True, slots=True, kw_only=True)
class NonPrivate:
    """Stochastic gradient descent as everybody knows it. It protects nothing.

    The records are gone through in a fresh uniform order in every epoch, one epoch after the other without a break, and
    cut into batches of the same size: one that an epoch ends in is filled from the next. With g_i the gradient of
    record i's loss,

        w ← w − learning_rate · v,    v ← momentum · v + Σ_batch g_i / batch_size           ("sgd")

    or Adam's step with torch's β and ε ("adam").

    Args:
        batch_size: records in a batch, >= 1.
        steps: number of batches, >= 1: E epochs of n records are E n / batch_size.
        learning_rate: > 0.
        optimizer: "sgd" or "adam".
        momentum: of "sgd", in [0, 1).

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> NonPrivate(batch_size=50, steps=400, learning_rate=0.1)
    NonPrivate(batch_size=50, steps=400, learning_rate=0.1, optimizer='sgd', momentum=0.0)
    """

    batch_size: int
    steps: int
    learning_rate: float
    optimizer: str = "sgd"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "batch_size": validate.count("NonPrivate", "batch_size", self.batch_size, least=1),
            "steps": validate.count("NonPrivate", "steps", self.steps, least=1),
            "learning_rate": validate.positive("NonPrivate", "learning_rate", self.learning_rate),
            "optimizer": validate.choice("NonPrivate", "optimizer", self.optimizer, OPTIMIZERS),
            "momentum": validate.non_negative("NonPrivate", "momentum", self.momentum),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.momentum >= 1:
            raise InvalidParameter(f"NonPrivate: momentum must lie in [0, 1), got {self.momentum}.")
        if self.momentum and self.optimizer == "adam":
            raise InvalidParameter(
                f"NonPrivate: momentum must be 0 for 'adam', which has its own, got {self.momentum}."
            )

    def made_optimizer(self, weights: nn.Parameter) -> Optimizer:
        """Return the optimiser of `weights` (models, d). It treats every entry apart: every model has its own."""
        if self.optimizer == "adam":
            return torch.optim.Adam([weights], lr=self.learning_rate)
        return torch.optim.SGD([weights], lr=self.learning_rate, momentum=self.momentum)


def ordered_rows(source: Source, config: NonPrivate, *, run: int, records: int) -> Callable[[int], Rows]:
    """Return the function from the number of a step to the rows of its batch; none where there are no records.

    Args:
        source: where the orders come from, its streams "sampling keys" and "sampling keys …".
        config: its batches.
        run: where the run begins, see `dpsgd.core.runs`.
        records: their number.

    Guarantees: after any number of steps no record has been taken more than once more often than another.

    >>> from mechanisms import KeyedSource
    >>> rows = ordered_rows(KeyedSource(0), NonPrivate(batch_size=4, steps=3, learning_rate=1.0), run=0, records=6)
    >>> sorted(int(row) for step in range(3) for row in rows(step))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Rows:
        return uniform_order(source, run + epoch * STEP, records)

    def rows(step: int) -> Rows:
        if not records:
            return np.empty(0, dtype=np.int64)
        begin, end = step * config.batch_size, (step + 1) * config.batch_size
        epochs = range(begin // records, (end - 1) // records + 1)
        return np.concatenate([order(e)[max(0, begin - e * records) : end - e * records] for e in epochs])

    return rows
