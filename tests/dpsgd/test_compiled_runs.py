"""Runs whose clipped sums are compiled against others: most with what would be compiled run as it is written."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

import dpsgd.core.compiled as core
import dpsgd.core.compiled_noise as compiled_noise
from dpsgd import AdaptiveQuantile, Augmentation, Dataset, LatticeGaussian, PerLayer, mlp, steps, train
from dpsgd.checkpoint import Checkpoint
from dpsgd.core.box_muller import BLOCK
from dpsgd.core.parameters import flatten
from dpsgd.core.saved import Saved
from mechanisms import InvalidParameter, KeyedSource
from tests.conftest import ROOT
from tests.dpsgd.schemes import EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
DATA = Dataset(features=torch.linspace(-3, 3, 35).reshape(7, 5), targets=torch.arange(7) % 3)
CONFIG = EVERY_SCHEME["Poisson"]
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=8.0)


class Stop(Exception):
    """Ends a run in the middle."""


@pytest.fixture
def traced(monkeypatch):
    """The functions that would have been compiled, which run as they are written."""
    functions = []
    monkeypatch.setattr(core, "Once", lambda function: functions.append(function) or function)
    monkeypatch.setattr(compiled_noise, "kernel", lambda size: lambda given: [compiled_noise.add_noise(*given)])
    return functions


def _weights(config=CONFIG, *, model=None, data=DATA, stop=None, **options):
    def seen(release):
        if release.step == stop:
            raise Stop

    given = {"loss": CROSS_ENTROPY, "randomness": KeyedSource(0), "callbacks": [seen], **options}
    return flatten(train(model or mlp(5, (4,), 3), data, config, initialisation_seed=0, **given).model.parameters())


def _close(found, expected):
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("options", [{}, {"largest_physical_batch": 3}], ids=["whole", "in parts"])
@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, clipping=ADAPTIVE)], ids=["flat", "adaptive"])
def test_a_compiled_run_is_the_other_up_to_rounding(config, options, traced):
    _close(_weights(config, compiled=True, **options), _weights(config, **options))
    assert len(traced) == 1


def test_the_noise_of_a_compiled_run_is_compiled(traced, monkeypatch):
    sizes = []

    def seen(size):
        sizes.append(size)
        return lambda given: [compiled_noise.add_noise(*given)]

    monkeypatch.setattr(compiled_noise, "kernel", seen)
    _weights(compiled=False)
    assert not sizes
    _weights(compiled=True)
    assert set(sizes) == {BLOCK}  # whatever the number of parameters


def test_a_compiled_run_is_resumed_as_such_alone(traced, tmp_path):
    for was in (True, False):
        path = Checkpoint(path=tmp_path / str(was), every=2)
        with pytest.raises(Stop):
            _weights(checkpoint=path, stop=4, compiled=was)
        words = {True: "sums and noise", False: "no"}
        with pytest.raises(
            InvalidParameter, match=f"compiled must be {words[was]}, as when the run was begun, got {words[not was]}"
        ):
            _weights(checkpoint=path, compiled=not was)
        assert torch.equal(_weights(checkpoint=path, compiled=was), _weights(compiled=was))


def test_a_file_that_does_not_say_is_of_sums_that_were_not_compiled(traced, tmp_path):
    path = Checkpoint(path=tmp_path / "run", every=2)
    with pytest.raises(Stop):
        _weights(checkpoint=path, stop=4)
    saved = Saved.from_bytes(path.read(), name="run")
    conduct = {name: value for name, value in saved.conduct.items() if name != "compiled"}
    path.write(dataclasses.replace(saved, conduct=conduct).to_bytes())
    with pytest.raises(InvalidParameter, match="compiled must be no, as when the run was begun, got sums and noise"):
        _weights(checkpoint=path, compiled=True)
    assert torch.equal(_weights(checkpoint=path), _weights())


@pytest.mark.parametrize(
    ("model", "config", "options", "text"),
    [
        (None, CONFIG, {"augmentation": Augmentation(make=lambda x, u: x, copies=2, draws=0)}, "one record without"),
        (None, dataclasses.replace(CONFIG, unit="user", examples_per_user=2), {}, "one record without copies"),
        (None, dataclasses.replace(CONFIG, noise=LatticeGaussian(dimension=39)), {}, "noise must be of sums of floats"),
        (None, dataclasses.replace(CONFIG, clipping=PerLayer()), {}, "one factor .* got LayerClipper"),
        (nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)), CONFIG, {}, "got LayerNorm"),
        (None, CONFIG, {"loss": lambda outputs, targets: outputs[:, 0] - outputs.mean()}, "loss must keep examples"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_there_is_a_file_of_it(
    model, config, options, text, traced, tmp_path
):
    owners = torch.arange(7) if config.unit == "user" else None
    given = {"loss": CROSS_ENTROPY, "randomness": KeyedSource(0), "checkpoint": Checkpoint(path=tmp_path / "run")}
    data = dataclasses.replace(DATA, owners=owners)
    with pytest.raises(InvalidParameter, match=f"^compiled: .*{text}"):
        steps(model or mlp(5, (4,), 3), data, config, **{**given, **options}, compiled=True)
    assert not list(tmp_path.iterdir())


def test_noise_that_cannot_be_compiled_is_refused_before_there_is_a_file_of_the_run(traced, monkeypatch, tmp_path):
    def fails(size):
        raise compiled_noise.refused("noise must compile, got RuntimeError")

    monkeypatch.setattr(compiled_noise, "kernel", fails)
    with pytest.raises(InvalidParameter, match=r"^compiled: noise must compile, got RuntimeError"):
        _weights(compiled=True, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [1, "yes", None])
def test_it_is_true_or_false(value):
    with pytest.raises(InvalidParameter, match="train: compiled must be True or False, got"):
        _weights(compiled=value)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.dpsgd.test_compiled_runs import Checkpoint, _weights

folder, last = Path(sys.argv[1]), int(sys.argv[2])

def killed(release):
    if release.step == last:
        os.kill(os.getpid(), signal.SIGKILL)

found = _weights(checkpoint=Checkpoint(path=folder / "run", every=2), compiled=True, callbacks=[killed])
(folder / "weights").write_bytes(found.numpy().tobytes())
"""


@pytest.mark.slow
def test_compiled_a_run_that_is_killed_ends_at_the_same_weights_and_close_to_those_of_the_other(tmp_path):
    def process(last):
        return subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(last)], cwd=ROOT).returncode

    assert process(5) < 0 and process(8) < 0
    assert process(-1) == 0
    assert (tmp_path / "weights").read_bytes() == _weights(compiled=True).numpy().tobytes()
    _close(_weights(compiled=True), _weights())
