"""Models that compute in bfloat16 or float16 between float32 weights: where they are taken, and what they then add."""

import dataclasses
import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import vmap

from dpsgd import Augmentation, Dataset, Flat, Normalised, PerLayer, RoundedGaussian, gradient_sum, steps, train
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
WIDTH, CLASSES, RECORDS = 12, 3, 5
QUIET = config_of(Poisson(probability=1.0), noise_multiplier=0.0, max_grad_norm=0.7, learning_rate=1e-30, steps=1)
EXACT = dataclasses.replace(QUIET, noise=RoundedGaussian())
ALONE = {"one at a time": (QUIET, {"largest_physical_batch": 1}), "exact noise": (EXACT, {})}


class Frozen(nn.Module):
    """A backbone of frozen bfloat16 weights below a float32 head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, 8)).bfloat16().requires_grad_(False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, rows):
        return self.head(self.body(rows.bfloat16()).float())


class Autocast(nn.Module):
    """Trained float32 layers whose products are made in bfloat16."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, CLASSES)

    def forward(self, rows):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.second(torch.tanh(self.first(rows))).float()


class Adapted(nn.Module):
    """Low-rank float32 adapters within a frozen float16 layer."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(WIDTH, 8).half().requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, 8, bias=False)
        self.last = nn.Linear(8, CLASSES).half().requires_grad_(False)

    def forward(self, rows):
        halves = rows.half()
        return self.last(torch.relu(self.base(halves) + self.up(self.down(rows)).half())).float()


MODELS = [Frozen, Autocast, Adapted]


def _model(make):
    torch.manual_seed(0)
    return make()


def _data(scale=3.0):
    generator = torch.Generator().manual_seed(0)
    features = scale * torch.randn(RECORDS, WIDTH, generator=generator)
    return Dataset(features=features, targets=torch.arange(RECORDS) % CLASSES)


def _without(data, record):
    others = torch.arange(len(data)) != record
    return Dataset(features=data.features[others], targets=data.targets[others])


def _sum(make, data, config, **options):
    run = steps(_model(make), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(0), **options)
    return next(iter(run)).noisy_sum.double()


@pytest.mark.parametrize("options", [{}, {"largest_physical_batch": 2}])
@pytest.mark.parametrize("make", MODELS)
def test_together_with_others_no_record_may_have_few_digits(make, options):
    with pytest.raises(
        InvalidParameter, match=r"computes in torch\.b?float16(.|\n)*largest_physical_batch=1, or noise=R"
    ):
        _sum(make, _data(), QUIET, **options)


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("make", MODELS)
def test_alone_one_record_moves_the_sum_by_the_bound_at_most(make, name):
    (config, options), data = ALONE[name], _data()
    whole = _sum(make, data, config, **options)
    moves = torch.stack([whole - _sum(make, _without(data, record), config, **options) for record in range(RECORDS)])
    assert moves.norm(dim=1).max() <= 0.7 * (1 + 1e-6) and moves.norm(dim=1).min() > 0.3
    torch.testing.assert_close(moves.sum(0), whole, rtol=0, atol=1e-5)  # nobody moves others


def test_chains_of_torchs_layers_are_refused_for_few_digits_too():
    """By book-keeping from bfloat16 one record moved such a sum by 1.04 of the bound."""
    data = Dataset(
        features=torch.randint(9, (40, 5), generator=torch.Generator().manual_seed(0)), targets=torch.zeros(40)
    )
    given = {"loss": lambda outputs, _: (outputs.float().flatten(1) ** 3).sum(1), "randomness": KeyedSource(0)}
    words = nn.Sequential(nn.Embedding(9, 8).bfloat16().requires_grad_(False), nn.LayerNorm(8))
    floats = Dataset(
        features=torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).bfloat16(), targets=data.targets
    )
    for model, some in ((words, data), (nn.LayerNorm(8), floats)):
        with pytest.raises(InvalidParameter, match=r"computes in torch\.bfloat16"):
            steps(model, some, QUIET, **given)

        def total(kept, model=model):
            return next(iter(steps(model, kept, QUIET, largest_physical_batch=1, **given))).noisy_sum.double()

        moves = [(total(some) - total(_without(some, one))).norm() for one in range(0, 40, 8)]
        assert min(moves) > 0.6 and max(moves) <= 0.7 * (1 + 1e-5)


@pytest.mark.parametrize("clipping", [Flat(), PerLayer(), Normalised()])
def test_every_clipping_holds_gradients_of_few_digits(clipping):
    data, config = _data(), dataclasses.replace(QUIET, clipping=clipping)
    whole = _sum(Autocast, data, config, largest_physical_batch=1)
    moves = [whole - _sum(Autocast, _without(data, one), config, largest_physical_batch=1) for one in range(RECORDS)]
    assert max(float(move.norm()) for move in moves) <= 0.7 * (1 + 1e-6)


def test_a_frozen_backbone_of_few_digits_gives_its_head_what_it_gives_beforehand():
    """Second route: features of each record alone, then the head as a model of its own."""
    model, data = _model(Frozen), _data()
    with torch.no_grad():
        body = vmap(lambda row: model.body(row[None])[0])  # which rounds sums and biases as a run does
        features = torch.cat([body(row[None].bfloat16()).float() for row in data.features])
    head = dataclasses.replace(QUIET, learning_rate=0.5, steps=4)
    given = {"loss": CROSS_ENTROPY, "randomness": KeyedSource(0), "largest_physical_batch": 1}
    whole = train(model, data, head, **given).model
    alone = train(model.head, Dataset(features=features, targets=data.targets), head, **given).model
    torch.testing.assert_close(whole.head.weight, alone.weight, rtol=1e-5, atol=1e-6)
    assert all(map(torch.equal, whole.body.parameters(), model.body.parameters()))
    assert not torch.equal(whole.head.weight, model.head.weight)


def test_what_few_digits_make_infinite_counts_as_zero():
    data = _data()
    data.features[2] = 1e6  # beyond float16
    poisoned, without = (_sum(Adapted, some, QUIET, largest_physical_batch=1) for some in (data, _without(data, 2)))
    assert torch.equal(poisoned, without) and without.norm() > 0


def test_copies_run_alone_with_their_record_and_users_never_do_without_exact_noise():
    copies = Augmentation(make=lambda x, u: x * (1 + u[0]), copies=3, draws=1)
    for options in ({"largest_physical_batch": 3}, {"largest_physical_batch": 5}):
        assert _sum(Autocast, _data(), QUIET, augmentation=copies, **options).norm() > 0
    with pytest.raises(InvalidParameter, match="computes in"):
        _sum(Autocast, _data(), QUIET, augmentation=copies, largest_physical_batch=6)
    users = dataclasses.replace(_data(), owners=torch.arange(RECORDS) // 2)
    of_users = dataclasses.replace(QUIET, unit="user", examples_per_user=2)
    with pytest.raises(InvalidParameter, match="computes in"):
        _sum(Autocast, users, of_users, largest_physical_batch=2)
    assert _sum(Autocast, users, dataclasses.replace(of_users, noise=RoundedGaussian())).norm() > 0


@pytest.mark.parametrize("largest", ["1", 0, 1.5])
def test_a_largest_batch_that_is_none_is_refused_before_the_model_is_looked_at(largest):
    with pytest.raises(InvalidParameter, match="largest_physical_batch must be"):
        _sum(Autocast, _data(), QUIET, largest_physical_batch=largest)


@pytest.mark.parametrize("model", [nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(1, 5)])
def test_copies_of_few_digits_are_as_records_of_few_digits(model):
    """By book-keeping one record whose copy was bfloat16 moved the sum of a LayerNorm by 1.027 of the bound."""
    generator = torch.Generator().manual_seed(0)
    data = Dataset(features=torch.randn(40, 5, 8, generator=generator), targets=torch.zeros(40))
    copies = Augmentation(make=lambda row, _: row.bfloat16(), copies=1, draws=0)
    given = {"loss": lambda outputs, _: (outputs.float().flatten(1) ** 3).sum(1), "randomness": KeyedSource(0)}
    with pytest.raises(InvalidParameter, match=r"^Augmentation: make must compute in float32 or float64, got torch.bf"):
        steps(model, data, QUIET, augmentation=copies, **given)

    def total(kept):
        run = steps(model, kept, QUIET, augmentation=copies, largest_physical_batch=1, **given)
        return next(iter(run)).noisy_sum.double()

    moves = [(total(data) - total(_without(data, one))).norm() for one in range(0, 40, 8)]
    assert max(moves) <= 0.7 * (1 + 1e-5)


class Cast(nn.Module):
    """A LayerNorm that its model's own code gives bfloat16."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, rows):
        return self.norm(rows.bfloat16())


