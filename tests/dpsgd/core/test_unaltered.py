"""A run goes on with the model that it was begun with, or not at all."""

import types

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from dpsgd import Dataset, mlp, steps
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of


def _run(model):
    data = Dataset(features=torch.ones(6, 5), targets=torch.arange(6) % 3)
    loss = nn.CrossEntropyLoss(reduction="none")
    return steps(model, data, config_of(Poisson(probability=1.0)), loss=loss, randomness=KeyedSource(0))


def _another_parameter(model):
    model[0].weight = nn.Parameter(torch.zeros(4, 5))


def _another_class(model):
    class Mixing(nn.Linear):
        def forward(self, rows):
            return super().forward(rows - rows.mean(0))

    model[0].__class__ = Mixing


CHANGES = {
    "a hook that mixes": lambda model: model[0].register_forward_hook(
        lambda module, taken, given: given - given.mean(0)
    ),
    "parametrised": lambda model: parametrizations.weight_norm(model[0]),
    "pruned": lambda model: prune.l1_unstructured(model[0], "weight", 1),
    "a setting": lambda model: setattr(model[1], "inplace", True),
    "another class": _another_class,
    "moved": lambda model: setattr(model[0].bias, "data", torch.zeros(4)),
    "a hook on the way back": lambda model: model[1].register_full_backward_hook(lambda *_: None),
    "a hook before": lambda model: model[0].register_forward_pre_hook(lambda module, taken: None),
    "a forward of its own": lambda model: setattr(model[0], "forward", lambda rows: rows),
    "a layer more": lambda model: model.append(nn.BatchNorm1d(3)),
    "another layer": lambda model: model.__setitem__(1, nn.ReLU()),
    "another parameter": _another_parameter,
    "frozen": lambda model: model[0].weight.requires_grad_(False),
    "another dtype": lambda model: model.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_model_that_is_changed_between_two_steps_is_refused(change):
    model = mlp(5, (4,), 3)
    releases = _run(model)
    next(releases)
    change(model)
    with pytest.raises(InvalidParameter, match="the model must keep its modules, hooks, parameters and settings"):
        next(releases)


def test_hooks_for_every_module_that_come_between_two_steps_are_refused():
    releases = _run(mlp(5, (4,), 3))
    next(releases)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(InvalidParameter, match="the model must keep its modules, hooks, parameters and settings"):
            next(releases)
    finally:
        handle.remove()


class Own(nn.Module):
    """A linear layer with code of the test's own, and what may be set."""

    def __init__(self):
        super().__init__()
        self.inner, self.settings, self.kept = nn.Linear(5, 3), types.SimpleNamespace(mixing=False), {"mixing": False}
        self.mask, self.note = torch.ones(5), [1, 2]
        self.register_forward_hook(lambda *_: None)

    def forward(self, rows):
        self.mask = torch.ones(5)
        return self.inner(rows * self.mask)


def _another_hook(model):
    model._forward_hooks.clear()
    model.register_forward_hook(lambda module, taken, given: given - given.mean(0))


OF_OBJECTS = {
    "another hook": (_another_hook, "model._forward_hooks"),
    "an attribute of an object": (lambda model: setattr(model.settings, "mixing", True), "model.settings.mixing"),
    "an entry": (lambda model: model.kept.update(mixing=True), "model.kept.mixing"),
    "a list": (lambda model: model.note.append(3), "model.note"),
    "the mode": (lambda model: model.eval(), "model.training"),
    "frozen": (lambda model: model.inner.bias.requires_grad_(False), "model.inner.bias"),
    "another layer": (lambda model: setattr(model, "inner", nn.Linear(5, 3)), "model.inner"),
}


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_whatever_a_models_own_code_may_read_is_compared_and_named(name):
    change, place = OF_OBJECTS[name]
    model = Own()
    releases = _run(model)
    next(releases), next(releases)
    change(model)
    with pytest.raises(InvalidParameter, match=f"but {place} changed"):
        next(releases)


def test_a_layer_whose_code_is_exchanged_for_all_is_refused(monkeypatch):
    releases = _run(mlp(5, (4,), 3))
    next(releases)
    mixing = lambda layer, rows: nn.functional.linear(rows - rows.mean(0), layer.weight, layer.bias)  # noqa: E731
    monkeypatch.setattr(nn.Linear, "forward", mixing)
    with pytest.raises(InvalidParameter, match=r"but Linear.forward changed"):
        next(releases)


class Recurrent(nn.Module):
    """Its layer makes lists of its parameters anew."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, rows):
        return self.last(self.inner(rows.unsqueeze(1))[0][:, 0])


@pytest.mark.parametrize("make", [Own, Recurrent, lambda: parametrizations.weight_norm(nn.Linear(5, 3))])
@pytest.mark.parametrize("mode", [True, False])
def test_what_a_pass_makes_anew_each_time_does_not_end_the_run(make, mode):
    assert len(list(_run(make().train(mode)))) == 12


def test_a_loss_that_is_set_to_mix_examples_is_from_then_on_given_them_alone():
    class Loss:
        mixing = False

        def __call__(self, outputs, targets):
            losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
            return losses * len(losses) if self.mixing else losses

    loss = Loss()
    data = Dataset(features=torch.ones(6, 5), targets=torch.arange(6) % 3)
    config = config_of(Poisson(probability=1.0), noise_multiplier=0.0, max_grad_norm=1e6, learning_rate=1e-30)
    releases = steps(mlp(5, (4,), 3), data, config, loss=loss, randomness=KeyedSource(0))
    before = next(releases).noisy_sum
    loss.mixing = True
    torch.testing.assert_close(next(releases).noisy_sum, before)  # each alone is a batch of one


def test_what_parameters_hold_and_the_mode_are_the_callers():
    model = mlp(5, (4,), 3)
    releases = _run(model)
    next(releases)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    model.eval()
    assert [release.step for release in releases] == list(range(1, 12))
