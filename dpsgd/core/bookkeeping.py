"""Clipped gradient sums by book-keeping: one backward pass, by the outputs of the layers instead of their weights.

The inputs a of every layer are kept on the way forward, and one backward pass gives the gradients b by its outputs.
Together they give the norms of all examples' gradients and then, with the factors c that the norms ask for, the sum
of the clipped gradients [BWZK23]; see `dpsgd.core.layers` for how each kind of layer does.

[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from dpsgd.core.chains import Chain, dimensions_after, trains
from dpsgd.core.clippers import Clipper, add_clipped
from dpsgd.core.contributions import Contributions
from dpsgd.core.layers import NO_PLAN, Plan, stays_product
from dpsgd.core.layouts import applied, laid_for
from dpsgd.core.units import contributions_of_units, entries_of_unit
from dpsgd.core.workspace import Workspace
from dpsgd.losses import Loss, per_example

FORMED_ENTRIES = 2**24
"""Gradient entries held at once, at most: 64 MiB of float32."""
CACHED_ENTRIES, FEW_EXAMPLES = 2**20, 32
"""Parts hold about that many entries, which with all that is computed for them stay in a cache; with fewer examples
convolutions and products would have too little to do at a time."""

Tape = list[tuple[nn.Module, Tensor, Tensor | GradientEdge]]
"""(layer, its inputs (n, …), its outputs (n, …)) for every layer with trainable parameters. Of outputs that lead to the
losses the place in the graph is enough, which does not keep them in memory."""

Sums = dict[nn.Module, list[Tensor]]
"""For every layer one tensor for each of its parameters, of its shape."""


@dataclass(slots=True, kw_only=True, eq=False)
class BookKeeping:
    """The clipped gradient sum of a chain that `rowwise_chain` found; one batch at a time, since memory is reused.

    Args:
        chain: the layers.
        loss: one loss for each example.
        clip: gives the factors.
        overwrite: whether features are memory to reuse, and may hold anything afterwards.
        plan: of layers that do not go by the rule of their kind.
    """

    chain: Chain
    loss: Loss
    clip: Clipper
    overwrite: bool = False
    plan: Plan = field(default_factory=dict)
    _flat: FlatSums = field(init=False)
    _entries: dict[int, int] = field(init=False, default_factory=dict)
    _space: Workspace = field(init=False)

    def __post_init__(self) -> None:
        self._flat = FlatSums([module for module in self.chain if trains(module)])
        self._space = Workspace(inputs=self.overwrite, gradients=True)

    @torch.no_grad()  # entered once: a context costs a short step as much as an operation of its tensors
    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum of the clipped gradients of a batch, shape (d,)."""
        rows = 1 if shares is None else shares.shape[1]
        if rows not in self._entries:
            dimensions = features.dim() - (1 if shares is None else 2)
            self._entries[rows] = entries_formed(self.chain, example_dimensions=dimensions, rows=rows)
        if not features.shape[0]:  # len runs code of Python's in torch
            return self._flat.zeros()[0]
        total: Tensor | None = None
        sums: Sums = {}
        for part in in_parts(features, targets, shares, entries=self._entries[rows]):
            layers, parts, multiplied = taken_apart(*self._record(*part), part[2], space=self._space, plan=self.plan)
            keep = 1 if sums else 0  # every layer is on every tape
            if total is None:  # only now, when what the backward pass needed is free again
                total, sums = self._flat.room()
            add_clipped([sums[layer] for layer in layers], parts, self.clip, layers, multiplied, keep=keep)
        assert total is not None
        return total

    @torch.enable_grad()
    def _record(self, features: Tensor, targets: Tensor, shares: Tensor | None) -> tuple[Tape, Tensor]:
        tape: Tape = []
        rows, targets = row_by_row(features, targets, shares)
        for module in self.chain:
            before = laid_for(module, rows)
            rows = applied(module, before)
            if module in self._flat.layers:
                assert rows.grad_fn is not None  # as the module's own parameters ask for gradients
                tape.append((module, before.detach(), GradientEdge(rows.grad_fn, rows.output_nr)))
        return tape, per_example(self.loss, rows, targets)


def taken_apart(
    tape: Tape, losses: Tensor, shares: Tensor | None, *, space: Workspace, plan: Plan = NO_PLAN
) -> tuple[list[nn.Module], list[Contributions], list[Tensor]]:
    """Return the layers of a tape, their contributions, and for each the tensor that clipping factors multiply.

    It is to be called, as `add_clipped` is, where torch records nothing.

    Args:
        tape: what the layers took in and gave out, n examples each; it is emptied.
        losses: (n,), each from its own example alone.
        shares: (units, rows), the examples being rows of units, which are clipped as one; None: they are the units.
        space: memory to reuse.
        plan: of layers that do not go by the rule of their kind.
    """
    outputs: list[Any] = [output for _, _, output in tape]
    rows = 1 if shares is None else shares.shape[1]
    ones = torch.ones_like(losses) if shares is None else shares.to(losses.dtype).flatten()
    gradients = torch.autograd.grad([losses], outputs, [ones], materialize_grads=True)
    layers = [layer for layer, _, _ in tape]
    spaces = [space] * (len(tape) - 1) + [space.last]  # the last layer's come from the loss, which may keep them
    parts = [
        contributions_of_units(layer, a, b, memory, rows=rows, plan=plan)
        for (layer, a, _), b, memory in zip(tape, gradients, spaces, strict=True)
    ]
    tape.clear()
    return layers, parts, list(gradients)


class FlatSums:
    """The gradients of layers by all their parameters as one flat vector.

    Args:
        layers: with trainable parameters alone.
        order: of the parameters in the vector; that of the layers if it is not given.
    """

    def __init__(self, layers: list[nn.Module], order: list[nn.Parameter] | None = None) -> None:
        self.layers = {layer: list(layer.parameters()) for layer in layers}
        order = [p for owned in self.layers.values() for p in owned] if order is None else order
        ends = list(itertools.accumulate(parameter.numel() for parameter in order))
        self._like, self._dimension = order[0], ends[-1]
        start = {id(parameter): end - parameter.numel() for parameter, end in zip(order, ends, strict=True)}
        self._places = {
            layer: [(p.shape, torch.empty(p.shape, device="meta").stride(), start[id(p)]) for p in owned]
            for layer, owned in self.layers.items()
        }

    def zeros(self) -> tuple[Tensor, Sums]:
        """Return the gradients of no example: the vector (d,), and the parts of every layer as views of it."""
        return self._cut(torch.zeros(self._dimension, dtype=self._like.dtype, device=self._like.device))

    def room(self) -> tuple[Tensor, Sums]:
        """Return the same, holding anything."""
        return self._cut(torch.empty(self._dimension, dtype=self._like.dtype, device=self._like.device))

    def _cut(self, total: Tensor) -> tuple[Tensor, Sums]:
        return total, {layer: [total.as_strided(*place) for place in held] for layer, held in self._places.items()}


def in_parts(
    features: Tensor, targets: Tensor, shares: Tensor | None = None, *, entries: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield a batch in parts, none of them empty.

    Args:
        features: (n, …).
        targets: (n, …).
        shares: (n, rows), if there are any.
        entries: of gradients that are formed for one of the n.
    """
    formed = max(1, entries)
    size = max(1, min(FORMED_ENTRIES // formed, max(FEW_EXAMPLES, CACHED_ENTRIES // formed)))
    examples = features.shape[0]
    if examples <= size:
        if examples:
            yield features, targets, shares
        return
    size = size - size % 8 or size  # convolutions of eights of images take least time an image
    for start in range(0, examples, size):
        some = slice(start, start + size)
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
