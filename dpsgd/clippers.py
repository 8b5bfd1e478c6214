"""Clippers: how a step's clipping turns the norms of examples' gradients, layer by layer, into factors.

**Floats.** What a clipper promises is the exact norm of the floats that are summed: ‖c_i g_i‖ <= C for every example,
with C = max_grad_norm and c_i g_i rounded entry by entry. Norms are accumulated in float64, and every factor is made
for the bound C (1 − SLACK) of `dpsgd.clip`, which pays for the rounding of the factor and of the product.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpsgd.clip import clip_factors
from dpsgd.contributions import Contributions

Seen = list[tuple[Sequence[Tensor], Sequence[Tensor]]]
"""(squared norms, factors) of the parts of a batch, layer by layer: private."""


@dataclass(slots=True, kw_only=True, eq=False)
class Clipper(ABC):
    """Factors that bring the gradients of examples within a bound.

    Args:
        max_grad_norm: bound on the Euclidean norm of all that one example contributes, > 0.
        seen: collects what comes by, for who reads and empties it after every step; None keeps nothing.
    """

    max_grad_norm: float
    seen: Seen | None = None

    def factors(
        self, squares: Sequence[Tensor], *, layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the factors of n examples, one tensor (n,) for every layer.

        Args:
            squares: for every layer ‖g_i‖² by its parameters, (n,) in float64.
            layers: whose parameters they are; layers whose gradients are all zero may be left out.
            multiplied: for every layer the tensor (n, …) that the factors will multiply.
        """
        found = self._factors(squares, layers, multiplied)
        if self.seen is not None:
            self.seen.append((squares, found))
        return found

    @abstractmethod
    def _factors(
        self, squares: Sequence[Tensor], layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]: ...


class FlatClipper(Clipper):
    """c_i = min(1, C / ‖g_i‖), the norm over all layers."""

    def _factors(
        self, squares: Sequence[Tensor], layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        norms = functools.reduce(torch.add, squares).sqrt()
        found = clip_factors(norms, max_grad_norm=self.max_grad_norm, dtype=multiplied[0].dtype)
        return [found] * len(squares)


def clipped_pieces(
    parts: Sequence[Contributions], clip: Clipper, *, layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
) -> list[Tensor]:
    """Return Σ_i c_i g_i flat for every parameter of the layers, in their order; see `Clipper.factors`."""
    factors = clip.factors([part.squared_norms() for part in parts], layers=layers, multiplied=multiplied)
    return [piece for part, found in zip(parts, factors, strict=True) for piece in part.weighted_sum(found)]
