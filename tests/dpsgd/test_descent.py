import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import Dataset, PrescribedGradients, count_parameters, mlp, steps
from dpsgd.core.batches import drawn_rows
from dpsgd.core.noise import Noise
from dpsgd.core.parameters import flatten
from mechanisms import BallsInBins, FixedSize, InvalidParameter, KeyedSource, Poisson, Shuffled
from tests.dpsgd.schemes import EVERY_SCHEME, config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
TINY_RATE = 1e-30  # leaves float32 weights where they are, so that every step is taken at the same ones
MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}


def _data(records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = 3 * torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _first(data, records):
    return Dataset(features=data.features[:records], targets=data.targets[:records])


def _run(model, data, config, *, key="tests of descent", loss=CROSS_ENTROPY, prescribed=None):
    return list(steps(model, data, config, loss=loss, randomness=KeyedSource(key), prescribed=prescribed))


def _fresh(make=MODELS["book-keeping"]):
    torch.manual_seed(0)
    return make()


def test_without_noise_and_clipping_it_is_gradient_descent_by_hand(config):
    data = Dataset(features=torch.tensor([[1.0], [2.0]]), targets=torch.tensor([3.0, 5.0]))
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    exact = dataclasses.replace(
        config, noise_multiplier=0, max_grad_norm=1e6, sampling=Poisson(probability=1), expected_batch_size=4, steps=2
    )
    releases = _run(model, data, exact, loss=lambda outputs, targets: (outputs[:, 0] - targets) ** 2 / 2)
    # step 0: residuals −3, −5: sums −3·1 − 5·2 = −13 and −8; w = .1·13/4 = .325, b = .1·8/4 = .2
    # step 1: residuals .525 − 3 = −2.475, .85 − 5 = −4.15: sums −10.775 and −6.625
    torch.testing.assert_close(releases[0].noisy_sum, torch.tensor([-13.0, -8.0]))
    torch.testing.assert_close(releases[1].weights_before, torch.tensor([0.325, 0.2]))
    torch.testing.assert_close(releases[1].noisy_sum, torch.tensor([-10.775, -6.625]))
    torch.testing.assert_close(flatten(model.parameters()), torch.tensor([0.325 + 0.269375, 0.2 + 0.165625]))


def test_without_noise_an_example_is_clipped_by_hand(config):
    data = Dataset(features=torch.tensor([[3.0, 4.0]]), targets=torch.zeros(1))
    exact = dataclasses.replace(config, noise_multiplier=0, sampling=Poisson(probability=1), steps=1)
    [release] = _run(nn.Linear(2, 1, bias=False), data, exact, loss=lambda outputs, targets: outputs[:, 0])
    torch.testing.assert_close(release.noisy_sum, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_every_step_divides_by_the_public_number_and_nothing_else(config, make):
    for records in (0, 1, 9):
        model = _fresh(make)
        releases = _run(model, _data(records), config)
        after = [release.weights_before for release in releases[1:]] + [flatten(model.parameters())]
        for release, weights in zip(releases, after, strict=True):
            torch.testing.assert_close(weights, release.weights_before - 0.1 * release.noisy_sum / 4)


def test_noise_and_divisor_do_not_depend_on_the_records(config):
    blind = [Dataset(features=torch.zeros(n, 5), targets=torch.zeros(n, dtype=torch.int64)) for n in (0, 1, 50)]
    runs = [_run(_fresh(lambda: nn.Linear(5, 3, bias=False)), data, config) for data in blind]
    for release in zip(*runs, strict=True):
        assert torch.equal(release[0].noisy_sum, release[1].noisy_sum)
        assert torch.equal(release[0].noisy_sum, release[2].noisy_sum)
        assert torch.equal(release[0].weights_before, release[2].weights_before)


def test_the_noise_is_the_noise_of_the_configuration(config):
    loud = dataclasses.replace(config, noise_multiplier=2.0, max_grad_norm=3.0)
    releases = _run(_fresh(), _data(0), loud)
    like = torch.zeros(count_parameters(_fresh()))
    noise = Noise(source=KeyedSource("tests of descent"), run=0, steps=20, like=like)
    for release in releases:
        expected = torch.zeros_like(like)
        noise.add_to(expected, step=release.step, scale=6.0)
        assert torch.equal(release.noisy_sum, expected)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_one_record_more_moves_every_sum_by_at_most_the_bound(config, make):
    still = dataclasses.replace(config, learning_rate=TINY_RATE, max_grad_norm=0.7)
    data = _data(9)
    without, with_ = (_run(_fresh(make), _first(data, records), still) for records in (8, 9))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(without, with_, strict=True)]).norm(dim=1)
    assert moves.max() <= 0.7 * (1 + 1e-5)
    assert {bool(move > 0.1) for move in moves} == {True, False}  # sampled in some steps, absent from the others
    assert all(move < 1e-6 or move > 0.1 for move in moves)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_record_that_is_not_finite_counts_as_zero_and_stops_nothing(config, make):
    data = _data(9)
    data.features[8] = float("nan")
    clean, poisoned = _run(_fresh(make), _first(data, 8), config), _run(_fresh(make), data, config)
    for a, b in zip(clean, poisoned, strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum)


