"""What is compiled of a chain of linear layers, as it is written: losses, output gradients, norms and factors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dpsgd.core.chains import Chain, trains
from dpsgd.core.norms import lost
from dpsgd.losses import Loss, per_example

Outcome = tuple[list[Tensor], list[Tensor], Tensor, Tensor]
"""For every layer the output gradients times the factors; its inputs, of layers that take in other than the features,
with zeros for examples that count as zero; squared norms and factors of all examples (n,)."""


@dataclass(slots=True, kw_only=True, eq=False)
class Written:
    """The forward pass of a chain, and what follows from it; one batch at a time.

    Args:
        chain: as of `dpsgd.core.compiled.Compiled`.
        loss: as there.
    """

    chain: Chain
    loss: Loss
    _tape: list[tuple[Tensor, GradientEdge]] = field(init=False, default_factory=list)

    def __call__(self, features: Tensor, targets: Tensor, bound: Tensor) -> Outcome:
        """Return the outcome of a batch for a bound (1,) in float64, by the functions of torch."""
        forward = self.forward()
        return self.following(lambda: forward(features, targets), (features, targets, bound))

    def forward(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function of features and targets, to the losses (n,), which notes what layers take in and give.

        Dynamo keeps a call of what notes as it is, so that the graph that it makes notes the same.
        """
        chain, loss, tape = self.chain, self.loss, self._tape

        def noted(before: Tensor, after: Tensor) -> Tensor:
            tape.append((before, get_gradient_edge(after)))
            return after

        allowed: Any = torch.compiler.allow_in_graph
        kept: Callable[[Tensor, Tensor], Tensor] = allowed(noted)

        def forward(features: Tensor, targets: Tensor) -> Tensor:
            rows = features
            for module in chain:
                before, rows = rows, module(rows)
                if type(module) is nn.Linear and module.weight.requires_grad:
                    rows = kept(before, rows)
            return per_example(loss, rows, targets)

        return forward

    def following(self, losses: Callable[[], Tensor], given: Sequence[Any]) -> Outcome:
        """Return the outcome.

        Args:
            losses: computes them, and notes.
            given: what they are computed from, and the bound at last.
        """
        self._tape.clear()
        with torch.enable_grad():
            total = losses().sum()
        inputs, outputs = zip(*self._tape, strict=True)
        self._tape.clear()
        gradients = torch.autograd.grad([total], outputs)
        with torch.no_grad():
            biased = [module.bias is not None for module in self.chain if trains(module)]
            of_layers = [(_squares(a) + own) * _squares(b) for a, b, own in zip(inputs, gradients, biased, strict=True)]
            squares = functools.reduce(torch.add, of_layers)
            factors = _factors(squares, given[-1], gradients[0].dtype)
            held = (factors > 0).unsqueeze(1)  # others count as zero, whatever they hold
            weighted = [torch.where(held, b * factors.unsqueeze(1), 0.0) for b in gradients]
            taken = [torch.where(held, a, 0.0) for a in inputs if all(a is not each for each in given)]
        return weighted, taken, squares, factors


def _squares(rows: Tensor) -> Tensor:
    """Return ‖row‖² of every row, as `dpsgd.core.norms` does in float64."""
    return rows.double().square().sum(1) + lost(rows.shape[1], rows.dtype)


def _factors(squares: Tensor, bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what `dpsgd.core.clip.clip_factors` does, for a bound that may move."""
    kind = torch.finfo(dtype)
    found = torch.maximum(squares.sqrt(), bound).reciprocal() * bound
    return torch.where((found > math.sqrt(kind.tiny)) & (found > bound / kind.max), found, 0.0).to(dtype)
