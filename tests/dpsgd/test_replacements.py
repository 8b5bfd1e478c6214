import pytest
import torch
from torch import nn

from dpsgd.isolation import validate_model
from dpsgd.replacements import with_replacements
from tests.dpsgd.every_layer import EVERY_LAYER, model_around

REPLACED = [
    name
    for name in EVERY_LAYER
    if name.startswith(("BatchNorm", "SyncBatchNorm")) or "max_norm" in name or "tracks" in name or "sparse" in name
]


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_can_be_private_and_the_model_given_is_left_alone(name):
    model, batch = model_around(name)
    assert validate_model(model)
    fixed = with_replacements(model)
    assert validate_model(fixed, like=batch) == () and validate_model(model)
    assert fixed(batch).shape == model(batch).shape
    assert fixed(batch)[0].std() > 0  # not normalised away


@pytest.mark.parametrize("channels", range(1, 70))
def test_groups_divide_the_channels_and_hold_two_where_they_can(channels):
    norm = with_replacements(nn.BatchNorm2d(channels))
    assert channels % norm.num_groups == 0 and norm.num_groups <= 32
    assert norm.num_groups < channels or channels == 1


def test_weights_eps_and_shared_layers_are_kept():
    shared = nn.BatchNorm2d(4, eps=0.25)
    nn.init.normal_(shared.weight), nn.init.normal_(shared.bias)
    shared.bias.requires_grad_(False)
    fixed = with_replacements(nn.Sequential(shared, nn.Sequential(shared)))
    assert fixed[0] is fixed[1][0] and fixed[0].eps == 0.25
    assert torch.equal(fixed[0].weight, shared.weight) and fixed[0].weight is not shared.weight
    assert torch.equal(fixed[0].bias, shared.bias) and not fixed[0].bias.requires_grad


def test_a_model_without_such_layers_is_copied_as_it_is():
    model = nn.Sequential(nn.Linear(2, 2), nn.InstanceNorm1d(2))
    fixed = with_replacements(model)
    assert str(fixed) == str(model)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(fixed.parameters(), model.parameters(), strict=True))
