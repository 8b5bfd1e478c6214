"""Clipping: the factor that brings an example's gradient down to the norm allowed to it.

**Underflow.** Linear layers are given c b, and add up (c b) ⊗ a. An entry of c b below the least normal float, tiny, is
rounded by up to 2^-150 in float32, no small share of it, and an a of up to 2^128 makes that large: the contribution
exceeds c ‖b‖ ‖a‖ by up to √k · 2^-150 · ‖a‖, k being the entries of b. No factor but 0 is below √tiny = 2^-63. So this
is at most c x ‖a‖ with x = √k · 2^-87, as if ‖b‖ were larger by x, and

    (‖b‖ + x)² <= (1 + 2^-40) ‖b‖² + (1 + 2^40) x² <= (1 + 2^-40) (‖b‖² + k · 2^-125),

which squares of norms are larger by: see `dpsgd.core.norms`. In float64 x = √k · 2^-564, and k · 2^-1022 is added.
A CPU that is told to flush (`torch.set_flush_denormal`, in some threads and not in others) makes 0 of such an entry,
which shortens a product; sums of several are treated in `dpsgd.core.contributions.Sequence`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

SLACK = 2.0**-22
"""Shrinks the bound, relative to it: the factor and its product with a float32 entry err by 2^-24 each, a float64 sum
of d squares by d · 2^-53; so up to 2^29 entries the contribution itself, not only its estimate, keeps the bound. Norms
from sums in float32 come rounded up, see `dpsgd.core.norms`, and take nothing from it."""


def clipping_bound(max_grad_norm: float) -> float:
    """Return the norm that gradients are scaled down to, so that rounding cannot lift them above `max_grad_norm`."""
    return max_grad_norm * (1.0 - SLACK)


@functools.lru_cache(maxsize=64)  # bounds that adapt are new in every step
def least_factor(bound: float, dtype: torch.dtype) -> float:
    """Return what factors must exceed not to be 0: below, norms pass the range of `dtype` or products lose digits."""
    kind = torch.finfo(dtype)
    return max(math.sqrt(kind.tiny), bound / kind.max)


def clip_factors(norms: Tensor, *, max_grad_norm: float, dtype: torch.dtype) -> Tensor:
    """Return min(1, max_grad_norm / ‖g_i‖) for every example, 0 where the norm is NaN or past the range of `dtype`.

    An example whose gradient is not finite thus counts as zero, and costs no other example anything.

    Args:
        norms: ‖g_i‖ of shape (n,), accumulated in float64 or rounded up.
        max_grad_norm: > 0.
        dtype: of the parameters, and of the result.

    Guarantees: the exact norm of the floats factor · g_i is at most max_grad_norm, as long as they are not subnormal;
        of products, see the module.

    >>> clip_factors(torch.tensor([0.5, 2.0, float("nan")]).double(), max_grad_norm=1.0, dtype=torch.float32)
    tensor([1.0000, 0.5000, 0.0000])
    """
    bound = clipping_bound(max_grad_norm)
    factors = norms.clamp(min=bound).reciprocal_().mul_(bound)
    kept = torch.threshold(factors, least_factor(bound, dtype), 0.0)
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
        zero = values.logical_not()  # of no NaN
        # Numbers of rows elsewhere would have to be waited for.
        self._silent = zero.nonzero().squeeze(1) if values.is_cpu else zero

    def weigh(self, rows: Tensor, *, over: bool = False) -> Tensor:
        """Return factor · row for every row of (n, …), zeros where the factor is 0.

        Args:
            rows: finite wherever the factor is not 0.
            over: whether they are written over.
        """
        each = self.values.view(-1, *[1] * (rows.dim() - 1))
        return self.silence(rows.mul_(each) if over else rows * each)  # 0 · NaN and 0 · inf are NaN

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
