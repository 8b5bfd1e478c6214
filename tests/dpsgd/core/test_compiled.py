"""The compiled sum against the other way: what is traced, run as it is; and compiled, where there is time for it."""

import math
import weakref
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dpsgd.core.compiled as core
from dpsgd import mlp
from dpsgd.core.clippers import FlatClipper, LayerClipper, norms
from dpsgd.core.compiled import COMPARED_FOR, COMPILED_FOR
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
    monkeypatch.setattr(core, "Once", lambda function: function)


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
        patch.setattr(core, "Once", lambda function: function)
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


def _wrong_sum(weighted, taken, squares, factors):
    return [weighted[0] * 1.01, *weighted[1:]], taken, squares, factors


def _wrong_tail(weighted, taken, squares, factors):
    """As where vectors of eight leave over what is no eight."""
    tail = len(squares) - len(squares) % 8
    return [torch.cat([rows[:tail], rows[tail:] * 0.5]) for rows in weighted], taken, squares, factors


def _wrong_norm(weighted, taken, squares, factors):
    return weighted, taken, squares * 1.01, factors


def _not_a_number(weighted, taken, squares, factors):
    return [rows + math.nan for rows in weighted], taken, squares, factors


@pytest.mark.parametrize("wrong", [_wrong_sum, _wrong_tail, _wrong_norm, _not_a_number])
def test_a_compiler_that_makes_something_else_is_found_out_before_any_record(wrong, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(core, "Once", lambda function: lambda *given: wrong(*function(*given)))
    model, (features, targets) = MODELS["hidden"](), _batch("hidden")
    clip = FlatClipper(max_grad_norm=BOUND, seen=[])
    compiled = gradient_sum_by(clip, model, example_dimensions=1, loss=CROSS_ENTROPY, compiled=True)
    with pytest.raises(InvalidParameter, match=r"compiled: the compiled sum of (2|61) made-up examples must be that"):
        compiled(features, targets)
    assert not clip.seen


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bound", [1e-6, BOUND, 1e6])
def test_rounding_passes_whatever_the_weights_are(name, bound, traced):
    for seed in range(4):
        torch.manual_seed(seed)
        model, (features, targets) = MODELS[name](), _batch(name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10.0**seed)
        compiled, _ = _two_ways(model, features, bound)
        compiled(features, targets)


def test_fewer_digits_than_the_model_has_are_refused():
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    with torch.autocast("cpu"), pytest.raises(InvalidParameter, match=r"compiled: torch must not be told .* autocast"):
        compiled(torch.ones(4, 5), torch.zeros(4).long())


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

    def watched(function):
        return lambda *given: seen.append(given[0].clone()) or function(*given)

    monkeypatch.setattr(core, "Once", watched)
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    compiled(torch.ones(4, 5), torch.zeros(4).long())
    first, *compared, last = seen
    assert first.shape == (COMPILED_FOR, 5) and not first.any() and torch.equal(last, torch.ones(4, 5))
    assert [len(each) for each in compared] == [*COMPARED_FOR]


def test_made_up_records_are_gone_when_real_ones_are_summed(monkeypatch):
    given, held = [], []

    def watched(function):
        def run(features, *others):
            held.append(any(each() is not None for each in given))
            given.append(weakref.ref(features))
            return function(features, *others)

        return run

    monkeypatch.setattr(core, "Once", watched)
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    compiled(torch.ones(4, 5), torch.zeros(4).long())
    assert held[1:] and not held[-1]


@pytest.mark.slow
def test_a_compiler_that_is_turned_off_is_told(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5))
    with pytest.raises(InvalidParameter, match=r"^compiled: torch must not be told to compile nothing"):
        compiled(torch.ones(4, 5), torch.zeros(4).long())


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
    assert float(torch.full((64,), 1e-40).mul(0.5).max()) > 0  # loading it flushes no small numbers to zero


@pytest.mark.slow
def test_an_example_of_a_class_that_there_is_not_counts_as_zero():
    torch.manual_seed(0)
    model, (features, targets) = MODELS["softmax"](), _batch("softmax", 300)
    compiled, other = _two_ways(model, features)
    for number in (3, 77, -1, 2**40):
        targets[[0, 255, 299]] = number
        rest = (targets >= 0) & (targets < 3)
        _close(compiled(features, targets), other(features[rest], targets[rest]))


