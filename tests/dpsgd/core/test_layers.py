"""Every layer's contributions against one backward pass an example, over shapes, strides, paddings and groups."""

import itertools

import pytest
import torch
from torch import nn

from dpsgd.core import contributions as contributions_of_layers
from dpsgd.core import convolutions, layers
from dpsgd.core.clip import Factors, clip_factors
from dpsgd.core.layers import contributions, covers
from dpsgd.core.workspace import Workspace

LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "linear on a short sequence": (lambda: nn.Linear(20, 30), (2, 20)),
    "linear on a short sequence without bias": (lambda: nn.Linear(20, 30, bias=False), (2, 20)),
    "linear on a long sequence": (lambda: nn.Linear(5, 3), (7, 5)),
    "linear on a grid": (lambda: nn.Linear(5, 3), (2, 3, 5)),
    "layer norm": (lambda: nn.LayerNorm(5), (5,)),
    "layer norm of sequences": (lambda: nn.LayerNorm(5, bias=False), (4, 5)),
    "layer norm of grids": (lambda: nn.LayerNorm((3, 5), eps=0.1), (2, 3, 5)),
    "rms norm": (lambda: nn.RMSNorm(5), (4, 5)),
    "rms norm of grids": (lambda: nn.RMSNorm((3, 5), eps=0.1), (3, 5)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 6), (6,)),
    "group norm of images": (lambda: nn.GroupNorm(3, 6, eps=0.1), (6, 4, 5)),
    "convolution of one pixel": (lambda: nn.Conv2d(2, 3, 2), (2, 2, 2)),
    "convolution with text padding": (lambda: nn.Conv2d(2, 3, (5, 3), padding="same"), (2, 5, 6)),
    "convolution that reflects": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 6)),
    "convolution without bias": (lambda: nn.Conv2d(2, 3, 3, bias=False), (2, 5, 6)),
    "convolution of lines that wraps": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2, padding_mode="circular"),
        (4, 9),
    ),
}
SHAPES = itertools.product((1, 2), (0, (1, 2)), (1, 2), (1, 2))
LAYERS |= {
    f"convolution, stride {stride}, padding {padding}, dilation {dilation}, {groups} groups": (
        lambda s=stride, p=padding, d=dilation, g=groups: nn.Conv2d(
            4, 6, (2, 3), stride=s, padding=p, dilation=d, groups=g
        ),
        (4, 6, 7),
    )
    for stride, padding, dilation, groups in SHAPES
}
WORDS = {
    "embedding": lambda: nn.Embedding(4, 3),
    "padded embedding": lambda: nn.Embedding(4, 3, padding_idx=1),
}
FACTORS = torch.tensor([0.5, 0.0, 1.0, 0.25, 2.0])


def _one_by_one(layer, inputs, gradients):
    """The gradients of every example as rows, in float64."""
    layer = layer.double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    rows = [
        torch.autograd.grad(layer(a[None]), list(layer.parameters()), b[None].double())
        for a, b in zip(inputs, gradients, strict=True)
    ]
    layer.float()
    return torch.stack([torch.cat([piece.flatten() for piece in row]) for row in rows])


def _flat_sum(taken, layer, factors, keep):
    sums = [torch.full_like(parameter, 0.0 if keep else torch.nan) for parameter in layer.parameters()]
    taken.add_to(sums, Factors(factors), keep=keep)
    return torch.cat([sum_.flatten() for sum_ in sums]).detach().double()


def _check(layer, inputs, *, keep=1):
    gradients = torch.randn_like(layer(inputs))
    taken = contributions(layer, inputs, gradients, Workspace(inputs=not keep))
    expected = _one_by_one(layer, inputs, gradients)
    torch.testing.assert_close(taken.squared_norms().sqrt(), expected.norm(dim=1), rtol=1e-5, atol=1e-6)
    total = _flat_sum(taken, layer, FACTORS[: len(inputs)], keep)
    exact = FACTORS[: len(inputs)].double() @ expected
    assert (total - exact).norm() <= 1e-5 * exact.norm()


@pytest.mark.parametrize("name", LAYERS)
def test_norms_and_sums_are_those_of_one_backward_pass_an_example(name, monkeypatch):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    assert covers(layer)
    _check(layer, torch.randn(5, *shape))
    _check(layer, torch.randn(1, *shape), keep=0)
    monkeypatch.setattr(contributions_of_layers, "WEIGHED_ENTRIES", 1)
    _check(layer, torch.randn(5, *shape))
    _check(layer, torch.randn(5, *shape), keep=0)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):  # one example at a time
        monkeypatch.setattr(convolutions, "COLUMN_ENTRIES", 1)
        _check(layer, torch.randn(5, *shape))


