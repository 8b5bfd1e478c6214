"""Losses of a batch of which each comes from its own example alone, whatever the user's loss does with a batch.

Where a model is a chain of layers that keep examples apart, the loss is the one piece of the user's code that sees them
side by side. One that mixes them (a mean taken off, weights that are normalised over the batch, a contrast of pairs)
would let a record reach the gradients of all others, each of which is clipped, but their sum no longer bounded by one
record's share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from dpsgd.losses import Loss, per_example

EXAMPLES = 3


@dataclass(slots=True, kw_only=True, eq=False)
class Rowwise:
    """The user's loss of every example alone.

    At its first call an experiment on made-up numbers tells whether the loss keeps examples apart. If so it is given
    whole batches from then on; if not, or if it cannot run on them, `torch.func.vmap` shows it one example at a time,
    which takes longer and leaves it nothing to mix.

    Guarantees: what is decided follows from the loss and from shapes, never from what records hold. An experiment is no
    proof: a loss that keeps the few made-up examples apart and mixes those of larger batches passes for one that does
    not mix.

    >>> rowwise = Rowwise(loss=lambda outputs, targets: outputs[:, 0] - outputs.mean())
    >>> rowwise(torch.tensor([[1.0], [5.0]]), torch.zeros(2))
    tensor([0., 0.])
    """

    loss: Loss
    _apart: bool | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of a batch, shape (n,)."""
        if self._apart is None:
            self._apart = keeps_apart(self.loss, outputs, targets)
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
        outputs: (n, …), of which nothing but shape and dtype is looked at.
        targets: (n, …), likewise: class numbers 0 and 1, or floats in (0, 1), are made up for them.

    >>> keeps_apart(lambda o, t: o[:, 0] / len(o), torch.zeros(1, 2), torch.zeros(1))
    False
    """
    rows, answers = _made_up(outputs, targets)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            together = loss(rows, answers)
            alone = torch.cat([loss(rows[i : i + 1], answers[i : i + 1]) for i in range(EXAMPLES)])
            reached = [torch.autograd.grad(one, rows, retain_graph=True)[0] for one in together]
    except Exception:  # it cannot run on what was made up, or on one example: then nothing is known of it
        return False
    others = [g[torch.arange(EXAMPLES) != i] for i, g in enumerate(reached)]
    return together.shape == (EXAMPLES,) and torch.allclose(together, alone) and not any(g.any() for g in others)


def _made_up(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(EXAMPLES, *outputs.shape[1:], generator=generator, dtype=outputs.dtype)
    shape = EXAMPLES, *targets.shape[1:]
    if targets.dtype.is_floating_point:
        return rows.requires_grad_(), torch.rand(shape, generator=generator, dtype=targets.dtype)
    most = min(2, outputs.shape[1]) if outputs.dim() > 1 else 2
    return rows.requires_grad_(), torch.randint(most, shape, generator=generator).to(targets.dtype)