def test_no_records_and_no_samples_train_on_noise_alone(config):
    never = dataclasses.replace(config, sampling=Poisson(probability=0))
    empty, unsampled = _run(_fresh(), _data(0), config), _run(_fresh(), _data(9), never)
    assert all(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(empty, unsampled, strict=True))


def test_the_same_key_gives_the_same_weights_bit_for_bit(config):
    a, b, other = _fresh(), _fresh(), _fresh()
    _run(a, _data(9), config), _run(b, _data(9), config), _run(other, _data(9), config, key="another")
    assert torch.equal(flatten(a.parameters()), flatten(b.parameters()))
    assert not torch.equal(flatten(a.parameters()), flatten(other.parameters()))


def test_two_runs_of_one_source_share_no_noise(config):
    source = KeyedSource("shared")
    runs = [list(steps(_fresh(), _data(0), config, loss=CROSS_ENTROPY, randomness=source)) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert not torch.isclose(a.noisy_sum, b.noisy_sum).any()


def test_a_release_is_never_written_to_afterwards(config):
    copies, releases = [], []
    for release in steps(_fresh(), _data(9), config, loss=CROSS_ENTROPY, randomness=KeyedSource(0)):
        releases.append(release)
        copies.append((release.weights_before.clone(), release.noisy_sum.clone()))
    for release, (weights, noisy_sum) in zip(releases, copies, strict=True):
        assert torch.equal(release.weights_before, weights) and torch.equal(release.noisy_sum, noisy_sum)


def test_a_step_is_taken_before_its_release_is_shown(config):
    model = _fresh()
    for release in steps(model, _data(9), config, loss=CROSS_ENTROPY, randomness=KeyedSource(0)):
        moved = release.weights_before - 0.1 * release.noisy_sum / 4
        torch.testing.assert_close(flatten(model.parameters()), moved)


def test_a_consumer_without_gradients_changes_nothing(config):
    a, b = _fresh(), _fresh()
    _run(a, _data(9), config)
    with torch.no_grad():
        _run(b, _data(9), config)
    assert torch.equal(flatten(a.parameters()), flatten(b.parameters()))


def _canaries(included, values=(0.4, -2.0, 0.3)):
    return PrescribedGradients(
        coordinates=torch.tensor([7, 2, 7]), values=torch.tensor(values), included=torch.tensor(included)
    )


def test_including_a_prescribed_record_changes_its_coordinate_alone(config):
    still = dataclasses.replace(config, learning_rate=TINY_RATE)
    out = _run(_fresh(), _data(9), still, prescribed=_canaries([True, False, True]))
    in_ = _run(_fresh(), _data(9), still, prescribed=_canaries([True, True, True]))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(out, in_, strict=True)])
    assert not moves[:, torch.arange(moves.shape[1]) != 2].any()
    assert 0 < (moves[:, 2] != 0).sum() < 20
    sampled = moves[moves[:, 2] != 0, 2]
    torch.testing.assert_close(sampled, torch.full_like(sampled, -1.0))  # −2 clipped to −1


def test_including_a_prescribed_record_changes_the_first_step_at_its_coordinate_alone(config):
    always = dataclasses.replace(config, sampling=Poisson(probability=1))
    out = _run(_fresh(), _data(9), always, prescribed=_canaries([False, False, False]))
    in_ = _run(_fresh(), _data(9), always, prescribed=_canaries([False, False, True]))
    move = in_[0].noisy_sum - out[0].noisy_sum
    assert move.nonzero().flatten().tolist() == [7]
    torch.testing.assert_close(move[7], torch.tensor(0.3))


def test_records_of_one_coordinate_add_up_and_need_no_others(config):
    exact = dataclasses.replace(config, noise_multiplier=0, sampling=Poisson(probability=1), steps=1)
    [release] = _run(_fresh(), _data(0), exact, prescribed=_canaries([True, True, True]))
    expected = torch.zeros_like(release.noisy_sum)
    expected[7], expected[2] = 0.7, -1.0
    torch.testing.assert_close(release.noisy_sum, expected)


def test_prescribed_records_leave_the_parts_of_real_ones_alone(config):
    plain = _run(_fresh(), _data(9), config)
    with_ = _run(_fresh(), _data(9), config, prescribed=_canaries([False, False, False]))
    assert all(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(plain, with_, strict=True))


