import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import DPSGD, AdaptiveQuantile, Automatic, Dataset, PerLayer, RoundedGaussian, mlp, shadows, train
from dpsgd.core.parameters import flatten
from dpsgd.core.runs import RUN
from dpsgd.nonprivate import NonPrivate, ordered_rows
from dpsgd.shadows import MODELS_AT_ONCE, train_together
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
PLAIN = NonPrivate(batch_size=4, steps=20, learning_rate=0.1)
RNG = np.random.default_rng(0)
MEMBERSHIP = RNG.random((5, 9)) < 0.6
MEMBERSHIP[3] = False  # a model of no record


def _model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh()), nn.Linear(4, 3)
    )


def _data(records=9):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _part(data, rows):
    rows = torch.as_tensor(rows)
    return Dataset(features=data.features[rows], targets=data.targets[rows])


def _together(config, *, model=None, data=None, membership=MEMBERSHIP, loss=CROSS_ENTROPY, seeds=None):
    return train_together(
        model or _model(), _data() if data is None else data, config, membership=membership, loss=loss,
        randomness=KeyedSource("shadows"), initialisation_seeds=seeds,
    )  # fmt: skip


def _one_by_one(config, *, data=None, membership=MEMBERSHIP, seeds=None):
    source, data = KeyedSource("shadows"), _data() if data is None else data
    results = [
        train(
            _model(), _part(data, members), config, loss=CROSS_ENTROPY, randomness=source,
            initialisation_seed=None if seeds is None else seeds[number],
        )
        for number, members in enumerate(membership)
    ]  # fmt: skip
    return torch.stack([flatten(result.model.parameters()) for result in results])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sampling": Poisson(probability=0.05), "noise_multiplier": 0.3},  # most batches are empty
        {"sampling": Poisson(probability=1), "noise_multiplier": 0},
        {"max_grad_norm": 100.0, "noise_multiplier": 0},
        {"clipping": PerLayer()},
        {"clipping": Automatic(stability=0.01)},
    ],
)
def test_every_shadow_is_the_model_that_training_alone_returns(config, change):
    changed = dataclasses.replace(config, **change)
    seeds = [7, 8, 9, 10, 11]
    torch.testing.assert_close(_together(changed, seeds=seeds).weights, _one_by_one(changed, seeds=seeds))


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_shadows_draw_by_every_scheme_as_training_alone_does(name):
    rows = [np.array([0, 2, 3, 5, 6, 7, 8]), np.arange(7)]
    torch.testing.assert_close(
        _together(EVERY_SCHEME[name], membership=rows).weights, _one_by_one(EVERY_SCHEME[name], membership=rows)
    )


def test_a_record_that_is_not_finite_counts_as_zero_as_in_training_alone(config):
    data = _data()
    data.features[4] = float("nan")
    data.features[5] = float("inf")
    weights = _together(config, data=data).weights
    assert weights.isfinite().all()
    torch.testing.assert_close(weights, _one_by_one(config, data=data))


@pytest.mark.parametrize("entries", [1, 700, 2**20])
def test_models_in_small_groups_are_the_same(config, entries, monkeypatch):
    expected = _one_by_one(config)
    monkeypatch.setattr(shadows, "ENTRIES", entries)
    found = _together(config)
    torch.testing.assert_close(found.weights, expected)
    outputs = torch.stack([found.model(number)(_data().features) for number in range(5)]).detach()
    torch.testing.assert_close(found.outputs(_data().features), outputs)
    losses = torch.stack([CROSS_ENTROPY(each, _data().targets) for each in outputs])
    torch.testing.assert_close(found.losses(_data(), loss=CROSS_ENTROPY), losses)


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (PLAIN, lambda p: torch.optim.SGD(p, lr=0.1)),
        (dataclasses.replace(PLAIN, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (dataclasses.replace(PLAIN, optimizer="adam"), lambda p: torch.optim.Adam(p, lr=0.1)),
    ],
)
def test_without_privacy_every_shadow_is_that_of_torch_alone(config, make):
    data, weights = _data(), _together(config).weights
    for number, members in enumerate(MEMBERSHIP):
        model, own = _model(), _part(data, members)
        optimizer = make(model.parameters())
        rows = ordered_rows(KeyedSource("shadows"), config, run=number * RUN, records=len(own))
        for step in range(config.steps if len(own) else 0):
            optimizer.zero_grad()
            batch = _part(own, rows(step))
            nn.functional.cross_entropy(model(batch.features), batch.targets).backward()
            optimizer.step()
        torch.testing.assert_close(weights[number], flatten(model.parameters()))


