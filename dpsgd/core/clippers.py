"""Clippers: how a step's clipping turns the norms of examples' gradients, layer by layer, into factors.

**Floats.** What a clipper promises is the exact norm of the floats that are summed: ‖c_i g_i‖ <= C = max_grad_norm for
every example, c_i g_i rounded entry by entry, as long as entries are not subnormal; of
products see `dpsgd.core.clip`. Every factor is made for the bound
C (1 − 2^-22) of `dpsgd.core.clip`. Relative errors: of a norm, a root of up to 2^29 squares summed in float64, 2^-25;
of the factor's sum, quotient, and C_l, a few 2^-53; of the factor in float32, 2^-24; of its product with an entry,
2^-24. Together less than 3 · 2^-24 < 2^-22, whatever the formula of the factor is, where that gives c_i ‖g_i‖ <= C in
reals: C / (‖g_i‖ + γ) and C / ‖g_i‖ do, and layers that keep within C_l keep within √(Σ C_l²) = C.

**Range.** Factors above 1 could lift what they multiply out of the floats, although their product with the gradient is
small: an output gradient of 10^30 with inputs of 10^-40, say, whose product torch would make infinite. An example
counts as zero where its factor or the largest entry that the factor multiplies would come within a factor of 2 of that.
So does one of float64 whose norm is below 2^-484: what such squares lose to underflow is no longer small beside them.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import threshold

from dpsgd.core.clip import Factors, clip_factors, clipping_bound, least_factor
from dpsgd.core.contributions import Contributions

LEAST_NORM = 2.0**-484
"""Below it gradients are not stretched: see "Range" above."""
Seen = list[tuple[Sequence[Tensor], Sequence[Tensor]]]
"""(squared norms, factors) of the parts of a batch, layer by layer: private."""


@dataclass(slots=True, kw_only=True, eq=False)
class Clipper(ABC):
    """Factors that bring the gradients of examples within a bound.

    Args:
        max_grad_norm: C, bound on the Euclidean norm of all that one example contributes, > 0.
        seen: collects what comes by, for who reads and empties it after every step; None keeps nothing.
    """

    max_grad_norm: float
    seen: Seen | None = None

    def factors(
        self, squares: Sequence[Tensor], *, layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the factors of n examples, one tensor (n,) for every layer.

        An example whose gradient is not finite, or past the range of its dtype, has the factor 0 in every layer.

        Args:
            squares: for every layer ‖g_i‖² by its parameters, (n,) in float64.
            layers: whose parameters they are; layers whose gradients are all zero may be left out.
            multiplied: for every layer the tensor that the factors will multiply, (n, …) or, of units of several rows,
                (n · rows, …).
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
        found = clip_factors(norms(squares), max_grad_norm=self.max_grad_norm, dtype=multiplied[0].dtype)
        return [found] * len(squares)


@dataclass(slots=True, kw_only=True, eq=False)
class LayerClipper(Clipper):
    """c_il = min(1, C_l / ‖g_il‖) in every layer l.

    Args:
        bounds: C_l of every layer, Σ C_l² = C².
    """

    bounds: dict[nn.Module, float]

    def _factors(
        self, squares: Sequence[Tensor], layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        kind = multiplied[0].dtype
        found = [
            clip_factors(square.sqrt(), max_grad_norm=self.bounds[layer], dtype=kind)
            for square, layer in zip(squares, layers, strict=True)
        ]
        whole = functools.reduce(torch.minimum, found) > 0
        return [factor * whole for factor in found]


@dataclass(slots=True, kw_only=True, eq=False)
class StretchingClipper(Clipper):
    """c_i = C / (‖g_i‖ + γ), above 1 where the gradient is small; 0 for a gradient of 0.

    Args:
        stability: γ >= 0.
    """

    stability: float

    def _factors(
        self, squares: Sequence[Tensor], layers: Sequence[nn.Module], multiplied: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        bound, kind = clipping_bound(self.max_grad_norm), torch.finfo(multiplied[0].dtype)
        whole = norms(squares)
        found = bound / (whole + self.stability)
        entries = [_largest_entries(rows, examples=len(whole)) for rows in multiplied]
        largest = functools.reduce(torch.maximum, entries).clamp_(min=1.0)
        held = (found <= kind.max / 2 / largest) & (whole >= LEAST_NORM)
        found = torch.where(held, found, 0.0)  # neither NaN nor infinite from here on
        found = threshold(found, least_factor(bound, multiplied[0].dtype), 0.0).to(multiplied[0].dtype)
        return [found] * len(squares)


def layer_bounds(
    layers: dict[str, nn.Module], shares: dict[str, float] | None, *, max_grad_norm: float
) -> LayerClipper:
    """Return the clipper with C_l = C √(share_l / Σ shares), for equal shares if none are given."""
    given = dict.fromkeys(layers, 1.0) if shares is None else shares
    total = math.fsum(given.values())
    bounds = {layer: max_grad_norm * math.sqrt(given[name] / total) for name, layer in layers.items()}
    return LayerClipper(max_grad_norm=max_grad_norm, bounds=bounds)


def norms(squares: Sequence[Tensor]) -> Tensor:
    """Return the norm of every example's whole gradient from the squares of its layers, (n,)."""
    return functools.reduce(torch.add, squares).sqrt()


def add_clipped(
    sums: Sequence[list[Tensor]],
    parts: list[Contributions],
    clip: Clipper,
    layers: Sequence[nn.Module],
    multiplied: list[Tensor],
    *,
    keep: int = 1,
) -> None:
    """Add Σ_i c_i g_i to the tensors of every layer, one for each parameter; see `Clipper.factors`.

    With `keep` 0 they hold nothing yet, and are written over. Contributions and what is multiplied are taken from their
    lists, the last first, so that no more of them is held than is still to be added.
    """
    found = clip.factors([part.squared_norms() for part in parts], layers=layers, multiplied=multiplied)
    multiplied.clear()
    factors = Factors(found[-1])
    for of_layer, values in zip(reversed(sums), reversed(found), strict=True):
        if values is not factors.values:
            factors = Factors(values)
        parts.pop().add_to(of_layer, factors, keep=keep)


def _largest_entries(rows: Tensor, *, examples: int) -> Tensor:
    if not rows.numel():
        return rows.new_zeros(examples, dtype=torch.float64)
    largest: Tensor = torch.linalg.vector_norm(rows.detach().reshape(examples, -1), ord=math.inf, dim=1)
    return largest.double()
