"""Clipping: the factor that brings an example's gradient down to the norm allowed to it."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK = 2.0**-22
"""Shrinks the bound, relative to it: the factor and its product with a float32 entry err by 2^-24 each, a float64 sum
of d squares by d · 2^-53; so up to 2^29 entries the contribution itself, not only its estimate, keeps the bound. Norms
from sums in float32 come rounded up, see `dpsgd.core.norms`, and take nothing from it."""


def clipping_bound(max_grad_norm: float) -> float:
    """Return the norm that gradients are scaled down to, so that rounding cannot lift them above `max_grad_norm`."""
    return max_grad_norm * (1.0 - SLACK)


def clip_factors(norms: Tensor, *, max_grad_norm: float, dtype: torch.dtype) -> Tensor:
    """Return min(1, max_grad_norm / ‖g_i‖) for every example, 0 where the norm is NaN or past the range of `dtype`.

    An example whose gradient is not finite thus counts as zero, and costs no other example anything.

    Args:
        norms: ‖g_i‖ of shape (n,), accumulated in float64 or rounded up.
        max_grad_norm: > 0.
        dtype: of the parameters, and of the result.

    Guarantees: the exact norm of the floats factor · g_i is at most max_grad_norm, as long as they are not subnormal.

    >>> clip_factors(torch.tensor([0.5, 2.0, float("nan")]).double(), max_grad_norm=1.0, dtype=torch.float32)
    tensor([1.0000, 0.5000, 0.0000])
    """
    bound, kind = clipping_bound(max_grad_norm), torch.finfo(dtype)
    factors = norms.clamp(min=bound).reciprocal_().mul_(bound)
    # Below `tiny` a factor is subnormal: it has lost digits and could lift the norm above the bound.
    kept = torch.threshold(factors, max(kind.tiny, bound / kind.max), 0.0)
    return kept.to(dtype).nan_to_num_(nan=0.0)


class Factors:
    """The factors of n examples, and which of them are 0: what these examples hold, NaN perhaps, must not count.

    Args:
        values: (n,).

    >>> Factors(torch.tensor([0.5, 0.0])).weigh(torch.tensor([[2.0], [float("nan")]]))
    tensor([[1.],
            [0.]])
    """

    __slots__ = ("_silent", "values")

    def __init__(self, values: Tensor) -> None:
        self.values = values
        zero = values == 0.0
        # Numbers of rows elsewhere would have to be waited for.
        self._silent = zero.nonzero().squeeze(1) if values.device.type == "cpu" else zero

    def weigh(self, rows: Tensor) -> Tensor:
        """Return factor · row for every row of (n, …), zeros where the factor is 0.

        Args:
            rows: finite wherever the factor is not 0.
        """
        return self.silence(rows * self.values.view(-1, *[1] * (rows.dim() - 1)))  # 0 · NaN and 0 · inf are NaN

    def silence(self, rows: Tensor) -> Tensor:
        """Return the rows (n, …), in place, with zeros wherever the factor is 0."""
        if self._silent.dtype == torch.bool:
            return rows.masked_fill_(self._silent.view(-1, *[1] * (rows.dim() - 1)), 0.0)
        return rows.index_fill_(0, self._silent, 0.0)


def weigh(rows: Tensor, factors: Tensor) -> Tensor:
    """Return factor · row for every row of (n, …), zeros where the factor is 0 whatever the row holds.

    Args:
        rows: finite wherever the factor is not 0.
        factors: (n,).

    >>> weigh(torch.tensor([[2.0], [float("nan")]]), torch.tensor([0.5, 0.0]))
    tensor([[1.],
            [0.]])
    """
    return Factors(factors).weigh(rows)


def silence(rows: Tensor, factors: Tensor) -> Tensor:
    """Return the rows (n, …), in place, with zeros wherever the factor is 0, whatever the row holds.

    >>> silence(torch.tensor([[2.0], [float("nan")]]), torch.tensor([0.5, 0.0]))
    tensor([[2.],
            [0.]])
    """
    return Factors(factors).silence(rows)
