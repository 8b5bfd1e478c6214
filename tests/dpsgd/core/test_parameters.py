import pytest
import torch
from torch import nn

from dpsgd.core.parameters import assign, check_flat, flatten, trainable
from mechanisms import InvalidParameter


def test_flattening_and_assigning_are_each_others_inverse():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False))
    parameters = list(trainable(model).values())
    weights = torch.arange(10.0)
    assign(weights, parameters)
    assert torch.equal(flatten(parameters), weights)
    assert model[0].weight.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_assigned_parameters_follow_their_vector_and_copies_do_not():
    layer = nn.Linear(1, 1)
    parameters = list(trainable(layer).values())
    weights, copy = torch.zeros(2), flatten(parameters)
    before = copy.clone()
    assign(weights, parameters)
    weights += 1
    assert layer.weight.item() == layer.bias.item() == 1
    assert torch.equal(copy, before)


def test_frozen_parameters_are_left_out_and_shared_ones_counted_once():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert list(trainable(nn.Sequential(layer, layer))) == ["0.weight"]


def _half():
    return nn.Linear(2, 2).half()


def _empty():
    model = nn.Module()
    model.nothing = nn.Parameter(torch.zeros(0))
    return model


def _mixed():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.Tanh(), "model must have a parameter that requires a gradient, got none"),
        (_half(), r"parameters must be float32 or float64, got torch\.float16 for 'weight'"),
        (_empty(), r"must have a parameter with an entry, got \['nothing'\] of none"),
        (nn.Linear(1, 1).bfloat16(), r"got torch.bfloat16 for 'weight'(.|\n)*model.float\(\), and cast the model once"),
        (_mixed(), "parameters must share one dtype and device, got torch.float64 on cpu for '1.weight'"),
    ],
)
def test_parameters_that_make_no_single_vector_are_refused(model, text):
    with pytest.raises(InvalidParameter, match=text):
        check_flat(trainable(model))
