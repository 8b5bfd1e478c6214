"""What each kind of layer does with its inputs and output gradients to tell the gradients of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsgd.core.contributions import Contributions, Formed, Looked, Sequence, Single
from dpsgd.core.convolutions import of_convolution
from dpsgd.core.hooks import hooks_of
from dpsgd.core.workspace import Workspace

Rule = Callable[[Any, Tensor, Tensor, Workspace], Contributions]
"""(layer, inputs (n, …), gradients of the loss by the layer's outputs (n, …), memory to reuse) -> contributions."""
Plan = Mapping[nn.Module, Rule]
"""Rules of the layers that do not go by that of their kind."""
NO_PLAN: Plan = MappingProxyType({})


def covers(layer: nn.Module) -> bool:
    """Return whether a rule gives the gradients of all the layer's parameters, and the layer is as torch made it.

    A weight that was taken out and set again stands after the bias, where the rules do not look for it.

    >>> covers(nn.Linear(3, 2)), covers(nn.PReLU())
    (True, False)
    """
    own, names = list(layer.parameters()), [name for name, _ in layer.named_parameters(remove_duplicate=False)]
    changed = hooks_of(layer) or "forward" in vars(layer)
    # These scale a row's gradient by its count in the batch, or change the row looked up.
    unusual = type(layer) is nn.Embedding and (layer.scale_grad_by_freq or layer.sparse or layer.max_norm is not None)
    plain = type(layer) in RULES and names in (["weight"], ["weight", "bias"])
    return plain and all(p.requires_grad for p in own) and not changed and not unusual


def contributions(
    layer: nn.Module, inputs: Tensor, gradients: Tensor, space: Workspace, plan: Plan = NO_PLAN
) -> Contributions:
    """Return the contributions of n examples to the gradient of a layer that `covers` accepts.

    They are good until the next contributions of the same layer are made in the same workspace.

    >>> ones = torch.ones(2, 3)
    >>> contributions(nn.Linear(3, 3), ones, ones, Workspace()).squared_norms()
    tensor([12.0000, 12.0000], dtype=torch.float64)
    """
    rule = plan.get(layer, RULES[type(layer)])
    return rule(layer, inputs, gradients, space)


def _linear(layer: nn.Linear, inputs: Tensor, gradients: Tensor, space: Workspace) -> Contributions:
    bias = layer.bias is not None
    if inputs.dim() == 2:
        return Single(inputs=inputs, gradients=gradients, bias=bias, space=space)
    a = inputs.reshape(len(inputs), -1, layer.in_features)
    b = gradients.reshape(len(gradients), -1, layer.out_features)
    length = a.shape[1]
    if length == 1:
        return Single(inputs=a[:, 0], gradients=b[:, 0], bias=bias, space=space)
    if stays_product(layer, length):
        return Sequence(inputs=a, gradients=b, bias=bias, space=space)
    formed = space.take(layer, (len(a), layer.out_features, layer.in_features), like=a)
    return Formed(rows=[torch.bmm(b.mT, a, out=formed).flatten(start_dim=1)] + [b.sum(1)] * bias)


def stays_product(layer: nn.Linear, length: int) -> bool:
    """Return whether norms of products of so many places of an example cost less than forming its gradient.

    >>> stays_product(nn.Linear(40, 30), 1), stays_product(nn.Linear(40, 30), 9)
    (True, False)
    """
    # Products in float64 take twice as long as g_i in float32, entry by entry.
    return length == 1 or 2 * length * (layer.in_features + layer.out_features) < layer.in_features * layer.out_features


def _embedding(layer: nn.Embedding, inputs: Tensor, gradients: Tensor, space: Workspace) -> Contributions:
    """Add up the gradients of equal words of an example, in places numbered in the order of the words."""
    words = inputs.reshape(len(inputs), -1)
    b = gradients.reshape(*words.shape, layer.embedding_dim)
    if layer.padding_idx is not None:
        b = b.masked_fill((words == layer.padding_idx).unsqueeze(2), 0.0)
    ordered, order = words.sort(dim=1)
    place = torch.zeros_like(words)
    place[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    place_of_word = torch.zeros_like(words).scatter_(1, order, place)
    first = torch.arange(len(words), device=words.device).unsqueeze(1) * words.shape[1]
    rows = torch.zeros_like(b).view(-1, layer.embedding_dim)
    rows.index_add_(0, (first + place_of_word).view(-1), b.reshape(-1, layer.embedding_dim))
    return Looked(words=torch.zeros_like(words).scatter_(1, place, ordered), rows=rows.view_as(b))


def _layer_norm(layer: nn.LayerNorm | nn.RMSNorm, inputs: Tensor, gradients: Tensor, space: Workspace) -> Contributions:
    shape = list(layer.normalized_shape)
    if type(layer) is nn.RMSNorm:
        normed = functional.rms_norm(inputs, shape, eps=layer.eps)
    else:
        normed = functional.layer_norm(inputs, shape, eps=layer.eps or 0.0)
    entries = len(inputs), -1, *shape
    return _scaled(layer, normed.reshape(entries), gradients.reshape(entries), summed=[1])


def _group_norm(layer: nn.GroupNorm, inputs: Tensor, gradients: Tensor, space: Workspace) -> Contributions:
    each = inputs.reshape(len(inputs), layer.num_channels, -1)
    normed = functional.group_norm(each, layer.num_groups, eps=layer.eps)
    return _scaled(layer, normed, gradients.reshape(each.shape), summed=[2])


def _scaled(layer: nn.Module, normed: Tensor, gradients: Tensor, *, summed: list[int]) -> Contributions:
    rows = [(normed * gradients).sum(summed).flatten(start_dim=1)]
    return Formed(rows=rows + [gradients.sum(summed).flatten(start_dim=1)] * (getattr(layer, "bias", None) is not None))


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Conv1d: of_convolution,
    nn.Conv2d: of_convolution,
}
