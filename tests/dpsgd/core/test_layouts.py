import pytest
import torch
from torch import nn
from torch.nn import functional

from dpsgd import DPSGD, Dataset, gradient_sum, train, validate_model
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.layouts import LONG, NARROW, applied, in_order, laid_for, lies_awry
from dpsgd.core.vectorised import Vectorised
from mechanisms import InvalidParameter, KeyedSource, Poisson

LAST = torch.channels_last


def convolution():
    """One that torch 2.13 gets wrong where it or what it takes in lies channels last."""
    return nn.Conv2d(1, 3, (5, 3), stride=(1, 3), padding=(2, 2), bias=False)


class Own(nn.Module):
    """Code of a user's own around the convolution."""

    def __init__(self, before=lambda rows: rows):
        super().__init__()
        self.before, self.convolution, self.last = before, convolution(), nn.Linear(15, 2)

    def forward(self, rows):
        return self.last(functional.group_norm(self.convolution(self.before(rows)), 1).flatten(1))


def chain(*between):
    return nn.Sequential(convolution(), *between, nn.Flatten(), nn.Linear(15, 2))


def loss(outputs, _):
    return (outputs * outputs).sum(1)


def largest_move(make, rows_of):
    moves = []
    for seed in range(3, 300, 10):
        torch.manual_seed(seed)
        clipped = gradient_sum(make(), example_dimensions=3, loss=loss, max_grad_norm=1.0)
        rows = rows_of(torch.randn(33, 1, 5, 1))
        moves.append((clipped(rows, torch.zeros(33)) - clipped(rows[1:], torch.zeros(32))).norm())
    return max(moves)


@pytest.mark.parametrize("rows_of", [lambda rows: rows, lambda rows: rows.to(memory_format=LAST)])
@pytest.mark.parametrize(
    "make", [lambda: chain(nn.Tanh()), lambda: chain(nn.GroupNorm(1, 3)), lambda: chain(nn.MaxPool2d(1)), Own]
)
def test_a_convolution_that_torch_gets_wrong_channels_last_moves_nobody(make, rows_of):
    """Laid so, one record moved the sum by 44 bounds: torch reads beyond its memory."""
    assert largest_move(make, rows_of) <= 1 + 1e-5


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("make", [lambda: chain(nn.Tanh()), Own])
def test_models_laid_channels_last_are_refused_by_name(make, frozen):
    model = make().to(memory_format=LAST)
    for parameter in model.get_submodule("0" if isinstance(model, nn.Sequential) else "convolution").parameters():
        parameter.requires_grad_(not frozen)
    with pytest.raises(
        InvalidParameter, match=r"gradient_sum: model must lie in order in memory, but entries of '.*weight'"
    ):
        gradient_sum(model, example_dimensions=3, loss=loss, max_grad_norm=1.0)
    in_place = model.to(memory_format=torch.contiguous_format)
    gradient_sum(in_place, example_dimensions=3, loss=loss, max_grad_norm=1.0)


@pytest.mark.parametrize(
    ("before", "shape"),
    [(lambda rows: rows.to(memory_format=LAST), (1, 5, 1)), (lambda rows: rows.permute(0, 3, 1, 2), (5, 1, 1))],
)
def test_code_that_lays_images_channels_last_is_refused_before_a_step(before, shape):
    torch.manual_seed(0)
    [finding] = validate_model(Own(before), like=torch.empty(0, *shape))
    assert finding.kind == "Conv2d" and "takes in rows or weights that lie channels last" in str(finding)
    config = DPSGD(
        noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.5), expected_batch_size=4, steps=1,
        learning_rate=1.0,
    )  # fmt: skip
    data = Dataset(features=torch.randn(8, *shape), targets=torch.zeros(8))
    with pytest.raises(InvalidParameter, match="lie channels last"):
        train(Own(before), data, config, loss=loss, randomness=KeyedSource(0), largest_physical_batch=1)


def test_code_that_copies_images_into_order_is_taken():
    before = lambda rows: rows.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)  # noqa: E731
    assert validate_model(Own(before), like=torch.empty(0, 5, 1, 1)) == ()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 3, 1), (2, 3, 1, 1), (1, 1, 1, 1), (0, 3, 2, 2), (2, 1, 7)])
