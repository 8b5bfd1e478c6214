"""Which form a run's convolutions go by: chosen once by the clock, kept and told; and columns where a key was given."""

import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import Augmentation, Dataset, PrivacyCard, gradient_sum, steps, train
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import summing, tuning
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.forms import COLUMNS, GROUPED, plan_of
from dpsgd.core.saved import Saved
from dpsgd.gradients import gradient_sum_by
from mechanisms import InvalidParameter, KeyedSource, Poisson, SystemSource
from mechanisms.core.randomness import SecretSource
from tests.dpsgd.clocks import Clock, stopped
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
CONFIG = config_of(Poisson(probability=0.6), steps=9)
GENERATOR = torch.Generator().manual_seed(1)
DATA = Dataset(features=torch.randn(40, 3, 9, 9, generator=GENERATOR), targets=torch.arange(40) % 3)


class Own(nn.Module):
    """Code of a user's own around the convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, stride=2)
        self.last = nn.Linear(54, 3)

    def forward(self, rows):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(rows)))).flatten(1))


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(54, 3)
    )


MODELS = {"chain": (chain, ("0", "2")), "own code": (Own, ("first", "second"))}


class Stop(Exception):
    """Ends a run in the middle."""


def trained(path=None, *, make=chain, randomness=None, stop=None, shown=None, data=DATA, config=CONFIG, **options):
    def seen(release):
        if shown is not None:
            shown[release.step] = [*shown.get(release.step, []), release.noisy_sum]
        if release.step == stop:
            raise Stop

    torch.manual_seed(3)
    return train(
        make(),
        data,
        config,
        loss=CROSS_ENTROPY,
        randomness=randomness or SystemSource(),
        checkpoint=None if path is None else Checkpoint(path=path, every=3),
        callbacks=[seen],
        **options,
    )


def _stopped_at_5(path, clock, monkeypatch):
    """Return the sums by step that a run under the clock showed before it was stopped."""
    monkeypatch.setattr(tuning, "clock", clock)
    shown = {}
    with pytest.raises(Stop):
        trained(path, stop=5, shown=shown)
    return shown


def kept_in(path):
    return Saved.from_bytes(path.read_bytes(), name="run")


def summed(forms, model, rows=DATA):
    plan = plan_of(model, forms)
    clip = FlatClipper(max_grad_norm=1.0)
    return gradient_sum_by(clip, model, example_dimensions=3, loss=CROSS_ENTROPY, plan=plan)(
        rows.features, rows.targets
    )


@pytest.mark.parametrize(("ratio", "form"), [(0.5, GROUPED), (2.0, COLUMNS)])
@pytest.mark.parametrize(("make", "names"), MODELS.values(), ids=MODELS)
def test_a_run_goes_by_what_the_clock_says_and_its_card_and_file_tell(make, names, ratio, form, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "clock", Clock(ratio=ratio))
    card = trained(tmp_path / "run", make=make).card(delta=1e-5)
    assert dict(card.circumstances.forms) == kept_in(tmp_path / "run").forms == dict.fromkeys(names, form)
    told = {COLUMNS: "columns", GROUPED: "grouped convolutions"}[form]
    assert f"; gradients of convolutions came from {told} for '{names[0]}', '{names[1]}' |" in card.markdown
    assert PrivacyCard.from_json(card.to_json()) == card


def test_a_card_of_both_forms_names_each_layer(monkeypatch):
    monkeypatch.setattr(summing, "fastest_forms", lambda given, most: {"0": GROUPED, "2": COLUMNS})
    assert "came from columns for '2' and from grouped convolutions for '0' |" in trained().card(delta=1e-5).markdown


@pytest.mark.parametrize("make", [chain, Own])
def test_both_forms_sum_the_same_up_to_rounding_and_round_otherwise(make):
    """Else nothing here would tell them apart."""
    torch.manual_seed(0)
    model = make()
    names = MODELS["chain" if make is chain else "own code"][1]
    columns, grouped = (summed(dict.fromkeys(names, form), model) for form in (COLUMNS, GROUPED))
    assert not torch.equal(columns, grouped)
    assert (columns - grouped).norm() <= 1e-5 * columns.norm()
    asked = gradient_sum(model, example_dimensions=3, loss=CROSS_ENTROPY, max_grad_norm=1.0)
    assert torch.equal(asked(DATA.features, DATA.targets), columns)


@pytest.mark.parametrize("randomness", [lambda: KeyedSource(0), lambda: SecretSource(b"\5" * SecretSource.BYTES)])
def test_a_run_whose_key_was_given_looks_at_no_clock_and_repeats(randomness, monkeypatch):
    monkeypatch.setattr(tuning, "clock", stopped)
    runs = [{}, {}]
    for shown in runs:
        result = trained(randomness=randomness(), shown=shown)
        assert dict(result.circumstances.forms) == {"0": COLUMNS, "2": COLUMNS}
    assert all(torch.equal(runs[0][step][0], runs[1][step][0]) for step in range(CONFIG.steps))


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_run_that_is_resumed_takes_the_form_it_began_in_and_looks_at_no_clock(ratio, tmp_path, monkeypatch):
    shown = _stopped_at_5(tmp_path / "run", Clock(ratio=ratio), monkeypatch)
    begun = kept_in(tmp_path / "run").forms
    monkeypatch.setattr(tuning, "clock", stopped)
    assert dict(trained(tmp_path / "run", shown=shown).circumstances.forms) == begun
    twice = [sums for sums in shown.values() if len(sums) == 2]
    assert len(twice) == 3 and all(torch.equal(*sums) for sums in twice)
    assert dict(trained(tmp_path / "run").circumstances.forms) == begun  # of a complete run too


def test_the_other_form_would_show_a_step_taken_again_with_another_sum(tmp_path, monkeypatch):
    shown = _stopped_at_5(tmp_path / "run", Clock(ratio=0.5), monkeypatch)
    changed = dataclasses.replace(kept_in(tmp_path / "run"), forms={})
    (tmp_path / "run").write_bytes(changed.to_bytes())
    trained(tmp_path / "run", shown=shown)
    assert not all(torch.equal(*sums) for sums in shown.values() if len(sums) == 2)


def test_the_choice_is_in_the_file_before_anything_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "clock", Clock(ratio=0.5))
    with pytest.raises(Stop):
        trained(tmp_path / "run", stop=0)
    kept = kept_in(tmp_path / "run")
    assert (kept.steps_taken, kept.forms) == (0, {"0": GROUPED, "2": GROUPED})


def test_a_run_of_files_that_named_no_form_goes_on_from_columns(tmp_path, monkeypatch):
    shown = _stopped_at_5(tmp_path / "run", Clock(ratio=2.0), monkeypatch)
    old = dataclasses.replace(kept_in(tmp_path / "run"), forms={})
    (tmp_path / "run").write_bytes(old.to_bytes())
    monkeypatch.setattr(tuning, "clock", stopped)
    assert dict(trained(tmp_path / "run", shown=shown).circumstances.forms) == {"0": COLUMNS, "2": COLUMNS}
    assert all(torch.equal(*sums) for sums in shown.values() if len(sums) == 2)


@pytest.mark.parametrize("name", ["1", "5", "nowhere"])
def test_a_form_of_what_is_no_convolution_is_refused_by_name(name, tmp_path):
    with pytest.raises(Stop):
        trained(tmp_path / "run", stop=5)
    changed = dataclasses.replace(kept_in(tmp_path / "run"), forms={name: GROUPED})
    (tmp_path / "run").write_bytes(changed.to_bytes())
    with pytest.raises(InvalidParameter, match=f"Checkpoint: forms must be of convolutions of the model, and '{name}'"):
        trained(tmp_path / "run")


def test_an_unknown_form_is_refused_by_name(tmp_path):
    with pytest.raises(Stop):
        trained(tmp_path / "run", stop=5)
    changed = dataclasses.replace(kept_in(tmp_path / "run"), forms={"0": "fast"})
    (tmp_path / "run").write_bytes(changed.to_bytes())
    with pytest.raises(
        InvalidParameter, match=r"forms must be 'columns' or 'grouped', got 'fast' of '0'\.\nThis is what .*run"
    ):
        trained(tmp_path / "run")


def test_how_many_records_there_are_and_what_they_hold_is_not_timed(monkeypatch):
    seen = []

    def noted(given, most):
        seen.append(
            {name: (one.inputs.shape, one.inputs.abs().max()) for name, one in given.items()},
        )
        return tuning.fastest_forms(given, most=most)

    monkeypatch.setattr(summing, "fastest_forms", noted)
    for rows in (slice(0, 1), slice(0, 7), slice(0, 40)):
        trained(data=Dataset(features=DATA.features[rows], targets=DATA.targets[rows]))
    assert seen[0]["0"] == (torch.Size((1, 3, 9, 9)), 0.0) and seen[0] == seen[1] == seen[2]


def test_layers_without_a_second_form_are_timed_by_nobody(monkeypatch):
    monkeypatch.setattr(tuning, "clock", stopped)
    data = Dataset(features=DATA.features.flatten(1), targets=DATA.targets)
    result = trained(make=lambda: nn.Linear(243, 3), data=data)
    assert result.circumstances.forms == () and "convolutions" not in result.card(delta=1e-5).markdown


def test_a_model_that_goes_by_vmap_has_no_form(monkeypatch):
    monkeypatch.setattr(tuning, "clock", stopped)
    make = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Flatten(), nn.Linear(196, 3))  # noqa: E731
    assert trained(make=make).circumstances.forms == ()


def neighbours(kind):
    """Return the records with one more, without one, with one that is huge, and with one that is no number."""
    features, targets = DATA.features.clone(), DATA.targets
    if kind == "less":
        return Dataset(features=features[1:], targets=targets[1:])
    features[0] = {"huge": 1e30, "not a number": float("nan"), "infinite": float("inf")}[kind]
    return Dataset(features=features, targets=targets)


REPLAYED = [(unit, kind) for unit in ("record", "copies", "user") for kind in ("huge", "not a number", "infinite")]


@pytest.mark.parametrize(("unit", "kind"), [*REPLAYED, ("record", "less"), ("user", "less")])
@pytest.mark.parametrize("make", [chain, Own])
def test_one_unit_moves_a_sum_in_the_grouped_form_by_the_bound_at_most(unit, make, kind, monkeypatch):
    """Neighbours are replayed under one key, in full batches."""
    names = MODELS["chain" if make is chain else "own code"][1]
    monkeypatch.setattr(summing, "_forms", lambda *_, **__: dict.fromkeys(names, GROUPED))
    options = {"augmentation": Augmentation(make=lambda x, u: x + u[0], copies=3, draws=1)} if unit == "copies" else {}
    users = {"unit": "user", "examples_per_user": 3} if unit == "user" else {}
    config = dataclasses.replace(CONFIG, sampling=Poisson(probability=1.0), noise_multiplier=0.0, steps=1, **users)

    def sum_of(data):
        torch.manual_seed(3)
        if unit == "user":  # of whom the first owns the first three
            owners = (torch.arange(40) // 3)[40 - len(data.features) :]
            data = dataclasses.replace(data, owners=owners)
        run = steps(make(), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(0), **options)
        return next(iter(run)).noisy_sum.double()

    whole, other = sum_of(DATA), sum_of(neighbours(kind))
    replaced = kind == "huge" or (kind, unit) == ("less", "user")  # else it counts as zero, or is not there
    reach = 2.0 if replaced else 1.0
    assert whole.isfinite().all() and other.isfinite().all()
    assert (whole - other).norm() <= reach * (1 + 1e-5) + 1e-5
