"""Both ways of summing clipped gradients against the plainest: one backward pass an example."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import linear, mse_loss

from dpsgd import gradient_sum, mlp
from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.chains import rowwise_chain
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.parameters import trainable
from dpsgd.core.recorded import Recorded
from dpsgd.core.vectorised import Vectorised
from dpsgd.gradients import gradient_sum_by

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


class Tied(nn.Module):
    """The same weights there and back: book-keeping would miss their product terms."""

    def __init__(self):
        super().__init__()
        self.there = nn.Linear(4, 3, bias=False)

    def forward(self, rows):
        return linear(torch.tanh(self.there(rows)), self.there.weight.T)


class Centring(nn.Module):
    """Mixes the examples of a batch without a parameter or a trace in the gradient."""

    def forward(self, rows):
        return rows - rows.mean(0)


def _one_by_one(model, loss, features, targets, max_grad_norm):
    """The clipped sum in float64, from one backward pass an example."""
    parameters = list(trainable(model).values())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters)).double()
    for i in range(len(features)):
        value = loss(model(features[i : i + 1]), targets[i : i + 1])[0]
        pieces = torch.autograd.grad(value, parameters, materialize_grads=True)
        gradient = torch.cat([piece.flatten() for piece in pieces]).double()
        if torch.isfinite(gradient).all():
            total += gradient * min(1.0, max_grad_norm / float(gradient.norm().clamp(min=1e-300)))
    return total


def _assert_close(sum_, expected):
    assert (sum_.double() - expected).norm() <= 1e-5 * expected.norm() + 1e-12


def _both(model, loss, max_grad_norm):
    chain = rowwise_chain(model, example_dimensions=1)
    assert chain is not None
    return (
        BookKeeping(chain=chain, loss=loss, clip=FlatClipper(max_grad_norm=max_grad_norm)),
        Vectorised(model=model, loss=loss, clip=FlatClipper(max_grad_norm=max_grad_norm)),
    )


HANDED = []
"""What losses handed back, and a copy of it."""


class Handing(torch.autograd.Function):
    """The sum of every row."""

    @staticmethod
    def forward(rows):
        return rows.sum(1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.width = inputs[0].shape[1]

    @staticmethod
    def backward(ctx, given):
        gradients = given.unsqueeze(1).repeat(1, ctx.width)
        HANDED.append((gradients, gradients.clone()))
        return gradients


@pytest.mark.parametrize("widths", [(), (4,), (4, 6)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_gradients_that_a_loss_keeps_are_left_as_it_gave_them(widths, overwrite):
    def loss(outputs, _):
        return Handing.apply(outputs)

    model, clip = mlp(5, widths, 3), FlatClipper(max_grad_norm=0.1)
    HANDED.clear()
    sums = gradient_sum_by(clip, model, example_dimensions=1, loss=loss, overwrite=overwrite)
    sums(torch.randn(9, 5), torch.zeros(9))
    assert any(gradients.shape == (9, 3) for gradients, _ in HANDED)
    assert all(torch.equal(gradients, given) for gradients, given in HANDED)


@st.composite
def chains(draw):
    """Random nested chains of linear layers with 5 features and 3 classes."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    widths = [5, *draw(st.lists(st.integers(1, 9), max_size=3)), 3]
    layers = []
    for width, following in pairwise(widths):
        activation = draw(st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU, nn.Identity, nn.Softplus]))
        layers.append(nn.Sequential(nn.Linear(width, following, bias=draw(st.booleans())), activation()))
    return nn.Sequential(*layers)


@settings(deadline=None, max_examples=40)
@given(model=chains(), records=st.integers(0, 12), max_grad_norm=st.sampled_from([1e-3, 0.5, 2.0, 1e6]))
def test_book_keeping_and_vmap_agree_with_one_backward_pass_an_example(model, records, max_grad_norm):
    features, targets = 2 * torch.randn(records, 5), torch.randint(3, (records,))
    expected = _one_by_one(model, CROSS_ENTROPY, features, targets, max_grad_norm)
    for clipped_sum in _both(model, CROSS_ENTROPY, max_grad_norm):
        _assert_close(clipped_sum(features, targets), expected)


@settings(deadline=None, max_examples=40)
@given(model=chains(), scale=st.floats(1e-6, 1e6), max_grad_norm=st.floats(1e-6, 1e6))
def test_what_one_example_contributes_never_exceeds_the_bound(model, scale, max_grad_norm):
    features, targets = scale * torch.randn(1, 5), torch.tensor([1])
    for clipped_sum in _both(model, CROSS_ENTROPY, max_grad_norm):
        assert clipped_sum(features, targets).double().norm() <= max_grad_norm


def _frozen_first_layer():
    model = mlp(5, (4,), 3)
    model[0].requires_grad_(False)
    return model


def _frozen_bias():
    model = mlp(5, (4,), 3)
    model[0].bias.requires_grad_(False)
    return model


def _used_twice():
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.Tanh(), layer)


