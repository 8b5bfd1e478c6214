"""Gradients of every example by the weights of a convolution, as the weight gradient of one grouped convolution.

With a kernel's places y, strides s and dilations d, in one dimension of two,

    g_i[o, c, p] = Σ_y b_i[o, y] a_i[c, s y + d p],

which is a convolution of the image a_i by the kernels b_i in which stride and dilation have changed places. Some
examples at a time are groups of channels of one image: torch's weight gradient of that grouped convolution holds g_i in
group i, entries in the weight's own order, for any stride, dilation, padding and remainder that the stride leaves.

**Rounding.** An entry is a sum of as many products as the kernel has places, as it is from columns, and errs by at most
that many last digits of Σ_y |b_i a_i|, in whichever order they are added. No bound rests on it: norms are those of the
gradients as they were formed, and what is clipped is what is summed.

**Isolation.** All that bounds what an example moves is that row i is made of example i. Groups share no term of any
sum; that torch's kernels keep them apart to the last bit, whatever the others hold, is tried for every layer that is to
go this way (`dpsgd.core.tuning`). Images lie in order: where they lie channels last some kernels of oneDNN read beyond
their memory (`dpsgd.core.layouts`).
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional, grad

from dpsgd.core.contributions import Contributions, Formed
from dpsgd.core.convolutions import as_images
from dpsgd.core.layouts import in_order
from dpsgd.core.workspace import Workspace

weight_gradient: Any = grad.conv2d_weight
CHUNK_ENTRIES = 2**20
"""Entries of images, output gradients and gradients in one call: 4 MiB of float32, a share of a cache of cores."""


def of_grouped_convolution(
    layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor, space: Workspace
) -> Contributions:
    """Return what `dpsgd.core.convolutions.of_convolution` does, up to rounding.

    >>> import torch
    >>> ones = torch.ones(2, 1, 3)
    >>> of_grouped_convolution(nn.Conv1d(1, 1, 1, bias=False), ones, ones, Workspace()).squared_norms()
    tensor([9., 9.], dtype=torch.float64)
    """
    a, b, window = as_images(layer, inputs, gradients)
    left, right, top, bottom = window.margins
    if (left, top) != (right, bottom):
        a, left, top = functional.pad(a, window.margins), 0, 0
    shape = layer.out_channels, layer.in_channels // layer.groups, *window.kernel
    rows = space.take(layer, (len(a), math.prod(shape)), like=a)
    size = at_once(layer, a, b)
    for start in range(0, len(a), size):
        some = slice(start, start + size)
        n = len(a[some])
        formed = weight_gradient(
            in_order(a[some].reshape(1, -1, *a.shape[2:])),
            (n * shape[0], *shape[1:]),
            in_order(b[some].reshape(1, -1, *b.shape[2:])),
            window.stride,
            (top, left),
            window.dilation,
            n * layer.groups,
        )
        rows[some].copy_(formed.view(n, -1))
    return Formed(rows=[rows, *[b.sum((2, 3))] * (layer.bias is not None)])


def at_once(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> int:
    """Return how many examples go into one call, which follows from shapes alone.

    >>> import torch
    >>> at_once(nn.Conv1d(1, 1, 1, bias=False), torch.ones(9, 1, 2**19), torch.ones(9, 1, 2**17))
    1
    """
    entries = math.prod(inputs.shape[1:]) + math.prod(gradients.shape[1:]) + layer.weight.numel()
    return max(1, CHUNK_ENTRIES // entries)
