"""A run lies on one device, which is the CPU or CUDA; what does not is refused by name before a record is touched."""

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps
from mechanisms import InvalidParameter, KeyedSource
from tests.dpsgd.schemes import EVERY_SCHEME

DATA = Dataset(features=torch.ones(7, 5), targets=torch.arange(7) % 3)
ONE_DEVICE = r"model and dataset must lie on one device, got {} on {} beside {} on {}\.\nWrite model\.to\(device\)"


def _steps(model, data=DATA):
    loss = nn.CrossEntropyLoss(reduction="none")
    return steps(model, data, EVERY_SCHEME["Poisson"], loss=loss, randomness=KeyedSource(0))


def test_a_layer_that_is_frozen_elsewhere_is_refused():
    """Masks that it drew would be of a generator that is not set: others in a step that is taken again."""
    model = nn.Sequential(nn.Linear(5, 5, device="meta").requires_grad_(False), nn.Linear(5, 3))
    with pytest.raises(InvalidParameter, match=r"lie on the CPU or a CUDA device, got '0\.weight' on meta"):
        _steps(model)
    with pytest.raises(InvalidParameter, match=ONE_DEVICE.format(r"'1\.weight'", "meta", r"'0\.weight'", "cpu")):
        _steps(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3, device="meta").requires_grad_(False)))


def test_a_buffer_elsewhere_is_refused():
    model = mlp(5, (), 3)
    model.register_buffer("table", torch.zeros(2, device="meta"))
    with pytest.raises(InvalidParameter, match=ONE_DEVICE.format("'table'", "meta", r"'0\.weight'", "cpu")):
        _steps(model)


@pytest.mark.parametrize("name", ["features", "targets"])
def test_records_elsewhere_are_refused(name):
    parts = {"features": DATA.features, "targets": DATA.targets}
    data = Dataset(**{**parts, name: parts[name].to("meta")})
    with pytest.raises(InvalidParameter, match=ONE_DEVICE.format(f"'{name}'", "meta", r"'0\.weight'", "cpu")):
        _steps(mlp(5, (), 3), data)
