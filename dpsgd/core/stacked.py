"""Many chains of one architecture, their weights the rows of one matrix: outputs and gradient sums of all at once.

With M models and B rows each, inputs a (M, B, k) and output gradients b (M, B, j) of a linear layer give all models'
weighted sums Σ_i c_i b_i ⊗ a_i = (c b)ᵀ a by one batched product, and ‖b_i ⊗ a_i‖² = ‖b_i‖² ‖a_i‖² as in
`dpsgd.core.contributions`. Losses of all models are summed for one backward pass: none depends on another model's
weights. Models that have drawn fewer rows than the most are given a row of zeros in their place. No loss is taken of it
and no gradient comes from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dpsgd.core.batches import Rows
from dpsgd.core.chains import ELEMENTWISE, Chain, rowwise_chain
from dpsgd.core.clip import silence, weigh
from dpsgd.core.clippers import Clipper
from dpsgd.core.norms import squared_norms
from dpsgd.datasets import Dataset
from dpsgd.losses import Loss, per_example
from mechanisms import InvalidParameter


def stackable_chain(model: nn.Module) -> Chain:
    """Return the modules of a model whose copies can be run together, one after the other.

    Raises:
        InvalidParameter: if it is no chain of trainable `nn.Linear` and functions of single numbers without randomness.

    >>> stackable_chain(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))
    (Linear(in_features=3, out_features=2, bias=True), Tanh())
    """
    chain = rowwise_chain(model, example_dimensions=1)
    kinds = {type(module) for module in model.modules()} - {nn.Sequential}
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    strange = sorted(kind.__name__ for kind in kinds - (ELEMENTWISE - {nn.Dropout}) - {nn.Linear})
    if chain is None or nn.Linear not in kinds or strange or frozen:
        found = ", ".join(strange + frozen) or type(model).__name__
        raise InvalidParameter(
            "train_together: model must be an nn.Sequential of nn.Linear layers, all trained, none used twice, and "
            f"activations such as nn.Tanh, got {found}.\nTrain other models one by one: train(...)."
        )
    return chain


def inputs_of(chain: Chain) -> int:
    """Return the number of features that the chain takes."""
    return next(module.in_features for module in chain if isinstance(module, nn.Linear))


def entries_for_row(chain: Chain) -> int:
    """Return how many numbers a row of one model is on its way through the chain.

    >>> entries_for_row((nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    8
    """
    entries = width = inputs_of(chain)
    for module in chain:
        width = module.out_features if isinstance(module, nn.Linear) else width
        entries += width
    return entries


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batches:
    """What models have drawn in a step, all with as many rows as the one with the most.

    Args:
        features: (models, rows, k), zeros in places that are left over; gradient sums may write over them.
        squares: their ‖·‖², (models, rows) in float64.
        targets: (taken, …) of the places that are not left over.
        taken: their numbers in models · rows, increasing; None for all.
    """

    features: Tensor
    squares: Tensor
    targets: Tensor
    taken: Tensor | None


class Records:
    """A dataset that models draw from, with a row of zeros behind it."""

    def __init__(self, dataset: Dataset) -> None:
        features, self._count = dataset.features.detach(), len(dataset)
        self._features = torch.cat([features, features.new_zeros(1, features.shape[1])])
        self._squares = squared_norms(self._features)
        self._targets = dataset.targets

    def drawn(self, rows: Sequence[Rows]) -> Batches:
        """Return the batches of models from the rows of the dataset that each has drawn, in any number each."""
        width = max(map(len, rows))
        table = np.full((len(rows), width), self._count)
        for line, own in zip(table, rows, strict=True):
            line[: len(own)] = own
        flat = table.reshape(-1)
        taken = np.flatnonzero(flat < self._count)
        places, device = torch.from_numpy(flat).to(self._features.device), self._targets.device
        return Batches(
            features=self._features.index_select(0, places).view(*table.shape, self._features.shape[1]),
            squares=self._squares.index_select(0, places).view(table.shape),
            targets=self._targets.index_select(0, torch.from_numpy(flat[taken]).to(device)),
            taken=None if len(taken) == len(flat) else torch.from_numpy(taken).to(places.device),
        )

    def zeros(self, models: int) -> Batches:
        """Return batches of one record of zeros for each model, of the shapes and types of the dataset alone."""
        features = self._features.new_zeros(models, 1, self._features.shape[1])
        return Batches(
            features=features,
            squares=self._squares.new_zeros(models, 1),
            targets=self._targets.new_zeros(models, *self._targets.shape[1:]),
            taken=None,
        )


def stacked_outputs(chain: Chain, weights: Tensor, features: Tensor) -> Tensor:
    """Return the outputs (models, rows, …) of chains with `weights` (models, d) on features (models, rows, k).

    >>> line = nn.Sequential(nn.Linear(1, 1))
    >>> stacked_outputs(tuple(line), torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.ones(2, 1, 1)).flatten()
    tensor([3., 3.])
    """
    rows, place = features, 0
    for module in chain:
        if isinstance(module, nn.Linear):
            rows, place = _affine(module, weights, place, rows)
        else:
            rows = module(rows)
    return rows


@torch.enable_grad()
def gradient_sums(chain: Chain, weights: Tensor, batches: Batches, *, loss: Loss, clip: Clipper | None) -> Tensor:
    """Return the gradient sums (models, d) of all models, each over its own batch.

        Σ_i c_i g_i,    g_i = ∇_w loss(model(x_i), y_i),    c_i from `clip`, 1 without it

    Args:
        chain: the architecture, of `stackable_chain`.
        weights: (models, d), each in the order of the chain's parameters.
        batches: what each model has drawn.
        loss: one loss for each example.
        clip: gives the factors.
    """
    total, rows, place = torch.zeros_like(weights), batches.features, 0
    if not len(batches.targets):
        return total
    tape: list[tuple[nn.Linear, Tensor, Tensor]] = []
    for module in chain:
        if isinstance(module, nn.Linear):
            before = rows.detach()
            rows, place = _affine(module, weights, place, rows)
            tape.append((module, before, rows if rows.requires_grad else rows.requires_grad_()))
        else:
            rows = module(rows)
    outputs = rows.flatten(end_dim=1)
    losses = per_example(loss, outputs if batches.taken is None else outputs[batches.taken], batches.targets)
    after = [outputs for _, _, outputs in tape]
    gradients = torch.autograd.grad([losses], after, [torch.ones_like(losses)], materialize_grads=True)
    with torch.no_grad():
        layers, inputs = [layer for layer, _, _ in tape], [before for _, before, _ in tape]
        weighted: Sequence[Tensor] = gradients
        if clip is not None:
            known = batches.squares if isinstance(chain[0], nn.Linear) else None
            weighted = _clipped(layers, inputs, gradients, clip, known)
        _write_sums(layers, inputs, weighted, total)
    return total


def _affine(layer: nn.Linear, weights: Tensor, place: int, rows: Tensor) -> tuple[Tensor, int]:
    """Return all models' outputs of a layer whose parameters begin at `place`, and where the next layer's do."""
    end = place + layer.weight.numel()
    weight = weights[:, place:end].view(-1, *layer.weight.shape)
    if layer.bias is None:
        return torch.bmm(rows, weight.mT), end
    bias = weights[:, end : end + layer.out_features].unsqueeze(1)
    return torch.baddbmm(bias, rows, weight.mT), end + layer.out_features


def _clipped(
    layers: Sequence[nn.Linear],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    clip: Clipper,
    known: Tensor | None,
) -> list[Tensor]:
    """Return output gradients times the clipping factors, and silence the inputs of examples that count as zero.

    Args:
        layers: in their order.
        inputs: of every layer, (models, rows, k); they are written over.
        gradients: by every layer's outputs, (models, rows, j).
        clip: gives the factors.
        known: ‖·‖² of the first layer's inputs, if that is known.
    """
    squares = []
    for number, (layer, a, b) in enumerate(zip(layers, inputs, gradients, strict=True)):
        of_inputs = known if number == 0 and known is not None else _squares(a)
        squares.append((_squares(b) * (of_inputs + float(layer.bias is not None))).flatten())
    flat = [b.flatten(end_dim=1) for b in gradients]
    factors = clip.factors(squares, layers=layers, multiplied=flat)
    for a, factor in zip(inputs, factors, strict=True):
        silence(a.view(-1, a.shape[-1]), factor)
    return [weigh(b, factor).view_as(own) for b, factor, own in zip(flat, factors, gradients, strict=True)]


def _squares(rows: Tensor) -> Tensor:
    """Return Σ of squares over the last dimension, rounded up, in float64."""
    return squared_norms(rows.flatten(end_dim=1)).view(rows.shape[:-1])


def _write_sums(
    layers: Sequence[nn.Linear], inputs: Sequence[Tensor], gradients: Sequence[Tensor], total: Tensor
) -> None:
    """Write Σ_i b_i ⊗ a_i, and Σ_i b_i for a bias, of every layer into its place in `total` (models, d)."""
    place = 0
    for layer, a, b in zip(layers, inputs, gradients, strict=True):
        end = place + layer.weight.numel()
        total[:, place:end] = torch.bmm(b.mT, a).flatten(start_dim=1)
        place = end
        if layer.bias is not None:
            place += layer.out_features
            total[:, end:place] = b.sum(1)
