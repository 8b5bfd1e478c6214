import random

import pytest
import torch
from torch import nn

from dpsgd import Dataset, check_private, steps, train
from dpsgd.core.parameters import flatten
from dpsgd.isolation import validate_model
from mechanisms import InvalidParameter, KeyedSource

LIKE = torch.empty(0, 3)


class Own(nn.Module):
    """A layer with a running buffer, and code of the test's own."""

    def __init__(self, code):
        super().__init__()
        self.register_buffer("running", torch.zeros(3))
        self.weight, self.code, self.last = nn.Parameter(torch.ones(3)), code, None
        self.kept, self.calls, self.generator = {}, 0, torch.Generator()

    def forward(self, rows):
        return self.code(self, rows) * self.weight


def _in_place(own, rows):
    own.running.mul_(0.9).add_(rows.detach().mean(0), alpha=0.1)
    return rows


def _reassigned(own, rows):
    own.running = 0.9 * own.running + 0.1 * rows.detach().mean(0)
    return rows


def _kept(own, rows):
    own.last = rows.detach()
    return rows


def _counted(own, rows):
    own.running += 1
    return rows


def _appended(own, rows):
    own.__dict__.setdefault("seen", []).append(rows.detach())
    return rows


def _mapped(own, rows):
    own.kept["rows"] = (rows.detach(),)
    return rows


def _numbered(own, rows):
    own.calls += 1
    return rows


def _written(own, rows):
    own.weight.data.mul_(0.5)
    return rows


def _drawing(own, rows):
    return rows + torch.randn(rows.shape, generator=own.generator)


STORING = {
    "in place": (_in_place, "running"),
    "reassigned": (_reassigned, "running"),
    "kept as an attribute": (_kept, "last"),
    "counting calls": (_counted, "running"),
    "weights written to": (_written, "weight"),
    "appended to a list": (_appended, "seen"),
    "under a key": (_mapped, "kept"),
    "counting calls in a number": (_numbered, "calls"),
    "drawing from a generator of its own": (_drawing, "generator"),
}
MIXING = {
    "less the mean": lambda own, rows: rows - rows.mean(0),
    "the row before": lambda own, rows: rows + rows.roll(1, 0),
    "the rows so far": lambda own, rows: rows.cumsum(0),
    "attention over the batch": lambda own, rows: (rows @ rows.T).softmax(1) @ rows,
    "the largest": lambda own, rows: rows / rows.abs().max(),
}


def _autocast(own, rows):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (rows @ own.weight.diag()).float()


def _autocast_elsewhere(own, rows):
    """As torch.autocast("cuda") leaves torch set, which it does not where there is no CUDA."""
    torch.set_autocast_enabled("cuda", True)
    try:
        return rows @ own.weight.diag()
    finally:
        torch.set_autocast_enabled("cuda", False)


LOW = {
    "autocast": (_autocast, "bfloat16"),
    "autocast for CUDA": (_autocast_elsewhere, "float16"),
    "cast and back": (lambda own, rows: rows.bfloat16().float(), "bfloat16"),
    "half": (lambda own, rows: rows + rows.half().exp(), "float16"),
    "frozen weights": (lambda own, rows: rows + (rows.bfloat16() @ own.frozen).float(), "bfloat16"),
}
APART = {
    "plain": lambda own, rows: rows,
    "reading the buffer": lambda own, rows: rows + own.running,
    "dropping": lambda own, rows: nn.functional.dropout(rows, 0.5),
    "noisy": lambda own, rows: rows + torch.randn_like(rows),
    "in float64": lambda own, rows: rows.double().exp().float(),
    "not a number": lambda own, rows: rows * float("nan"),
    "transposed and back": lambda own, rows: nn.functional.relu(rows.T).T,
}


@pytest.mark.parametrize("name", STORING)
def test_a_tensor_that_a_forward_pass_changes_is_named(name):
    code, tensor = STORING[name]
    model = nn.Sequential(nn.Linear(3, 3), Own(code))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    [finding] = validate_model(model, like=LIKE)
    assert (finding.place, finding.kind, finding.tensor) == ("1", "Own", tensor)
    assert "has no noise. Have no forward pass write to it, and make masks" in str(finding)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()) and model[1].last is None


