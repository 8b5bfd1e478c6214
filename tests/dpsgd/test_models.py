import torch
from torch import nn

from dpsgd import count_parameters, mlp
from dpsgd.core.chains import rowwise_chain


def test_an_mlp_has_the_widths_asked_for_and_no_activation_at_its_end():
    model = mlp(8, (6, 4), 3)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert model(torch.zeros(5, 8)).shape == (5, 3)


def test_without_hidden_layers_it_is_linear():
    assert [type(layer) for layer in mlp(8, (), 3)] == [nn.Linear]


def test_it_trains_by_book_keeping():
    assert rowwise_chain(mlp(8, (6,), 3), example_dimensions=1) is not None


def test_parameters_are_counted_once_and_frozen_ones_not_at_all():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer)) == 6
