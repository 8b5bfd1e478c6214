"""Gradients of every example by the weights of a convolution.

What every entry of the kernel sees of an image is laid out as columns, some examples at a time, with the channels of
a pixel side by side, so that the copies are of whole runs. A product of each example's columns with its output
gradients then is its gradient.

The other form is a grouped convolution (`dpsgd.core.grouped`). Which takes less time depends on layer and machine: on
one core with AVX2 (torch 2.13, medians of CPU ms for 32 examples, in turns;
`python -m tests.benchmarks.forms` prints the table of a machine)

    channels, kernel, stride, padding, size     columns    grouped
    1 -> 16     8 x 8    2  3   28                  1.8        1.9
    1 -> 8      5 x 5    1  0   28                  2.9        2.7
    3 -> 32     3 x 3    1  1   32                  7.2        7.5
    16 -> 32    4 x 4    2  0   13                  1.6        2.2
    32 -> 32    3 x 3    1  1   32                   28         23
    32 -> 64    3 x 3    1  1   16                   14         14
    64 -> 64    1 x 1    1  0   16                  4.4        4.2
    64 -> 128   3 x 3    1  1    8                  9.8         19
    128 -> 128  3 x 3    1  1    8                   18         36

A run chooses once (`dpsgd.core.forms`); whatever must repeat without a choice that was kept takes columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsgd.core.contributions import Contributions, Formed
from dpsgd.core.workspace import Workspace

COLUMN_ENTRIES = 2**18
"""Entries of columns held at once: 1 MiB of float32, which stays in a core's cache until the product is done."""


def of_convolution(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor, space: Workspace) -> Contributions:
    """Return the gradients of n examples, from columns.

    How many examples are treated at a time follows from shapes alone, so that a run repeats bit for bit.

    Args:
        layer: any padding, stride, dilation and groups.
        inputs: (n, channels, length) or (n, channels, height, width).
        gradients: of the loss by the layer's outputs, of their shape.
        space: memory to reuse.

    >>> from dpsgd.core.clip import Factors
    >>> ones, total = torch.ones(2, 1, 3), torch.zeros(1, 1, 1)
    >>> layer = nn.Conv1d(1, 1, 1, bias=False)
    >>> of_convolution(layer, ones, ones, Workspace()).add_to([total], Factors(torch.ones(2)))
    >>> total
    tensor([[[6.]]])
    """
    a, b, window = as_images(layer, inputs, gradients)
    images = a.reshape(len(a) * layer.groups, -1, *a.shape[2:])
    outputs = b.reshape(len(b) * layer.groups, -1, *b.shape[2:])
    rows = _gradients(images, outputs, window, space, name=layer).view(len(a), -1)
    bias = [b.sum((2, 3))] * (layer.bias is not None)
    return Formed(rows=[rows, *bias], order=(0, 2, 1) if type(layer) is nn.Conv1d else (0, 2, 3, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a kernel sees of an image, as (height, width) each.

    Args:
        kernel: its sizes.
        stride: from one place of it to the next.
        dilation: from one of its entries to the next.
        margins: zeros around an image: left, right, top, bottom.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    margins: list[int]


def as_images(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor, Window]:
    """Return inputs and output gradients as images (n, channels, height, width), and what the kernel sees of those.

    A Conv1d is a Conv2d whose images have one line. Margins that hold anything but zeros are part of the images.
    """
    flat = type(layer) is nn.Conv1d
    dimensions = 2 if flat else 3
    a = inputs.reshape(len(inputs), *inputs.shape[-dimensions:])
    b = gradients.reshape(len(gradients), *gradients.shape[-dimensions:])
    margins = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        a, margins = functional.pad(a, margins, mode=layer.padding_mode), [0] * len(margins)
    if flat:
        a, b, margins = a.unsqueeze(2), b.unsqueeze(2), [*margins, 0, 0]
    sizes = {"kernel": _pair(layer.kernel_size), "stride": _pair(layer.stride), "dilation": _pair(layer.dilation)}
    return a, b, Window(**sizes, margins=margins)


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _gradients(images: Tensor, outputs: Tensor, window: Window, space: Workspace, *, name: nn.Module) -> Tensor:
    """Return the gradients (m, outputs, kernel entries · channels) of m images (m, channels, height, width)."""
    (m, channels), (_, made, height, width) = images.shape[:2], outputs.shape
    seen = height, width, *window.kernel, channels
    places, entries = height * width, window.kernel[0] * window.kernel[1] * channels
    formed = space.take(name, (m, made, entries), like=images)
    size = max(1, COLUMN_ENTRIES // (places * entries))
    for start in range(0, m, size):
        padded = _channels_last(images[start : start + size], window.margins, space)
        n, lines, pixels, _ = padded.shape
        to_line, to_pixel = pixels * channels, channels
        moves = [step * to for step, to in zip(window.stride, (to_line, to_pixel), strict=True)]
        reach = [step * to for step, to in zip(window.dilation, (to_line, to_pixel), strict=True)]
        columns = space.take("columns", (n, *seen), like=images)
        columns.copy_(padded.as_strided((n, *seen), (lines * to_line, *moves, *reach, 1)))
        some = slice(start, start + size)
        torch.bmm(_by_places(outputs[some]), columns.view(n, places, entries), out=formed[some])
    return formed


def _by_places(outputs: Tensor) -> Tensor:
    """Return outputs (n, made, places) of (n, made, height, width), without a copy of those that lie channels last."""
    n, made, height, width = outputs.shape
    if outputs.is_contiguous():
        return outputs.view(n, made, height * width)
    return outputs.permute(0, 2, 3, 1).reshape(n, height * width, made).mT


def _channels_last(images: Tensor, margins: list[int], space: Workspace) -> Tensor:
    """Return images (n, height, width, channels) with zeros around them."""
    n, channels, height, width = images.shape
    last = images.permute(0, 2, 3, 1)
    if not any(margins) and last.is_contiguous():
        return last
    left, right, top, bottom = margins
    shape = n, top + height + bottom, left + width + right, channels
    padded = space.take("padded", shape, like=images)
    if any(margins):
        padded.zero_()
    padded[:, top : top + height, left : left + width].copy_(last)
    return padded
