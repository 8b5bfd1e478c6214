"""Clipped gradient sums by book-keeping: one backward pass, by the outputs of the layers instead of their weights.

The inputs a of every layer are kept on the way forward, and one backward pass gives the gradients b by its outputs.
Together they give the norms of all examples' gradients and then, with the factors c that the norms ask for, the sum
of the clipped gradients [BWZK23]; see `dpsgd.layers` for how each kind of layer does.

[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpsgd.chains import Chain, dimensions_after, trains
from dpsgd.clippers import Clipper, clipped_pieces
from dpsgd.layers import stays_product
from dpsgd.losses import Loss, per_example
from dpsgd.units import contributions_of_units, entries_of_unit

FORMED_ENTRIES = 2**22
"""Gradient entries held at once, 16 MiB of float32: past that, fresh pages cost more than longer chunks save."""

Tape = list[tuple[nn.Module, Tensor, Tensor]]
"""(layer, its inputs (n, …), its outputs (n, …)) for every layer with trainable parameters."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BookKeeping:
    """The clipped gradient sum of a chain that `rowwise_chain` found."""

    chain: Chain
    loss: Loss
    clip: Clipper

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum of the clipped gradients of a batch, shape (d,)."""
        total = zeros(
            [parameter for module in self.chain for parameter in module.parameters() if parameter.requires_grad]
        )
        dimensions, rows = features.dim() - 1, 1
        if shares is not None:
            dimensions, rows = dimensions - 1, shares.shape[1]
        entries = entries_formed(self.chain, example_dimensions=dimensions, rows=rows)
        for some in in_parts(features, targets, shares, entries=entries):
            total += self._sum_of(*some)
        return total

    @torch.enable_grad()
    def _sum_of(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        tape: Tape = []
        rows, targets = row_by_row(features, targets, shares)
        for module in self.chain:
            before, rows = rows, module(rows)
            if trains(module):
                tape.append((module, before.detach(), rows))
        losses = per_example(self.loss, rows, targets)
        return torch.cat(clipped_sums(tape, losses, clip=self.clip, shares=shares))


def clipped_sums(tape: Tape, losses: Tensor, *, clip: Clipper, shares: Tensor | None = None) -> list[Tensor]:
    """Return the clipped gradient sums of the tape's layers, in their order, flat: one for every parameter.

    Args:
        tape: what the layers took in and gave out, n examples each.
        losses: (n,), each from its own example alone.
        clip: gives the factors.
        shares: (units, rows), the examples being rows of units, which are clipped as one; None: they are the units.
    """
    outputs = [output for _, _, output in tape]
    ones = torch.ones_like(losses).unsqueeze(1) if shares is None else shares.to(losses.dtype)
    gradients = torch.autograd.grad([losses], outputs, [ones.flatten()], materialize_grads=True)
    with torch.no_grad():
        parts = [
            contributions_of_units(layer, a, b, rows=ones.shape[1])
            for (layer, a, _), b in zip(tape, gradients, strict=True)
        ]
        return clipped_pieces(parts, clip, layers=[layer for layer, _, _ in tape], multiplied=gradients)


def zeros(parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient of no example by the parameters, flat."""
    return parameters[0].detach().new_zeros(sum(parameter.numel() for parameter in parameters))


def in_parts(
    features: Tensor, targets: Tensor, shares: Tensor | None = None, *, entries: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield a batch in parts of about the same size, none of them empty.

    Args:
        features: (n, …).
        targets: (n, …).
        shares: (n, rows), if there are any.
        entries: of gradients that are formed for one of the n.
    """
    if len(features):
        parts = math.ceil(len(features) * entries / FORMED_ENTRIES) or 1
        size = math.ceil(len(features) / parts)
        for some in [slice(None)] if parts == 1 else [slice(i, i + size) for i in range(0, len(features), size)]:
            yield features[some], targets[some], None if shares is None else shares[some]


def row_by_row(features: Tensor, targets: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows of units one after the other; examples, which have no shares, as they are."""
    return (features, targets) if shares is None else (features.flatten(end_dim=1), targets.flatten(end_dim=1))


def entries_formed(chain: Chain, *, example_dimensions: int, rows: int = 1) -> int:
    """Return how many gradient entries a chain forms for one example, or for a unit of several rows, at most.

    >>> entries_formed((nn.Linear(4, 3), nn.LayerNorm(3)), example_dimensions=1)
    6
    """
    entries, dimensions = 0, example_dimensions
    for module in chain:
        linear = type(module) is nn.Linear and dimensions == 1 and stays_product(module, rows)
        own = sum(p.numel() for p in module.parameters() if p.requires_grad)
        entries += 0 if linear or type(module) is nn.Embedding else entries_of_unit(module, own, rows=rows)
        dimensions = dimensions_after(module, dimensions) or 0
    return entries
