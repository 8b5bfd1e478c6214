"""Memory that is kept from one batch to the next: fresh pages cost more than what is computed in them."""

from __future__ import annotations

import math
from collections.abc import Hashable

from torch import Tensor

SMALL = 2**14
"""Entries up to which a new tensor costs less than a view of an old one."""


class Workspace:
    """Large tensors by name, each as large as the largest that was asked for by that name.

    Args:
        inputs: whether what layers took in is memory to reuse as well, and may be written over.
        gradients: the same of the gradients by what layers gave, but for the last layer: `last` is its memory.

    >>> import torch
    >>> space = Workspace()
    >>> first = space.take("rows", (200, 300), like=torch.ones(1))
    >>> space.take("rows", (50_000,), like=first).data_ptr() == first.data_ptr()
    True
    """

    def __init__(self, *, inputs: bool = False, gradients: bool = False) -> None:
        self.inputs, self.gradients = inputs, gradients
        self._held: dict[Hashable, Tensor] = {}
        self.last = self
        if gradients:
            self.last = Workspace(inputs=inputs)
            self.last._held = self._held

    def take(self, name: Hashable, shape: tuple[int, ...], *, like: Tensor) -> Tensor:
        """Return a tensor of that shape, of the dtype and device of `like`, holding anything.

        It is good until the same name is asked for again.
        """
        entries, held = math.prod(shape), self._held.get(name)
        if entries <= SMALL:
            return like.new_empty(shape)
        if held is None or len(held) < entries or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = like.new_empty(entries)
        return held[:entries].view(shape)