def test_small_models_hold_no_more_noise_for_being_many(config, monkeypatch):
    one_step, held = dataclasses.replace(config, steps=1), []
    move = shadows._move
    monkeypatch.setattr(shadows, "_move", lambda weights, *others: held.append(len(weights)) or move(weights, *others))
    many = MODELS_AT_ONCE + 1
    found = _together(one_step, membership=np.ones((many, 9), dtype=bool))
    assert len(found) == sum(held) == many and max(held) <= MODELS_AT_ONCE


@pytest.mark.parametrize("kind", ["private", "plain"])
def test_a_record_outside_a_models_part_changes_nothing_in_it(config, kind):
    chosen, data, other = config if kind == "private" else PLAIN, _data(), _data()
    other.features[2] = 100.0
    other.targets[2] = (other.targets[2] + 1) % 3
    before, after = (_together(chosen, data=one).weights for one in (data, other))
    moved = (before != after).any(1)
    assert moved.tolist() == MEMBERSHIP[:, 2].tolist() and {*moved.tolist()} == {True, False}


def test_a_loss_that_mixes_examples_carries_nothing_from_one_models_records_to_another_model(config):
    def by_the_number_of_one_class(outputs, targets):
        return CROSS_ENTROPY(outputs, targets) / torch.clamp((targets == 2).sum(), min=1)

    data, other = _data(), _data()
    other.targets[:5] = 2
    membership = np.arange(9) < np.array([[5], [9]])
    membership[1, :5] = False
    first, second = (
        _together(config, data=each, membership=membership, loss=by_the_number_of_one_class) for each in (data, other)
    )
    torch.testing.assert_close(first.weights[1], second.weights[1])
    assert not torch.allclose(first.weights[0], second.weights[0])


def test_an_excluded_record_may_be_anything(config):
    data = _data()
    data.features[2], data.targets[2] = float("nan"), 99  # the loss would refuse this target
    without = MEMBERSHIP & (np.arange(9) != 2)
    for chosen in (config, PLAIN):
        clean, dirty = (_together(chosen, data=one, membership=without).weights for one in (_data(), data))
        assert torch.equal(clean, dirty)


def test_one_model_and_one_without_records(config):
    alone = _together(config, membership=torch.ones(1, 9, dtype=torch.bool))
    torch.testing.assert_close(alone.weights, _one_by_one(config, membership=[np.arange(9)]))
    assert alone.reproducible and len(alone) == 1
    none = np.zeros((2, 9), dtype=bool)
    assert torch.equal(_together(PLAIN, membership=none).weights, flatten(_model().parameters()).repeat(2, 1))
    noise_alone = _one_by_one(config, data=_data(0), membership=np.zeros((2, 0), dtype=bool))
    assert torch.equal(_together(config, membership=none).weights, noise_alone)
    assert torch.equal(_together(config, data=_data(0), membership=none[:, :0]).weights, noise_alone)


def test_rows_in_their_order_make_datasets_of_their_own(config):
    rows = [np.array([8, 1, 4]), np.array([], dtype=np.int64), np.array([0, 2, 3, 5, 6])]
    torch.testing.assert_close(_together(config, membership=rows).weights, _one_by_one(config, membership=rows))


def test_a_shared_start_is_kept_where_there_are_no_seeds_and_the_model_is_left_alone(config):
    model = _model()
    still = dataclasses.replace(config, learning_rate=1e-30)
    weights = _together(still, model=model).weights
    assert torch.equal(weights, flatten(model.parameters()).repeat(5, 1))
    assert torch.equal(flatten(model.parameters()), flatten(_model().parameters()))