def test_of_few_digits_in_a_models_own_code_no_gradient_exceeds_the_bound_either():
    """By book-keeping one had 1.0043 of it."""
    rows = torch.randn(100, 5, 8, generator=torch.Generator().manual_seed(0))
    clipped = gradient_sum(
        Cast(), example_dimensions=2, loss=lambda o, _: (o.float() ** 3).sum((1, 2)), max_grad_norm=1
    )
    assert max(float(clipped(row[None], torch.zeros(1)).norm()) for row in rows) <= 1 + 1e-6


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(WIDTH, CLASSES), lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.PReLU())]
)
def test_a_loss_of_few_digits_is_taken_of_units_alone(make):
    """In float16 the others' part of a sum of 257 moved by 2e-3 of the bound with one record more."""

    def loss(outputs, targets):
        return CROSS_ENTROPY((outputs.half() @ torch.ones(CLASSES, CLASSES).half()).float(), targets)

    given = {"loss": loss, "randomness": KeyedSource(0)}
    with pytest.raises(InvalidParameter, match=r"^train: loss must compute in float32 or float64, got torch.float16"):
        steps(_model(make), _data(), QUIET, **given)
    for config, options in ALONE.values():
        assert len(list(steps(_model(make), _data(), config, **given, **options))) == 1


