"""Losses of a batch of which each comes from its own example alone, whatever the user's loss does with a batch.

Where a model is a chain of layers that keep examples apart, the loss is the one piece of the user's code that sees them
side by side. One that mixes them (a mean taken off, weights that are normalised over the batch, a contrast of pairs)
would let a record reach the gradients of all others, each of which is clipped, but their sum no longer bounded by one
record's share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dpsgd.core.generators import set_apart
from dpsgd.core.reach import Reach
from dpsgd.losses import Loss, per_example

EXAMPLES = 3
WATCHED = 500
"""Objects that a loss reaches and that are looked at in every batch, at some .2 µs each."""
MANY = (61, 67, 71, 73, 79, 83, 89, 97)
"""Examples of a batch by one of whose sizes, all prime, none of an example's own dimensions can be divided."""
VALUES = frozenset(
    {"item", "tolist", "numpy", "equal", "allclose", "__array__", "__bool__", "__contains__", "__float__", "__index__"}
    | {"__int__"}
)
"""Functions of torch by which Python learns what a tensor holds."""


@dataclass(slots=True, kw_only=True, eq=False)
class Rowwise:
    """The user's loss of every example alone.

    At its first call an experiment on made-up numbers tells whether the loss keeps examples apart. If so it is given
    whole batches from then on; if not, or if it cannot run on them, `torch.func.vmap` shows it one example at a time,
    which takes longer and leaves it nothing to mix. Where something that it reaches is set otherwise later, another
    experiment tells.

    Guarantees: what is decided follows from the loss and from shapes, never from what records hold. A number that is
    made of a whole batch (the 64 largest losses' least, a count of positives, a mean) is found also where it changes
    none of the made-up losses. What remains is a loss that keeps the batch's dimension throughout and mixes examples
    in some batches, but not in those that are made up.

    >>> rowwise = Rowwise(loss=lambda outputs, targets: outputs[:, 0] - outputs.mean())
    >>> rowwise(torch.tensor([[1.0], [5.0]]), torch.zeros(2))
    tensor([0., 0.])
    """

    loss: Loss
    _apart: bool = False
    _reach: Reach | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of a batch, shape (n,)."""
        if self._reach is None or self._reach.altered() is not None:
            self._apart = keeps_apart(self.loss, outputs, targets)
            self._reach = Reach("loss", self.loss, most=WATCHED)
        if self._apart:
            return self.loss(outputs, targets)

        def loss_of_one(output: Tensor, target: Tensor) -> Tensor:
            return per_example(self.loss, output.unsqueeze(0), target.unsqueeze(0)).squeeze(0)

        losses: Tensor = vmap(loss_of_one, randomness="different")(outputs, targets)
        return losses


def keeps_apart(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether a loss gave every example of a made-up batch what it gives that example alone.

    Args:
        loss: in question.
        outputs: (n, …), of which nothing but shape, dtype and device is looked at.
        targets: (n, …), likewise: class numbers 0 and 1, or floats in (0, 1), are made up for them.

    >>> keeps_apart(lambda o, t: o[:, 0] / len(o), torch.zeros(1, 2), torch.zeros(1))
    False
    """
    rows, answers = made_up_batch(outputs, targets)
    try:
        with set_apart(outputs.device), torch.enable_grad():
            together = loss(rows, answers)
            alone = torch.cat([loss(rows[i : i + 1], answers[i : i + 1]) for i in range(EXAMPLES)])
            reached = [torch.autograd.grad(one, rows, retain_graph=True)[0] for one in together]
            gathers = _gathers(loss, outputs, targets)
    except Exception:  # it cannot run on what was made up, or on one example: then nothing is known of it
        return False
    others = [torch.cat([g[:i], g[i + 1 :]]) for i, g in enumerate(reached)]
    same: bool = together.shape == (EXAMPLES,) and torch.allclose(together, alone)
    return same and not any(g.any() for g in others) and not gathers


def _gathers(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether a loss makes something of a whole batch that has the batch's dimension no more."""
    sides = {*outputs.shape[1:], *targets.shape[1:]} - {0}
    size = next(size for size in MANY if all(side % size for side in sides))
    batch = made_up_batch(outputs, targets, size=size)
    watched = Gathering(batch, size=size)
    with watched:
        loss(*batch)
    return watched.found


class Gathering(TorchFunctionMode):
    """A context that notes whether something is made of a whole batch, of what torch's functions do on the way.

    Args:
        batch: tensors of the batch.
        size: of the batch, which divides none of their other dimensions: what is made of them has one that it divides,
            or is made of all examples, or of some that are chosen.

    >>> rows = torch.ones(61, 2)
    >>> with Gathering((rows,), size=61) as apart:
    ...     _ = rows.flatten() * 2.0
    >>> with Gathering((rows,), size=61) as gathered:
    ...     _ = rows / rows.sum(0)
    >>> apart.found, gathered.found
    (False, True)
    """

    def __init__(self, batch: Iterable[Tensor], *, size: int) -> None:
        super().__init__()
        self.found, self._size = False, size
        self._held = {id(tensor): tensor for tensor in batch}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if any(map(self._of_batch, tree_leaves((args, kwargs)))):
            made = [each for each in tree_leaves(given) if isinstance(each, Tensor)]
            self._held.update((id(tensor), tensor) for tensor in made)
            gathered = any(all(side % self._size or not side for side in tensor.shape) for tensor in made)
            self.found = self.found or gathered or getattr(func, "__name__", "") in VALUES
        return given

    def _of_batch(self, value: Any) -> bool:
        return isinstance(value, Tensor) and (id(value) in self._held or value.grad_fn is not None)


def made_up_batch(rows: Tensor, targets: Tensor, *, size: int = EXAMPLES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return normals (size, …) in the place of rows (n, …), and targets for them: 0, 1, or floats between.

    >>> made_up_batch(torch.zeros(1, 4), torch.zeros(1))[0].shape
    torch.Size([3, 4])
    """
    drawn: Any = {"generator": torch.Generator("cpu").manual_seed(seed), "device": "cpu"}
    normals = torch.randn(size, *rows.shape[1:], dtype=rows.dtype, **drawn).to(rows.device)
    shape = size, *targets.shape[1:]
    if targets.dtype.is_floating_point:
        return normals.requires_grad_(), torch.rand(shape, dtype=targets.dtype, **drawn).to(targets.device)
    most = min(2, rows.shape[1]) if rows.dim() > 1 else 2
    return normals.requires_grad_(), torch.randint(most, shape, **drawn).to(targets)
