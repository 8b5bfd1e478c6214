"""Whether a model still is what a run was begun with: how its gradients are taken was chosen, and checked, for that."""

from __future__ import annotations

from typing import Any

from torch import nn

from dpsgd.core.hooks import BACKWARD, FORWARD, hooks_of, hooks_of_all
from mechanisms import InvalidParameter


def standing(model: nn.Module) -> tuple[Any, ...]:
    """Return what tells whether modules, hooks or parameters of the model are exchanged, added or set otherwise.

    What parameters hold is left out: steps change it, and so may the caller by what was released.

    >>> layer = nn.Linear(2, 1)
    >>> before = standing(layer)
    >>> layer.bias.requires_grad_(False).mul_(2.0)
    Parameter containing:
    ...
    >>> standing(layer) == before
    False
    """
    modules = [
        (id(module), hooks_of(module, FORWARD), hooks_of(module, BACKWARD), "forward" in vars(module))
        for module in model.modules()
    ]
    parameters = [(id(each), each.requires_grad, each.data_ptr()) for each in model.parameters()]
    return (hooks_of_all(), *modules, *parameters)


def check_unaltered(model: nn.Module, before: tuple[Any, ...]) -> None:
    """Refuse a step on a model that is another than before: a layer or hook that was added could mix examples.

    Raises:
        InvalidParameter: if it is.
    """
    if standing(model) != before:
        raise InvalidParameter(
            "train: the model must keep its modules, hooks and parameters between two steps of a run, and has others, "
            "or parameters that are frozen or moved otherwise.\nBegin another run with the changed model; what both "
            "show adds up. To look at the weights copy the model: copy.deepcopy(model)."
        )