def _hooked():
    model = mlp(5, (4,), 3)
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def _set_again(layer):
    """A layer whose weight comes after its bias, as torch.nn.utils.prune.remove leaves it."""
    weight = layer.weight
    del layer.weight
    layer.weight = nn.Parameter(torch.randn_like(weight))
    return layer


def _with_another_parameter(layer):
    layer.further = nn.Parameter(torch.ones(3))
    return layer


IMAGES, ROWS, WORDS = torch.rand(6, 1, 6, 6), torch.randn(6, 5), torch.randint(7, (6, 4))
MODELS = {
    "linear": (lambda: nn.Linear(5, 3), ROWS, BookKeeping),
    "flattened images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), IMAGES, BookKeeping),
    "frozen first layer": (_frozen_first_layer, ROWS, BookKeeping),
    "frozen bias": (_frozen_bias, ROWS, Vectorised),
    "layer used twice": (_used_twice, ROWS, Recorded),
    "hooked": (_hooked, ROWS, Vectorised),
    "in place": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)), ROWS, Recorded),
    "tied": (Tied, torch.randn(6, 4), Recorded),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)), ROWS, BookKeeping),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), ROWS, Vectorised),
    "bias first": (
        lambda: nn.Sequential(nn.Linear(5, 4), _set_again(nn.LayerNorm(4)), _set_again(nn.Linear(4, 4))),
        ROWS,
        Vectorised,
    ),
    "one parameter more": (
        lambda: nn.Sequential(_with_another_parameter(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)),
        ROWS,
        Vectorised,
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        IMAGES,
        BookKeeping,
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(20, 3)), WORDS, BookKeeping),
    "sequences": (lambda: nn.Sequential(nn.Linear(6, 2), nn.Flatten(), nn.Linear(12, 3)), IMAGES[:, 0], BookKeeping),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("max_grad_norm", [0.3, 1e6])
def test_the_way_fits_the_model_and_the_sum_is_right(name, max_grad_norm):
    torch.manual_seed(0)
    make, features, way = MODELS[name]
    model, targets = make(), torch.arange(6) % 3
    clipped_sum = gradient_sum(
        model, example_dimensions=features.dim() - 1, loss=CROSS_ENTROPY, max_grad_norm=max_grad_norm
    )
    assert type(clipped_sum) is way
    held = dict(model.named_parameters())
    _assert_close(clipped_sum(features, targets), _one_by_one(model, CROSS_ENTROPY, features, targets, max_grad_norm))
    assert all(held[key] is parameter for key, parameter in model.named_parameters())


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_batch_gives_zeros(name):
    make, features, _ = MODELS[name]
    model = make()
    clipped_sum = gradient_sum(model, example_dimensions=features.dim() - 1, loss=CROSS_ENTROPY, max_grad_norm=1.0)
    empty = clipped_sum(features[:0], torch.zeros(0, dtype=torch.int64))
    assert empty.shape == (sum(parameter.numel() for parameter in trainable(model).values()),)
    assert not empty.any()


def test_a_module_of_the_users_own_never_mixes_examples():
    torch.manual_seed(0)
    model = nn.Sequential(Centring(), nn.Linear(5, 3))
    clipped_sum = gradient_sum(model, example_dimensions=1, loss=CROSS_ENTROPY, max_grad_norm=1.0)
    targets = torch.arange(6) % 3
    alone = sum(clipped_sum(ROWS[i : i + 1], targets[i : i + 1]) for i in range(6))
    torch.testing.assert_close(clipped_sum(ROWS, targets), alone)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("place", [0, 3])
def test_an_example_whose_gradient_is_not_finite_counts_as_zero(poison, place):
    torch.manual_seed(0)
    model, features, targets = mlp(5, (4,), 3), torch.randn(6, 5), torch.randn(6, 3)
    features[place, 2] = poison
    if poison == 1e38:  # finite features whose gradients are not
        model = mlp(5, (), 3)

    def square(outputs, targets):
        return mse_loss(outputs, targets, reduction="none").sum(1)

    others = torch.arange(6) != place
    for clipped_sum in _both(model, square, 0.5):
        torch.testing.assert_close(clipped_sum(features, targets), clipped_sum(features[others], targets[others]))


def test_a_loss_that_is_not_finite_counts_as_zero():
    model, features = nn.Linear(5, 3), ROWS
    for clipped_sum in _both(model, lambda outputs, targets: outputs[:, 0] / targets, 0.5):
        poisoned = clipped_sum(features, torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]))
        torch.testing.assert_close(poisoned, clipped_sum(features[[0, 2, 3, 4, 5]], torch.ones(5)))


def test_vmap_gives_the_same_in_chunks_of_one(monkeypatch):
    whole = Vectorised(model=mlp(5, (4,), 3), loss=CROSS_ENTROPY, clip=FlatClipper(max_grad_norm=0.5))
    expected = whole(ROWS, torch.arange(6) % 3)
    monkeypatch.setattr("dpsgd.core.vectorised.CHUNK_ENTRIES", 1)
    torch.testing.assert_close(whole(ROWS, torch.arange(6) % 3), expected)


