"""Clipped sums of units of several rows, by every way, against one backward pass a unit."""

import pytest
import torch
from torch import nn

from dpsgd import gradient_sum
from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.layers import contributions
from dpsgd.core.parameters import trainable
from dpsgd.core.recorded import Recorded
from dpsgd.core.units import PLACES, contributions_of_units
from dpsgd.core.vectorised import Vectorised
from dpsgd.core.workspace import Workspace

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


class Scaled(nn.Module):
    """Runs code of its own between layers, so that it is no chain."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, rows):
        return self.last(2 * torch.tanh(self.first(rows)))


class Tied(Scaled):
    """Uses a layer twice, which book-keeping leaves to vmap."""

    def forward(self, rows):
        return self.last(torch.tanh(self.first(rows)) + torch.tanh(self.first(-rows)))


class Recurring(nn.Module):
    """Has a layer that no vmap within another can run."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.last = kind(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, rows):
        return self.last(self.first(rows)[0][:, -1])


IMAGES, ROWS, WORDS = (6, 1, 6, 6), (6, 5), (6, 4)
MODELS = {
    "linear, products": (lambda: nn.Linear(40, 30), (6, 40), BookKeeping),
    "linear, formed": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), ROWS, BookKeeping),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)), ROWS, BookKeeping),
    "sequences": (lambda: nn.Sequential(nn.Linear(6, 2), nn.Flatten(), nn.Linear(12, 3)), (6, 6, 6), BookKeeping),
    "embedding": (lambda: nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(20, 3)), WORDS, BookKeeping),
    "columns": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)),
        IMAGES,
        BookKeeping,
    ),
    "grouped convolution": (
        lambda: nn.Sequential(nn.Conv2d(8, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(288, 3)),
        (6, 8, 12, 12),
        BookKeeping,
    ),
    "own code": (Scaled, ROWS, Recorded),
    "used twice": (Tied, ROWS, Recorded),
    "vmap": (lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)), ROWS, Vectorised),
    "LSTM": (lambda: Recurring(nn.LSTM), (6, 4, 5), Vectorised),
    "GRU": (lambda: Recurring(nn.GRU), (6, 4, 5), Vectorised),
}


def _batch(shape, rows=3):
    """Six units of `rows` rows with shares that differ, some of them 0."""
    torch.manual_seed(1)
    full = (shape[0], rows, *shape[1:])
    features = torch.randint(7, full) if shape == WORDS else 2 * torch.randn(full)
    shares = torch.rand(6, rows)
    shares[::2, -1] = 0.0
    return features, torch.randint(3, full[:2]), shares


def _one_by_one(model, features, targets, shares, max_grad_norm):
    parameters = list(trainable(model).values())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters)).double()
    for unit, wanted, share in zip(features, targets, shares, strict=True):
        value = (CROSS_ENTROPY(model(unit), wanted) * share).sum()
        gradient = torch.cat([piece.flatten() for piece in torch.autograd.grad(value, parameters)]).double()
        total += gradient * min(1.0, max_grad_norm / float(gradient.norm()))
    return total


def _sum_of(model, features, max_grad_norm):
    return gradient_sum(model, example_dimensions=features.dim() - 2, loss=CROSS_ENTROPY, max_grad_norm=max_grad_norm)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_grad_norm", [0.3, 1e6])
