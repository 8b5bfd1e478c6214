"""Units of several rows: what is clipped as one may be the copies of a record, or all that a user owns.

A unit's loss is a weighted mean of its rows' losses, and its gradient is clipped once. A batch of n units is a
rectangle of n times R rows, in which row r of unit i has the share s_ir of the mean; rows that only fill the rectangle
have the share 0:

    g_i = Σ_r s_ir ∇_w loss(model(x_ir), y_ir)

Whatever a unit's rows hold, it adds one gradient of bounded norm. A row's share scales the gradients by the outputs of
layers, after which the rows of a unit are to a layer what the places of a sequence are (`dpsgd.core.contributions`).
"""

from __future__ import annotations

from torch import Tensor, nn

from dpsgd.core.contributions import Contributions, Formed
from dpsgd.core.layers import NO_PLAN, Plan, contributions
from dpsgd.core.workspace import Workspace

# Their rules take any number of dimensions between the examples' and their own, and add up over all of them.
PLACES = frozenset({nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm})


def contributions_of_units(
    layer: nn.Module, inputs: Tensor, gradients: Tensor, space: Workspace, *, rows: int, plan: Plan = NO_PLAN
) -> Contributions:
    """Return the contributions of n units to the gradient of a layer that `dpsgd.core.layers.covers`.

    Args:
        layer: the layer.
        inputs: (n · rows, …), the rows of a unit one after the other.
        gradients: of the units' losses by the layer's outputs (n · rows, …).
        space: memory to reuse.
        rows: of every unit, >= 1.
        plan: of layers that do not go by the rule of their kind.

    >>> import torch
    >>> ones = torch.ones(4, 3)
    >>> contributions_of_units(nn.Linear(3, 1, bias=False), ones, ones[:, :1], Workspace(), rows=2).squared_norms()
    tensor([12.0000, 12.0000], dtype=torch.float64)
    """
    if rows == 1:
        return contributions(layer, inputs, gradients, space, plan)
    if type(layer) in PLACES:
        units = len(inputs) // rows, rows
        a, b = inputs.reshape(*units, *inputs.shape[1:]), gradients.reshape(*units, *gradients.shape[1:])
        return contributions(layer, a, b, space, plan)
    each = contributions(layer, inputs, gradients, space, plan)
    assert isinstance(each, Formed)
    return Formed(rows=[piece.view(-1, rows, piece.shape[1]).sum(1) for piece in each.rows], order=each.order)


def entries_of_unit(layer: nn.Module, formed: int, *, rows: int) -> int:
    """Return how many gradient entries a layer forms for a unit: the unit's and, where it must, each row's before.

    Args:
        layer: the layer.
        formed: entries of the unit's gradient, 0 if it stays a product.
        rows: of the unit.
    """
    return formed if rows == 1 or type(layer) in PLACES else (1 + rows) * formed