def test_gradients_are_had_where_the_caller_has_switched_them_off():
    for clipped_sum in _both(nn.Linear(5, 3), CROSS_ENTROPY, 0.5):
        with torch.no_grad():
            assert clipped_sum(ROWS, torch.arange(6) % 3).any()


def test_dropout_is_drawn_for_each_example_apart():
    model = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5))
    same, ones = torch.ones(64, 5), torch.zeros(64)
    for clipped_sum in _both(model, lambda outputs, targets: outputs[:, 0], 1e6):
        share = float(clipped_sum(same, ones)[0]) / 64  # each example gives 0 or 2, half of them each
        assert 0.4 < share < 1.6


def test_float64_models_are_summed_in_float64():
    torch.manual_seed(0)
    model, features = mlp(5, (4,), 3).double(), ROWS.double()
    targets = torch.arange(6) % 3
    expected = _one_by_one(model, CROSS_ENTROPY, features, targets, 1e6)
    for clipped_sum in _both(model, CROSS_ENTROPY, 1e6):
        torch.testing.assert_close(clipped_sum(features, targets), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name, (_, _, way) in MODELS.items() if way is BookKeeping])
@pytest.mark.parametrize("poison", [None, float("nan")])
def test_the_callers_batch_is_left_as_it_is_unless_it_may_be_overwritten(name, poison):
    torch.manual_seed(0)
    make, given, _ = MODELS[name]
    model, features, targets = make(), given.clone(), torch.arange(6) % 3
    if poison is not None and features.is_floating_point():
        features[1] = poison
    before = features.clone()
    options = {"example_dimensions": features.dim() - 1, "loss": CROSS_ENTROPY}
    clip = FlatClipper(max_grad_norm=0.3)
    expected = gradient_sum_by(clip, model, **options)(features, targets)
    assert torch.equal(features.nan_to_num(), before.nan_to_num()) and torch.equal(features.isnan(), before.isnan())
    assert torch.equal(gradient_sum_by(clip, model, **options, overwrite=True)(features, targets), expected)


def test_parts_of_a_batch_add_up_where_the_first_is_written(monkeypatch):
    torch.manual_seed(0)
    make, features, _ = MODELS["convolution"]
    clipped_sum = gradient_sum(make(), example_dimensions=3, loss=CROSS_ENTROPY, max_grad_norm=0.3)
    whole = clipped_sum(features, torch.arange(6) % 3)
    monkeypatch.setattr("dpsgd.core.bookkeeping.FORMED_ENTRIES", 1)
    torch.testing.assert_close(clipped_sum(features, torch.arange(6) % 3), whole)


WIDE = {
    "linear": lambda: nn.Linear(36, 600),  # large enough for memory that is kept
    "sequences": lambda: nn.Sequential(nn.Unflatten(1, (6, 6)), nn.Linear(6, 100), nn.Flatten()),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 64, 3), nn.Flatten()),
}


@pytest.mark.parametrize("name", WIDE)
def test_memory_that_is_kept_carries_nothing_from_one_batch_to_another(name):
    torch.manual_seed(0)
    features, targets = torch.randn(300, 36), torch.randint(3, (300,))
    poisoned = features.clone()
    poisoned[::2] = float("nan")
    model = WIDE[name]()

    def fresh():
        return gradient_sum(model, example_dimensions=1, loss=CROSS_ENTROPY, max_grad_norm=0.3)

    used = fresh()
    first = used(features, targets)
    kept = first.clone()
    used(poisoned, targets)
    for size in (300, 1, 40, 0, 299):
        assert torch.equal(used(features[:size], targets[:size]), fresh()(features[:size], targets[:size]))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("make", [lambda: nn.Linear(784, 200), lambda: mlp(784, (130,), 3)], ids=["linear", "mlp"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-6, 1e6), max_grad_norm=st.floats(1e-6, 1e2))
def test_wide_layers_whose_norms_come_in_blocks_keep_the_bound_too(make, seed, scale, max_grad_norm):
    torch.manual_seed(seed)
    clipped_sum = gradient_sum(make(), example_dimensions=1, loss=CROSS_ENTROPY, max_grad_norm=max_grad_norm)
    contribution = clipped_sum(scale * torch.randn(1, 784), torch.tensor([1])).double().norm()
    assert contribution <= max_grad_norm
    if contribution > 0.99 * max_grad_norm:  # clipped
        assert contribution >= (1 - 1e-5) * max_grad_norm


def test_a_parameter_that_no_example_uses_has_no_gradient():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(5, 3), nn.Parameter(torch.ones(2, 2))
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, rows):
            return self.used(rows) * self.scale

    model = Idle()
    sums = Vectorised(model=model, loss=CROSS_ENTROPY, clip=FlatClipper(max_grad_norm=1.0))(
        torch.randn(4, 5), torch.arange(4) % 3
    )
    assert sums.shape == (1 + 4 + 18,)
    assert not sums[:4].any() and sums[4:].all()
