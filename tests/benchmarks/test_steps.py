"""The benchmark of steps: what it writes, and that its contestants take the same step. Nothing here looks at speed."""

import copy
import json
from pathlib import Path

import torch

from dpsgd.core.parameters import flatten
from tests.benchmarks import steps
from tests.benchmarks.training_steps import AVAILABLE, CASES, OURS, Case

RESULTS = Path(steps.__file__).with_name("steps.json")


def test_a_case_is_timed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steps, "PATIENCE", 0.0)
    monkeypatch.setattr(steps, "_alone", lambda measure, name, contestant: [1.0] * len(steps.BATCHES))
    target = tmp_path / "steps.json"
    assert steps.main(["--rounds", "1", "--cases", "logreg", "--no-peers", "--no-compiled", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    [row] = document["rows"]
    assert document["schema"] == steps.SCHEMA
    assert set(row["milliseconds"]) == set(OURS)
    assert all(taken > 0 for taken in row["milliseconds"].values())
    assert row["bars"]["private"]["met"] == (row["ratio to plain"]["private"] <= row["bars"]["private"]["limit"])
    assert "logreg" in capsys.readouterr().out


def test_without_noise_and_clipping_the_private_step_is_the_plain_one():
    torch.manual_seed(0)
    case = Case(make=lambda: torch.nn.Linear(5, 3), batch=8, bar=1.0, shape=(5,), classes=3)
    features, targets = case.data()
    features = features / 100  # gradients below the bound of 1
    model = case.make()
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    for name, trained in (("plain", one), ("private without noise", other)):
        AVAILABLE[name](case, features, targets, trained)(torch.arange(8), 0)
    torch.testing.assert_close(flatten(one.parameters()), flatten(other.parameters()))
    assert not torch.equal(flatten(one.parameters()), flatten(model.parameters()))


def test_the_committed_results_hold_every_case_and_no_path():
    text = RESULTS.read_text()
    document = json.loads(text)
    assert document["schema"] == steps.SCHEMA
    assert [row["case"] for row in document["rows"]] == list(CASES)
    assert document["machine"]["torch"] and "/" not in text.replace("ns/entry", "").replace(steps.SCHEMA, "")
