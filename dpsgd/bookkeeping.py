"""Clipped gradient sums of chains of linear layers by book-keeping: one backward pass, no example's gradient formed.

Row i of a linear layer's input a and output gradient b gives example i's gradient b_i ⊗ a_i (and b_i for the bias), so

    ‖g_i‖² = Σ_layers ‖b_i‖² (‖a_i‖² + 1)            Σ_i c_i g_i = (c b)ᵀ a  per layer                  [Goo15; BWZK23]

where the 1 stands for the bias, if there is one.

[Goo15] I. Goodfellow. Efficient Per-Example Gradient Computations. 2015. arXiv:1510.01799.
[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from dpsgd.clip import clip_factors, weigh
from dpsgd.losses import Loss, per_example
from dpsgd.parameters import flatten, trainable

Chain = tuple[nn.Module, ...]

# Modules known to treat every row apart; a module of the user's own might mix rows without leaving a trace.
ROWWISE = frozenset(
    {nn.CELU, nn.Dropout, nn.ELU, nn.GELU, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.Linear, nn.LogSigmoid, nn.Mish}
    | {nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink}
)


def linear_chain(model: nn.Module, *, example_dimensions: int) -> Chain | None:
    """Return the modules to run one after the other, or None if the model is no chain that book-keeping covers.

    It covers nested `nn.Sequential`s of linear layers and activations on examples of one dimension (or flattened
    first), where every trainable parameter is the weight or bias of one layer and every layer is used once.

    Args:
        model: any module.
        example_dimensions: number of dimensions of one example's features.

    >>> linear_chain(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), example_dimensions=1)
    (Linear(in_features=3, out_features=2, bias=True), Tanh())
    """
    chain = _unnested(model)
    flattens = bool(chain) and _flattens(chain[0])
    covered = all(type(module) in ROWWISE and not getattr(module, "inplace", False) for module in chain[flattens:])
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    once = [*map(id, _parameters(chain))] == [*map(id, trainable(model).values())]
    return chain if covered and not hooked and once and (flattens or example_dimensions == 1) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookKeeping:
    """The clipped gradient sum of a chain that `linear_chain` found."""

    chain: Chain
    loss: Loss
    max_grad_norm: float

    @torch.enable_grad()
    def __call__(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return Σ_i g_i min(1, max_grad_norm / ‖g_i‖) over a batch, shape (d,)."""
        if features.shape[0] == 0:
            return torch.zeros_like(flatten(_parameters(self.chain)))
        biases, inputs, outputs, rows = [], [], [], features
        for module in self.chain:
            before, rows = rows, module(rows)
            if _records(module):
                biases.append(module.bias is not None)
                inputs.append(before.detach())
                outputs.append(rows)
        losses = per_example(self.loss, rows, targets)
        gradients = torch.autograd.grad([losses], outputs, [torch.ones_like(losses)])
        return _clipped_sum(list(zip(biases, inputs, gradients, strict=True)), self.max_grad_norm)


def _clipped_sum(layers: list[tuple[bool, Tensor, Tensor]], max_grad_norm: float) -> Tensor:
    """Return the clipped sum given, for every layer, whether it has a bias, its input and its output's gradient."""
    squares = [_squared_norms(b) * (_squared_norms(a) + bias) for bias, a, b in layers]
    norms = functools.reduce(torch.add, squares).sqrt()
    factors = clip_factors(norms, max_grad_norm=max_grad_norm, dtype=layers[0][2].dtype)
    pieces = []
    for bias, a, b in layers:
        clipped = weigh(b, factors)
        pieces.append((clipped.T @ a.nan_to_num()).view(-1))  # a NaN here meets a zero, which would not silence it
        if bias:
            pieces.append(clipped.sum(0))
    return torch.cat(pieces)


def _squared_norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms * norms


def _unnested(module: nn.Module) -> Chain:
    if type(module) is not nn.Sequential:
        return (module,)
    return tuple(leaf for child in module for leaf in _unnested(child))


def _flattens(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _parameters(chain: Chain) -> list[Tensor]:
    """Return the parameters of the recorded layers, in the order in which `_clipped_sum` has their gradients."""
    both = [parameter for layer in chain if _records(layer) for parameter in (layer.weight, layer.bias)]
    return [parameter for parameter in both if parameter is not None]


def _records(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.weight.requires_grad
