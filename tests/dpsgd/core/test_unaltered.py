"""A run goes on with the model that it was begun with, or not at all."""

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of


def _run(model):
    data = Dataset(features=torch.ones(6, 5), targets=torch.arange(6) % 3)
    loss = nn.CrossEntropyLoss(reduction="none")
    return steps(model, data, config_of(Poisson(probability=1.0)), loss=loss, randomness=KeyedSource(0))


def _another_parameter(model):
    model[0].weight = nn.Parameter(torch.zeros(4, 5))


CHANGES = {
    "a hook that mixes": lambda model: model[0].register_forward_hook(
        lambda module, taken, given: given - given.mean(0)
    ),
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
    with pytest.raises(InvalidParameter, match="the model must keep its modules, hooks and parameters"):
        next(releases)


def test_hooks_for_every_module_that_come_between_two_steps_are_refused():
    releases = _run(mlp(5, (4,), 3))
    next(releases)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(InvalidParameter, match="the model must keep its modules, hooks and parameters"):
            next(releases)
    finally:
        handle.remove()


def test_what_parameters_hold_and_the_mode_are_the_callers():
    model = mlp(5, (4,), 3)
    releases = _run(model)
    next(releases)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    model.eval()
    assert [release.step for release in releases] == list(range(1, 12))