class Tally:
    """An object that is no module."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


def _in_an_object(tally):
    def code(own, rows):
        tally.count += 1
        return rows

    return code


def test_what_objects_beside_the_modules_keep_is_named():
    model = nn.Sequential(nn.Linear(3, 3), Own(_in_an_object(Tally())))
    [finding] = validate_model(model, like=LIKE)
    assert (finding.place, finding.tensor) == ("1", "code.tally.count")


@pytest.mark.parametrize("way", [_in_place, MIXING["less the mean"]], ids=["keeping", "mixing"])
def test_a_mode_hides_nothing(way):
    """A run goes on in the mode in which the model stands."""
    for mode in (True, False):
        model = nn.Sequential(
            nn.Linear(3, 3), Own(lambda own, rows, mode=mode: way(own, rows) if own.training is mode else rows)
        )
        assert len(validate_model(model.eval(), like=LIKE)) == 1
        assert len(validate_model(model.train(), like=LIKE)) == mode


@pytest.mark.parametrize("name", MIXING)
def test_a_module_that_mixes_examples_is_named(name):
    [finding] = validate_model(nn.Sequential(nn.Linear(3, 3), Own(MIXING[name]), nn.Linear(3, 2)), like=LIKE)
    assert (finding.place, finding.reason) == ("1", "mixes the examples of a batch")


def test_numbers_that_are_not_torchs_are_told_from_mixing():
    model = nn.Sequential(nn.Linear(3, 3), Own(lambda own, rows: rows * random.random()))
    [finding] = validate_model(model, like=LIKE)
    assert finding.place == "1" and "of numbers that are not torch's" in finding.reason
    assert "Draw with torch.rand" in finding.replacement


def test_draws_that_vmap_does_not_know_are_told_what_to_draw_with():
    model = nn.Sequential(nn.Linear(3, 3), Own(lambda own, rows: rows * torch.empty(len(rows), 1).bernoulli_(0.5)))
    [finding] = validate_model(model, like=LIKE)
    assert "cannot run one example at a time" in finding.reason and "torch.bernoulli" in finding.replacement


@pytest.mark.parametrize("name", LOW)
def test_a_module_that_computes_in_few_digits_is_named(name):
    code, kind = LOW[name]
    own = Own(code)
    own.frozen = torch.ones(3, 3, dtype=torch.bfloat16)
    [finding] = validate_model(nn.Sequential(nn.Linear(3, 3), own, nn.Linear(3, 2)), like=LIKE)
    assert finding.place == "1" and finding.reason.startswith(f"computes in torch.{kind}, in whose digits")
    assert "Compute in float32 or float64: cast the model once it is trained" in str(finding)


@pytest.mark.parametrize("name", LOW)
def test_few_digits_are_no_obstacle_where_every_unit_runs_alone_and_hide_no_other(name):
    own, mixing = Own(LOW[name][0]), Own(lambda own, rows: rows - rows.bfloat16().mean(0).float())
    own.frozen = torch.ones(3, 3, dtype=torch.bfloat16)
    assert validate_model(nn.Sequential(nn.Linear(3, 3), own, nn.Linear(3, 2)), like=LIKE, alone=True) == ()
    [finding] = validate_model(nn.Sequential(nn.Linear(3, 3), own, mixing, nn.Linear(3, 2)), like=LIKE, alone=True)
    assert (finding.place, finding.reason) == ("2", "mixes the examples of a batch")


def test_hooks_that_mix_are_found_at_their_module():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].register_forward_hook(lambda module, taken, given: given - given.mean(0))
    [finding] = validate_model(model, like=LIKE)
    assert finding.place == "0" and "mixes" in finding.reason


@pytest.mark.parametrize("name", APART)
def test_code_that_keeps_examples_apart_passes(name):
    assert validate_model(nn.Sequential(nn.Linear(3, 3), Own(APART[name])), like=LIKE) == ()


@pytest.mark.parametrize(
    "code", [lambda own, rows: rows if rows.sum() > 0 else -rows, lambda own, rows: rows[rows.sum(1) > -1e9]]
)
def test_code_that_branches_on_values_is_refused_with_the_place(code):
    [finding] = validate_model(nn.Sequential(nn.Linear(3, 3), Own(code)), like=LIKE)
    # A branch on the whole batch may show as a mixing of examples first, as the weights have it.
    assert finding.place == "1" and finding.reason.startswith(("cannot run one example at a time", "mixes"))


def test_a_model_that_cannot_run_on_what_is_made_up_is_left_to_say_so_itself():
    assert validate_model(nn.Sequential(nn.PReLU(), nn.Linear(4, 2)), like=LIKE) == ()
    from_one = nn.Sequential(Own(lambda own, rows: own.weight[rows - 1]), nn.Linear(3, 1))
    assert validate_model(from_one, like=torch.empty(0, 3, dtype=torch.int64)) == ()


def _on_zeros_alone(own, rows):
    if rows.any():
        raise ValueError
    own.running += 1
    return rows


def test_a_model_that_runs_on_zeros_alone_shows_what_it_keeps():
    [finding] = validate_model(nn.Sequential(Own(_on_zeros_alone), nn.Linear(3, 1)), like=LIKE)
    assert (finding.place, finding.tensor) == ("0", "running")


class Scaled(torch.autograd.Function):
    """Divides gradients by the norm of all of them, over a whole batch as its rule for vmap is of its own."""

    @staticmethod
    def forward(rows):
        return rows.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient / gradient.norm()

    @staticmethod
    def vmap(info, in_dims, rows):
        return Scaled.apply(rows), in_dims[0]


class ScaledApart(Scaled):
    generate_vmap_rule = True
    vmap = torch.autograd.Function.vmap


class Applied(nn.Module):
    """A function between layers, whose gradients come by book-keeping."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, rows):
        return self.function.apply(rows)


