"""Whether a model still is what a run was begun with: how its gradients are taken was chosen, and checked, for that."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as everywhere

from dpsgd.core.hooks import BACKWARD, FORWARD
from dpsgd.core.reach import Reach
from mechanisms import InvalidParameter


class Unaltered:
    """What tells whether modules, hooks, parameters or settings of a model are exchanged, added or set otherwise.

    What parameters and buffers hold is left out: steps change it, and so may the caller by what was released.

    Args:
        model: as it is checked.
        any_mode: whether it may be switched between training and evaluation, as it keeps examples apart in both.

    >>> layer = nn.Linear(2, 1)
    >>> unaltered = Unaltered(layer, any_mode=True)
    >>> unaltered.check()
    >>> _ = layer.bias.requires_grad_(False)
    >>> unaltered.check()
    Traceback (most recent call last):
    mechanisms.core.errors.InvalidParameter: train: the model must keep its modules, ... but model.bias changed...
    """

    def __init__(self, model: nn.Module, *, any_mode: bool) -> None:
        hooks = {f"_global{kind}": getattr(everywhere, f"_global{kind}") for kind in FORWARD + BACKWARD}
        self._model = Reach("model", model, free=("training",) if any_mode else ())
        self._hooks = Reach("torch's modules", hooks)

    def check(self) -> None:
        """Refuse a step on another model: a layer, hook or mode that was not checked could mix or keep examples.

        Raises:
            InvalidParameter: naming what changed first.
        """
        changed = self._model.altered() or self._hooks.altered()
        if changed is not None:
            raise InvalidParameter(
                "train: the model must keep its modules, hooks, parameters and settings between two steps of a run, "
                f"but {changed} changed.\nBegin another run with the changed model; what both show adds up. To look at "
                "the weights copy the model, copy.deepcopy(model), or set back what was set."
            )
