"""Gradients of single records at given weights, clipped: what a white-box attack compares noisy sums with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.canaries import InputCanaries
from dpsgd import Dataset
from dpsgd.core.clip import clip_factors, weigh
from dpsgd.core.parameters import trainable
from dpsgd.losses import Loss, per_example

ENTRIES = 2**24  # numbers of the gradients held at once: 64 MiB of float32


def records_of(canaries: InputCanaries, known: Dataset | None) -> Dataset:
    """Return canaries as the trainer takes them: of the type that the known records have, where these are told."""
    features, targets = torch.tensor(canaries.features), torch.tensor(canaries.targets)
    if known is not None:
        features, targets = features.to(known.features), targets.to(known.targets)
    return Dataset(features=features, targets=targets)


@dataclass(frozen=True, slots=True, eq=False)
class ExampleGradients:
    """Clipped gradients of m records as a function of the flat weights, a few records at a time.

    Args:
        rows: flat weights (d,) -> pieces (…, d) of the matrix of gradients, in the records' order.
    """

    rows: Callable[[Tensor], Iterator[Tensor]]

    @classmethod
    def of(cls, model: nn.Module, records: Dataset, *, loss: Loss, max_grad_norm: float) -> ExampleGradients:
        """Return the function w -> ḡ_i(w) = g_i min(1, C / ‖g_i‖),  g_i = ∇_w loss(model(x_i), y_i).

        What is not finite, or past the range of floats, counts as zero, as it does to the trainer.

        Args:
            model: one whose layers keep examples apart; its trainable weights are left alone and do not matter.
            records: m of them.
            loss: one value for each example.
            max_grad_norm: C > 0.
        """
        like = next(iter(trainable(model).values()))
        each, size = per_example_gradients(model, loss)
        at_once = max(1, ENTRIES // size)

        def rows(weights: Tensor) -> Iterator[Tensor]:
            weights = weights.to(like)
            for start in range(0, len(records), at_once):
                part = slice(start, start + at_once)
                features = records.features[part]
                features = features.to(like) if features.is_floating_point() else features.to(like.device)
                gradients = each(weights, features, records.targets[part].to(like.device))
                norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
                yield weigh(gradients, clip_factors(norms, max_grad_norm=max_grad_norm, dtype=gradients.dtype))

        return cls(rows)

    def products(self, weights: Tensor, vector: Tensor) -> Tensor:
        """Return ⟨ḡ_i(weights), vector⟩ of every record, float64 (m,)."""
        found = [gradients @ vector.to(gradients) for gradients in self.rows(weights)]
        return torch.cat(found).to("cpu", torch.float64)

    def fits(self, weights: Tensor, vector: Tensor) -> Tensor:
        """Return ⟨ḡ_i(weights), vector⟩ − ‖ḡ_i(weights)‖²/2 of every record, float64 (m,)."""
        found = [rows @ vector.to(rows) - rows.square().sum(1) / 2 for rows in self.rows(weights)]
        return torch.cat(found).to("cpu", torch.float64)

    def total(self, weights: Tensor) -> Tensor:
        """Return Σ ḡ_i(weights), (d,)."""
        return torch.stack([gradients.sum(0) for gradients in self.rows(weights)]).sum(0)

    def matrix(self, weights: Tensor) -> Tensor:
        """Return all of them, (m, d)."""
        return torch.cat([gradients for gradients in self.rows(weights)])


def per_example_gradients(model: nn.Module, loss: Loss) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], int]:
    """Return the function of flat weights, features and targets that gives every example's gradient, (n, d); and d.

    Args:
        model: one whose layers keep examples apart; its trainable weights are left alone and do not matter.
        loss: one value for each example.
    """
    parameters = trainable(model)
    names, shapes = list(parameters), [parameter.shape for parameter in parameters.values()]
    sizes = [shape.numel() for shape in shapes]

    def loss_of(weights: Tensor, features: Tensor, target: Tensor) -> Tensor:
        pieces = zip(names, torch.split(weights, sizes), shapes, strict=True)
        own = {name: piece.view(shape) for name, piece, shape in pieces}
        outputs = torch.func.functional_call(model, own, (features.unsqueeze(0),))
        return per_example(loss, outputs, target.unsqueeze(0))[0]

    return torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0)), sum(sizes)