def test_a_unit_is_clipped_as_one(name, max_grad_norm):
    torch.manual_seed(0)
    make, shape, way = MODELS[name]
    model, batch = make(), _batch(shape)
    clipped_sum = _sum_of(model, batch[0], max_grad_norm)
    assert type(clipped_sum) is way
    expected = _one_by_one(model, *batch, max_grad_norm)
    assert (clipped_sum(*batch).double() - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", MODELS)
def test_units_of_one_whole_row_are_examples(name):
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model = make()
    features, targets, _ = _batch(shape, rows=1)
    clipped_sum = _sum_of(model, features, 0.3)
    plain = clipped_sum(features[:, 0], targets[:, 0])
    torch.testing.assert_close(clipped_sum(features, targets, torch.ones(6, 1)), plain)


@pytest.mark.parametrize("name", MODELS)
def test_no_units_give_zeros(name):
    make, shape, _ = MODELS[name]
    model, (features, targets, shares) = make(), _batch(shape)
    nothing = _sum_of(model, features, 0.3)(features[:0], targets[:0], shares[:0])
    assert nothing.shape == (sum(parameter.numel() for parameter in trainable(model).values()),)
    assert not nothing.any()


@pytest.mark.parametrize("name", ["linear, products", "columns", "own code", "used twice", "vmap"])
def test_units_taken_a_few_at_a_time_give_the_same_sum(name, monkeypatch):
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model, batch = make(), _batch(shape)
    clipped_sum = _sum_of(model, batch[0], 0.3)
    whole = clipped_sum(*batch)
    monkeypatch.setattr("dpsgd.core.bookkeeping.FORMED_ENTRIES", 1)
    monkeypatch.setattr("dpsgd.core.vectorised.CHUNK_ENTRIES", 1)
    torch.testing.assert_close(clipped_sum(*batch), whole)


@pytest.mark.parametrize("name", ["linear, formed", "columns", "grouped convolution", "own code"])
def test_no_more_gradients_are_formed_at_once_than_allowed(name, monkeypatch):
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model, batch = make(), _batch(shape)
    dimension = sum(parameter.numel() for parameter in model.parameters())
    formed = []

    def counted(layer, inputs, gradients, space, *, rows, plan):
        held = contributions_of_units(layer, inputs, gradients, Workspace(), rows=rows)
        each = contributions(layer, inputs, gradients, Workspace())
        formed.append(held.entries() + (each.entries() if type(layer) not in PLACES else 0))
        return held

    monkeypatch.setattr("dpsgd.core.bookkeeping.contributions_of_units", counted)
    monkeypatch.setattr("dpsgd.core.bookkeeping.FORMED_ENTRIES", 4 * dimension)
    _sum_of(model, batch[0], 0.3)(*batch)
    layers = len([layer for layer in model.modules() if list(layer.parameters(recurse=False))])
    parts = [sum(formed[start : start + layers]) for start in range(0, len(formed), layers)]
    assert len(parts) > 1
    assert max(parts) <= 4 * dimension


@pytest.mark.parametrize("name", ["linear, products", "linear, formed", "columns", "own code", "used twice", "vmap"])
def test_a_unit_with_a_row_that_is_not_finite_counts_as_zero(name):
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model, (features, targets, shares) = make(), _batch(shape)
    clipped_sum, others = _sum_of(model, features, 0.3), torch.arange(6) != 2
    features[2, 1] = float("nan")
    torch.testing.assert_close(
        clipped_sum(features, targets, shares), clipped_sum(features[others], targets[others], shares[others])
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows", [2, 9])
def test_what_one_unit_adds_never_exceeds_the_bound(name, rows):
    torch.manual_seed(0)
    make, shape, _ = MODELS[name]
    model, batch = make(), _batch(shape, rows)
    clipped_sum = _sum_of(model, batch[0], 0.01)
    for unit in range(6):
        one = clipped_sum(*(part[unit : unit + 1] for part in batch))
        assert 0.0099 < one.double().norm() <= 0.01


def test_rows_that_cancel_do_not_lift_a_unit_above_the_bound():
    torch.manual_seed(0)
    model = nn.Linear(40, 30, bias=False)
    features = 1e4 * torch.randn(1, 1, 40).expand(1, 4, 40)
    signs = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    features = features + 1e-3 * torch.randn(1, 4, 40)
    clipped_sum = gradient_sum(model, example_dimensions=1, loss=lambda o, t: o.sum(1) * t, max_grad_norm=0.1)
    assert clipped_sum(features, signs, torch.full((1, 4), 0.25)).double().norm() <= 0.1
