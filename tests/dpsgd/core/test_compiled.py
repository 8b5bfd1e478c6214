"""The compiled sum against the other way: what is traced, run as it is; and compiled, where there is time for it."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dpsgd import mlp
from dpsgd.core.clippers import FlatClipper, LayerClipper, norms
from dpsgd.core.compiled import COMPILED_FOR
from dpsgd.gradients import gradient_sum, gradient_sum_by
from mechanisms import InvalidParameter

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
BOUND = 0.3
MODELS = {
    "softmax": lambda: nn.Linear(5, 3),
    "no bias": lambda: nn.Linear(5, 3, bias=False),
    "hidden": lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 3)),
    "images": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
    "frozen": lambda: nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.Tanh(), nn.Linear(4, 3)),
    "float64": lambda: mlp(5, (4,), 3).double(),
}


@pytest.fixture
def traced(monkeypatch):
    """What would be compiled runs as it is written."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


def _batch(name, n=7):
    features = torch.randn(n, 2, 3) if name == "images" else torch.randn(n, 5)
    return 3 * (features.double() if name == "float64" else features), torch.arange(n) % 3


def _two_ways(model, features, bound=BOUND, loss=CROSS_ENTROPY):
    options = {"example_dimensions": features.dim() - 1, "loss": loss, "max_grad_norm": bound}
    return gradient_sum(model, **options, compiled=True), gradient_sum(model, **options)


def _close(found, expected):
    share = 1e-13 if expected.dtype == torch.float64 else 1e-5
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert (found - expected).norm() <= share * expected.norm()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bound", [1e-3, BOUND, 1e3])
def test_it_is_the_sum_of_the_other_way(name, bound, traced):
    torch.manual_seed(0)
    model, (features, targets) = MODELS[name](), _batch(name)
    compiled, other = _two_ways(model, features, bound)
    for n in (0, 1, 2, 7):
        _close(compiled(features[:n], targets[:n]), other(features[:n], targets[:n]))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("name", ["softmax", "hidden"])
def test_an_example_that_is_not_finite_counts_as_zero(name, poison, traced):
    torch.manual_seed(0)
    model, (features, targets) = MODELS[name](), _batch(name)
    features[2, 1] = poison
    compiled, other = _two_ways(model, features)
    rest = torch.arange(7) != 2
    if poison == 3e38:  # finite, but for its norm
        _close(compiled(features, targets), other(features, targets))
    else:
        _close(compiled(features, targets), other(features[rest], targets[rest]))


def test_an_infinite_input_without_a_gradient_counts_as_zero(traced):
    features = torch.tensor([[math.inf, 1.0], [1.0, 2.0]])
    compiled, _ = _two_ways(nn.Linear(2, 1), features, loss=lambda outputs, targets: outputs[:, 0] * targets)
    found = compiled(features, torch.tensor([0.0, 1.0]))
    assert torch.isfinite(found).all() and found.norm() <= BOUND


@settings(deadline=None, max_examples=12)
@given(
    rows=st.lists(st.floats(width=32, min_value=-(2.0**50), max_value=2.0**50), min_size=4, max_size=4),
    bound=st.floats(1e-10, 1e10),
)
def test_the_exact_norm_of_a_contribution_is_within_the_bound(rows, bound):
    features = torch.tensor([rows, [math.nan] * 4])  # the second adds nothing: the sum is the first's contribution
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **options: function)
        compiled, _ = _two_ways(nn.Linear(4, 1), features, bound, loss=lambda outputs, targets: outputs[:, 0])
        found = compiled(features, torch.zeros(2))
    assert sum(Fraction(float(entry)) ** 2 for entry in found) <= Fraction(bound) ** 2


def test_the_clipper_sees_what_it_sees_of_the_other_way(traced):
    torch.manual_seed(0)
    model, (features, targets) = MODELS["hidden"](), _batch("hidden")
    features[3] = math.nan
    clips = [FlatClipper(max_grad_norm=BOUND, seen=[]) for _ in range(2)]
    for clip, compiled in zip(clips, (True, False), strict=True):
        options = {"example_dimensions": 1, "loss": CROSS_ENTROPY, "compiled": compiled}
        gradient_sum_by(clip, model, **options)(features, targets)
    [(squares, factors)], [(other, others)] = (clip.seen for clip in clips)
    torch.testing.assert_close(norms(squares), norms(other), equal_nan=True)
    torch.testing.assert_close(factors[0], others[0])


