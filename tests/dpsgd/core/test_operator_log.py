import dataclasses
import math
import stat

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, train
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, PerLayer
from dpsgd.core.operator_log import WARNING
from dpsgd.core.parameters import flatten
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CLIPPINGS = [
    Flat(),
    PerLayer(),
    Automatic(),
    AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=4.0),
]


def _train(data, config, *, loss=None, make=lambda: mlp(2, (3,), 2), **options):
    torch.manual_seed(0)
    loss = loss or nn.CrossEntropyLoss(reduction="none")
    return train(make(), data, config, loss=loss, randomness=KeyedSource("log"), **options)


def _data(rows):
    return Dataset(features=torch.tensor(rows), targets=torch.arange(len(rows)) % 2)


def _lines(path):
    warning, heads, *lines = path.read_text().splitlines()
    assert warning == WARNING and heads.split() == ["step", "examples", "clipped", "zeroed"]
    assert len({len(line) for line in (heads, *lines)}) == 1
    return [tuple(map(int, line.split())) for line in lines]


POISONED = [[1.0, 2.0], [math.nan, 0.0], [3.0, -1.0], [math.inf, 1.0], [0.5, 0.5]]


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_a_log_changes_no_bit_of_a_run_and_is_no_part_of_its_result(clipping, tmp_path):
    config = config_of(Poisson(probability=0.5), clipping=clipping)
    seen, unseen = [], []
    logged = _train(_data(POISONED), config, operator_log=tmp_path / "log", callbacks=[seen.append])
    plain = _train(_data(POISONED), config, callbacks=[unseen.append])
    assert torch.equal(flatten(logged.model.parameters()), flatten(plain.model.parameters()))
    for a, b in zip(seen, unseen, strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum) and a.noisy_count == b.noisy_count
    assert logged.process == plain.process
    assert {field.name for field in dataclasses.fields(logged)} == {
        "averaged_model",
        "circumstances",
        "config",
        "executed",
        "model",
        "reproducible",
        "versions",
    }
    assert len(_lines(tmp_path / "log")) == 12


def test_the_counts_are_right(tmp_path):
    """Gradients are the rows: of norm 5, .1, NaN, infinite, 0; every row in every step."""
    rows = [[3.0, 4.0], [0.1, 0.0], [math.nan, 0.0], [math.inf, 0.0], [0.0, 0.0]]
    config = config_of(Poisson(probability=1), steps=3, noise_multiplier=0.0)
    linear = {"loss": lambda outputs, targets: outputs[:, 0], "make": lambda: nn.Linear(2, 1, bias=False)}
    _train(_data(rows), config, operator_log=tmp_path / "log", **linear)
    assert _lines(tmp_path / "log") == [(step, 5, 1, 2) for step in range(3)]


def test_an_empty_batch_has_its_line_like_any_other(tmp_path):
    _train(_data(POISONED), config_of(Poisson(probability=0), steps=2), operator_log=str(tmp_path / "log"))
    assert _lines(tmp_path / "log") == [(0, 0, 0, 0), (1, 0, 0, 0)]


def test_only_its_owner_may_read_it(tmp_path):
    _train(_data(POISONED), config_of(Poisson(probability=1), steps=1), operator_log=tmp_path / "log")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["kept", "no/such/folder"])
def test_a_file_that_exists_or_cannot_be_made_is_refused_before_the_first_step(name, tmp_path):
    (tmp_path / "kept").write_text("of another run")
    seen = []
    with pytest.raises(InvalidParameter, match=r"train: operator_log must name a file that can be made, got '.*'"):
        _train(
            _data(POISONED), config_of(Poisson(probability=1)), operator_log=tmp_path / name, callbacks=[seen.append]
        )
    assert not seen and (tmp_path / "kept").read_text() == "of another run"


def test_nothing_of_it_is_printed(tmp_path, capfd, caplog):
    caplog.set_level(0)
    _train(_data(POISONED), config_of(Poisson(probability=1), steps=2), operator_log=tmp_path / "log")
    assert capfd.readouterr() == ("", "") and not caplog.records
