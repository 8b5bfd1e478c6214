import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import DPSGD, Dataset, PrescribedGradients, load, mlp, train
from dpsgd.core.parameters import flatten
from mechanisms import FixedSize, InvalidParameter, KeyedSource, Poisson, SystemSource
from tests.dpsgd.schemes import EVERY_SCHEME, config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
DATA = Dataset(features=torch.linspace(-1, 1, 40).reshape(8, 5), targets=torch.arange(8) % 3)


def _train(config, model=None, *, randomness=None, **options):
    return train(
        model or mlp(5, (4,), 3),
        DATA,
        config,
        loss=CROSS_ENTROPY,
        randomness=randomness or KeyedSource("tests of training"),
        **options,
    )


def test_the_model_given_is_left_as_it_is(config):
    model = mlp(5, (4,), 3)
    before = flatten(model.parameters())
    result = _train(config, model)
    assert torch.equal(flatten(model.parameters()), before)
    assert not torch.equal(flatten(result.model.parameters()), before)


def test_the_process_is_of_the_steps_executed(config):
    assert _train(config).process == config.process()


def test_a_known_key_is_reported_as_reproducible(config):
    assert _train(config).reproducible
    assert not _train(config, randomness=SystemSource()).reproducible


def test_model_seed_and_key_fix_the_weights_bit_for_bit(config):
    a, b = (_train(config, initialisation_seed=7) for _ in range(2))
    other = _train(config, initialisation_seed=8)
    assert torch.equal(flatten(a.model.parameters()), flatten(b.model.parameters()))
    assert not torch.equal(flatten(a.model.parameters()), flatten(other.model.parameters()))


def test_a_seed_draws_the_weights_that_torch_draws_and_leaves_its_generator_alone(config):
    torch.manual_seed(7)
    model, seen = mlp(5, (4,), 3), []
    expected, other = flatten(model.parameters()), mlp(5, (4,), 3)
    state = torch.get_rng_state()
    _train(config, other, initialisation_seed=7, callbacks=[seen.append])
    assert torch.equal(seen[0].weights_before, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_the_weights_given_are_kept(config):
    model, seen = mlp(5, (4,), 3), []
    _train(config, model, callbacks=[seen.append])
    assert torch.equal(seen[0].weights_before, flatten(model.parameters()))


def test_a_layer_that_cannot_be_drawn_anew_is_named(config):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(5))

        def forward(self, rows):
            return self.factor * rows

    with pytest.raises(InvalidParameter, match=r"every layer must have reset_parameters, but '0' \(Scale\) has none"):
        _train(config, nn.Sequential(Scale(), nn.Linear(5, 3)), initialisation_seed=0)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_a_seed_is_a_whole_number(config, seed):
    with pytest.raises(InvalidParameter, match="train: initialisation_seed must"):
        _train(config, initialisation_seed=seed)


def test_a_callback_sees_every_release_in_order(config):
    seen = []
    _train(config, callbacks=[seen.append])
    assert [release.step for release in seen] == list(range(20))


def test_prescribed_records_are_trained_on(config):
    canary = PrescribedGradients(coordinates=torch.tensor([0]), values=torch.ones(1), included=torch.tensor([True]))
    plain, seen = [], []
    always = dataclasses.replace(config, sampling=Poisson(probability=1))
    model = mlp(5, (4,), 3)
    _train(always, model, callbacks=[plain.append])
    _train(always, model, callbacks=[seen.append], prescribed=canary)
    torch.testing.assert_close((seen[0].noisy_sum - plain[0].noisy_sum)[0], torch.tensor(1.0))


def test_progress_is_steps_on_stderr_and_changes_nothing(config, capsys):
    shown = _train(config, initialisation_seed=0, progress=True)
    captured = capsys.readouterr()
    assert "private steps" in captured.err and not captured.out
    silent = _train(config, initialisation_seed=0)
    assert not any(capsys.readouterr())
    assert torch.equal(flatten(shown.model.parameters()), flatten(silent.model.parameters()))


def test_a_callbacks_exception_is_the_callers():
    def refuse(release):
        raise KeyError("enough")

    config = DPSGD(
        noise_multiplier=1,
        max_grad_norm=1,
        sampling=Poisson(probability=1),
        expected_batch_size=8,
        steps=3,
        learning_rate=1,
    )
    with pytest.raises(KeyError, match="enough"):
        _train(config, callbacks=[refuse])


def test_epsilon_is_the_accountants_for_the_process(config):
    from accountant import compute_epsilon

    result = _train(config)
    assert result.epsilon(delta=1e-5) == compute_epsilon(config.process(), delta=1e-5)


@pytest.mark.parametrize("name", [name for name in EVERY_SCHEME if "records" not in name])
def test_every_scheme_trains_and_says_what_it_was(name):
    config = EVERY_SCHEME[name]
    if hasattr(config.sampling, "records") and config.sampling.records is not None:
        config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, records=8))
    assert _train(config).process == config.process()


def test_a_run_on_a_public_number_of_records_has_no_neighbours_of_another():
    result = _train(config_of(FixedSize(batch_size=8, records=8), steps=1))
    with pytest.raises(InvalidParameter, match="TrainResult: adjacency must be 'replace_one' or 'zero_out' for"):
        result.epsilon(delta=1e-5)
    assert 0 < result.epsilon(delta=1e-5, adjacency="zero_out") < result.epsilon(delta=1e-5, adjacency="replace_one")


def test_digits_are_learnt_privately():
    train_set, test_set = load("digits")
    config = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.2),
        expected_batch_size=288,
        steps=100,
        learning_rate=2.0,
    )
    result = train(
        mlp(64, (32,), 10),
        train_set,
        config,
        loss=CROSS_ENTROPY,
        randomness=KeyedSource("digits"),
        initialisation_seed=0,
    )
    with torch.no_grad():
        guesses = result.model(test_set.features).argmax(1)
    assert (guesses == test_set.targets).float().mean() > 0.85
