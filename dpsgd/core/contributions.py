"""The gradients of n examples by one layer's parameters, held so that norms and weighted sums are cheap.

A layer's inputs a and output gradients b hold example i's gradient g_i = Σ_t b_it ⊗ a_it, where t runs over the places
at which the layer is applied to the example. It is formed, or stays a product:           [Goo15; BWZK23; LTLH22]

    formed      ‖g_i‖ from its entries                            Σ_i c_i g_i = c G, where row i of G is g_i
    a product   ‖g_i‖² = Σ_ts (a_it · a_is) (b_it · b_is)         Σ_i c_i g_i = (c b)ᵀ a

[Goo15] I. Goodfellow. Efficient Per-Example Gradient Computations. 2015. arXiv:1510.01799.
[BWZK23] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Differentially Private Optimization on Large Model at Small Cost.
ICML 2023. arXiv:2210.00038.
[LTLH22] X. Li, F. Tramèr, P. Liang, T. Hashimoto. Large Language Models Can Be Strong Differentially Private Learners.
ICLR 2022. arXiv:2110.05679.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.core.clip import Factors
from dpsgd.core.norms import LEAST, squared_norms
from dpsgd.core.workspace import Workspace

WEIGHED_ENTRIES = 2**18
"""Entries of weighted gradients, and of copies of inputs, held at once: 1 MiB of float32, however long the batch."""


class Contributions(ABC):
    """The gradients of n examples with respect to the parameters of one layer."""

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖² of shape (n,), in float64, rounded up at most."""

    @abstractmethod
    def add_to(self, sums: list[Tensor], factors: Factors, *, keep: int = 1) -> None:
        """Add Σ_i factors_i g_i to one tensor for every parameter; a factor of 0 silences even a NaN.

        To be asked for once, after the norms.

        Args:
            sums: of the shapes of the parameters.
            factors: of the n >= 1 examples.
            keep: 1; or 0, to write over sums that hold nothing yet.
        """

    def entries(self) -> int:
        """Return how many entries of formed gradients are held."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Formed(Contributions):
    """Every example's gradient.

    Args:
        rows: (n, k) for each parameter; they may be overwritten.
        order: in which rows hold the dimensions of the first parameter, if not in the parameter's own.
    """

    rows: list[Tensor]
    order: tuple[int, ...] = ()

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        squares = [squared_norms(piece) for piece in self.rows]
        return functools.reduce(Tensor.add_, squares)

    def add_to(self, sums: list[Tensor], factors: Factors, *, keep: int = 1) -> None:
        """Add Σ_i factors_i g_i."""
        for sum_, rows in zip([self._ordered(sums[0]), *sums[1:]], self.rows, strict=True):
            weighted = (factors.values @ factors.silence(rows)).view(sum_.shape)
            sum_.add_(weighted) if keep else sum_.copy_(weighted)

    def _ordered(self, sum_: Tensor) -> Tensor:
        return sum_.permute(self.order) if self.order else sum_

    def entries(self) -> int:
        """Return how many entries the rows have."""
        return sum(piece.numel() for piece in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Single(Contributions):
    """g_i = b_i ⊗ a_i (and b_i for the bias) of a linear layer with one row of a and b an example."""

    inputs: Tensor
    gradients: Tensor
    bias: bool
    space: Workspace

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        return squared_norms(self.inputs, plus=float(self.bias)).mul_(squared_norms(self.gradients))

    def add_to(self, sums: list[Tensor], factors: Factors, *, keep: int = 1) -> None:
        """Add Σ_i factors_i g_i."""
        _add_products(self, sums, factors, keep)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence(Contributions):
    """g_i = Σ_t b_it ⊗ a_it of a linear layer with T rows an example, where products of rows cost less than g_i.

    An example may hold large terms that cancel. What rounding leaves of them in the sum, and the error of products in
    float64, are at most a share of M_i = Σ_t ‖b_it‖ ‖a_it‖; the norm counts that share, so that the bound holds.

    Entries of c b_it that underflow err by up to tiny each, flushed or not, that is by √k · tiny ‖a_it‖ a term, k being
    the entries of b_it. With c > √tiny (`dpsgd.core.clip`) this is below c √(k · tiny) ‖a_it‖, as if ‖b_it‖ were larger
    by √(k · tiny) ÷ share. So it is with entries of a_it that are flushed, the other way round.
    """

    inputs: Tensor
    gradients: Tensor
    bias: bool
    space: Workspace

    def squared_norms(self) -> Tensor:
        """Return (‖g_i‖ + share · M_i)²."""
        a, b = self.inputs.double(), self.gradients.double()
        inner, length = a @ a.mT + float(self.bias), a.shape[1]
        outer = b @ b.mT
        squares = (inner * outer).sum((1, 2)).clamp_(min=0.0)
        if self.inputs.dtype == torch.float64:  # products that underflow, times what they are multiplied by
            lost = LEAST * (a.shape[2] + b.shape[2] + 2)
            squares += (lost * (inner.abs() + outer.abs() + 1.0)).sum((1, 2))
        norms = squares.sqrt()
        kind = torch.finfo(self.inputs.dtype)
        rounding = (length + 2) * kind.eps / 2
        share = rounding + ((a.shape[2] + b.shape[2] + length) * 2.0**-53) ** 0.5
        heights = torch.linalg.vector_norm(b, dim=2) + (b.shape[2] * kind.tiny) ** 0.5 / share
        widths = inner.diagonal(dim1=1, dim2=2).sqrt() + (a.shape[2] * kind.tiny) ** 0.5 / share
        terms = (heights * widths).sum(1)
        rounded: Tensor = (norms + share * terms).square()
        return rounded

    def add_to(self, sums: list[Tensor], factors: Factors, *, keep: int = 1) -> None:
        """Add Σ_i factors_i g_i."""
        _add_products(self, sums, factors, keep)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked(Contributions):
    """Gradients of an embedding: of every example the rows that it looked up, each once.

    Args:
        words: (n, T) the row that each place stands for; places left over stand for row 0 and hold zeros.
        rows: (n, T, d) gradients of those rows.
    """

    words: Tensor
    rows: Tensor

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        return squared_norms(self.rows.flatten(start_dim=1))

    def add_to(self, sums: list[Tensor], factors: Factors, *, keep: int = 1) -> None:
        """Add Σ_i factors_i g_i."""
        if not keep:
            sums[0].zero_()
        sums[0].index_add_(0, self.words.reshape(-1), factors.weigh(self.rows).flatten(end_dim=1))


def _add_products(layer: Single | Sequence, sums: list[Tensor], factors: Factors, keep: int) -> None:
    """Add (c b)ᵀ a and, with a bias, Σ c b."""
    space, a, b = layer.space, layer.inputs, layer.gradients
    if space.inputs:
        factors.silence(a)
    size = max(1, WEIGHED_ENTRIES // max(1, _entries_of_row(b), 0 if space.inputs else _entries_of_row(a)))
    if a.shape[0] <= size:
        _add_some_products(layer, a, b, factors, sums, keep)
        return
    for number, (some_a, some_b, some) in enumerate(
        zip(*(torch.split(rows, size) for rows in (a, b, factors.values)), strict=True)
    ):
        _add_some_products(layer, some_a, some_b, Factors(some), sums, 1 if number else keep)


def _add_some_products(
    layer: Single | Sequence, a: Tensor, b: Tensor, factors: Factors, sums: list[Tensor], keep: int
) -> None:
    space = layer.space
    if not space.inputs:  # which may not be written to
        a = factors.silence(space.take("inputs", a.shape, like=a).copy_(a))
    b = factors.weigh(b, over=space.gradients)
    if a.dim() > 2:
        a, b = a.flatten(end_dim=1), b.flatten(end_dim=1)
    if keep:
        sums[0].addmm_(b.T, a)
        if layer.bias:
            sums[1].add_(b.sum(0))
        return
    torch.mm(b.T, a, out=sums[0])  # in less time than a sum with beta = 0
    if layer.bias:
        torch.sum(b, 0, out=sums[1])


def _entries_of_row(rows: Tensor) -> int:
    return math.prod(rows.shape[1:])
