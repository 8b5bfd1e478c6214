"""What a model is, apart from the weights that are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def structure(model: nn.Module) -> dict[str, str]:
    """Return what stands under each name of a model: kinds of modules, shapes of parameters, fixed values by a digest.

    Two models of the same structure compute the same function of the same trainable weights, but for what the code of
    a module does without saying so in `extra_repr`.

    >>> structure(nn.Linear(2, 1, bias=False))
    {'': 'Linear(in_features=2, out_features=1, bias=False)', 'weight': 'torch.float32 (1, 2)'}
    """
    found = {name: f"{type(module).__qualname__}({module.extra_repr()})" for name, module in model.named_modules()}
    for name, parameter in model.named_parameters():
        found[name] = _kind(parameter) if parameter.requires_grad else _fixed(parameter)
    return found | {name: _fixed(buffer) for name, buffer in model.named_buffers()}


def first_difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Return in words where two structures differ first, None if they do not.

    >>> first_difference({"weight": "float32 (1, 2)"}, {"weight": "float32 (1, 3)"})
    "must have float32 (1, 2) at 'weight', got float32 (1, 3)"
    """
    for name in (*expected, *found):
        a, b = expected.get(name, "nothing"), found.get(name, "nothing")
        if a != b:
            return f"must have {a} at {name!r}, got {b}"
    return None


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def _fixed(tensor: Tensor) -> str:
    content = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{_kind(tensor)} fixed {hashlib.blake2b(content, digest_size=16).hexdigest()}"
