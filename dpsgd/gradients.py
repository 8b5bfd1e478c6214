"""Sums of clipped per-example gradients: one function chooses the way by the model's structure."""

from __future__ import annotations

import warnings
from typing import Protocol

import torch
from torch import Tensor, nn

from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.chains import has_digits, rowwise_chain
from dpsgd.core.clippers import Clipper, FlatClipper
from dpsgd.core.compiled import Compiled
from dpsgd.core.layers import NO_PLAN, Plan
from dpsgd.core.layouts import check_layout
from dpsgd.core.once import refused
from dpsgd.core.recorded import Recorded, below_vmap, recordable
from dpsgd.core.rowwise import Rowwise
from dpsgd.core.vectorised import Vectorised
from dpsgd.losses import Loss
from mechanisms import InvalidParameter

SLOWER = (
    f"gradient_sum: torch {torch.__version__} does not let layers run below vmap, as other versions do. Every "
    "example's gradient is formed instead: the sums are the same up to rounding, and take more time and memory."
)


class GradientSum(Protocol):
    """(features (n, …), targets (n, …)) -> Σ_i g_i min(1, C / ‖g_i‖) of shape (d,), in the order of `trainable`.

    With `shares` (n, rows), each of the n is a unit of several rows, features and targets being (n, rows, …), and g_i
    is the gradient of its rows' mean loss with these weights: see `dpsgd.core.units`.
    """

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum."""


def gradient_sum(
    model: nn.Module, *, example_dimensions: int, loss: Loss, max_grad_norm: float, compiled: bool = False
) -> GradientSum:
    """Return the function that sums the clipped gradients of a batch at the model's present weights.

        Σ_i g_i min(1, max_grad_norm / ‖g_i‖),    g_i = ∇_w loss(model(x_i), y_i)

    Where all trainable parameters belong to layers that `dpsgd.core.layers` covers, the gradients come by book-keeping
    from one backward pass: of a batch, if the model is a chain of layers of torch that keep examples apart; else of a
    model that `torch.func.vmap` shows one example at a time. All other models go by `torch.func.grad` of each example.
    All ways give the same sums, up to rounding; with `compiled`, so does one that takes less time for short steps. The
    gradients of convolutions come from columns, whatever a run might choose (`dpsgd.core.forms`).

    Args:
        model: its trainable parameters are the w of the formula; ‖·‖ runs over all of them together.
        example_dimensions: number of dimensions of one example's features, which have the digits of float32 at least,
            or are whole numbers.
        loss: one loss for each example.
        max_grad_norm: > 0.
        compiled: whether the sum is compiled, which models of linear layers on the CPU allow: see
            `dpsgd.core.compiled`. There is no other way then: what cannot be compiled is refused.

    Raises:
        InvalidParameter: if the sum is to be compiled and cannot, some of it at the first call.

    Guarantees: one example more or less moves the sum by at most max_grad_norm, up to rounding: that of the sum, and
    that of the others' gradients, which products of batches of another size may round otherwise. Where those cancel,
    as behind a norm of one or two numbers, that may be a larger share of what clipping leaves of them than the last
    digits of float32: examples that are given one by one have none of it. An example whose gradient is not finite
    counts as zero and changes nothing else; an empty batch gives zeros. All of this is of the model as it stands now,
    but for what its parameters hold: a hook, module, mode or `requires_grad` that is set otherwise between two calls is
    not looked for here, as `steps` and `train` do, and may mix examples. Nor is it seen whether the model keeps
    something of its examples: `validate_model` tells that. After a change ask for another function.

    >>> import torch
    >>> line = nn.Linear(1, 1, bias=False)
    >>> clipped = gradient_sum(line, example_dimensions=1, loss=lambda o, t: o[:, 0], max_grad_norm=1.0)
    >>> clipped(torch.tensor([[0.5], [4.0]]), torch.zeros(2))
    tensor([1.5000])
    """
    return gradient_sum_by(
        FlatClipper(max_grad_norm=max_grad_norm),
        model,
        example_dimensions=example_dimensions,
        loss=loss,
        compiled=compiled,
    )


def gradient_sum_by(
    clip: Clipper,
    model: nn.Module,
    *,
    example_dimensions: int,
    loss: Loss,
    overwrite: bool = False,
    compiled: bool = False,
    formed: bool = False,
    plan: Plan = NO_PLAN,
) -> GradientSum:
    """Return the function that sums the gradients of a batch, clipped by `clip`; see `gradient_sum`.

    With `overwrite`, the features of a batch are memory that nobody reads again: they may hold anything afterwards.
    With `formed`, gradients are formed, entry by entry, before they are bounded: whatever digits they were made of,
    what is clipped is what is summed. Norms by book-keeping rest on the digits of what gradients are products of.
    `plan` has the rules of layers that do not go by that of their kind, where gradients come by book-keeping.
    """
    check_no_autocast("gradient_sum")
    check_layout("gradient_sum", model)
    chain = rowwise_chain(model, example_dimensions=example_dimensions)
    if compiled:
        if chain is None:
            raise refused(f"the model must be a chain of layers of torch, got {type(model).__name__}")
        return Compiled(chain=chain, loss=loss, clip=clip, overwrite=overwrite)
    if formed:
        return Vectorised(model=model, loss=loss, clip=clip)
    if chain is not None:
        return BookKeeping(chain=chain, loss=Rowwise(loss=loss), clip=clip, overwrite=overwrite, plan=plan)
    whole = all(has_digits(parameter.dtype) for parameter in model.parameters())
    if not (recordable(model) and whole):
        return Vectorised(model=model, loss=loss, clip=clip)
    if not below_vmap():
        warnings.warn(SLOWER, RuntimeWarning, stacklevel=3)
        return Vectorised(model=model, loss=loss, clip=clip)
    return Recorded(model=model, loss=loss, clip=clip, plan=plan)


def check_no_autocast(owner: str) -> None:
    """Refuse to take gradients while torch casts products to another precision.

    Raises:
        InvalidParameter: naming the owner.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise InvalidParameter(
            f"{owner}: autocast must be off: norms in low precision do not keep the bound max_grad_norm."
        )
