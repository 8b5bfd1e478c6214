"""How rows lie in memory, and which layers go wrong on the CPU where they do not lie in the order of their dimensions.

Torch 2.13 hands convolutions of what lies channels last to kernels of oneDNN that read beyond their memory for some
images of one channel (here 23 of 17,500 random shapes, of two dimensions, and 11 of 1,000 of three; none in order).
What comes out is then no function of the example: one record moved a sum by 44 bounds. Of what lies so, the backward
pass of a GroupNorm ends the process. Both get their rows in order, which costs a copy at most.

Poolings of two dimensions take a fraction of the time channels last (both ways 2.9 ms for 18, of 256 examples in the
MNIST network of the benchmarks), with the same results in all of 6,000 random cases, NaN and infinities among them.

A linear layer of few outputs that takes records is multiplied the other way round, W xᵀ for x Wᵀ, and turned back,
which torch's MKL does in less time (here 92 µs for 167, of 256 rows of 784 inputs and 10 outputs). One that takes what
another layer gives is not: the way back through what turns it costs more than that saves.

Everything here follows from layers, dimensions and devices, never from what rows hold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mechanisms import InvalidParameter

NARROW, LONG = range(2, 16), 256
"""Outputs, and least inputs, of linear layers that are multiplied the other way round."""
IMAGES = 4
"""Dimensions of a batch of images."""
IN_ORDER = (_ConvNd, nn.GroupNorm)
CHANNELS_LAST = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
SENSITIVE = frozenset(
    {torch.conv1d, torch.conv2d, torch.conv3d, torch.convolution, torch.group_norm}
    | {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
)
"""Functions of torch that go wrong, or whose kin does."""
AWRY = "lie channels last in memory, where torch's kernels on the CPU go wrong on some"
STRAIGHTEN = "Say model.to(memory_format=torch.contiguous_format), or x.clone(memory_format=torch.contiguous_format)."


def applied(layer: nn.Module, rows: Tensor) -> Tensor:
    """Return layer(rows), in order in memory, up to rounding, for rows (n, …) of `laid_for` and a layer without hooks.

    >>> layer = nn.Linear(300, 10)
    >>> rows = torch.ones(2, 300)
    >>> torch.allclose(applied(layer, rows), layer(rows)), applied(layer, rows).is_contiguous()
    (True, True)
    """
    if type(layer) is nn.Linear and rows.dim() == 2 and rows.is_cpu and not rows.requires_grad:
        outputs, inputs = layer.weight.shape
        if inputs >= LONG and outputs in NARROW and layer.bias is not None:
            return torch.addmm(layer.bias.unsqueeze(1), layer.weight, rows.T).T.contiguous()
    after: Tensor = layer(rows)
    return after


def laid_for(layer: nn.Module, rows: Tensor) -> Tensor:
    """Return rows (n, …) as the layer takes them best of the ways in which it does not go wrong.

    >>> images = torch.ones(2, 3, 4, 4)
    >>> laid_for(nn.MaxPool2d(2), images).stride(), laid_for(nn.Conv2d(3, 1, 2), images).stride()
    ((48, 1, 12, 3), (48, 16, 4, 1))
    """
    if rows.is_cpu:
        if isinstance(layer, CHANNELS_LAST) and rows.dim() == IMAGES:
            return rows.to(memory_format=torch.channels_last)
        if isinstance(layer, IN_ORDER):
            return in_order(rows)
    return rows


def in_order(rows: Tensor) -> Tensor:
    """Return rows with the strides that a new tensor of their shape has, also where one channel makes others do.

    >>> in_order(torch.ones(2, 1, 3, 1).to(memory_format=torch.channels_last)).stride()
    (3, 3, 1, 1)
    """
    return rows if rows.stride() == _strides(rows.shape) else rows.clone(memory_format=torch.contiguous_format)


def lies_awry(value: Any) -> bool:
    """Return whether a value is a tensor of the CPU that torch may take to lie channels last.

    >>> lies_awry(torch.ones(2, 1, 3, 1)), lies_awry(torch.ones(2, 3, 1, 1).permute(0, 3, 1, 2))
    (False, True)
    """
    if not isinstance(value, Tensor) or value.dim() < 3 or value.device.type != "cpu":
        return False
    strides = value.stride()
    return strides[1] <= strides[-1] and strides != _strides(value.shape)


def check_layout(owner: str, model: nn.Module) -> None:
    """Refuse a model with parameters or buffers that lie channels last, on the CPU.

    Raises:
        InvalidParameter: naming the first.
    """
    for name, held in (*model.named_parameters(), *model.named_buffers()):
        if lies_awry(held):
            raise InvalidParameter(
                f"{owner}: model must lie in order in memory, but entries of {name!r} {AWRY}.\n{STRAIGHTEN}"
            )


def _strides(shape: torch.Size) -> tuple[int, ...]:
    strides, following = [1] * len(shape), 1
    for place in range(len(shape) - 1, -1, -1):
        strides[place] = following
        following *= max(shape[place], 1)
    return tuple(strides)
