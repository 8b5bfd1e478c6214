import copy
import dataclasses
import re

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps
from dpsgd.core.parameters import assign, flatten, trainable
from dpsgd.core.updates import made_optimizer, updates_of
from dpsgd.optimizers import DPAdam
from mechanisms import InvalidParameter, KeyedSource, Poisson


class _Counting(torch.optim.SGD):
    """Steps that shrink by a count that the group keeps, as optimisers without a schedule do."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr)
        self.param_groups[0]["count"] = 0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] += 1
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=group["lr"] / group["count"])


OPTIMIZERS = {
    "SGD": lambda parameters, config: torch.optim.SGD(parameters, lr=config.learning_rate),
    "momentum": lambda parameters, config: torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "Adam": lambda parameters, config: torch.optim.Adam(parameters, lr=config.learning_rate),
    "AMSGrad": lambda parameters, config: torch.optim.AdamW(parameters, lr=config.learning_rate, amsgrad=True),
    "NAdam": lambda parameters, config: torch.optim.NAdam(parameters, lr=config.learning_rate),
    "RMSprop": lambda parameters, config: torch.optim.RMSprop(parameters, lr=config.learning_rate, momentum=0.5),
    "Adagrad": lambda parameters, config: torch.optim.Adagrad(parameters, lr=config.learning_rate, lr_decay=0.1),
    "Adafactor": lambda parameters, config: torch.optim.Adafactor(parameters, lr=config.learning_rate),
    "ASGD": lambda parameters, config: torch.optim.ASGD(parameters, lr=config.learning_rate),
    "DPAdam": DPAdam,
    "one that counts": lambda parameters, config: _Counting(parameters, lr=config.learning_rate),
    "two groups": lambda parameters, config: torch.optim.Adam(
        [{"params": parameters[:1], "lr": 0.01}, {"params": parameters[1:]}], lr=config.learning_rate
    ),
}


def _model():
    torch.manual_seed(0)
    return mlp(5, (4,), 3)


def _data(records=9):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _run(model, config, **options):
    loss = nn.CrossEntropyLoss(reduction="none")
    return list(steps(model, _data(), config, loss=loss, randomness=KeyedSource("updates"), **options))


def _updates(model, config, optimizer, schedule=None):
    """Return updates of a model, and the flat weights that they move."""
    parameters = list(trainable(model).values())
    weights = flatten(parameters)
    assign(weights, parameters)
    made = made_optimizer(optimizer, parameters, config)
    return updates_of(weights, parameters, config, optimizer=made, schedule=schedule), weights


def _sums(config, dimension=39):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(dimension, generator=generator) for _ in range(config.steps)]


def test_without_an_optimizer_the_step_is_the_plain_one_bit_for_bit(config):
    model = _model()
    releases = _run(model, config)
    after = [release.weights_before for release in releases[1:]] + [flatten(model.parameters())]
    for release, weights in zip(releases, after, strict=True):
        assert torch.equal(weights, release.weights_before.sub(release.noisy_sum, alpha=0.1 / 4))


def test_gradient_descent_of_torch_is_the_plain_step(config):
    plain, torchs = _model(), _model()
    _run(plain, config), _run(torchs, config, optimizer=OPTIMIZERS["SGD"])
    torch.testing.assert_close(flatten(torchs.parameters()), flatten(plain.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_moves_the_weights_as_it_does_by_hand_on_averaged_sums(config, name):
    model, twin = _model(), _model()
    by_hand = OPTIMIZERS[name](list(twin.parameters()), config)
    for release in _run(model, config, optimizer=OPTIMIZERS[name]):
        assert torch.equal(release.weights_before, flatten(twin.parameters()))
        pieces = torch.split(release.noisy_sum / 4, [parameter.numel() for parameter in twin.parameters()])
        for parameter, piece in zip(twin.parameters(), pieces, strict=True):
            parameter.grad = piece.view(parameter.shape).clone()
        by_hand.step()
    assert torch.equal(flatten(model.parameters()), flatten(twin.parameters()))


def test_an_optimizer_leaves_releases_and_gradients_alone(config):
    model, copies, releases = _model(), [], []
    for release in steps(
        model,
        _data(),
        config,
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=KeyedSource(0),
        optimizer=OPTIMIZERS["momentum"],
    ):
        releases.append(release.noisy_sum)
        copies.append(release.noisy_sum.clone())
    assert all(map(torch.equal, releases, copies))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "last",
    [nn.PReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Flatten()],
    ids=["vmap", "hooked", ""],
)
def test_gradients_are_taken_where_the_optimizer_has_moved_the_weights(config, last):
    exact = dataclasses.replace(config, noise_multiplier=0, max_grad_norm=1e6, sampling=Poisson(probability=1), steps=4)
    model = nn.Sequential(_model(), copy.deepcopy(last))
    twin = copy.deepcopy(model)
    by_hand = OPTIMIZERS["Adam"](list(twin.parameters()), exact)
    for _ in range(exact.steps):
        by_hand.zero_grad()
        outputs = twin(_data().features)
        (nn.functional.cross_entropy(outputs, _data().targets, reduction="sum") / 4).backward()
        by_hand.step()
    _run(model, exact, optimizer=OPTIMIZERS["Adam"])
    torch.testing.assert_close(flatten(model.parameters()), flatten(twin.parameters()), rtol=1e-4, atol=1e-5)


def test_an_optimizer_changes_neither_samples_nor_noise(config):
    still = dataclasses.replace(config, learning_rate=1e-30)
    plain, adam = _run(_model(), still), _run(_model(), still, optimizer=OPTIMIZERS["Adam"])
    assert all(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(plain, adam, strict=True))


@pytest.mark.parametrize("name", [None, *OPTIMIZERS])
def test_updates_go_on_bit_for_bit_from_their_state(config, name):
    sums, make = _sums(config), OPTIMIZERS.get(name)
    whole, expected = _updates(_model(), config, make, schedule=lambda step: 1 / (1 + step))
    begun, before = _updates(_model(), config, make, schedule=lambda step: 1 / (1 + step))
    for step, noisy_sum in enumerate(sums):
        whole.apply(noisy_sum, step=step)
        if step < 7:
            begun.apply(noisy_sum, step=step)
    resumed, weights = _updates(_model(), config, make, schedule=lambda step: 1 / (1 + step))
    weights.copy_(before)
    state = begun.state_dict()
    assert all(isinstance(entry, (torch.Tensor, int, float)) for entry in state.values())
    resumed.load_state_dict({key: entry.clone() if torch.is_tensor(entry) else entry for key, entry in state.items()})
    for step in range(7, len(sums)):
        resumed.apply(sums[step], step=step)
    assert torch.equal(weights, expected)


def test_a_loaded_state_is_a_copy(config):
    begun, _ = _updates(_model(), config, OPTIMIZERS["Adam"])
    begun.apply(_sums(config)[0], step=0)
    state = begun.state_dict()
    resumed, _ = _updates(_model(), config, OPTIMIZERS["Adam"])
    resumed.load_state_dict(state)
    before = state["parameter.0.exp_avg"].clone()
    resumed.apply(_sums(config)[1], step=1)
    assert torch.equal(state["parameter.0.exp_avg"], before)


def test_the_state_of_other_updates_is_refused(config):
    adam, _ = _updates(_model(), config, OPTIMIZERS["Adam"])
    adam.apply(_sums(config)[0], step=0)
    plain, _ = _updates(_model(), config, None)
    with pytest.raises(InvalidParameter, match=r"PlainUpdates: state must be empty(.|\n)*another optimizer"):
        plain.load_state_dict(adam.state_dict())
    grouped, _ = _updates(_model(), config, OPTIMIZERS["two groups"])
    with pytest.raises(InvalidParameter, match=r"state must be of Adam, got \['group.1.amsgrad'"):
        adam.load_state_dict(grouped.state_dict())


@pytest.mark.parametrize("name", [None, *OPTIMIZERS])
def test_a_schedule_multiplies_the_learning_rates_of_every_step(config, name):
    factors = [2.0, 0.0, 0.5]
    scheduled, weights = _updates(_model(), config, OPTIMIZERS.get(name), schedule=factors.__getitem__)
    twin = _model()
    by_hand = OPTIMIZERS[name or "SGD"](list(twin.parameters()), config)
    rates = [group["lr"] for group in by_hand.param_groups]
    for step, noisy_sum in enumerate(_sums(config)[:3]):
        scheduled.apply(noisy_sum, step=step)
        for group, rate in zip(by_hand.param_groups, rates, strict=True):
            group["lr"] = rate * factors[step]
        pieces = torch.split(noisy_sum / 4, [parameter.numel() for parameter in twin.parameters()])
        for parameter, piece in zip(twin.parameters(), pieces, strict=True):
            parameter.grad = piece.view(parameter.shape).clone()
        by_hand.step()
        torch.testing.assert_close(weights, flatten(twin.parameters()))


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf"), "1", None])
def test_a_factor_of_the_learning_rate_is_a_number(config, factor):
    with pytest.raises(InvalidParameter, match=r"train: schedule\(0\) must be"):
        _run(_model(), config, schedule=lambda step: factor)


class _Replacing(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data = parameter.data - parameter.grad


class _Listing(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["history"] = [parameter.grad]


REFUSED = {
    "a second evaluation": (
        lambda parameters, config: torch.optim.LBFGS(parameters, lr=config.learning_rate),
        "must go by one gradient a step, got LBFGS",
    ),
    "no optimizer": (lambda parameters, config: None, "must return a torch.optim.Optimizer, got NoneType.\nWrite"),
    "its class": (lambda parameters, config: torch.optim.Adam, "must return a torch.optim.Optimizer, got type"),
    "another rate": (
        lambda parameters, config: torch.optim.Adam(parameters),
        "must have the configuration's learning_rate, 0.1, in one group at least, got [0.001] of Adam",
    ),
    "some parameters": (
        lambda parameters, config: torch.optim.SGD(parameters[:1], lr=config.learning_rate),
        "must have the parameters it is given, all of them and no others, got SGD of 1 with 1 of the 4",
    ),
    "another model's": (
        lambda parameters, config: torch.optim.SGD(_model().parameters(), lr=config.learning_rate),
        "must have the parameters it is given, all of them and no others, got SGD of 4 with 0 of the 4",
    ),
    "others": (
        lambda parameters, config: torch.optim.SGD([*parameters, nn.Parameter(torch.ones(2))], lr=0.1),
        "must have the parameters it is given, all of them and no others, got SGD of 5 with 4 of the 4",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_does_not_fit_is_refused_before_the_first_step(config, name):
    make, text = REFUSED[name]
    with pytest.raises(InvalidParameter, match=re.escape(f"train: optimizer {text}")):
        steps(
            _model(),
            _data(),
            config,
            loss=nn.CrossEntropyLoss(reduction="none"),
            randomness=KeyedSource(0),
            optimizer=make,
        )


def test_an_optimizer_that_gives_parameters_other_memory_is_refused(config):
    with pytest.raises(InvalidParameter, match="optimizer must move parameters in place, and _Replacing replaces them"):
        _run(_model(), config, optimizer=lambda parameters, config: _Replacing(parameters, lr=config.learning_rate))


def test_what_an_optimizer_keeps_must_be_tensors_and_numbers(config):
    kept, _ = _updates(_model(), config, lambda parameters, config: _Listing(parameters, lr=config.learning_rate))
    kept.apply(_sums(config)[0], step=0)
    with pytest.raises(InvalidParameter, match="must keep tensors and numbers alone, and keeps list 'history'"):
        kept.state_dict()


def test_runs_begun_one_after_the_other_on_one_model_go_on_from_its_weights(config):
    model = _model()
    loss = nn.CrossEntropyLoss(reduction="none")
    first, second = (steps(model, _data(), config, loss=loss, randomness=KeyedSource(key)) for key in "ab")
    list(first)
    after = flatten(model.parameters())
    assert torch.equal(next(second).weights_before, after)


def test_a_state_from_a_file_goes_to_the_device_of_the_parameters(config):
    """What torch keeps of a parameter lies beside it; a count of steps stays where it was."""
    parameter = nn.Parameter(torch.zeros(3, device="meta"))
    updates = updates_of(
        parameter.detach(), [parameter], config, optimizer=torch.optim.Adam([parameter], lr=config.learning_rate)
    )
    updates.load_state_dict({"parameter.0.exp_avg": torch.ones(3), "parameter.0.step": torch.tensor(4.0)})
    state = updates.optimizer.state[parameter]
    assert (state["exp_avg"].device.type, state["step"].device.type) == ("meta", "cpu")


def test_a_state_of_a_parameter_of_one_number_lies_beside_it(config):
    parameter = nn.Parameter(torch.tensor(1.0, device="meta"))
    made = torch.optim.SGD([parameter], lr=config.learning_rate, momentum=0.9)
    updates = updates_of(parameter.detach().view(1), [parameter], config, optimizer=made)
    updates.load_state_dict({"parameter.0.momentum_buffer": torch.tensor(2.0)})
    assert made.state[parameter]["momentum_buffer"].device.type == "meta"


def test_a_count_of_steps_lies_where_the_optimiser_counts(config):
    """Fused and capturable ones count on the device; what a group has for a tensor stays where it was made."""
    parameter = nn.Parameter(torch.zeros(3, device="meta"))
    made = torch.optim.Adam([parameter], lr=config.learning_rate, capturable=True)
    made.param_groups[0]["scale"] = torch.ones((), device="meta")
    updates = updates_of(parameter.detach(), [parameter], config, optimizer=made)
    updates.load_state_dict({"parameter.0.step": torch.tensor(4.0), "group.0.scale": torch.tensor(0.5)})
    assert made.state[parameter]["step"].device.type == made.param_groups[0]["scale"].device.type == "meta"
