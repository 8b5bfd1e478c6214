"""Hooks of modules: code of the user's that runs beside a layer, on whatever the layer is given.

In a chain that is whole batches, where a hook may mix examples: on the way forward, and on the way back, where it would
change gradients that are then held for those of single examples.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as everywhere

FORWARD = "_forward_hooks", "_forward_pre_hooks"
BACKWARD = "_backward_hooks", "_backward_pre_hooks"


def hooks_of(module: nn.Module, kinds: tuple[str, ...] = FORWARD + BACKWARD) -> int:
    """Return how many hooks of these kinds a module has of its own.

    >>> layer = nn.Linear(2, 1)
    >>> handle = layer.register_full_backward_hook(lambda layer, before, after: None)
    >>> hooks_of(layer), hooks_of(layer, FORWARD)
    (1, 0)
    """
    return sum(len(getattr(module, kind)) for kind in kinds)


def hooks_of_all(kinds: tuple[str, ...] = FORWARD + BACKWARD) -> int:
    """Return how many hooks of these kinds torch runs for every module there is.

    >>> hooks_of_all()
    0
    """
    return sum(len(getattr(everywhere, f"_global{kind}")) for kind in kinds)
