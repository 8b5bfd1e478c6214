"""What the user brings as a loss: one value for each example, so that gradients can be told apart."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.modules import loss as torchs

from dpsgd.core.hooks import hooks_of
from mechanisms import InvalidParameter

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, …), targets (n, …)) -> losses (n,), each example's from its own output and target alone."""


def per_example(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the losses of a batch, shape (n,).

    Raises:
        InvalidParameter: if the loss returns any other shape, such as one mean over the batch.

    >>> import torch
    >>> per_example(torch.nn.CrossEntropyLoss(reduction="none"), torch.zeros(2, 4), torch.tensor([0, 3])).shape
    torch.Size([2])
    """
    losses = loss(outputs, targets)
    if isinstance(losses, Tensor) and losses.shape == outputs.shape[:1]:
        return losses
    given = type(losses).__name__  # and no sizes: that of the batch may be private
    if isinstance(losses, Tensor):
        given = "another length" if losses.dim() == 1 else f"{losses.dim()} dimensions"
    raise InvalidParameter(
        f"train: loss must return one value per example, shape (n,), got {given}.\n"
        'Losses of torch average over the batch unless told otherwise: CrossEntropyLoss(reduction="none"); '
        'where an example has several outputs: lambda o, t: mse_loss(o, t, reduction="none").mean(1).'
    )


def of_torch(loss: Loss) -> bool:
    """Return whether a loss is a module of torch as torch made it.

    >>> import torch
    >>> of_torch(torch.nn.CrossEntropyLoss(reduction="none")), of_torch(lambda o, t: o[:, 0])
    (True, False)
    """
    if not isinstance(loss, torchs._Loss) or type(loss).__module__ != torchs.__name__:
        return False
    return not hooks_of(loss) and "forward" not in vars(loss)
