import dataclasses
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from dpsgd import STOP, Augmentation, Cosine, Dataset, ExponentialAverage, PrescribedGradients, mlp, steps, train
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import course as courses
from dpsgd.core import history, taken_up
from dpsgd.core.parameters import flatten
from dpsgd.core.runs import DRAWS, RUN, begin_run, resume_run
from dpsgd.core.saved import Saved
from mechanisms import InvalidParameter, KeyedSource, Poisson, SystemSource
from mechanisms.core.randomness import SecretSource
from tests.conftest import ROOT
from tests.dpsgd.kills import RUNS
from tests.dpsgd.schemes import EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
DATA = Dataset(features=torch.linspace(-3, 3, 35).reshape(7, 5), targets=torch.arange(7) % 3)
CONFIG = EVERY_SCHEME["Poisson"]


class Branched(nn.Module):
    """No chain of layers, with masks that are drawn and outputs that are written over."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.masked = nn.Linear(5, 4), nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, rows):
        return self.second(self.masked(nn.functional.relu(self.first(rows), inplace=True)))


MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "Dropout": lambda: nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)),
    "recorded": Branched,
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}


class Stop(Exception):
    """Ends a run in the middle."""


def _train(path=None, config=CONFIG, *, model=None, every=1, stop=None, shown=None, randomness=None, **options):
    def seen(release):
        if shown is not None:
            shown.append((release.step, release.weights_before, release.noisy_sum))
        if release.step == stop:
            raise Stop

    checkpoint = None if path is None else Checkpoint(path=path, every=every)
    return train(
        model or MODELS["book-keeping"](),
        DATA,
        config,
        loss=CROSS_ENTROPY,
        randomness=randomness or KeyedSource("tests of checkpoints"),
        checkpoint=checkpoint,
        callbacks=[seen],
        **{"initialisation_seed": 0, **options},
    )


def _stopped(path, *, at=5, **options):
    with pytest.raises(Stop):
        _train(path, stop=at, **options)


def _weights(result):
    return flatten(result.model.parameters())


def _same(some, others):
    return [step for step, *_ in some] == [step for step, *_ in others] and all(
        torch.equal(a, b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one[1:], other[1:], strict=True)
    )


@pytest.mark.parametrize(
    ("kills", "name"), [(3, "balls in bins"), *(pytest.param(20, name, marks=pytest.mark.slow) for name in RUNS)]
)
def test_a_run_that_is_killed_ends_at_the_same_weights_and_shows_nothing_new(kills, name, tmp_path):
    command = [sys.executable, "-m", "tests.dpsgd.kills", str(tmp_path), str(kills), name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1  # where the machine is busy, others may come after the end
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (killed / "weights").read_bytes() == (whole / "weights").read_bytes()
    lines = (killed / "shown").read_text().splitlines()
    assert len(lines) > len(set(lines)) == 120  # some steps were taken twice, and none was another the second time
    assert set(lines) == set((whole / "shown").read_text().splitlines())
    assert {path.name for path in killed.iterdir()} == {"run.safetensors", "shown", "weights"}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_a_run_resumed_at_any_step_shows_what_it_would_have_shown(name, tmp_path):
    config, whole = EVERY_SCHEME[name], []
    expected = _train(config=config, shown=whole)
    for stop in range(0, config.steps, 1 if name == "Poisson" else 5):
        shown = []
        _stopped(tmp_path / f"{stop}", config=config, at=stop, every=3)
        result = _train(tmp_path / f"{stop}", config, every=3, shown=shown)
        assert torch.equal(_weights(result), _weights(expected)) and result.process == config.process()
        assert _same(shown, whole[stop - stop % 3 :])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_models_of_every_way_resume(make, tmp_path):
    torch.manual_seed(1)
    expected = _weights(_train(model=make()))
    torch.manual_seed(2)  # no part of the key
    _stopped(tmp_path / "run", model=make())
    torch.manual_seed(3)
    assert torch.equal(_weights(_train(tmp_path / "run", model=make())), expected)


def test_prescribed_gradients_resume(tmp_path):
    canaries = PrescribedGradients(
        coordinates=torch.tensor([7, 2]), values=torch.tensor([0.4, -2.0]), included=torch.tensor([True, True])
    )
    expected = _weights(_train(prescribed=canaries))
    _stopped(tmp_path / "run", prescribed=canaries)
    assert torch.equal(_weights(_train(tmp_path / "run", prescribed=canaries)), expected)
    assert not torch.equal(_weights(_train(tmp_path / "other")), expected)


def test_a_run_with_a_checkpoint_is_the_run_without(tmp_path):
    assert torch.equal(_weights(_train(tmp_path / "run")), _weights(_train()))


def test_a_complete_run_is_only_read(tmp_path):
    first, shown = _train(tmp_path / "run", randomness=SystemSource()), []
    again = _train(tmp_path / "run", shown=shown, randomness=SystemSource())
    assert not shown and torch.equal(_weights(first), _weights(again))
    assert again.process == CONFIG.process() and not again.reproducible


def test_steps_go_on_where_they_were(tmp_path):
    def some(number):
        releases = steps(
            MODELS["book-keeping"](),
            DATA,
            CONFIG,
            loss=CROSS_ENTROPY,
            randomness=KeyedSource(0),
            checkpoint=Checkpoint(path=tmp_path / "run", every=1),
        )
        return [next(releases).step for _ in range(number)]

    assert some(4) == [0, 1, 2, 3]
    assert some(2) == [3, 4]  # what was shown last was shown before it was kept


def test_the_secret_key_is_its_owners_alone_apart_from_the_weights_and_gone_after_the_last_step(tmp_path):
    path, key = tmp_path / "run", tmp_path / "run.key"
    _stopped(path, randomness=SystemSource())
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_bytes()
    assert secret not in path.read_bytes() and secret.hex().encode() not in path.read_bytes()
    _train(path, randomness=SystemSource())
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_the_numbers_of_a_secret_run_come_from_its_key_and_no_other(tmp_path):
    shown, again = [], []
    _stopped(tmp_path / "run", randomness=SystemSource(), shown=shown)
    key = (tmp_path / "run.key").read_bytes()
    _train(randomness=SecretSource(key), shown=again)
    assert _same(shown, again[:6])
    _stopped(tmp_path / "other", randomness=SystemSource(), shown=again)
    alike = torch.isclose(again[-1][2], shown[-1][2])  # of 39 one is, by chance, in every 5,000 runs
    assert alike.sum() < 4 and (tmp_path / "other.key").read_bytes() != key


def test_a_run_that_begins_takes_no_key_that_lies_about(tmp_path):
    _stopped(tmp_path / "run", randomness=SystemSource())
    key = (tmp_path / "run.key").read_bytes()
    (tmp_path / "run").unlink()
    _stopped(tmp_path / "run", randomness=SystemSource())
    assert (tmp_path / "run.key").read_bytes() != key


def test_a_key_that_outlived_the_last_step_is_removed(tmp_path):
    _train(tmp_path / "run", randomness=SystemSource())
    (tmp_path / "run.key").write_bytes(b"k" * 32)
    _train(tmp_path / "run", randomness=SystemSource())
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_run_that_a_callback_stopped_is_kept_whole_without_its_key_and_goes_no_further(every, tmp_path):
    def run(answer):
        shown = []
        result = train(
            MODELS["book-keeping"](),
            DATA,
            CONFIG,
            loss=CROSS_ENTROPY,
            randomness=SystemSource(),
            initialisation_seed=0,
            average=ExponentialAverage(decay=0.5),
            checkpoint=Checkpoint(path=tmp_path / "run", every=every),
            callbacks=[lambda release: shown.append(release.step) or (answer if release.step == 4 else None)],
        )
        return result, shown

    stopped, shown = run(STOP)
    assert shown == [0, 1, 2, 3, 4] and [file.name for file in tmp_path.iterdir()] == ["run"]
    again, shown = run(None)
    assert not shown and torch.equal(_weights(again), _weights(stopped))
    assert again.executed == stopped.executed == 5 and again.process == stopped.process == CONFIG.process()
    assert torch.equal(flatten(again.averaged_model.parameters()), flatten(stopped.averaged_model.parameters()))
    assert "5 taken of 12 planned" in again.card(delta=1e-5).markdown


def test_a_run_with_a_key_that_was_given_keeps_none(tmp_path):
    _stopped(tmp_path / "run")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_several_runs_of_one_source_resume_each_at_its_own_place(tmp_path):
    def both(stop=None):
        source, shown = KeyedSource(0), []
        try:
            for name in ("a", "b"):
                _train(tmp_path / name, randomness=source, shown=shown, stop=stop if name == "b" else None)
        except Stop:
            return shown
        return [_weights(_train(tmp_path / name, randomness=KeyedSource(0))) for name in ("a", "b")]

    both(stop=4)
    resumed = both()
    source = KeyedSource(0)
    assert all(torch.equal(w, _weights(_train(randomness=source))) for w in resumed)
    alone = _weights(_train(tmp_path / "b", randomness=KeyedSource(0)))
    assert torch.equal(alone, resumed[1])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_resumed_run_is_not_handed_out_again(number):
    source = KeyedSource(0)
    assert resume_run(source, number) == number * RUN and begin_run(source) == (number + 1) * RUN
    assert resume_run(source, number) == number * RUN and begin_run(source) == (number + 3) * RUN


FROZEN = MODELS["book-keeping"]()
FROZEN[0].weight.requires_grad_(False)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"config": dataclasses.replace(CONFIG, learning_rate=0.2)}, "learning_rate must be 0.1, as it was"),
        ({"config": dataclasses.replace(CONFIG, steps=13)}, "steps must be 12, as it was"),
        ({"config": dataclasses.replace(CONFIG, sampling=Poisson(probability=0.4))}, "sampling must be Poisson"),
        ({"config": dataclasses.replace(CONFIG, noise_multiplier=2)}, "noise_multiplier must be 1.0, as it was"),
        (
            {"model": mlp(5, (6,), 3)},
            r"must have Linear\(in_features=5, out_features=4, bias=True\) at '0', got Linear",
        ),
        ({"model": nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))}, r"Tanh\(\) at '1', got ReLU\(\)"),
        ({"model": nn.Sequential(nn.Linear(5, 3))}, "at '0', got Linear"),
        ({"model": MODELS["book-keeping"]().double()}, r"torch.float32 \(4, 5\) at '0.weight', got torch.float64"),
        ({"model": FROZEN}, r"torch.float32 \(4, 5\) at '0.weight', got torch.float32 \(4, 5\) fixed"),
        ({"randomness": KeyedSource("another")}, "the key must be the one that the run was begun with"),
        ({"randomness": SystemSource()}, r"randomness must be a source with the key .*, got SystemSource\(\)"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_a_checkpoint_of_another_run_is_refused_by_name(changes, text, complete, tmp_path):
    _train(tmp_path / "run") if complete else _stopped(tmp_path / "run")
    with pytest.raises(InvalidParameter, match=f"^Checkpoint: .*{text}"):
        _train(tmp_path / "run", **changes)


def _momentum(parameters, config, *, momentum=0.9):
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=momentum)


def _adam(parameters, config, *, betas=(0.9, 0.999), kind=torch.optim.Adam):
    return kind(parameters, lr=config.learning_rate, betas=betas)


@pytest.mark.parametrize(
    ("was", "is_", "text"),
    [
        ({}, {"optimizer": _momentum}, "optimizer must be plain steps, as when the run was begun, got torch.optim.sgd"),
        ({"optimizer": _momentum}, {"optimizer": partial(_momentum, momentum=0.5)}, r"momentum=0.9.*got.*momentum=0.5"),
        ({"optimizer": _adam}, {"optimizer": partial(_adam, betas=(0.8, 0.99))}, r"\(0.9, 0.999\).*got.*\(0.8, 0.99\)"),
        ({"optimizer": _adam}, {"optimizer": partial(_adam, kind=torch.optim.NAdam)}, r"Adam\(.*got.*NAdam\("),
        ({}, {"schedule": Cosine(steps=12)}, "schedule must be none, as when the run was begun, got factors"),
        ({"schedule": Cosine(steps=12)}, {"schedule": Cosine(steps=13)}, "schedule must be factors .*, got factors"),
        ({}, {"augmentation": Augmentation(make=lambda x, u: x, copies=2, draws=0)}, "augmentation must be none"),
    ],
)
def test_a_run_goes_on_as_it_was_carried_out(was, is_, text, tmp_path):
    """Else the steps taken again would show other sums under the same noise: their difference has none."""
    _stopped(tmp_path / "run", every=100, **was)
    with pytest.raises(InvalidParameter, match=f"^Checkpoint: .*{text}"):
        _train(tmp_path / "run", **is_)
    assert torch.equal(_weights(_train(tmp_path / "run", **was)), _weights(_train(**was)))


def test_fixed_values_are_part_of_the_model(tmp_path):
    def half_frozen(value):
        model = MODELS["book-keeping"]()
        model.requires_grad_(False)[2].requires_grad_(True)
        for parameter in model.parameters():
            nn.init.constant_(parameter, value)
        return train(
            model,
            DATA,
            CONFIG,
            loss=CROSS_ENTROPY,
            randomness=KeyedSource(0),
            checkpoint=Checkpoint(path=tmp_path / "run"),
        )

    half_frozen(1.0), half_frozen(1.0)
    with pytest.raises(InvalidParameter, match=r"at '0.weight', got torch.float32 \(4, 5\) fixed"):
        half_frozen(2.0)


def _others():
    features = DATA.features.clone()
    features[3, 1] += 1.0
    owners = torch.arange(7)
    yield Dataset(features=features, targets=DATA.targets)
    yield Dataset(features=DATA.features, targets=DATA.targets.flip(0))
    yield Dataset(features=DATA.features.flip(0), targets=DATA.targets.flip(0))
    yield Dataset(features=DATA.features[:6], targets=DATA.targets[:6])
    yield Dataset(features=DATA.features, targets=DATA.targets.int())
    yield Dataset(features=DATA.features, targets=DATA.targets, owners=owners)


def test_a_digest_tells_records_apart_and_not_where_they_lie():
    source = SecretSource(SecretSource.new_key())
    found = [data.digest(source) for data in (DATA, *_others())]
    assert len(set(found)) == len(found)
    apart = Dataset(features=DATA.features.T.contiguous().T, targets=DATA.targets.repeat(2)[:7])
    assert apart.digest(source) == found[0] != apart.digest(SystemSource())


@pytest.mark.parametrize("other", list(_others())[:4])
def test_a_secret_run_goes_on_with_the_records_that_it_was_begun_with_and_no_others(other, tmp_path, monkeypatch):
    _stopped(tmp_path / "run", randomness=SystemSource())
    with monkeypatch.context() as changed:
        changed.setattr(sys.modules[__name__], "DATA", other)
        with pytest.raises(InvalidParameter, match="records must be those that the run was begun with, in their order"):
            _train(tmp_path / "run", randomness=SystemSource())
    _train(tmp_path / "run", randomness=SystemSource())
    assert not Saved.from_bytes((tmp_path / "run").read_bytes(), name="run").records


def test_the_file_of_a_known_key_holds_no_digest_of_the_records(tmp_path):
    _stopped(tmp_path / "run")
    assert not Saved.from_bytes((tmp_path / "run").read_bytes(), name="run").records


@pytest.mark.parametrize("fresh", [True, False])
def test_a_card_says_how_a_run_began_whoever_ends_it(fresh, tmp_path, monkeypatch):
    path, seed = tmp_path / "run", 0 if fresh else None
    _stopped(path, initialisation_seed=seed)
    monkeypatch.setattr(history, "versions", lambda: {"torch": "99.0"})
    result = _train(path, initialisation_seed=None if fresh else 0)
    assert result.circumstances.fresh is fresh
    assert result.versions["torch"] == f"{torch.__version__}, then 99.0"
    monkeypatch.setattr(history, "versions", lambda: {"torch": "100.0"})  # which takes no step
    assert _train(path, initialisation_seed=seed).versions == result.versions


def test_files_without_a_history_go_on_as_of_a_model_that_was_given(tmp_path):
    _stopped(tmp_path / "run")
    kept = Saved.from_bytes((tmp_path / "run").read_bytes(), name="run")
    (tmp_path / "run").write_bytes(dataclasses.replace(kept, history=None).to_bytes())
    assert not _train(tmp_path / "run", initialisation_seed=None).circumstances.fresh


def test_an_average_goes_on_as_what_it_began_as(tmp_path):
    _stopped(tmp_path / "run", average=ExponentialAverage(decay=0.5))
    for other in (None, ExponentialAverage(decay=0.25)):
        with pytest.raises(InvalidParameter, match=r"average must be ExponentialAverage\(decay=0.5\), as when the run"):
            _train(tmp_path / "run", average=other)


def _with_key(path, content, mode=0o600):
    key = path.with_name("run.key")
    key.unlink()
    if content is not None:
        key.write_bytes(content)
        key.chmod(mode)


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (None, 0o600, "run.key must hold the key of the run in .*run, and is not there"),
        (b"k" * 31, 0o600, "run.key must hold a key as it was written, and is damaged"),
        (b"k" * 32, 0o600, "the key must be the one that the run was begun with"),
        (b"k" * 32, 0o640, "run.key must be readable by its owner alone"),
        (b"k" * 32, 0o604, "run.key must be readable by its owner alone"),
    ],
)
def test_a_run_without_its_own_secret_key_is_refused_by_name(content, mode, text, tmp_path):
    _stopped(tmp_path / "run", randomness=SystemSource())
    _with_key(tmp_path / "run", content, mode)
    with pytest.raises(InvalidParameter, match=text) as refusal:
        _train(tmp_path / "run", randomness=SystemSource())
    assert "kkk" not in str(refusal.value)


def test_a_secret_run_is_not_resumed_with_a_key_that_is_given(tmp_path):
    _stopped(tmp_path / "run", randomness=SystemSource())
    with pytest.raises(InvalidParameter, match="randomness must be a SystemSource, as when the run was begun"):
        _train(tmp_path / "run")


def test_a_run_of_another_version_is_refused_until_it_is_complete(tmp_path, monkeypatch):
    _stopped(tmp_path / "run")
    _train(tmp_path / "complete")
    monkeypatch.setattr(taken_up, "__version__", "99.0")
    with pytest.raises(InvalidParameter, match=r"the library must be version .*, which began the run, got 99\.0"):
        _train(tmp_path / "run")
    _train(tmp_path / "complete")


@pytest.mark.parametrize("draws", [1, 9])
def test_a_run_of_other_draws_is_refused_until_it_is_complete(draws, tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(taken_up, "DRAWS", draws)
        earlier.setattr(courses, "Saved", partial(Saved, draws=draws))
        _stopped(tmp_path / "run")
        _train(tmp_path / "complete")
    with pytest.raises(InvalidParameter, match=f"draws must be {DRAWS}, the definition of noise .* got {draws}: the"):
        _train(tmp_path / "run")
    _train(tmp_path / "complete")


def test_a_run_of_other_parts_is_refused(tmp_path):
    _stopped(tmp_path / "run")
    course = courses.set_out(
        Checkpoint(path=tmp_path / "run"),
        KeyedSource("tests of checkpoints"),
        config=CONFIG,
        model=MODELS["book-keeping"](),
        dataset=DATA,
        conduct=dict.fromkeys(("schedule", "augmentation", "average"), "none")
        | {"optimizer": "plain steps", "compiled": "no"},
    )
    with pytest.raises(
        InvalidParameter,
        match=r"must hold the states of \['momentum'\], .*\['clipping', 'layers', 'updates', 'weights'\]",
    ):
        course.begin({"momentum": None})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"states": {"weights": {"flat": torch.zeros(3)}}}, "weights must be a vector of 39 floats"),
        ({"states": {"weights": {"flat": 3.0}}}, "weights must be a vector of 39 floats"),
        ({"states": {"weights": {}}}, "weights must be a vector of 39 floats"),
        (
            {"states": {"weights": {"flat": torch.zeros(39).double()}}},
            "weights must be torch.float32, got torch.float64",
        ),
        ({"states": {"layers": {}}}, "must hold the layers of a run like this, and holds something else"),
        ({"run": 2**60}, "run must be below 2.32, got 1152921504606846976"),
    ],
)
def test_a_file_that_was_put_together_by_another_hand_is_refused_by_name(changes, text, tmp_path):
    _stopped(tmp_path / "run")
    kept = Saved.from_bytes((tmp_path / "run").read_bytes(), name="run")
    changed = dataclasses.replace(kept, **{**changes, "states": {**kept.states, **changes.get("states", {})}})
    (tmp_path / "run").write_bytes(changed.to_bytes())
    with pytest.raises(InvalidParameter, match=f"^Checkpoint: .*{text}"):
        _train(tmp_path / "run")


def test_a_source_whose_key_cannot_last_is_refused(tmp_path):
    with pytest.raises(InvalidParameter, match=r"randomness must be a SystemSource .*, got SecretSource\(<key>\)"):
        _train(tmp_path / "run", randomness=SecretSource(SecretSource.new_key()))
    assert not list(tmp_path.iterdir())


def test_an_empty_file_is_damaged_and_begins_no_new_run(tmp_path):
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(InvalidParameter, match=r"run must be as it was written, but it is empty"):
        _train(tmp_path / "run")


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".run.abc").write_bytes(b"half")
    (tmp_path / ".run.key.abc").write_bytes(b"half a key")
    _train(tmp_path / "run")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"path": 3}, "Checkpoint: path must be a path, got 3"),
        ({"path": "a", "every": 0}, "Checkpoint: every must be at least 1, got 0"),
        ({"path": "a", "every": 1.5}, "Checkpoint: every must be a whole number, got 1.5"),
    ],
)
def test_bad_places_are_refused(fields, text):
    with pytest.raises(InvalidParameter, match=text):
        Checkpoint(**fields)


def test_a_missing_folder_is_refused_before_anything_is_drawn(tmp_path):
    source = KeyedSource(0)
    with pytest.raises(InvalidParameter, match=r"the folder of path must exist, got .*nowhere"):
        _train(tmp_path / "nowhere" / "run", randomness=source)
    assert source.reserve("runs", 0) == 0