@pytest.mark.parametrize(
    ("model", "prescribed", "text"),
    [
        (nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), None, "check_private: .*BatchNorm1d at model.1"),
        (nn.Tanh(), None, "model must have a parameter that requires a gradient"),
        (nn.Linear(5, 1), _canaries([True, True, True]), r"coordinates must lie in \[0, 6\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(config, model, prescribed, text):
    with pytest.raises(InvalidParameter, match=text):
        steps(model, _data(9), config, loss=CROSS_ENTROPY, randomness=KeyedSource(0), prescribed=prescribed)


def _times_drawn(config, records=7):
    """Return how often each record takes part in each step: record i's gradient is the i-th unit vector."""
    data = Dataset(features=torch.eye(records), targets=torch.zeros(records))
    exact = dataclasses.replace(config, noise_multiplier=0)
    model = nn.Linear(records, 1, bias=False)
    releases = _run(model, data, exact, loss=lambda outputs, targets: outputs[:, 0])
    return torch.stack([release.noisy_sum for release in releases]).round(decimals=5)


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_what_is_drawn_is_what_is_described(name):
    config = EVERY_SCHEME[name]
    times = _times_drawn(config)
    assert len(times) == 12 and torch.equal(times, times.round())
    if name in ("FixedSize", "WithReplacement"):
        assert (times.sum(1) == config.sampling.batch_size).all()
    if config.steps_per_epoch is not None:
        epochs = times.view(4, 3, 7).sum(1)
        left_over = 1 if name == "Shuffled" else 0  # 7 records in 3 batches of 2
        assert (epochs <= 1).all() and (epochs.sum(1) == 7 - left_over).all()
    if name == "Shuffled":
        assert (times.sum(1) == 2).all()
    if name.startswith("TruncatedPoisson"):
        assert times.sum(1).max() == 3
    assert (times.max() > 1) == (name == "WithReplacement")


@pytest.mark.parametrize("name", ["FixedSize", "WithReplacement", "TruncatedPoisson with records", "Shuffled"])
def test_a_dataset_that_does_not_fit_the_scheme_is_refused_before_anything_is_drawn(name):
    randomness = KeyedSource(0)
    with pytest.raises(InvalidParameter, match="steps: dataset must hold"):
        steps(_fresh(), _data(5), EVERY_SCHEME[name], loss=CROSS_ENTROPY, randomness=randomness)
    assert randomness.reserve("runs", 0) == 0


@pytest.mark.parametrize("name", ["FixedSize", "WithReplacement", "TruncatedPoisson with records", "Shuffled"])
def test_a_prescribed_record_that_is_not_included_keeps_its_place_and_adds_nothing(name):
    """Zeroed out, not absent: the others' parts are the same, and it adds its value as often as it is drawn."""
    still = dataclasses.replace(EVERY_SCHEME[name], noise_multiplier=0.0, learning_rate=TINY_RATE)
    out = _run(_fresh(), _data(4), still, prescribed=_canaries([True, False, True]))
    in_ = _run(_fresh(), _data(4), still, prescribed=_canaries([True, True, True]))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(out, in_, strict=True)])
    rows = drawn_rows(KeyedSource("tests of descent"), still, run=in_[0].run, records=7)
    times = torch.tensor([int((rows(step) == 5).sum()) for step in range(still.steps)])
    one = _canaries([True, True, True]).contributions(max_grad_norm=still.max_grad_norm, dtype=torch.float32)[1]
    torch.testing.assert_close(moves[:, 2], times * one, rtol=1e-5, atol=1e-5)
    assert not moves[:, torch.arange(moves.shape[1]) != 2].any() and times.any()


@pytest.mark.parametrize("name", ["FixedSize", "Shuffled"])
def test_prescribed_records_count_among_those_that_the_scheme_declares(name):
    with pytest.raises(InvalidParameter, match="steps: dataset must hold"):
        _run(_fresh(), _data(2), EVERY_SCHEME[name], prescribed=_canaries([True, True, True]))


def test_a_prescribed_record_falls_into_one_bin_of_every_epoch():
    still = config_of(BallsInBins(), learning_rate=TINY_RATE, steps_per_epoch=3)
    out = _run(_fresh(), _data(9), still, prescribed=_canaries([True, False, True]))
    in_ = _run(_fresh(), _data(9), still, prescribed=_canaries([True, True, True]))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(out, in_, strict=True)])
    assert not moves[:, torch.arange(moves.shape[1]) != 2].any()
    assert ((moves[:, 2] != 0).view(4, 3).sum(1) == 1).all()


@pytest.mark.parametrize("sampling", [FixedSize(batch_size=3, records=9), Shuffled()])
def test_one_replaced_record_changes_no_others_part(sampling):
    still = config_of(sampling, learning_rate=TINY_RATE, max_grad_norm=0.7)
    data, other = _data(9), _data(9)
    other.features[4] = -other.features[4]
    runs = (_run(_fresh(), one, still) for one in (data, other))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(*runs, strict=True)]).norm(dim=1)
    assert moves.max() <= 1.4 * (1 + 1e-5)
    assert 0 < (moves > 1e-3).sum() < 12
    assert all(move < 1e-5 or move > 1e-3 for move in moves)