def test_targets_and_outputs_of_another_shape_go_the_same_way(config):
    data = Dataset(features=_data().features.double(), targets=torch.rand(9, 2, dtype=torch.float64))
    model = nn.Sequential(nn.Tanh(), nn.Linear(5, 2)).double()

    def loss(outputs, targets):
        return (outputs - targets).square().sum(1)

    found = _together(config, model=model, data=data, loss=loss)
    source = KeyedSource("shadows")
    for number, members in enumerate(MEMBERSHIP):
        alone = train(model, _part(data, members), config, loss=loss, randomness=source).model
        torch.testing.assert_close(found.weights[number], flatten(alone.parameters()))
        losses = loss(alone(data.features), data.targets).detach()
        torch.testing.assert_close(found.losses(data, loss=loss)[number], losses)


def test_batches_go_through_all_records_before_any_comes_again():
    plain = NonPrivate(batch_size=4, steps=30, learning_rate=0.1)
    for records in (1, 3, 4, 7, 100):
        rows = ordered_rows(KeyedSource(1), plain, run=0, records=records)
        taken = np.zeros(records, dtype=int)
        for step in range(30):
            batch = rows(step)
            assert len(batch) == 4
            np.add.at(taken, batch, 1)
            assert taken.max() - taken.min() <= 1
    assert len({tuple(rows(step)) for step in range(0, 30, 25)}) == 2  # the second epoch has an order of its own


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model": nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3))}, "model must be an nn.Sequential.*got LayerNorm"),
        ({"model": nn.Sequential(nn.Linear(5, 3), nn.Dropout())}, "got Dropout"),
        ({"model": nn.Tanh()}, "got Tanh"),
        ({"model": mlp(6, (), 3)}, r"features must be torch.float32 on cpu with 6 numbers .* \(n, 5\)"),
        ({"model": mlp(5, (), 3).double()}, "features must be torch.float64"),
        ({"membership": MEMBERSHIP[:, :8]}, "membership must be bool with a row for every model"),
        ({"membership": MEMBERSHIP.astype(int)}, "membership must be bool .* got int64"),
        ({"membership": MEMBERSHIP[:0]}, "membership must be bool with a row for every model, one at least"),
        ({"membership": []}, "membership must be of one model at least"),
        ({"membership": [np.array([9])]}, "membership must hold numbers of rows"),
        ({"membership": [np.array([-1])]}, "membership must hold numbers of rows"),
        ({"membership": [np.array([0.5])]}, "membership must hold numbers of rows"),
        ({"membership": [np.array([3, 1, 3])]}, "membership must name no row twice for one model"),
        ({"seeds": [1, 2]}, "initialisation_seeds must be as many as models, 5, got 2"),
        ({"config": "fast"}, "config must be a DPSGD or a NonPrivate, got str"),
        ({"loss": nn.CrossEntropyLoss()}, "loss must return one value per example"),
    ],
)
def test_what_does_not_fit_is_refused(config, change, text):
    with pytest.raises(InvalidParameter, match=text):
        _together(**{"config": config, **change})


def test_a_configuration_that_cannot_be_batched_is_refused_by_name(config):
    frozen = _model()
    frozen[0].bias.requires_grad_(False)
    with pytest.raises(InvalidParameter, match=r"got 0\.bias"):
        _together(config, model=frozen)
    adaptive = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)
    for change in ({"noise": RoundedGaussian()}, {"clipping": adaptive}, {"unit": "user", "examples_per_user": 2}):
        name = next(iter(change))
        with pytest.raises(InvalidParameter, match=f"train_together: {name} must be that of plain DP-SGD"):
            _together(dataclasses.replace(config, **change))
    with torch.autocast("cpu"), pytest.raises(InvalidParameter, match="train_together: autocast must be off"):
        _together(config)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"optimizer": "lion"}, "optimizer must be one of 'sgd', 'adam'"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum must be 0 for 'adam'"),
    ],
)
def test_plain_training_refuses_what_breaks_its_rules(change, text):
    with pytest.raises(InvalidParameter, match=text):
        dataclasses.replace(PLAIN, **change)


def test_a_shadow_that_is_not_there_is_refused():
    with pytest.raises(InvalidParameter, match="number must be below 5"):
        _together(PLAIN).model(5)


def test_the_configuration_of_each_shadow_is_the_one_that_is_described(config):
    assert _together(config).config is config and isinstance(config, DPSGD)
