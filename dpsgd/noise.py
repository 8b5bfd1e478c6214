"""Gaussian noise for flat gradient sums."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mechanisms import Source
from mechanisms.core.randomness import normals

BLOCK = 2**13
"""Normals drawn at once: small models get many steps' noise for the price of one call."""


def gaussian_noise(source: Source, *, run: int, steps: range, scale: float, like: Tensor) -> Tensor:
    """Return N(0, scale² I) for each of the consecutive `steps`, shape (steps, d), of the dtype and device of `like`.

    Args:
        source: where the noise comes from, its stream "noise".
        run: where the run begins, see `dpsgd.runs`.
        steps: numbers of the steps, from 0.
        scale: standard deviation of every coordinate, noise_multiplier · max_grad_norm.
        like: any tensor of shape (d,).

    Guarantees: the same numbers for a step whichever others are asked for with it. Made in float64 and rounded to
    the dtype; see `mechanisms.core.randomness.normals` for what floating-point noise does not cover.

    >>> from mechanisms import KeyedSource
    >>> gaussian_noise(KeyedSource(0), run=0, steps=range(7, 8), scale=1.0, like=torch.zeros(3))
    tensor([[...]])
    """
    width = len(like) + len(like) % 2  # normals come in pairs
    drawn = normals(source, "noise", run + steps.start * width, len(steps) * width)
    drawn *= scale
    return torch.from_numpy(drawn).view(len(steps), width)[:, : len(like)].to(like)


def noise_of_each_step(source: Source, *, run: int, steps: int, scale: float, like: Tensor) -> Iterator[Tensor]:
    """Yield the noise of step 0, 1, …, steps − 1, each of shape (d,)."""
    block = max(1, BLOCK // len(like))
    for first in range(0, steps, block):
        some = range(first, min(first + block, steps))
        yield from gaussian_noise(source, run=run, steps=some, scale=scale, like=like)
