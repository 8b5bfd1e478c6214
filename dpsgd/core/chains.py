"""Which models are chains of layers that are known to keep the rows of a batch apart."""

from __future__ import annotations

from itertools import chain as joined

import torch
from torch import nn

from dpsgd.core.hooks import hooks_of, hooks_of_all
from dpsgd.core.layers import covers
from dpsgd.core.parameters import trainable

Chain = tuple[nn.Module, ...]

# Modules known to treat every row apart; a module of the user's own might mix rows without leaving a trace.
ELEMENTWISE = frozenset(
    {nn.CELU, nn.Dropout, nn.ELU, nn.GELU, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.Mish}
    | {nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink}
)
# Number of dimensions of an example that each needs: with one fewer it would take the batch for channels.
NEEDED = {
    **dict.fromkeys((nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), 2),
    **dict.fromkeys((nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), 3),
}


def rowwise_chain(model: nn.Module, *, example_dimensions: int) -> Chain | None:
    """Return the modules to run one after the other, or None if that might mix examples or miss a gradient.

    A chain is made of nested `nn.Sequential`s of layers that torch defines, where every trainable parameter belongs to
    one layer that `dpsgd.core.layers` covers and that is used once, and no tensor has fewer digits than float32: a
    LayerNorm of float32 takes what a frozen Embedding of bfloat16 gives, and its gradients have the digits of that.

    Args:
        model: any module.
        example_dimensions: number of dimensions of one example's features.

    >>> rowwise_chain(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), example_dimensions=1)
    (Linear(in_features=3, out_features=2, bias=True), Tanh())
    """
    chain, dimensions = _unnested(model), example_dimensions
    for module in chain:
        following = dimensions_after(module, dimensions)
        if following is None:
            return None
        dimensions = following
    hooked = hooks_of_all() or any(map(hooks_of, model.modules()))
    owned = [id(p) for layer in chain for p in layer.parameters() if p.requires_grad]
    once = owned == [*map(id, trainable(model).values())]
    whole = all(has_digits(tensor.dtype) for tensor in joined(model.parameters(), model.buffers()))
    return chain if once and whole and not hooked and all(map(covers, filter(trains, chain))) else None


def has_digits(kind: torch.dtype) -> bool:
    """Return whether floats of this kind have the digits that weights and sums have, or it is none of floats.

    >>> has_digits(torch.float32), has_digits(torch.int8), has_digits(torch.bfloat16)
    (True, True, False)
    """
    return not kind.is_floating_point or kind.itemsize >= 4


def trains(module: nn.Module) -> bool:
    """Return whether the module holds a parameter that requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _unnested(module: nn.Module) -> Chain:
    if type(module) is not nn.Sequential or "forward" in vars(module):
        return (module,)
    return tuple(leaf for child in module for leaf in _unnested(child))


def dimensions_after(module: nn.Module, dimensions: int) -> int | None:
    """Return the dimensions of an example that leaves the module, None if its rows might not stay apart."""
    kind = type(module)
    if getattr(module, "inplace", False) or getattr(module, "return_indices", False) or "forward" in vars(module):
        return None
    if kind in ELEMENTWISE or (kind in NEEDED and NEEDED[kind] == dimensions):
        return dimensions
    if kind in (nn.Linear, nn.GroupNorm):
        return dimensions if dimensions >= 1 else None
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and kind in (nn.LayerNorm, nn.RMSNorm):
        return dimensions if dimensions >= len(module.normalized_shape) else None
    if kind is nn.Flatten and module.start_dim == 1 and module.end_dim == -1:
        return 1
    return dimensions + 1 if kind is nn.Embedding else None
