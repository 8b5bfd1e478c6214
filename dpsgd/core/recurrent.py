"""Recurrent layers below `vmap`: torch begins them at zeros that all examples share, and adds to these in place.

What belongs to one example cannot be added into what belongs to all. At a state of its own, of the same zeros, each
example has the outputs and gradients that it has alone.

For an LSTM of float32 torch has kernels of oneDNN, which below `vmap` it calls for one example after another. Without
them it takes between a third of the time, of narrow layers, and as much.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

FUNCTIONS = (
    torch.lstm,
    torch.gru,
    torch.rnn_tanh,
    torch.rnn_relu,
    torch.gru_cell,
    torch.lstm_cell,
    torch.rnn_tanh_cell,
    torch.rnn_relu_cell,
)
"""Of inputs, states and weights; of packed sequences, which do not run below `vmap`, the second is something else."""


def recurrent(model: nn.Module) -> bool:
    """Tell whether a model has such layers: `vmap` runs them within `grad` alone, and not within another `vmap`.

    >>> recurrent(nn.Sequential(nn.LSTM(2, 3))), recurrent(nn.Linear(2, 3))
    (True, False)
    """
    return any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in model.modules())


def with_own_states(model: nn.Module) -> contextlib.AbstractContextManager[object]:
    """Return a context in which the recurrent layers of a model run below `vmap`.

    >>> layer = nn.GRU(2, 3)
    >>> def first(inputs):
    ...     with with_own_states(layer):
    ...         return layer(inputs)[0][0].sum()
    >>> torch.func.vmap(torch.func.grad(first))(torch.ones(5, 4, 1, 2)).shape
    torch.Size([5, 4, 1, 2])
    """
    return _OwnStates() if recurrent(model) else contextlib.nullcontext()


class _OwnStates(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in FUNCTIONS:
            return func(*args, **(kwargs or {}))
        inputs, states, *others = args
        nothing = torch.zeros_like(inputs).sum()  # of each example, whatever it holds
        own = tuple(each + nothing for each in states) if isinstance(states, tuple) else states + nothing
        onednn: Any = torch.backends.mkldnn
        before = onednn.enabled
        try:
            onednn.enabled = False
            return func(inputs, own, *others, **(kwargs or {}))
        finally:
            onednn.enabled = before