def test_what_is_new_lies_in_order_and_what_is_put_there_is_what_it_was(shape):
    rows = torch.randn(shape)
    assert in_order(rows) is rows and not lies_awry(rows)
    turned = rows.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)
    straight = in_order(turned)
    assert straight.stride() == rows.stride() and torch.equal(straight, rows)
    assert lies_awry(turned) == (turned.stride() != rows.stride())


def test_poolings_alone_get_images_channels_last():
    images = torch.randn(4, 3, 6, 6)
    last = laid_for(nn.MaxPool2d(2), images)
    assert last.is_contiguous(memory_format=LAST) and torch.equal(last, images)
    for layer in (nn.Conv2d(3, 2, 3), nn.GroupNorm(1, 3), nn.ConvTranspose2d(3, 2, 3)):
        assert laid_for(layer, last).stride() == images.stride()
    one = images[0]
    assert laid_for(nn.ReLU(), last) is last and laid_for(nn.MaxPool2d(2), one) is one


@pytest.mark.thinned(10)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["max", "average", "adaptive max", "adaptive average"])
def test_poolings_channels_last_are_those_in_order(kind, seed):
    """Forward and backward, NaN and infinities among them."""
    rng = torch.Generator().manual_seed(seed)
    n, channels, height, width = (int(torch.randint(1, 9, (), generator=rng)) for _ in range(4))
    images = torch.randn(n, channels, height, width, generator=rng)
    images[0] = [1.0, float("nan"), float("inf"), -float("inf")][seed % 4]
    layer = {
        "max": nn.MaxPool2d(min(2, height, width), ceil_mode=seed % 2 == 0),
        "average": nn.AvgPool2d(min(2, height, width), 1, ceil_mode=seed % 2 == 0),
        "adaptive max": nn.AdaptiveMaxPool2d(3),
        "adaptive average": nn.AdaptiveAvgPool2d((2, 5)),
    }[kind]
    found = []
    for rows in (images, laid_for(layer, images)):
        taken = rows.clone().requires_grad_()
        pooled = layer(taken)
        weights = torch.linspace(-1, 1, pooled.numel()).view(pooled.shape)
        found.append((pooled.detach(), *torch.autograd.grad(pooled, taken, weights)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


@pytest.mark.parametrize("records", [1, 5, 64])
@pytest.mark.parametrize("outputs", [NARROW[0] - 1, *NARROW[::4], NARROW[-1], NARROW[-1] + 1])
@pytest.mark.parametrize("inputs", [LONG - 1, LONG, 784])
def test_a_narrow_layer_gives_what_it_gives_the_other_way_round(records, outputs, inputs):
    layer, rows = nn.Linear(inputs, outputs), torch.randn(records, inputs)
    found = applied(layer, rows)
    exact = rows.double() @ layer.weight.double().T + layer.bias.double()
    sizes = rows.abs().double() @ layer.weight.abs().double().T + layer.bias.abs().double()
    assert found.is_contiguous()
    assert ((found - exact).abs() <= (inputs + 1) * 2.0**-24 * sizes).all()
    above = torch.randn_like(found)
    both = [torch.autograd.grad(out, list(layer.parameters()), above) for out in (found, layer(rows))]
    for gradient, expected in zip(*both, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_a_narrow_layer_of_what_another_gave_has_no_other_way_back_than_its_own():
    layer, rows = nn.Linear(LONG, NARROW[-1]), torch.randn(5, LONG, requires_grad=True)
    assert applied(layer, rows).grad_fn.name() == layer(rows).grad_fn.name()


@pytest.mark.parametrize("bias", [False, True])
def test_sums_of_narrow_layers_are_those_of_vmap(bias):
    model = nn.Sequential(nn.Linear(LONG, LONG), nn.Tanh(), nn.Linear(LONG, 10, bias=bias))
    features, targets = 3.0 * torch.randn(70, LONG), torch.randint(10, (70,))
    losses = nn.CrossEntropyLoss(reduction="none")
    common = {"example_dimensions": 1, "loss": losses}
    found = gradient_sum(model, **common, max_grad_norm=0.5)(features, targets)
    each = Vectorised(model=model, loss=losses, clip=FlatClipper(max_grad_norm=0.5))
    torch.testing.assert_close(found, each(features, targets), rtol=1e-4, atol=1e-5)
