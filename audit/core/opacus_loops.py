"""Parts of a loop with Opacus: records that are noted as they are fetched, and gradients that wait to be clipped."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpsgd import Dataset


class Fetched(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Records of which it is known in which order they were fetched since the last step.

    Args:
        records: what it holds.
    """

    def __init__(self, records: Dataset) -> None:
        self.records = records
        self.order: list[int] = []

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.order.append(index)
        return self.records.features[index], self.records.targets[index]


def without_hooks(model: nn.Module) -> nn.Module:
    """Return a copy of the model without what Opacus hangs on its layers."""
    bare = copy.deepcopy(model)
    for module in bare.modules():
        for hooks in (module._forward_hooks, module._backward_hooks):
            for key, hook in list(hooks.items()):
                if str(getattr(getattr(hook, "func", hook), "__module__", "")).startswith("opacus"):
                    del hooks[key]
    return bare


def pieces(parameter: Any) -> Iterator[Tensor]:
    """Yield the per-example gradients of every batch that waits for a step."""
    samples = parameter.grad_sample
    yield from [samples] if isinstance(samples, Tensor) else samples


def write_over(samples: Sequence[Tensor], places: np.ndarray[Any, np.dtype[np.int64]], rows: Tensor) -> None:
    """Put `rows` in the `places` of examples that lie in several tensors, one after the other."""
    start = 0
    for piece in samples:
        inside = (places >= start) & (places < start + len(piece))
        chosen = torch.from_numpy(places[inside] - start).to(piece.device)
        piece[chosen] = rows[torch.from_numpy(inside)].to(piece)
        start += len(piece)