@pytest.mark.slow
def test_compiled_the_exact_norm_of_a_contribution_is_within_a_bound_that_moves():
    generator = torch.Generator().manual_seed(0)
    clip = FlatClipper(max_grad_norm=1.0)
    options = {"example_dimensions": 1, "loss": lambda outputs, targets: outputs[:, 0]}
    compiled = gradient_sum_by(clip, nn.Linear(9, 1), **options, compiled=True)
    features = torch.full((16, 9), math.nan)  # but for one, whose contribution is the sum
    for trial in range(2000):
        features[trial % 16] = torch.randn(9, generator=generator) * 2.0 ** (trial % 41 - 20)
        clip.max_grad_norm = 10.0 ** (trial % 13 - 6) * (1 + trial / 7)
        found = compiled(features, torch.zeros(16))
        norm, bound = sum(Fraction(float(entry)) ** 2 for entry in found), Fraction(clip.max_grad_norm)
        whole = 1 + sum(Fraction(float(entry)) ** 2 for entry in features[trial % 16])
        assert min(whole, bound**2) * Fraction(0.999998) <= norm <= bound**2
        features[trial % 16] = math.nan


@pytest.mark.slow
def test_models_in_one_process_are_not_taken_for_each_other_and_leave_each_others_code_as_it_is():
    cases = [  # the first again at the end, after one of other shapes
        (5, nn.Tanh(), CROSS_ENTROPY),
        (5, nn.ReLU(), CROSS_ENTROPY),
        (5, nn.ReLU(), lambda outputs, targets: outputs[:, 0]),
        (8, nn.Tanh(), CROSS_ENTROPY),
        (5, nn.Tanh(), CROSS_ENTROPY),
    ]
    found = []
    for width, function, loss in cases:
        torch.manual_seed(0)
        features, targets = torch.randn(70, width), torch.arange(70) % 3
        ways = _two_ways(nn.Sequential(nn.Linear(width, 4), function, nn.Linear(4, 3)), features, loss=loss)
        found.append((ways, features, targets, ways[0](features, targets)))
    for (compiled, other), features, targets, first in found:  # all of them once more, side by side
        _close(first, other(features, targets))
        assert torch.equal(compiled(features, targets), first)
    assert torch.equal(found[0][-1], found[-1][-1])


class Scaled(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return 3.0 * gradient


WEIGHTS = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
COUNT = torch.zeros(1)


def _apart(outputs, targets):
    with torch.no_grad():
        size = outputs.abs().sum(1)
    return CROSS_ENTROPY(outputs, targets) * size * outputs.detach().abs().sum(1)


def _counts(outputs, targets):
    COUNT.add_(1.0)
    return CROSS_ENTROPY(outputs, targets)


LOSSES = {
    "constants": lambda outputs, targets: torch.tensor(0.5) * outputs @ torch.tensor([1.0, 2.0, 3.0]),
    "a choice": lambda outputs, targets: torch.where(targets > 0, CROSS_ENTROPY(outputs, targets), 0.5),
    "parts without a gradient": _apart,
    "a gradient of its own": lambda outputs, targets: CROSS_ENTROPY(Scaled.apply(outputs), targets),
    "a parameter of its own": lambda outputs, targets: CROSS_ENTROPY(outputs * WEIGHTS, targets),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ambient", [torch.no_grad, torch.enable_grad])
def test_gradients_are_those_of_the_loss_whatever_it_is_made_of(name, ambient):
    torch.manual_seed(0)
    model, (features, targets) = MODELS["hidden"](), _batch("hidden")
    compiled, other = _two_ways(model, features, loss=LOSSES[name])
    with ambient():
        found = [compiled(features, targets) for _ in range(2)]
    _close(found[0], other(features, targets))
    assert torch.equal(*found) and WEIGHTS.grad is None


@pytest.mark.slow
def test_a_loss_that_changes_what_it_refers_to_is_refused():
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5), loss=_counts)
    with pytest.raises(InvalidParameter, match=r"compiled: .*must change none of the tensors that they refer to"):
        compiled(torch.ones(4, 5), torch.zeros(4).long())


class Held:
    """A model, a loss and what they refer to, which may be changed after the first call."""

    def __init__(self):
        torch.manual_seed(0)
        self.rate, self.weights = 2.0, torch.ones(3)
        self.cross_entropy = nn.CrossEntropyLoss(reduction="none")
        self.model = nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(), nn.Linear(4, 3))
        self.features, self.targets = torch.randn(7, 5), torch.arange(7) % 3
        held = self

        def loss(outputs, targets):
            return held.rate * held.cross_entropy(outputs * held.weights, targets)

        self.loss = loss
        self.compiled, self.other = _two_ways(self.model, self.features, loss=loss)
        self.compiled(self.features, self.targets)


