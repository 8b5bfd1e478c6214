"""The trainable parameters of a model as one flat vector, in the order of `model.named_parameters()`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mechanisms import InvalidParameter


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name, each shared one once.

    >>> list(trainable(nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def by_layer(model: nn.Module) -> list[tuple[str, nn.Module, list[str]]]:
    """Return (name, module, names of its parameters) of the modules that hold trainable parameters, in their order.

    Those of modules inside it are theirs alone, and a shared parameter belongs to the first module that holds it.

    >>> [names for _, _, names in by_layer(nn.Sequential(nn.Linear(2, 1), nn.PReLU()))]
    [['0.weight', '0.bias'], ['1.weight']]
    """
    names_of: dict[str, list[str]] = {}
    for name in trainable(model):
        names_of.setdefault(name.rpartition(".")[0], []).append(name)
    return [(path, model.get_submodule(path), names) for path, names in names_of.items()]


def layer_slices(model: nn.Module) -> list[tuple[nn.Module, slice]]:
    """Return (module, its part of the flat vector) of the modules of `by_layer`, which lie there one after the other.

    >>> [part for _, part in layer_slices(nn.Sequential(nn.Linear(2, 1), nn.PReLU()))]
    [slice(0, 3, None), slice(3, 4, None)]
    """
    sizes, found, start = trainable(model), [], 0
    for _, layer, names in by_layer(model):
        stop = start + sum(sizes[name].numel() for name in names)
        found.append((layer, slice(start, stop)))
        start = stop
    return found


def flatten(parameters: Iterable[Tensor]) -> Tensor:
    """Return a copy of all entries as one vector (d,), cut off from the graph."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


def assign(weights: Tensor, parameters: list[nn.Parameter]) -> None:
    """Make the parameters views of `weights` (d,), cut in their order."""
    pieces = torch.split(weights, [parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.data = piece.view(parameter.shape)


def check_place(model: nn.Module, *records: Tensor) -> None:
    """Refuse a model that does not lie on the CPU or on one CUDA device, with all of it and the records.

    Layers draw from the generators of the device on which they lie: those of a second one, or of a device of another
    kind, are not known here, and a step that is taken again would be another under the same noise.

    Args:
        model: its parameters, those that are frozen too, and buffers.
        records: features and targets.

    Raises:
        InvalidParameter: naming what lies elsewhere.
    """
    held = [*model.named_parameters(), *model.named_buffers()]
    (first, one), *others = held + list(zip(("features", "targets"), records, strict=False))
    if one.device.type not in ("cpu", "cuda"):
        raise InvalidParameter(f"train: model must lie on the CPU or a CUDA device, got {first!r} on {one.device}.")
    for name, other in others:
        if other.device != one.device:
            raise InvalidParameter(
                f"train: model and dataset must lie on one device, got {name!r} on {other.device} beside {first!r} on "
                f"{one.device}.\nWrite model.to(device), and Dataset(features=features.to(device), "
                "targets=targets.to(device))."
            )


def check_flat(parameters: dict[str, nn.Parameter]) -> None:
    """Refuse parameters that do not fit one vector of float32 or float64 on one device, or have no entry.

    Raises:
        InvalidParameter: naming the first parameter that differs.
    """
    if not parameters:
        raise InvalidParameter("train: model must have a parameter that requires a gradient, got none.")
    if not any(parameter.numel() for parameter in parameters.values()):
        raise InvalidParameter(f"train: model must have a parameter with an entry, got {sorted(parameters)} of none.")
    first = next(iter(parameters.values()))
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise InvalidParameter(
                f"train: parameters must be float32 or float64, got {parameter.dtype} for {name!r}: norms and sums in "
                "low precision do not keep the bound max_grad_norm.\n"
                "Train model.float(), and cast the model once it is trained."
            )
        if (parameter.dtype, parameter.device) != (first.dtype, first.device):
            raise InvalidParameter(
                f"train: parameters must share one dtype and device, got {parameter.dtype} on {parameter.device} for "
                f"{name!r} beside {first.dtype} on {first.device}."
            )
