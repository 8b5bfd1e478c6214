"""Code of the user's beside the model, the making of copies and the loss: digits it computes in, and what it keeps.

What a model computes in bfloat16 or float16 is looked for in `dpsgd.core.probing`, which says why.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dpsgd.core.arithmetic import whole_floats
from dpsgd.core.chains import has_digits
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.conduct import Conduct
from dpsgd.core.generators import begin, set_apart
from dpsgd.core.reach import Reach
from dpsgd.datasets import Dataset
from dpsgd.gradients import GradientSum, gradient_sum_by
from dpsgd.losses import Loss
from mechanisms import InvalidParameter

WHOLE = (
    "What an example adds may depend on its batch in such digits. Cast what is public beforehand, or let every record "
    "run alone: largest_physical_batch=1 (of copies their number), or noise=RoundedGaussian()."
)

STATELESS = (
    "One of them keeps something from one call to the next, such as a running mean, which would carry one record to "
    "another's gradient; or draws numbers other than torch's. Make it a function of its arguments and the weights."
)
KEEPS = (
    "What one record leaves behind would reach the next one's gradient, and how many there are has no noise. Make it a "
    "function of its arguments, without a generator of its own; what is to be watched is in the releases that "
    "callbacks are shown."
)
UNCLIPPED = 2.0**60
KEPT = 2.0**-16
"""Share of a gradient up to which it may seem to change: rounding."""


class FewDigits(TorchFunctionMode):
    """A context that looks for the first result of fewer digits than float32 has, of torch's functions on the way.

    >>> with FewDigits() as watched:
    ...     _ = torch.ones(2).bfloat16().float()
    >>> watched.kind
    torch.bfloat16
    """

    kind: torch.dtype | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        kind = given.dtype if isinstance(given, Tensor) else torch.float32
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else kind
        if self.kind is None and not has_digits(kind):
            self.kind = kind
        return given


def seen_by_model(dataset: Dataset, conduct: Conduct, *, alone: bool) -> Tensor:
    """Return features (n, …) like those that the model is given, of which shape and dtype alone mean something.

    Raises:
        InvalidParameter: if copies cannot be made, or in few digits where units do not run alone.
    """
    if conduct.augmentation is None:
        return dataset.features
    with FewDigits() as watched:
        copy = conduct.augmentation.check(dataset.features)
    if not alone and watched.kind is not None:
        raise InvalidParameter(f"Augmentation: make must compute in float32 or float64, got {watched.kind}.\n{WHOLE}")
    return copy


def check_loss(model: nn.Module, loss: Loss, like: Tensor, targets: Tensor, *, alone: bool) -> None:
    """Refuse a loss that computes in few digits, or keeps something; one that cannot run at all says so in the run.

    A running mean, say, that loss or model keep outside of buffers would carry what one record holds to the gradients
    of the next. The same made-up record is summed twice, with another one between. Nothing that is reached from the
    loss may change after the first, which may leave constants behind; and the gradients must be the same. What C code
    keeps, and uses only after more calls than these or by values that are not made up here, is not seen.

    Args:
        model: is run.
        loss: in question.
        like: features that it is given, (n, …), of which shape and dtype alone are looked at.
        targets: (n, …), likewise.
        alone: whether every unit is to run alone, with a loss of any digits.

    Raises:
        InvalidParameter: if it does.
    """
    watched = FewDigits()

    def seen(outputs: Tensor, answers: Tensor) -> Tensor:
        with watched:
            return loss(outputs, answers)

    clip = FlatClipper(max_grad_norm=UNCLIPPED)
    clipped_sum = gradient_sum_by(clip, model, example_dimensions=like.dim() - 1, loss=seen, formed=alone)
    with set_apart(like.device), whole_floats(like.device):
        first = _sum_of(clipped_sum, like, targets, 0)
        reach = Reach("loss", loss, values=True)
        _, again = (_sum_of(clipped_sum, like, targets, number) for number in (1, 0))
        kept = reach.altered()
    if kept is not None:
        raise InvalidParameter(f"train: loss must keep nothing from one call to the next, but {kept} changed.\n{KEEPS}")
    if first is not None and (again is None or (again - first).norm() > KEPT * first.norm()):
        raise InvalidParameter(f"train: loss and model must give a record the same gradient each time.\n{STATELESS}")
    if not alone and watched.kind is not None:
        raise InvalidParameter(f"train: loss must compute in float32 or float64, got {watched.kind}.\n{WHOLE}")


def _sum_of(clipped_sum: GradientSum, like: Tensor, targets: Tensor, number: int) -> Tensor | None:
    """Return the gradient of a made-up record of that number, 0 or 1, None if there is none."""
    begin(like.device, 0)
    with contextlib.suppress(Exception):  # the run says what is wrong
        return clipped_sum(made_up(like, number), made_up(targets, number))
    return None


def made_up(like: Tensor, number: int) -> Tensor:
    """Return a row (1, …) of whole numbers that are `number`, or of normals.

    >>> made_up(torch.zeros(3, 2, dtype=torch.int64), 1)
    tensor([[1, 1]])
    """
    if not like.dtype.is_floating_point:
        return like.new_full((1, *like.shape[1:]), number)
    generator = torch.Generator("cpu").manual_seed(number)
    return torch.randn(1, *like.shape[1:], generator=generator, device="cpu").to(like)