def test_a_bound_that_moves_is_the_one_in_use(traced):
    torch.manual_seed(0)
    model, (features, targets) = MODELS["softmax"](), _batch("softmax")
    clip = FlatClipper(max_grad_norm=1e-3)
    compiled = gradient_sum_by(clip, model, example_dimensions=1, loss=CROSS_ENTROPY, compiled=True)
    first = compiled(features, targets)
    clip.max_grad_norm = 2e-3
    _close(compiled(features, targets), 2 * first)


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (
            nn.Sequential(nn.Linear(5, 3), nn.Dropout()),
            {},
            "linear layers and functions of single entries, got Dropout",
        ),
        (nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)), {}, "got LayerNorm"),
        (nn.TransformerEncoderLayer(4, 2), {}, "a chain of layers of torch, got TransformerEncoderLayer"),
        (nn.Linear(5, 3, device="meta"), {}, r"parameters must be on the CPU, got \['meta'\]"),
        (nn.Linear(5, 3), {"clip": LayerClipper(max_grad_norm=1.0, bounds={})}, "one factor .* got LayerClipper"),
    ],
)
def test_what_there_is_no_compiled_sum_of_is_refused_before_any_record(model, options, text):
    given = {"clip": FlatClipper(max_grad_norm=1.0), "example_dimensions": 1, "loss": CROSS_ENTROPY, **options}
    with pytest.raises(InvalidParameter, match=f"compiled: .*{text}"):
        gradient_sum_by(given.pop("clip"), model, **given, compiled=True)


@pytest.mark.parametrize(
    ("features", "loss", "text"),
    [
        (torch.ones(4, 2, 5), lambda o, t: o.sum((1, 2)), r"must take one vector an example, got \(2, 5\)"),
        (torch.ones(4, 5), lambda o, t: o[:, 0] - o.mean(), "loss must keep examples apart"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_first_call(features, loss, text):
    compiled, _ = _two_ways(nn.Linear(5, 3), features, loss=loss)
    with pytest.raises(InvalidParameter, match=f"compiled: .*{text}"):
        compiled(features, torch.zeros(4))


def test_units_of_several_rows_are_refused(traced):
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    with pytest.raises(InvalidParameter, match="compiled: a unit must have one row, got several"):
        compiled(torch.ones(4, 2, 5), torch.zeros(4, 2), torch.ones(4, 2))


def test_a_compiler_that_fails_is_told_and_no_other_way_is_gone(monkeypatch):
    def fails(function, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fails)
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    with pytest.raises(InvalidParameter, match=r"compiled: .*got RuntimeError: no C\+\+ compiler"):
        compiled(torch.ones(4, 5), torch.zeros(4).long())


def test_made_up_records_alone_are_compiled_for(monkeypatch):
    seen = []

    def watched(function, **options):
        return lambda *given: seen.append(given[0].clone()) or function(*given)

    monkeypatch.setattr(torch, "compile", watched)
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    compiled(torch.ones(4, 5), torch.zeros(4).long())
    first, second = seen
    assert first.shape == (COMPILED_FOR, 5) and not first.any() and second.all()


@pytest.mark.slow
def test_compiled_it_is_the_same_for_batches_of_any_size_and_one_record_more_moves_it_by_the_bound():
    torch.manual_seed(0)
    model, (features, targets) = mlp(5, (4,), 3), _batch("hidden", 300)
    features[5], features[7, 1] = math.nan, math.inf
    compiled, other = _two_ways(model, features)
    sums = [compiled(features[:n], targets[:n]) for n in range(20)]
    for n in (*range(20), 256, 300):
        _close(compiled(features[:n], targets[:n]), other(features[:n], targets[:n]))
    for n in range(19):
        assert (sums[n + 1].double() - sums[n].double()).norm() <= BOUND * (1 + 1e-5)
    assert torch.equal(sums[6], compiled(features[:6], targets[:6]))
    with pytest.raises(Exception) as told:
        compiled(features[:4], torch.tensor([0, 1, 77, 2]))
    assert "77" not in str(told.value)
    assert float(torch.full((64,), 1e-40).mul(0.5).max()) > 0  # loading it flushes no small numbers to zero


@pytest.mark.slow
def test_two_models_of_the_same_shapes_in_one_process_are_not_taken_for_each_other():
    torch.manual_seed(0)
    features, targets = _batch("hidden")
    for function, loss in ((nn.Tanh(), CROSS_ENTROPY), (nn.ReLU(), CROSS_ENTROPY), (nn.ReLU(), lambda o, t: o[:, 0])):
        compiled, other = _two_ways(nn.Sequential(nn.Linear(5, 4), function, nn.Linear(4, 3)), features, loss=loss)
        _close(compiled(features, targets), other(features, targets))


@pytest.mark.slow
def test_a_loss_that_looks_at_numbers_is_refused():
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5), loss=lambda o, t: o[:, 0] * float(o.detach()[0, 0] > -9))
    with pytest.raises(InvalidParameter, match="compiled: model and loss must compile"):
        compiled(torch.ones(4, 5), torch.zeros(4))