class Running:
    """A loss divided by a running mean, of all losses or of all targets."""

    def __init__(self, of):
        self.mean, self.of = torch.tensor(1.0), of

    def __call__(self, outputs, targets):
        losses = (outputs[:, 0] - targets).square() if targets.is_floating_point() else CROSS_ENTROPY(outputs, targets)
        self.mean = 0.9 * self.mean + 0.1 * (losses if self.of == "losses" else targets.float()).detach().mean()
        return losses / self.mean


@pytest.mark.parametrize("way", [None, *ALONE])
@pytest.mark.parametrize("of", ["losses", "targets"])
@pytest.mark.parametrize("numbers", [torch.float32, torch.int64])
def test_a_loss_that_keeps_something_is_refused(way, of, numbers):
    config, options = ALONE[way] if way else (QUIET, {})
    data = Dataset(features=torch.ones(RECORDS, WIDTH), targets=(torch.arange(RECORDS) % CLASSES).to(numbers))
    with pytest.raises(InvalidParameter, match=r"loss must keep nothing .* but loss\.mean changed"):
        steps(nn.Linear(WIDTH, CLASSES), data, config, loss=Running(of), randomness=KeyedSource(0), **options)


KEPT = {"of all": torch.zeros(())}


def _in_a_global(outputs, targets):
    KEPT["of all"] = KEPT["of all"] + outputs.detach().mean()
    return (outputs[:, 0] - targets).square() + KEPT["of all"] * outputs[:, 1]


def _in_a_closure():
    kept = np.zeros(3)

    def loss(outputs, targets):
        kept[0] += 1.0
        return (outputs[:, 0] - targets).square() + kept[0] * outputs[:, 1]

    return loss


def _in_a_class():
    class Counted:
        __slots__ = ()
        calls = 0

        def __call__(self, outputs, targets):
            type(self).calls += 1
            return outputs[:, 0] * targets

    return Counted()


def _in_a_default(outputs, targets, kept=[]):  # noqa: B006
    kept.append(targets)
    return outputs[:, 0] * sum(float(each.sum()) for each in kept if not torch._C._functorch.is_batchedtensor(each))


@pytest.mark.parametrize(
    ("loss", "place"),
    [
        (_in_a_global, "KEPT.of all"),
        (_in_a_closure(), "loss.kept"),
        (_in_a_class(), "Counted.calls"),
        (functools.partial(_in_a_default, kept=[]), "loss.kept"),
        (Running("targets").__call__, "loss.mean"),
    ],
    ids=["global", "closure", "class", "argument", "method"],
)
def test_wherever_a_loss_keeps_it_it_is_found_by_name(loss, place):
    data = Dataset(features=torch.ones(4, WIDTH), targets=torch.ones(4))
    with pytest.raises(InvalidParameter, match=f"but {place} changed"):
        steps(nn.Linear(WIDTH, CLASSES), data, QUIET, loss=loss, randomness=KeyedSource(0))


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (np.random.default_rng(0).random, "but loss.draw changed.*without a generator of its own"),
        (random.random, "same gradient each time"),
    ],
    ids=["a generator", "Python's"],
)
def test_a_loss_that_draws_numbers_of_its_own_is_refused(draw, text):
    data = Dataset(features=torch.ones(4, WIDTH), targets=torch.ones(4))
    ask = {"loss": lambda outputs, targets: outputs[:, 0] * draw(), "randomness": KeyedSource(0)}
    with pytest.raises(InvalidParameter, match=f"(?s){text}"):
        steps(nn.Linear(WIDTH, CLASSES), data, QUIET, **ask)


def test_a_loss_may_leave_constants_behind_at_its_first_call_and_refer_to_anything():
    class Weighted:
        weights = None

        def __call__(self, outputs, targets):
            if self.weights is None:
                self.weights = torch.ones(CLASSES)
            return (outputs * self.weights).sum(1) * KEPT["of all"]

    data = Dataset(features=torch.ones(4, WIDTH), targets=torch.ones(4))
    assert len(list(steps(nn.Linear(WIDTH, CLASSES), data, QUIET, loss=Weighted(), randomness=KeyedSource(0)))) == 1
