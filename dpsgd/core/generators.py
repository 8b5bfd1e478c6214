"""Torch's generators of numbers that layers and losses draw from: those of the CPU and of the device of a run.

Those of other devices are left alone. `torch.manual_seed` seeds all that there are, also those of a CUDA that nobody
has used yet, and `torch.random.fork_rng`, unless it is told for which, takes hold of every device of the machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def set_apart(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Return a context after which generators are as they were before it.

    Args:
        device: where numbers are drawn, beside the CPU.
        seed: at which generators begin in it; None to go on from where they are.

    >>> with set_apart(torch.device("cpu"), seed=0):
    ...     one = torch.rand(3)
    >>> with set_apart(torch.device("cpu"), seed=0):
    ...     torch.equal(torch.rand(3), one)
    True
    """
    generators = _generators(device)
    before = [generator.get_state() for generator in generators]
    try:  # from here on: what ends a run may come between two generators
        if seed is not None:
            begin(device, seed)
        yield
    finally:
        for generator, was in zip(generators, before, strict=True):
            generator.set_state(was)


def begin(device: torch.device, seed: int) -> None:
    """Let the generators of the CPU and of a device begin anew, at a seed in [0, 2^64)."""
    for generator in _generators(device):
        generator.manual_seed(seed)


def places(device: torch.device) -> list[torch.Tensor]:
    """Return where the generators of the CPU and of a device stand in their sequences."""
    return [generator.get_state() for generator in _generators(device)]


def _generators(device: torch.device) -> list[torch.Generator]:
    if device.type != "cuda":
        return [torch.default_generator]
    cuda: Any = torch.cuda
    cuda.init()  # before that there are none of them
    index = cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, cuda.default_generators[index]]
