"""Sums of clipped per-example gradients: one function chooses the way by the model's structure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dpsgd.bookkeeping import BookKeeping, linear_chain
from dpsgd.losses import Loss
from dpsgd.vectorised import Vectorised
from mechanisms import InvalidParameter

GradientSum = Callable[[Tensor, Tensor], Tensor]
"""(features (n, …), targets (n, …)) -> Σ_i g_i min(1, C / ‖g_i‖) of shape (d,), in the order of `trainable`."""


def gradient_sum(model: nn.Module, *, example_dimensions: int, loss: Loss, max_grad_norm: float) -> GradientSum:
    """Return the function that sums the clipped gradients of a batch at the model's present weights.

        Σ_i g_i min(1, max_grad_norm / ‖g_i‖),    g_i = ∇_w loss(model(x_i), y_i)

    Chains of linear layers go by book-keeping, all other models by `torch.func.vmap`; both give the same sums.

    Args:
        model: its trainable parameters are the w of the formula; ‖·‖ runs over all of them together.
        example_dimensions: number of dimensions of one example's features.
        loss: one loss for each example.
        max_grad_norm: > 0.

    Guarantees: one example more or less moves the sum by at most max_grad_norm, up to the rounding of the sum. An
    example whose gradient is not finite counts as zero and changes nothing else; an empty batch gives zeros.

    >>> import torch
    >>> line = nn.Linear(1, 1, bias=False)
    >>> clipped = gradient_sum(line, example_dimensions=1, loss=lambda o, t: o[:, 0], max_grad_norm=1.0)
    >>> clipped(torch.tensor([[0.5], [4.0]]), torch.zeros(2))
    tensor([1.5000])
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise InvalidParameter(
            "gradient_sum: autocast must be off: norms in low precision do not keep the bound max_grad_norm."
        )
    chain = linear_chain(model, example_dimensions=example_dimensions)
    if chain is None:
        return Vectorised(model=model, loss=loss, max_grad_norm=max_grad_norm)
    return BookKeeping(chain=chain, loss=loss, max_grad_norm=max_grad_norm)
