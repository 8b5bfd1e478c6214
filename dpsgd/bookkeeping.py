"""Clipped gradient sums by book-keeping: one backward pass, by the outputs of the layers instead of their weights.

The inputs a of every layer are kept on the way forward, and one backward pass gives the gradients b by its outputs.
Together they give the norms of all examples' gradients and then, with the factors c that the norms ask for, the sum
of the clipped gradients [BWZK23]; see `dpsgd.layers` for how each kind of layer does.

[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dpsgd.chains import Chain, dimensions_after, trains
from dpsgd.clip import clip_factors
from dpsgd.layers import contributions
from dpsgd.losses import Loss, per_example
from dpsgd.workspace import Workspace

FORMED_ENTRIES = 2**22
"""Gradient entries held at once, 16 MiB of float32: past that, fresh pages cost more than longer chunks save."""

Tape = list[tuple[nn.Module, Tensor, Tensor]]
"""(layer, its inputs (n, …), its outputs (n, …)) for every layer with trainable parameters."""


@dataclass(slots=True, kw_only=True, eq=False)
class BookKeeping:
    """The clipped gradient sum of a chain that `rowwise_chain` found; one batch at a time, since memory is reused."""

    chain: Chain
    loss: Loss
    max_grad_norm: float
    _trained: list[nn.Module] = field(init=False)
    _entries: int | None = None
    _space: Workspace = field(init=False, default_factory=Workspace)

    def __post_init__(self) -> None:
        self._trained = [module for module in self.chain if trains(module)]

    def __call__(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return Σ_i g_i min(1, max_grad_norm / ‖g_i‖) over a batch, shape (d,)."""
        parameters = [parameter for layer in self._trained for parameter in layer.parameters()]
        total = zeros(parameters)
        sums = iter(views(total, parameters))
        by_layer = [[next(sums) for _ in layer.parameters()] for layer in self._trained]
        if self._entries is None:
            self._entries = entries_formed(self.chain, example_dimensions=features.dim() - 1)
        for some, wanted in in_parts(features, targets, entries=self._entries):
            tape, losses = self._record(some, wanted)
            add_clipped_sums(by_layer, tape, losses, max_grad_norm=self.max_grad_norm, space=self._space)
        return total

    @torch.enable_grad()
    def _record(self, features: Tensor, targets: Tensor) -> tuple[Tape, Tensor]:
        tape: Tape = []
        rows, trained = features, iter(self._trained)
        following = next(trained, None)
        for module in self.chain:
            before, rows = rows, module(rows)
            if module is following:
                tape.append((module, before.detach(), rows))
                following = next(trained, None)
        return tape, per_example(self.loss, rows, targets)


def add_clipped_sums(
    sums: list[list[Tensor]], tape: Tape, losses: Tensor, *, max_grad_norm: float, space: Workspace
) -> None:
    """Add the clipped gradient sums of the tape's layers, in place.

    Args:
        sums: for every entry of the tape one tensor for each parameter of the layer, of its shape.
        tape: what the layers took in and gave out, n examples each.
        losses: (n,), each from its own example alone.
        max_grad_norm: > 0.
        space: memory to reuse.
    """
    outputs = [output for _, _, output in tape]
    gradients = torch.autograd.grad([losses], outputs, [torch.ones_like(losses)], materialize_grads=True)
    with torch.no_grad():
        parts = [contributions(layer, a, b, space) for (layer, a, _), b in zip(tape, gradients, strict=True)]
        norms = functools.reduce(torch.add, [part.squared_norms() for part in parts]).sqrt()
        factors = clip_factors(norms, max_grad_norm=max_grad_norm, dtype=gradients[0].dtype)
        for part, into in zip(parts, sums, strict=True):
            part.add_to(into, factors)


def zeros(parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient of no example by the parameters, flat."""
    return parameters[0].detach().new_zeros(sum(parameter.numel() for parameter in parameters))


def views(total: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the parts of a flat vector that belong to parameters, in their order, as views of their shapes."""
    pieces = torch.split(total, [parameter.numel() for parameter in parameters])
    return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]


def in_parts(features: Tensor, targets: Tensor, *, entries: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a batch in parts of about the same size, none of them empty.

    Args:
        features: (n, …).
        targets: (n, …).
        entries: of gradients that are formed for one example.
    """
    if len(features):
        parts = math.ceil(len(features) * entries / FORMED_ENTRIES) or 1
        size = math.ceil(len(features) / parts)
        if parts == 1:
            yield features, targets
            return
        yield from zip(torch.split(features, size), torch.split(targets, size), strict=True)


def entries_formed(chain: Chain, *, example_dimensions: int) -> int:
    """Return how many gradient entries of one example a chain forms, at most.

    >>> entries_formed((nn.Linear(4, 3), nn.LayerNorm(3)), example_dimensions=1)
    6
    """
    entries, dimensions = 0, example_dimensions
    for module in chain:
        product = type(module) is nn.Embedding or (type(module) is nn.Linear and dimensions == 1)
        entries += 0 if product else sum(p.numel() for p in module.parameters() if p.requires_grad)
        dimensions = dimensions_after(module, dimensions) or 0
    return entries
