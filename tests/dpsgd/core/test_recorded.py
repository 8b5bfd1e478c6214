"""Book-keeping of whole models against `Vectorised`: its sums, its sensitivity, and what it must leave alone."""

import types

import pytest
import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.nn.functional import embedding, linear

from dpsgd import gradient_sum
from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.chains import rowwise_chain
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.parameters import trainable
from dpsgd.core.recorded import Recorded, below_vmap
from dpsgd.core.vectorised import Vectorised


def _loss(outputs, targets):
    return nn.functional.cross_entropy(outputs.flatten(1)[:, :3], targets, reduction="none")


class Model(nn.Module):
    """Layers by name, and a forward pass given as a function of the model and its input."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, rows):
        return self.run(self, rows)


def _residual(model, images):
    """Writes into what a layer has given out, as networks of blocks do."""
    out = model.norm(model.first(images))
    out += images
    return model.last(torch.relu_(out).flatten(1))


def _language(model, words):
    looked = model.look(words) + model.place(torch.arange(words.shape[1]))
    mixed = model.mix(looked.mT)[:, :, : words.shape[1]].mT
    return model.tell(model.norm(looked + torch.tanh(mixed)).mean(1))


def _unbatched(model, images):
    return model.last(torch.stack([model.first(image).flatten() for image in images]))


def _language_model():
    return Model(
        _language,
        look=nn.Embedding(7, 6, padding_idx=2),
        place=nn.Embedding(5, 6),
        mix=nn.Conv1d(6, 6, 3, padding=2),
        norm=nn.LayerNorm(6),
        tell=nn.Linear(6, 3),
    )


IMAGES, ROWS, WORDS = torch.randn(6, 2, 5, 5), torch.randn(6, 4), torch.randint(7, (6, 4))
MNIST = [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(32, 3)]
COVERED = {
    "network for digits": (lambda: nn.Sequential(*MNIST), IMAGES, BookKeeping),
    "network for pictures": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Tanh(), nn.AvgPool2d(2)),
            nn.Conv2d(4, 4, 2, groups=2),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        IMAGES,
        BookKeeping,
    ),
    "words": (
        lambda: nn.Sequential(nn.Embedding(7, 5), nn.RMSNorm(5), nn.Linear(5, 6), nn.Flatten()),
        WORDS,
        BookKeeping,
    ),
    "language model": (_language_model, WORDS, Recorded),
    "residual block": (
        lambda: Model(
            _residual, first=nn.Conv2d(2, 2, 3, padding=1, bias=False), norm=nn.GroupNorm(1, 2), last=nn.Linear(50, 3)
        ),
        IMAGES,
        Recorded,
    ),
    "image by image": (lambda: Model(_unbatched, first=nn.Conv2d(2, 2, 3), last=nn.Linear(18, 3)), IMAGES, Recorded),
    "an output that is thrown away": (
        lambda: Model(lambda m, rows: (m.unused(rows), m.used(rows))[1], unused=nn.Linear(4, 2), used=nn.Linear(4, 3)),
        ROWS,
        Recorded,
    ),
    "a layer that is never run": (
        lambda: Model(lambda m, rows: m.used(rows), idle=nn.Linear(4, 2), used=nn.Linear(4, 3)),
        ROWS,
        Recorded,
    ),
    "layers in another order than they are run": (
        lambda: Model(lambda m, rows: m.a(m.b(rows)), a=nn.Linear(3, 3), b=nn.Linear(4, 3)),
        ROWS,
        Recorded,
    ),
}


@pytest.mark.parametrize("name", COVERED)
def test_sums_are_those_of_vmap(name, monkeypatch):
    torch.manual_seed(0)
    make, features, way = COVERED[name]
    model, targets = make(), torch.arange(6) % 3
    ask = {"model": model, "loss": _loss, "max_grad_norm": 0.3}
    clipped_sum = gradient_sum(example_dimensions=features.dim() - 1, **ask)
    assert type(clipped_sum) is way
    expected = Vectorised(model=model, loss=_loss, clip=FlatClipper(max_grad_norm=0.3))(features, targets)
    monkeypatch.setattr("dpsgd.core.recorded.Vectorised", None)  # book-keeping does it alone
    close = {"rtol": 1e-5, "atol": 1e-6 * float(expected.abs().max())}
    torch.testing.assert_close(clipped_sum(features, targets), expected, **close)
    torch.testing.assert_close(clipped_sum(features, targets), expected, **close)
    monkeypatch.setattr("dpsgd.core.bookkeeping.FORMED_ENTRIES", 1)
    alone = gradient_sum(example_dimensions=features.dim() - 1, **ask)
    torch.testing.assert_close(alone(features, targets), expected, **close)
    assert not clipped_sum(features[:0], targets[:0]).any()
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", COVERED)
def test_one_example_more_moves_the_sum_by_no_more_than_the_bound(name):
    torch.manual_seed(0)
    make, features, _ = COVERED[name]
    model, targets = make(), torch.arange(6) % 3
    clipped_sum = gradient_sum(model, example_dimensions=features.dim() - 1, loss=_loss, max_grad_norm=0.01)
    whole = clipped_sum(features, targets)
    for left_out in range(3):
        others = torch.arange(6) != left_out
        moved = whole - clipped_sum(features[others], targets[others])
        assert moved.double().norm() <= 0.01 * (1 + 1e-5)
        assert clipped_sum(features[~others], targets[~others]).double().norm() <= 0.01


@pytest.mark.parametrize("name", [name for name in COVERED if COVERED[name][1].is_floating_point()])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_an_example_that_is_not_finite_counts_as_zero(name, poison):
    torch.manual_seed(0)
    make, features, _ = COVERED[name]
    features, targets, others = features.clone(), torch.arange(6) % 3, torch.arange(6) != 2
    features[2] = poison
    clipped_sum = gradient_sum(make(), example_dimensions=features.dim() - 1, loss=_loss, max_grad_norm=0.3)
    expected = clipped_sum(features[others], targets[others])
    torch.testing.assert_close(clipped_sum(features, targets), expected, rtol=1e-5, atol=1e-6)


def _own_vmap(model, rows):
    return torch.func.vmap(model.a)(rows)


def _own_grad(model, rows):
    return rows + torch.func.grad(lambda row: torch.tanh(model.a(row)).sum())(rows)


LEFT = {
    "a layer run twice": Model(lambda m, rows: m.a(torch.tanh(m.a(rows))), a=nn.Linear(4, 4)),
    "weights used outside": Model(lambda m, rows: linear(m.a(rows), m.a.weight.T), a=nn.Linear(4, 4)),
    "weights used outside only": Model(lambda m, rows: linear(rows, m.a.weight), a=nn.Linear(4, 4)),
    "weights used beside an output thrown away": Model(
        lambda m, rows: (m.a(rows), linear(rows, m.a.weight, m.a.bias))[1], a=nn.Linear(4, 4)
    ),
    "words and their logits tied": Model(
        lambda m, rows: linear(m.a(rows.abs().long()), m.a.weight)[:, 0], a=nn.Embedding(9, 4)
    ),
    "words looked up outside": Model(
        lambda m, rows: m.a(rows.abs().long()) + embedding(rows.abs().long(), m.a.weight), a=nn.Embedding(9, 4)
    ),
    "a batch of one example's parts": Model(lambda m, rows: m.a(rows.view(2, 1, 2)).view(1, -1), a=nn.Conv1d(1, 2, 1)),
    "a vmap of its own": Model(_own_vmap, a=nn.Linear(4, 4)),
    "a gradient of its own": Model(_own_grad, a=nn.Linear(4, 4)),
    "a layer called by name": Model(lambda m, rows: m.a(input=rows), a=nn.Linear(4, 4)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_book_keeping_would_get_wrong_is_left_to_vmap(name):
    torch.manual_seed(0)
    model, targets = LEFT[name], torch.arange(6) % 3
    ask = {"model": model, "loss": _loss, "clip": FlatClipper(max_grad_norm=0.3)}
    recorded = Recorded(**ask)
    for _ in range(2):
        torch.testing.assert_close(recorded(ROWS, targets), Vectorised(**ask)(ROWS, targets))
    assert all("forward" not in vars(module) for module in model.modules())


def test_inputs_written_over_after_their_use_are_refused_as_torch_does():
    def run(model, rows):
        hidden = torch.tanh(model.a(rows))
        out = model.b(hidden)
        hidden.add_(1.0)
        return out

    model, targets = Model(run, a=nn.Linear(4, 4), b=nn.Linear(4, 3)), torch.arange(6) % 3
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        _loss(model(ROWS), targets).sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        Recorded(model=model, loss=_loss, clip=FlatClipper(max_grad_norm=1.0))(ROWS, targets)


def test_a_model_that_mixes_examples_has_each_to_itself():
    torch.manual_seed(0)
    model = Model(lambda m, rows: m.b(torch.tanh(m.a(rows) - m.a(rows).mean(0))), a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    once = Model(lambda m, rows: m.b(rows + m.a(rows).mean(0)), a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    targets = torch.arange(6) % 3
    for each in (model, once):
        clipped_sum = gradient_sum(each, example_dimensions=1, loss=_loss, max_grad_norm=0.3)
        alone = sum(clipped_sum(ROWS[i : i + 1], targets[i : i + 1]) for i in range(6))
        torch.testing.assert_close(clipped_sum(ROWS, targets), alone)


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [
        (nn.Linear(6, 3), 0),
        (nn.Sequential(nn.Conv2d(6, 2, 3)), 2),  # six examples would pass for six channels
        (nn.Sequential(nn.Linear(4, 4), nn.MaxPool2d(2)), 2),
        (nn.Sequential(nn.LayerNorm((6, 4)), nn.Linear(4, 3)), 1),
        (nn.Sequential(nn.Flatten(0), nn.Linear(24, 3)), 1),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=0)), 1),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), 1),
        (nn.Sequential(nn.PReLU(), nn.Linear(4, 4)), 1),
    ],
)
def test_chains_that_might_mix_rows_are_not_run_as_batches(model, dimensions):
    assert rowwise_chain(model, example_dimensions=dimensions) is None


def _scaled_by_the_batch(module, before, after):
    return (before[0] / before[0].norm(),)


def _patched():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model.forward = lambda rows: model[2](model[1](model[0](rows)) - 1.0)
    return model


@pytest.mark.parametrize("hook", ["register_full_backward_hook", "register_forward_hook", "register_forward_pre_hook"])
def test_chains_with_hooks_are_not_run_as_batches(hook):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    getattr(model[1], hook)(lambda *_: None)
    assert rowwise_chain(model, example_dimensions=1) is None


def test_chains_are_not_run_as_batches_where_torch_runs_hooks_for_every_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, taken, given: given - given.mean(0) if isinstance(module, nn.Tanh) else None
    )
    try:
        clipped_sum = gradient_sum(model, example_dimensions=1, loss=_loss, max_grad_norm=0.3)
        targets = torch.arange(6) % 3
        alone = sum(clipped_sum(ROWS[i : i + 1], targets[i : i + 1]) for i in range(6))
        torch.testing.assert_close(clipped_sum(ROWS, targets), alone)
    finally:
        handle.remove()


def test_a_chain_whose_forward_pass_is_written_over_is_run_as_it_says():
    model, targets = _patched(), torch.arange(6) % 3
    found = gradient_sum(model, example_dimensions=1, loss=_loss, max_grad_norm=1e9)(ROWS, targets)
    expected = torch.autograd.grad(_loss(model(ROWS), targets).sum(), list(model.parameters()))
    torch.testing.assert_close(found, torch.cat([each.flatten() for each in expected]))


def test_a_model_that_writes_into_its_features_has_every_example_as_it_was():
    model = Model(lambda m, rows: m.b(torch.tanh(m.a(rows.mul_(2.0)))), a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    plain = Model(lambda m, rows: m.b(torch.tanh(m.a(rows * 2.0))), a=model.a, b=model.b)
    targets = torch.arange(6) % 3
    sums = [gradient_sum(each, example_dimensions=1, loss=_loss, max_grad_norm=0.3) for each in (model, plain)]
    torch.testing.assert_close(sums[0](ROWS.clone(), targets), sums[1](ROWS, targets))


def test_outputs_that_lead_to_the_losses_are_not_held_until_the_backward_pass():
    model = Model(lambda m, rows: (m.a(rows), m.b(rows))[1], a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    recorded = Recorded(model=model, loss=_loss, clip=FlatClipper(max_grad_norm=1.0))
    tape, _ = recorded._record(ROWS, torch.arange(6) % 3)
    assert {layer: type(b) for layer, _, b in tape} == {model.a: torch.Tensor, model.b: GradientEdge}


def test_an_error_in_the_model_leaves_its_layers_as_they_were():
    def broken(model, rows):
        raise ZeroDivisionError

    model = Model(broken, a=nn.Linear(4, 3))
    with pytest.raises(ZeroDivisionError):
        gradient_sum(model, example_dimensions=1, loss=_loss, max_grad_norm=1.0)(ROWS, torch.arange(6) % 3)
    assert "forward" not in vars(model.a)
    assert list(trainable(model)) == ["a.weight", "a.bias"]


@pytest.fixture
def tried_anew():
    """Forget whether this version of torch lets layers run below vmap, before and after."""
    below_vmap.cache_clear()
    yield
    below_vmap.cache_clear()


NEEDED = [
    "TransformType",
    "maybe_get_level",
    "peek_interpreter_stack",
    "_unwrap_batched",
    "pop_dynamic_layer_stack",
    "push_dynamic_layer_stack",
    "_add_batch_dim",
]


@pytest.mark.parametrize("name", [*NEEDED, None])
def test_without_torchs_private_names_gradients_are_formed_and_it_is_said(name, monkeypatch, tried_anew):
    torch.manual_seed(0)
    make, features, way = COVERED["layers in another order than they are run"]
    model, targets = make(), torch.arange(6) % 3
    ask = {"model": model, "loss": _loss, "max_grad_norm": 0.3, "example_dimensions": 1}
    usual = gradient_sum(**ask)
    assert type(usual) is way is Recorded
    expected = usual(features, targets)
    below_vmap.cache_clear()
    lacking = types.SimpleNamespace(**{key: getattr(torch._C._functorch, key) for key in NEEDED if key != name})
    monkeypatch.setattr("dpsgd.core.recorded.functorch", lacking if name else None)
    with pytest.warns(RuntimeWarning, match=r"gradient_sum: torch .* does not let layers run below vmap"):
        formed = gradient_sum(**ask)
    assert type(formed) is Vectorised
    torch.testing.assert_close(formed(features, targets), expected, rtol=1e-5, atol=1e-7)


def test_a_torch_whose_names_mean_something_else_is_not_relied_on(monkeypatch, tried_anew):
    monkeypatch.setattr(torch._C._functorch, "_add_batch_dim", lambda rows, place, level: rows.sum(0))
    assert not below_vmap()
