"""Torch's generators of numbers that layers and losses draw from: those of the CPU and of the device of a run.

Those of other devices are left alone. `torch.manual_seed` seeds all that there are, also those of a CUDA that nobody
has used yet, and `torch.random.fork_rng`, unless it is told for which, takes hold of every device of the machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechanisms import InvalidParameter

WORDS = 624
"""Of 32 bits in a state of torch's generator of the CPU, a Mersenne Twister (MT19937)."""
HEAD = 24  # bytes of a state before its words, which take eight bytes each


class set_apart:
    """A context after which generators are as they were before it.

    Args:
        device: where numbers are drawn, beside the CPU.
        seed: at which generators begin in it; None to go on from where they are.
        words: instead of a seed, of which there are 2^32 on the CPU: (WORDS,), of which states are made, all of them
            on the CPU, and the 64 bits that CUDA takes.

    Raises:
        InvalidParameter: with `words`, if torch keeps states otherwise than it has so far.

    >>> with set_apart(torch.device("cpu"), seed=0):
    ...     one = torch.rand(3)
    >>> with set_apart(torch.device("cpu"), seed=0):
    ...     torch.equal(torch.rand(3), one)
    True
    """

    __slots__ = ("_before", "_device", "_seed", "_words")

    def __init__(
        self, device: torch.device, *, seed: int | None = None, words: NDArray[np.uint32] | None = None
    ) -> None:
        self._device, self._seed, self._words = device, seed, words

    def __enter__(self) -> None:
        generators = _generators(self._device)
        self._before = [(generator, generator.get_state()) for generator in generators]
        try:  # from here on: what ends a run may come between two generators
            if self._seed is not None:
                begin(self._device, self._seed)
            if self._words is not None:
                for generator in generators:
                    _set(generator, self._words)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for generator, was in self._before:
            generator.set_state(was)


def unmoved(attempt: Callable[[], Tensor], *, device: torch.device) -> Tensor | None:
    """Return what an attempt returns, None if it moved generators; they are afterwards as they were.

    >>> unmoved(lambda: torch.ones(1), device=torch.device("cpu"))
    tensor([1.])
    >>> unmoved(lambda: torch.rand(1), device=torch.device("cpu"))
    """
    generators, found = _generators(device), None
    before = [generator.get_state() for generator in generators]
    try:
        found = attempt()
    finally:
        for generator, was in zip(generators, before, strict=True):
            if not torch.equal(generator.get_state(), was):
                generator.set_state(was)
                found = None
    return found


def begin(device: torch.device, seed: int) -> None:
    """Let the generators of the CPU and of a device begin anew, at a seed in [0, 2^64)."""
    for generator in _generators(device):
        generator.manual_seed(seed)


def places(device: torch.device) -> list[Tensor]:
    """Return where the generators of the CPU and of a device stand in their sequences."""
    return [generator.get_state() for generator in _generators(device)]


def _generators(device: torch.device) -> list[torch.Generator]:
    if device.type != "cuda":
        return [torch.default_generator]
    cuda: Any = torch.cuda
    cuda.init()  # before that there are none of them
    index = cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, cuda.default_generators[index]]


def _set(generator: torch.Generator, words: NDArray[np.uint32]) -> None:
    if generator.device.type == "cuda":
        generator.manual_seed(int(words[0]) << 32 | int(words[1]))
        return
    state = _seeded(0).copy()
    _words_in(state)[:] = words
    generator.set_state(torch.from_numpy(state))


@functools.cache
def _seeded(seed: int) -> NDArray[np.uint8]:
    """Return the state of a generator of the CPU that has a seed and has drawn nothing yet."""
    state = torch.Generator(device="cpu").manual_seed(seed).get_state().numpy()
    words = [seed]
    for place in range(1, WORDS):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + place) % 2**32)
    if len(state) < HEAD + 8 * WORDS or _words_in(state).tolist() != words:
        raise InvalidParameter(
            f"train: torch must keep the state of its generators as versions up to 2.13 do, and {torch.__version__} "
            "does not: seeds would leave the masks of layers 2^32 possibilities.\nUse another version of torch."
        )
    return state


def _words_in(state: NDArray[np.uint8]) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = state[HEAD : HEAD + 8 * WORDS].view(np.uint64)
    return words
