"""Gaussian noise for flat gradient sums."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechanisms import Source
from mechanisms.core.randomness import normals

BLOCK = 2**13
"""Normals drawn at once: small models get many steps' noise for the price of one call."""


@dataclass(slots=True, kw_only=True, eq=False)
class Noise:
    """Standard normal noise of every step of a run, the same for a step whichever others are asked for, in any order.

    Args:
        source: where the noise comes from, its stream "noise".
        run: where the run begins, see `dpsgd.runs`.
        steps: of the run.
        like: any tensor of shape (d,), d >= 1, of the dtype and device of the sums.

    Guarantees: made in float64 and rounded to the dtype; see `mechanisms.core.randomness.normals` for what
    floating-point noise does not cover.

    >>> from mechanisms import KeyedSource
    >>> total = torch.zeros(3)
    >>> Noise(source=KeyedSource(0), run=0, steps=8, like=total).add_to(total, step=7, scale=2.0)
    >>> total
    tensor([...])
    """

    source: Source
    run: int
    steps: int
    like: Tensor
    _first: int = 0
    _block: Tensor | None = None

    def add_to(self, total: Tensor, *, step: int, scale: float) -> None:
        """Add N(0, scale² I), the noise of a step, to `total` (d,), in place.

        Args:
            total: what is made noisy.
            step: its number, from 0.
            scale: standard deviation of every coordinate: noise_multiplier · the bound on a unit's contribution.
        """
        total.add_(self._standard(step), alpha=scale)

    def _standard(self, step: int) -> Tensor:
        if self._block is None or not self._first <= step < self._first + len(self._block):
            self._first = step
            self._block = self._drawn(range(step, min(step + max(1, BLOCK // len(self.like)), self.steps)))
        self.source.check_process()  # a forked process would go on with the same block
        return self._block[step - self._first]

    def _drawn(self, steps: range) -> Tensor:
        width = len(self.like) + len(self.like) % 2  # normals come in pairs
        drawn = normals(self.source, "noise", self.run + steps.start * width, len(steps) * width)
        return torch.from_numpy(drawn).view(len(steps), width)[:, : len(self.like)].to(self.like)
