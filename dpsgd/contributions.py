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

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.clip import weigh

NORM_ENTRIES = 2**16
"""Entries of which norms are taken at once: torch may copy them to float64 first, which should stay in the cache."""


class Contributions(ABC):
    """The gradients of n examples with respect to the parameters of one layer."""

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖² of shape (n,), accumulated in float64."""

    @abstractmethod
    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Return Σ_i factors_i g_i for every parameter, flat; an example whose factor is 0 adds nothing, even a NaN.

        To be asked for once, after the norms: entries of examples that add nothing may be overwritten.
        """

    def entries(self) -> int:
        """Return how many entries of formed gradients are held."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Formed(Contributions):
    """Every example's gradient.

    Args:
        rows: (n, k) for each parameter.
        transposed: shape of a row of the first parameter, if what the parameter holds are its matrices' transposes.
    """

    rows: list[Tensor]
    transposed: tuple[int, ...] = ()

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        return torch.stack([_squared_norms(piece) for piece in self.rows]).sum(0)

    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Return Σ_i factors_i g_i."""
        sums = [factors @ piece.nan_to_num_() for piece in self.rows]  # 0 · NaN would be NaN
        if self.transposed:
            sums[0] = sums[0].view(self.transposed).mT.reshape(-1)
        return sums

    def entries(self) -> int:
        """Return how many entries the rows have."""
        return sum(piece.numel() for piece in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Single(Contributions):
    """g_i = b_i ⊗ a_i (and b_i for the bias) of a linear layer with one row of a and b an example."""

    inputs: Tensor
    gradients: Tensor
    bias: bool

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        return _squared_norms(self.gradients) * (_squared_norms(self.inputs) + self.bias)

    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Return Σ_i factors_i g_i."""
        return _sum_of_products(self.inputs, self.gradients, factors, bias=self.bias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence(Contributions):
    """g_i = Σ_t b_it ⊗ a_it of a linear layer with T rows an example, where products of rows cost less than g_i.

    An example may hold large terms that cancel. What rounding leaves of them in the sum, and the error of products in
    float64, are at most a share of M_i = Σ_t ‖b_it‖ ‖a_it‖; the norm counts that share, so that the bound holds.
    """

    inputs: Tensor
    gradients: Tensor
    bias: bool

    def squared_norms(self) -> Tensor:
        """Return (‖g_i‖ + share · M_i)²."""
        a, b = self.inputs.double(), self.gradients.double()
        inner, length = a @ a.mT + float(self.bias), a.shape[1]
        norms = (inner * (b @ b.mT)).sum((1, 2)).clamp_(min=0.0).sqrt()
        terms = (torch.linalg.vector_norm(b, dim=2) * inner.diagonal(dim1=1, dim2=2).sqrt()).sum(1)
        rounding = (length + 2) * torch.finfo(self.inputs.dtype).eps / 2
        share = rounding + ((a.shape[2] + b.shape[2] + length) * 2.0**-53) ** 0.5
        squares: Tensor = (norms + share * terms).square()
        return squares

    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Return Σ_i factors_i g_i."""
        return _sum_of_products(self.inputs, self.gradients, factors, bias=self.bias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked(Contributions):
    """Gradients of an embedding: of every example the rows that it looked up, each once.

    Args:
        words: (n, T) the row that each place stands for; places left over stand for row 0 and hold zeros.
        rows: (n, T, d) gradients of those rows.
        count: number of rows of the whole table.
    """

    words: Tensor
    rows: Tensor
    count: int

    def squared_norms(self) -> Tensor:
        """Return ‖g_i‖²."""
        return _squared_norms(self.rows.flatten(start_dim=1))

    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Return Σ_i factors_i g_i."""
        rows = weigh(self.rows, factors).flatten(end_dim=1)
        table = rows.new_zeros(self.count, rows.shape[1])
        return [table.index_add_(0, self.words.reshape(-1), rows).view(-1)]


def _sum_of_products(inputs: Tensor, gradients: Tensor, factors: Tensor, *, bias: bool) -> list[Tensor]:
    """Return (c b)ᵀ a and, with a bias, Σ c b."""
    a = inputs.nan_to_num()  # what an example that adds nothing took in could be NaN, which zeros would not silence
    b = weigh(gradients, factors).reshape(-1, gradients.shape[-1])
    weight = (b.T @ a.reshape(-1, a.shape[-1])).view(-1)
    return [weight, b.sum(0)] if bias else [weight]


def _squared_norms(rows: Tensor) -> Tensor:
    """Return Σ of squares of every row, accumulated in float64."""
    size = max(1, NORM_ENTRIES // max(1, rows.shape[1]))
    if len(rows) <= size:
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        return norms * norms
    pieces = (torch.linalg.vector_norm(some, dim=1, dtype=torch.float64) for some in torch.split(rows, size))
    norms = torch.cat(list(pieces))
    return norms * norms
