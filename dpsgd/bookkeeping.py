"""Clipped gradient sums by book-keeping: one backward pass, by the outputs of the layers instead of their weights.

The inputs a of every layer are kept on the way forward, and one backward pass gives the gradients b by its outputs.
Together they give the norms of all examples' gradients and then, with the factors c that the norms ask for, the sum
of the clipped gradients [BWZK23]; see `dpsgd.layers` for how each kind of layer does.

[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dpsgd.chains import Chain, dimensions_after, trains
from dpsgd.clip import clip_factors
from dpsgd.layers import contributions
from dpsgd.losses import Loss, per_example
from dpsgd.workspace import Workspace

FORMED_ENTRIES = 2**24
"""Gradient entries held at once, at most: 64 MiB of float32."""
CACHED_ENTRIES, FEW_EXAMPLES = 2**20, 32
"""Parts hold about that many entries, which with all that is computed for them stay in a cache; with fewer examples
convolutions and products would have too little to do at a time."""

Tape = list[tuple[nn.Module, Tensor, Tensor]]
"""(layer, its inputs (n, …), its outputs (n, …)) for every layer with trainable parameters."""

Sums = dict[nn.Module, list[Tensor]]
"""For every layer one tensor for each of its parameters, of its shape."""


@dataclass(slots=True, kw_only=True, eq=False)
class BookKeeping:
    """The clipped gradient sum of a chain that `rowwise_chain` found; one batch at a time, since memory is reused."""

    chain: Chain
    loss: Loss
    max_grad_norm: float
    _flat: FlatSums = field(init=False)
    _entries: int | None = None
    _space: Workspace = field(init=False, default_factory=Workspace)

    def __post_init__(self) -> None:
        self._flat = FlatSums([module for module in self.chain if trains(module)])

    def __call__(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return Σ_i g_i min(1, max_grad_norm / ‖g_i‖) over a batch, shape (d,)."""
        if self._entries is None:
            self._entries = entries_formed(self.chain, example_dimensions=features.dim() - 1)
        total, sums = self._flat.zeros()
        for some, wanted in in_parts(features, targets, entries=self._entries):
            tape, losses = self._record(some, wanted)
            add_clipped_sums(sums, tape, losses, max_grad_norm=self.max_grad_norm, space=self._space)
        return total

    @torch.enable_grad()
    def _record(self, features: Tensor, targets: Tensor) -> tuple[Tape, Tensor]:
        tape: Tape = []
        rows = features
        for module in self.chain:
            before, rows = rows, module(rows)
            if module in self._flat.layers:
                tape.append((module, before.detach(), rows))
        return tape, per_example(self.loss, rows, targets)


def add_clipped_sums(sums: Sums, tape: Tape, losses: Tensor, *, max_grad_norm: float, space: Workspace) -> None:
    """Add the clipped gradient sums of the tape's layers, in place.

    Args:
        sums: of every layer of the tape.
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
        for (layer, _, _), part in zip(tape, parts, strict=True):
            part.add_to(sums[layer], factors)


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
        total = torch.zeros(self._dimension, dtype=self._like.dtype, device=self._like.device)
        return total, {layer: [total.as_strided(*place) for place in held] for layer, held in self._places.items()}


def in_parts(features: Tensor, targets: Tensor, *, entries: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a batch in parts, none of them empty.

    Args:
        features: (n, …).
        targets: (n, …).
        entries: of gradients that are formed for one example.
    """
    formed = max(1, entries)
    size = max(1, min(FORMED_ENTRIES // formed, max(FEW_EXAMPLES, CACHED_ENTRIES // formed)))
    if len(features) <= size:
        if len(features):
            yield features, targets
        return
    size = size - size % 8 or size  # convolutions of eights of images take least time an image
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
