"""Copies of records: their mean gradient is clipped once, and no record's copies depend on another record."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset, gradient_sum, mlp, steps, train
from dpsgd.augmentation import WORDS, Augmentation
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
TINY_RATE = 1e-30
MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}


@pytest.fixture
def few(config):
    return dataclasses.replace(config, steps=8)


def _same(copies):
    return Augmentation(make=lambda x, u: x, copies=copies, draws=0)


def _shaken(copies=3):
    return Augmentation(make=lambda x, u: x * (0.5 + u[0]) + u[1:], copies=copies, draws=6)


def _data(records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = 3 * torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _first(data, records):
    return Dataset(features=data.features[:records], targets=data.targets[:records])


def _run(data, config, augmentation, make=MODELS["book-keeping"], **others):
    torch.manual_seed(0)
    chosen = dict(loss=CROSS_ENTROPY, randomness=KeyedSource("copies"), augmentation=augmentation, **others)
    return list(steps(make(), data, config, **chosen))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_one_copy_that_is_the_record_changes_no_bit(name, make):
    plain, copied = (_run(_data(7), EVERY_SCHEME[name], how, make) for how in (None, _same(1)))
    for a, b in zip(plain, copied, strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum) and torch.equal(a.weights_before, b.weights_before)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("copies", [2, 3, 16])
def test_copies_that_are_all_the_record_change_the_rounding_alone(few, make, copies):
    for a, b in zip(_run(_data(9), few, None, make), _run(_data(9), few, _same(copies), make), strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum, rtol=0, atol=2e-6)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_one_record_more_moves_every_sum_by_at_most_the_bound(few, make):
    still = dataclasses.replace(few, learning_rate=TINY_RATE, max_grad_norm=0.7)
    runs = (_run(_first(_data(9), records), still, _shaken(), make) for records in (8, 9))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(*runs, strict=True)]).norm(dim=1)
    assert moves.max() <= 0.7 * (1 + 1e-5)
    assert {bool(move > 0.1) for move in moves} == {True, False}
    assert all(move < 1e-6 or move > 0.1 for move in moves)


def test_a_sum_is_that_of_the_clipped_mean_gradients(few):
    data, augmentation, source = _data(9), _shaken(), KeyedSource("copies")
    exact = dataclasses.replace(few, noise_multiplier=0, sampling=Poisson(probability=1), steps=1)
    [release] = _run(data, exact, augmentation)
    copies = augmentation.of(data.features, np.arange(9), source=source, position=0)
    torch.manual_seed(0)
    model = mlp(5, (4,), 3)
    alone = gradient_sum(model, example_dimensions=1, loss=CROSS_ENTROPY, max_grad_norm=1e9)
    expected = torch.zeros_like(release.noisy_sum)
    for record, target in zip(copies, data.targets, strict=True):
        mean = sum(alone(copy[None], target[None]) for copy in record) / 3
        expected += mean * min(1.0, 1.0 / float(mean.norm()))
    torch.testing.assert_close(release.noisy_sum, expected, rtol=1e-5, atol=1e-6)


def test_the_copies_of_a_record_depend_on_its_row_and_the_step_alone():
    features, augmentation, source = _data(9).features, _shaken(), KeyedSource(0)
    together = augmentation.of(features, np.arange(9), source=source, position=0)
    for row in (0, 8, 3):
        alone = augmentation.of(features[row : row + 1], np.array([row]), source=source, position=0)
        assert torch.equal(alone[0], together[row])
    later = augmentation.of(features, np.arange(9), source=source, position=2**40)
    assert not torch.isclose(later, together).any()
    assert not torch.isclose(together[:, 0], together[:, 1]).any()


def test_the_uniforms_are_uniform_and_independent_of_place():
    shown = Augmentation(make=lambda x, u: u, copies=4, draws=3)
    seen = shown.of(torch.zeros(500, 3), np.arange(500), source=KeyedSource(0), position=0)
    assert seen.shape == (500, 4, 3) and seen.min() >= 0 and seen.max() < 1
    assert abs(seen.mean() - 0.5) < 4 / (12 * 6000) ** 0.5
    assert len(seen.unique()) > 5990
    correlation = torch.corrcoef(seen.reshape(500, 12).T) - torch.eye(12)
    assert correlation.abs().max() < 4.5 / 500**0.5


@pytest.mark.parametrize("largest", [3, 4, 7, 100])
def test_parts_change_neither_copies_nor_noise(few, largest):
    whole, parts = (_run(_data(9), few, _shaken(), largest_physical_batch=most) for most in (None, largest))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("largest", "records_at_once"), [(3, 1), (7, 2), (8, 2), (9, 3)])
def test_physical_batches_count_copies(few, rows_at_once, largest, records_at_once):
    chosen = dict(
        loss=CROSS_ENTROPY, randomness=KeyedSource(0), augmentation=_shaken(3), largest_physical_batch=largest
    )
    run = steps(mlp(5, (4,), 3), _data(30), few, **chosen)
    rows_at_once.clear()  # of what is made up
    list(run)
    assert max(rows_at_once) == 3 * records_at_once


def test_copies_of_a_users_examples_are_clipped_with_the_user(few):
    per_user = dataclasses.replace(few, unit="user", examples_per_user=4, learning_rate=TINY_RATE, max_grad_norm=0.7)
    whole = dataclasses.replace(_data(12), owners=torch.tensor([1, 1, 2, 1, 3, 2, 9, 9, 9, 9, 9, 9]))
    without = dataclasses.replace(_first(whole, 6), owners=whole.owners[:6])
    runs = [_run(data, per_user, _shaken(), largest_physical_batch=12) for data in (without, whole)]
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(*runs, strict=True)]).norm(dim=1)
    assert moves.max() <= 0.7 * (1 + 1e-5)
    assert {bool(move > 0.1) for move in moves} == {True, False}
    with pytest.raises(InvalidParameter, match="largest_physical_batch must be at least 12, the rows of one unit"):
        _run(whole, per_user, _shaken(), largest_physical_batch=11)


def test_without_records_there_is_noise_alone(few):
    for a, b in zip(_run(_data(0), few, None), _run(_data(0), few, _shaken()), strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum)


def test_copies_of_another_shape_are_what_the_model_sees(few):
    halved = Augmentation(make=lambda x, u: x[:3] * u, copies=2, draws=1)
    assert len(_run(_data(9), few, halved, lambda: mlp(3, (), 3))) == 8


def test_images_are_shifted_by_numbers_that_gather_takes(few):
    def shifted(image, u):
        start = (4 * u[0]).long()
        columns = (start + torch.arange(6)) % 6
        return image.gather(2, columns.expand(image.shape))

    generator = torch.Generator().manual_seed(0)
    data = Dataset(features=torch.randn(9, 1, 6, 6, generator=generator), targets=torch.arange(9) % 3)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
    augmentation = Augmentation(make=shifted, copies=4, draws=1)
    result = train(model, data, few, loss=CROSS_ENTROPY, randomness=KeyedSource(0), augmentation=augmentation)
    assert result.process == few.process()
    copies = augmentation.of(data.features, np.arange(9), source=KeyedSource(0), position=0)
    for record, image in zip(copies, data.features, strict=True):
        shifts = [image.roll(-by, 2) for by in range(4)]
        assert all(any(torch.equal(copy, shift) for shift in shifts) for copy in record)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x, u: x + torch.randn(5), r"on zeros of a record's shape: vmap: called random(.|\n)*Take random num"),
        (lambda x, u: x if x.sum() > 0 else -x, "on zeros of a record's shape: (.|\n)*data-dependent control flow"),
        (lambda x, u: x + torch.ones(4), r"on zeros of a record's shape: The size of tensor(.|\n)*torch.where"),
        (lambda x, u: x.expand(2, 5), "make must return a copy with the 1 dimensions of a record, got 2"),
    ],
)
def test_what_is_no_function_of_one_record_is_refused_before_the_first_step(few, make, text):
    source = KeyedSource(0)
    augmentation = Augmentation(make=make, copies=2, draws=1)
    with pytest.raises(InvalidParameter, match=f"Augmentation: (.|\n)*{text}"):
        steps(mlp(5, (), 3), _data(9), few, loss=CROSS_ENTROPY, randomness=source, augmentation=augmentation)
    assert source.reserve("runs", 0) == 0


def _last():
    kept = {"last": 0.0}

    def make(x, u):
        before, kept["last"] = kept["last"], x
        return x + before

    return make


class Counting:
    """Copies scaled by the number of calls."""

    calls = 0

    def __call__(self, x, u):
        self.calls += 1
        return x * self.calls


def _drawn():
    numbers = np.random.default_rng(0)
    return lambda x, u: x + numbers.random()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_last(), "changed make.kept.last"),
        (Counting(), "changed make.calls"),
        (_drawn(), "changed make.numbers"),
        (lambda x, u: x + random.random(), "gave other copies of the same record"),
    ],
    ids=["the last record", "calls", "numbers of its own", "Python's numbers"],
)
def test_what_keeps_something_from_one_copy_to_the_next_is_refused(few, make, text):
    augmentation = Augmentation(make=make, copies=2, draws=1)
    with pytest.raises(InvalidParameter, match=f"Augmentation: make must keep nothing .* but {text}"):
        steps(mlp(5, (), 3), _data(9), few, loss=CROSS_ENTROPY, randomness=KeyedSource(0), augmentation=augmentation)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"copies": 0}, "copies must be at least 1, got 0"),
        ({"copies": 1.5}, "copies must be a whole number"),
        ({"draws": -1}, "draws must be at least 0, got -1"),
        ({"copies": 2, "draws": WORDS}, r"copies · draws must be at most 2\^16, got 2 · 65536"),
        ({"make": None}, "make must be callable, got NoneType"),
    ],
)
def test_a_value_that_breaks_its_rule_is_named(changes, text):
    with pytest.raises(InvalidParameter, match=f"Augmentation: {text}"):
        Augmentation(**{"make": lambda x, u: x, "copies": 1, "draws": 0, **changes})
