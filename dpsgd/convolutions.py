"""Gradients of every example by the weights of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsgd.contributions import Contributions, Formed

COLUMN_ENTRIES = 2**20
"""Entries of unfolded images held at once: 4 MiB of float32, about what a core's cache holds."""
LARGE_MAP, MANY_CHANNELS = 128, 8
"""Output positions and input channels from which on a grouped convolution forms gradients faster than columns do."""
GROUPED_EXAMPLES = 16
"""Examples in one grouped convolution."""


def of_convolution(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> Contributions:
    """Return the gradients of n examples, formed some examples at a time.

    A Conv1d is a Conv2d whose images have one line. Which of two ways forms the gradients follows from shapes alone,
    never from a clock, so that a run repeats bit for bit.

    Args:
        layer: any padding, stride, dilation and groups.
        inputs: (n, channels, length) or (n, channels, height, width).
        gradients: of the loss by the layer's outputs, of their shape.

    >>> ones = torch.ones(2, 1, 3)
    >>> of_convolution(nn.Conv1d(1, 1, 1, bias=False), ones, ones).weighted_sum(torch.ones(2))
    [tensor([6.])]
    """
    flat = type(layer) is nn.Conv1d
    dimensions = 2 if flat else 3
    a = inputs.reshape(len(inputs), *inputs.shape[-dimensions:])
    b = gradients.reshape(len(gradients), *gradients.shape[-dimensions:])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    a = functional.pad(a, layer._reversed_padding_repeated_twice, mode=mode)
    window = _Window(
        groups=layer.groups,
        kernel=_pair(layer.kernel_size),
        stride=_pair(layer.stride),
        dilation=_pair(layer.dilation),
    )
    a, b = (a.unsqueeze(2), b.unsqueeze(2)) if flat else (a, b)
    bias = [b.sum((2, 3))] * (layer.bias is not None)
    if b[0, 0].numel() >= LARGE_MAP and a.shape[1] >= MANY_CHANNELS:
        return Formed(rows=[_by_groups(a, b, window), *bias])
    columns = _by_columns(a, b, window)
    return Formed(rows=[columns.view(len(a), -1), *bias], transposed=(layer.groups, *columns.shape[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _by_columns(a: Tensor, b: Tensor, window: _Window) -> Tensor:
    """Return the transposed gradients (n · groups, k, outputs): what each kernel entry sees times output gradients."""
    (n, channels, *_), groups = a.shape, window.groups
    (height, width), kernel = b.shape[2:], window.kernel
    to_example, to_channel, to_line, to_pixel = a.contiguous().stride()
    moves = [step * to for step, to in zip(window.dilation, (to_line, to_pixel), strict=True)]
    strides = [step * to for step, to in zip(window.stride, (to_line, to_pixel), strict=True)]
    seen = a.contiguous().as_strided((n, channels, *kernel, height, width), (to_example, to_channel, *moves, *strides))
    entries = channels // groups * kernel[0] * kernel[1]
    outputs = b.reshape(n * groups, -1, height * width).mT
    formed = b.new_empty(n * groups, entries, outputs.shape[2])
    size = max(1, COLUMN_ENTRIES // (entries * groups * height * width))
    for start in range(0, n, size):
        columns = seen[start : start + size].reshape(-1, entries, height * width)
        some = slice(start * groups, (start + size) * groups)
        torch.bmm(columns, outputs[some], out=formed[some])
    return formed


def _by_groups(a: Tensor, b: Tensor, window: _Window) -> Tensor:
    """Return the gradients (n, k) as the weight gradient of one convolution in which each example is a group."""
    pieces = []
    for some, gradients in zip(torch.split(a, GROUPED_EXAMPLES), torch.split(b, GROUPED_EXAMPLES), strict=True):
        n, channels = some.shape[:2]
        weight = some.new_empty(1).expand(n * b.shape[1], channels // window.groups, *window.kernel)
        _, formed, _ = torch.ops.aten.convolution_backward(
            gradients.reshape(1, -1, *b.shape[2:]),
            some.reshape(1, -1, *some.shape[2:]),
            weight,
            None,
            window.stride,
            (0, 0),
            window.dilation,
            False,
            (0, 0),
            n * window.groups,
            (False, True, False),
        )
        pieces.append(formed.view(n, -1))
    return torch.cat(pieces)