@pytest.mark.parametrize(
    "name", [name for name, (_, shape) in LAYERS.items() if len(shape) == 3 and "norm" not in name]
)
@pytest.mark.parametrize("of_outputs", [torch.channels_last, torch.contiguous_format])
def test_channels_may_lie_first_or_last(name, of_outputs):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, inputs = make(), torch.randn(5, *shape)
    gradients = torch.randn_like(layer(inputs))
    first = contributions(layer, inputs, gradients, Workspace())
    last = (rows.to(memory_format=form) for rows, form in ((inputs, torch.channels_last), (gradients, of_outputs)))
    last = contributions(layer, *last, Workspace())
    torch.testing.assert_close(last.squared_norms(), first.squared_norms(), rtol=1e-5, atol=0)
    sums = [_flat_sum(taken, layer, FACTORS, keep=1) for taken in (first, last)]
    assert (sums[1] - sums[0]).norm() <= 1e-5 * sums[0].norm()


@pytest.mark.parametrize("make", WORDS.values(), ids=WORDS)
def test_words_looked_up_several_times_add_before_the_norm_is_taken(make):
    torch.manual_seed(0)
    _check(make(), torch.randint(4, (5, 9)))
    _check(make(), torch.randint(4, (5,)), keep=0)
    _check(make(), torch.ones(2, 3, 2, dtype=torch.int64) * torch.tensor([0, 3]))


def test_short_sequences_stay_products_and_long_ones_are_formed():
    inside = contributions(nn.Linear(20, 30), torch.ones(2, 2, 20), torch.ones(2, 2, 30), Workspace())
    formed = contributions(nn.Linear(5, 3), torch.ones(2, 7, 5), torch.ones(2, 7, 3), Workspace())
    assert (inside.entries(), formed.entries()) == (0, 2 * 18)


@pytest.mark.parametrize("left", [2.0**-4, 2.0**-12, 2.0**-20, 0.0])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_terms_of_a_sequence_that_cancel_do_not_lift_it_above_the_bound(left, scale):
    """The example's own rounding counts: its terms are up to 10^13 times the bound."""
    torch.manual_seed(0)
    layer = nn.Linear(40, 50)
    for _ in range(20):
        a, b = scale * torch.randn(1, 1, 40).repeat(1, 3, 1), scale * torch.randn(1, 1, 50).repeat(1, 3, 1)
        b[:, 1] *= -(1 - left) / 3
        b[:, 2] *= -(1 - left) * 2 / 3
        taken = contributions(layer, a, b, Workspace())
        assert taken.entries() == 0
        exact = torch.einsum("ntp,ntd->npd", b.double(), a.double()).norm()
        assert taken.squared_norms().sqrt() >= exact
        factors = clip_factors(taken.squared_norms().sqrt(), max_grad_norm=1.0, dtype=torch.float32)
        assert _flat_sum(taken, layer, factors, keep=1).norm() <= 1.0


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("name", [*LAYERS])
@pytest.mark.parametrize("keep", [0, 1])
def test_what_is_not_finite_spoils_its_own_norm_and_no_sum(name, poison, keep):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, inputs = make(), torch.randn(5, *shape)
    gradients = torch.randn_like(layer(inputs))
    clean = contributions(layer, inputs[[0, 2, 3, 4]], gradients[[0, 2, 3, 4]], Workspace())
    gradients[1] = poison
    inputs[1] = poison
    spoilt = contributions(layer, inputs, gradients, Workspace(inputs=not keep))
    others = [0, 2, 3, 4]
    norms = spoilt.squared_norms()
    assert poison == 1e38 or not norms[1].isfinite()
    torch.testing.assert_close(norms[others], clean.squared_norms(), rtol=1e-5, atol=1e-6)
    sums = _flat_sum(spoilt, layer, FACTORS, keep), _flat_sum(clean, layer, FACTORS[others], keep)
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)


def _changed():
    layer = nn.Linear(2, 2)
    layer.forward = lambda rows: rows.mean(0, keepdim=True) + layer.weight[0]
    return layer


@pytest.mark.parametrize(
    "make",
    [
        nn.PReLU,
        _changed,
        lambda: nn.Embedding(3, 2, scale_grad_by_freq=True),
        lambda: nn.Embedding(3, 2, sparse=True),
        lambda: nn.Embedding(3, 2, max_norm=1.0),
        lambda: nn.Conv3d(1, 1, 1),
        lambda: nn.ConvTranspose2d(1, 1, 1),
        lambda: nn.Bilinear(2, 2, 2),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.LSTM(2, 2),
        lambda: type("Mine", (nn.Linear,), {})(2, 2),
    ],
)
def test_other_layers_are_not_covered(make):
    assert not covers(make())


def test_every_rule_is_tried_here():
    tried = {type(make()) for make, _ in LAYERS.values()} | {type(make()) for make in WORDS.values()}
    assert tried == set(layers.RULES)