CHANGES = {
    "features of another dtype": lambda held: setattr(held, "features", held.features.double()),
    "targets of another dtype": lambda held: setattr(held, "targets", held.targets.int()),
    "features of another width": lambda held: setattr(held, "features", torch.ones(7, 6)),
    "fewer targets": lambda held: setattr(held, "targets", held.targets[:5]),
    "more targets": lambda held: setattr(held, "targets", torch.zeros(9).long()),
    "features of another device": lambda held: setattr(held, "features", held.features.to("meta")),
    "parameters of another dtype": lambda held: held.model.double(),
    "a parameter of another shape": lambda held: setattr(held.model[0], "weight", nn.Parameter(torch.ones(4, 6))),
    "a parameter of another device": lambda held: held.model[2].to("meta"),
    "a parameter that is no longer trained": lambda held: held.model[0].requires_grad_(False),
    "a bias less": lambda held: setattr(held.model[2], "bias", None),
    "another slope": lambda held: setattr(held.model[1], "negative_slope", 0.5),
    "a hook": lambda held: held.model[2].register_forward_hook(lambda module, inputs, outputs: 2 * outputs),
    "another number of the loss": lambda held: setattr(held, "rate", 3.0),
    "another setting of the loss": lambda held: setattr(held.cross_entropy, "label_smoothing", 0.1),
    "another tensor of the loss": lambda held: setattr(held, "weights", torch.ones(1)),
    "another number of threads": lambda held: torch.set_num_threads(torch.get_num_threads() + 1),
}
"""Of what torch has read while it compiled."""


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_longer_as_it_was_compiled_for_is_refused(name, threads):
    held = Held()
    CHANGES[name](held)
    for _ in range(2):
        with pytest.raises(
            InvalidParameter, match=r"compiled: dtypes and shapes .* must be as at the first call"
        ) as told:
            held.compiled(held.features, held.targets)
        assert not any(number in str(told.value) for number in "456789")


@pytest.mark.slow
def test_values_that_move_are_seen_and_rows_may_lie_in_any_order():
    held = Held()
    _close(held.compiled(held.features, held.targets), held.other(held.features, held.targets))
    with torch.no_grad():
        held.model[0].weight.mul_(2.0)
    held.weights.add_(torch.tensor([0.0, 1.0, 2.0]))
    held.model[2].weight = nn.Parameter(torch.randn(3, 4))
    held.model[2].bias.data = torch.randn(9)[3:6]
    _close(held.compiled(held.features, held.targets), held.other(held.features, held.targets))
    for features in (held.features.T.contiguous().T, held.features.clone().requires_grad_(), held.features[::2]):
        targets = held.targets[: len(features)]
        _close(held.compiled(features, targets), held.other(features, targets))
    with pytest.raises(InvalidParameter):
        held.compiled(held.features.double(), held.targets)
    _close(held.compiled(held.features, held.targets), held.other(held.features, held.targets))


@pytest.mark.slow
def test_features_of_one_number_may_lie_in_any_order():
    compiled, other = _two_ways(nn.Linear(1, 1), torch.ones(4, 1), loss=lambda outputs, targets: outputs[:, 0])
    wide = torch.arange(40.0).reshape(8, 5)
    for features in (wide[:, :1], wide[:1].T, wide.T[:1, :].T, torch.ones(4, 1).as_strided((4, 1), (1, 7))):
        _close(compiled(features, features[:, 0]), other(features, features[:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "differs", [lambda n: n > 100, lambda n: n % 2 == 0, lambda n: n != 7], ids=["more", "even", "not seven"]
)
def test_a_loss_that_looks_at_the_size_of_a_batch_is_refused_when_it_is_compiled(differs):
    loss = lambda outputs, targets: outputs[:, 0] * (2 if differs(len(outputs)) else 1)  # noqa: E731
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5), loss=loss)
    with pytest.raises(
        InvalidParameter, match=r"compiled: (model and loss must compile|loss must keep examples apart)"
    ):
        compiled(torch.ones(4, 5), torch.zeros(4))


def test_a_loss_that_looks_at_numbers_is_refused():
    compiled, _ = _two_ways(nn.Linear(5, 3), torch.ones(4, 5), loss=lambda o, t: o[:, 0] * float(o.detach()[0, 0] > -9))
    with pytest.raises(InvalidParameter, match="compiled: loss must keep examples apart"):
        compiled(torch.ones(4, 5), torch.zeros(4))
