"""Clipped gradient sums of any model: every example's gradient formed by `torch.func`, a bounded number at a time.

The model sees one example at a time, whatever its code does: no layer can mix examples here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from dpsgd.core.clippers import Clipper, add_clipped
from dpsgd.core.contributions import Contributions, Formed
from dpsgd.core.layouts import in_order
from dpsgd.core.parameters import by_layer, trainable
from dpsgd.core.recurrent import recurrent, with_own_states
from dpsgd.losses import Loss, per_example

CHUNK_ENTRIES = 2**22
"""Gradient entries held at once, 16 MiB of float32: past that, fresh pages cost more than longer chunks save."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectorised:
    """The clipped gradient sum of a model of any structure that `torch.func.vmap` can run."""

    model: nn.Module
    loss: Loss
    clip: Clipper

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum of the clipped gradients of a batch, shape (d,)."""
        parameters = {name: parameter.detach() for name, parameter in trainable(self.model).items()}
        dimension = sum(parameter.numel() for parameter in parameters.values())
        batch = [in_order(features), targets, *([] if shares is None else [shares])]
        size = max(1, CHUNK_ENTRIES // (dimension if shares is None else dimension * shares.shape[1]))
        gradients = self._gradients(of_units=shares is not None)
        total = next(iter(parameters.values())).new_zeros(dimension)
        pieces = torch.split(total, [parameter.numel() for parameter in parameters.values()])
        sums = dict(zip(parameters, pieces, strict=True))
        for start in range(0, len(features), size):
            by_name = gradients(parameters, *(part[start : start + size] for part in batch))
            self._add_clipped(sums, by_name)
        return total

    def _gradients(self, *, of_units: bool) -> Callable[..., dict[str, Tensor]]:
        """Return the function from parameters and a batch to the gradients of its examples, or units, by names."""
        loss = self._loss_of_one()
        if of_units and not recurrent(self.model):  # else every row's gradient is formed, not the unit's alone
            return vmap(grad(_of_unit(loss)), in_dims=(None, 0, 0, 0), randomness="different")
        of_rows = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        return _of_their_rows(of_rows) if of_units else of_rows

    @torch.no_grad()
    def _add_clipped(self, sums: dict[str, Tensor], by_name: dict[str, Tensor]) -> None:
        layers = by_layer(self.model)
        rows = [
            [by_name[name].reshape(len(by_name[name]), -1).contiguous() for name in names] for _, _, names in layers
        ]
        parts: list[Contributions] = [Formed(rows=of_layer) for of_layer in rows]
        multiplied = [of_layer[0] for of_layer in rows]
        of_layers = [[sums[name] for name in names] for _, _, names in layers]
        add_clipped(of_layers, parts, self.clip, [layer for _, layer, _ in layers], multiplied)

    def _loss_of_one(self) -> Callable[..., Tensor]:
        places = _places(self.model)

        def loss_of_one(parameters: dict[str, Tensor], features: Tensor, target: Tensor) -> Tensor:
            placed = {place: parameters[name] for place, name in places.items()}
            with with_own_states(self.model):
                outputs = functional_call(self.model, placed, (features.unsqueeze(0),), tie_weights=False)
            return per_example(self.loss, outputs, target.unsqueeze(0)).squeeze(0)

        return loss_of_one


def _of_unit(loss_of_one: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss of a unit: the weighted mean of its rows' losses, each row seen alone."""
    losses = vmap(loss_of_one, in_dims=(None, 0, 0), randomness="different")

    def loss_of_unit(parameters: dict[str, Tensor], features: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        return (losses(parameters, features, targets) * shares).sum()

    return loss_of_unit


def _of_their_rows(gradients: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """Return the function that adds up the gradients of rows to those of units, each with its row's share."""

    def of_units(parameters: dict[str, Tensor], features: Tensor, targets: Tensor, shares: Tensor) -> dict[str, Tensor]:
        of_rows = gradients(parameters, features.flatten(end_dim=1), targets.flatten(end_dim=1))
        return {
            name: torch.einsum("nr,nr...->n...", shares.to(each.dtype), each.reshape(*shares.shape, *each.shape[1:]))
            for name, each in of_rows.items()
        }

    return of_units


def _places(model: nn.Module) -> dict[str, str]:
    """Return, for every place that holds a trainable parameter, the parameter's name; a shared one has several places.

    Each module is visited once: `functional_call` with names of its own finding would put a parameter twice into a
    module that is used twice, and on its way out leave the replacement there.
    """
    names = {id(parameter): name for name, parameter in trainable(model).items()}
    held = (
        (f"{path}.{name}" if path else name, id(parameter))
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    )
    return {place: names[key] for place, key in held if key in names}