def test_gradients_that_mix_where_outputs_do_not_are_found():
    model = nn.Sequential(nn.Linear(3, 3), Applied(Scaled), nn.Linear(3, 2))
    [finding] = validate_model(model, like=LIKE)
    assert finding.reason == "mixes the gradients of a batch on its way back"
    assert "generate_vmap_rule = True" in str(finding)
    apart = nn.Sequential(nn.Linear(3, 3), Applied(ScaledApart), nn.Linear(3, 2))
    assert not validate_model(apart, like=LIKE)


def test_hooks_on_tensors_are_named_as_none_would_be_run():
    def hooked(own, rows):
        rows.register_hook(lambda gradient: gradient / gradient.norm())
        return rows * 2.0

    [finding] = validate_model(nn.Sequential(nn.Linear(3, 3), Own(hooked)), like=LIKE)
    assert (finding.place, finding.reason) == ("1", "registers a hook on a tensor, which would not be run")


def test_words_that_mix_are_found():
    words = nn.Sequential(nn.Embedding(9, 3), Own(lambda own, rows: rows - rows.mean(0)))
    [finding] = validate_model(words, like=torch.empty(0, 5, dtype=torch.int64))
    assert finding.place == "1"


def test_layers_that_are_replaced_hide_nothing_behind_them():
    model = nn.Sequential(nn.BatchNorm1d(3), Own(MIXING["less the mean"]))
    assert [finding.place for finding in validate_model(model, like=LIKE)] == ["0", "1"]


def test_the_experiment_looks_at_no_values_and_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    check_private(nn.Sequential(Own(APART["noisy"])), like=torch.empty(7, 3, device="meta"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_is_refused_before_anything_is_drawn_whatever_the_dataset_holds(config):
    for records in (0, 5):
        data = Dataset(features=torch.full((records, 3), float("nan")), targets=torch.zeros(records))
        source = KeyedSource(0)
        with pytest.raises(
            InvalidParameter, match="check_private: model must keep examples apart, got 'running' of Own"
        ):
            steps(Own(_reassigned), data, config, loss=lambda o, t: o.sum(1), randomness=source)
        assert source.reserve("runs", 0) == 0


def test_a_run_of_a_model_that_passes_is_what_it_was_without_the_check(config, monkeypatch):
    data = Dataset(features=torch.ones(5, 3), targets=torch.zeros(5))

    def run():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 3), Own(APART["dropping"]))
        keywords = {"loss": lambda o, t: o.sum(1), "randomness": KeyedSource(0)}
        return flatten(train(model, data, config, **keywords).model.parameters())

    checked = run()
    monkeypatch.setattr("dpsgd.descent.check_private", lambda model, like, alone: None)
    assert torch.equal(checked, run())
