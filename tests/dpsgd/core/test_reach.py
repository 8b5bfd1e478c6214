"""Where code may keep something, and that what may move is left alone."""

import collections
import functools
import random
import types

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd.core.reach import MANY, Reach

SETTING = 1.0


def _reading(outputs):
    return outputs * SETTING


class Held:
    """Something of every kind."""

    __slots__ = ("__dict__", "slot")

    def __init__(self):
        self.slot, self.number, self.listed, self.nothing = 1, 1.0, [1], []
        self.mapped, self.deque, self.set = {"key": (1, [2])}, collections.deque([1]), {1}
        self.bound = functools.partial(max, 1, key=abs)
        self.inner = types.SimpleNamespace(deep=1)
        self.tensor, self.array = torch.ones(2), np.ones(2)
        self.torchs, self.numpys = torch.Generator(), np.random.default_rng(0)
        self.pythons, self.systems = random.Random(0), random.SystemRandom()


def _closed_over():
    kept = 0

    def function():
        nonlocal kept
        kept += 1

    return function


CHANGES = {
    "slot": lambda held: setattr(held, "slot", 2),
    "number": lambda held: setattr(held, "number", 2.0),
    "listed": lambda held: held.listed.append(1),
    "listed otherwise": lambda held: held.listed.__setitem__(0, 2),
    "nothing": lambda held: held.nothing.append(1),
    "mapped": lambda held: held.mapped["key"][1].append(1),
    "another key": lambda held: held.mapped.update(other=1),
    "a key less": lambda held: held.mapped.clear(),
    "deque": lambda held: held.deque.append(1),
    "set": lambda held: held.set.add(2),
    "inner": lambda held: setattr(held.inner, "deep", 2),
    "new": lambda held: setattr(held, "new", 2),
    "gone": lambda held: delattr(held, "number"),
    "class": lambda held: setattr(held, "__class__", type("Other", (Held,), {"__slots__": ()})),
}
OF_VALUES = {
    "tensor": lambda held: held.tensor.add_(1.0),
    "tensor, unseen by torch": lambda held: held.tensor.data.add_(1.0),
    "tensor, another": lambda held: setattr(held, "tensor", torch.zeros(2)),
    "array": lambda held: held.array.__setitem__(0, 2.0),
    "object": lambda held: setattr(held, "inner", types.SimpleNamespace(deep=1)),
    "torch's generator": lambda held: torch.rand(1, generator=held.torchs),
    "numpy's generator": lambda held: held.numpys.random(),
    "Python's generator": lambda held: held.pythons.random(),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("values", [False, True])
def test_what_is_set_or_added_or_removed_is_seen(name, values):
    held = Held()
    reach = Reach("held", held, values=values)
    assert reach.altered() is None
    CHANGES[name](held)
    assert reach.altered().startswith("held")


@pytest.mark.parametrize("name", OF_VALUES)
def test_values_of_tensors_count_where_they_are_asked_for(name):
    held = Held()
    reaches = [Reach("held", held, values=values) for values in (False, True)]
    assert [reach.altered() for reach in reaches] == [None, None]
    OF_VALUES[name](held)
    assert [reach.altered() is None for reach in reaches] == [True, False]


def test_another_kind_of_tensor_is_seen_in_any_case():
    held = Held()
    reach = Reach("held", held)
    held.tensor = held.tensor.double()
    assert reach.altered() == "held.tensor"


def test_closures_and_the_globals_that_code_names_are_seen(monkeypatch):
    function = _closed_over()
    reach, reading = Reach("loss", function), Reach("loss", _reading, values=True)
    function()
    assert reach.altered() == "loss.kept"
    assert reading.altered() is None
    monkeypatch.setitem(_reading.__globals__, "SETTING", 2.0)
    assert reading.altered() == "SETTING"


def test_equal_numbers_and_nan_are_what_they_were():
    held = Held()
    held.number = float("nan")
    reach = Reach("held", held, values=True)
    held.number, held.mapped["key"], held.tensor = float("nan"), (1, held.mapped["key"][1]), torch.ones(2)
    assert reach.altered() is None


def test_a_parameter_of_one_number_is_told_from_its_equal():
    layer = nn.Linear(1, 1)
    reach = Reach("model", layer)
    layer.bias = nn.Parameter(layer.bias.detach().clone())
    assert reach.altered() == "model.bias"


def test_free_attributes_may_change_and_hide_nothing():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    reach = Reach("model", model, free=("training",))
    model.eval()
    assert reach.altered() is None
    model[1].p = 0.25
    assert reach.altered() == "model.1.p"


def test_long_lists_are_told_by_their_length_and_cycles_end():
    held = Held()
    held.listed, held.inner.outer = list(range(MANY + 1)), held
    reach, strict = (Reach("held", held, values=values) for values in (False, True))
    held.listed[0] = -1
    assert reach.altered() is None and strict.altered() == "held.listed"
    held.listed.append(1)
    assert reach.altered() == "held.listed"
