"""The table of what audits show is written as it says; no test here looks at how much that is."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from audit.estimators import gdp
from tests.benchmarks import evidence


@pytest.mark.slow
def test_rows_are_printed_and_written_seed_by_seed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evidence, "RUNS", 20)
    target = tmp_path / "evidence.json"
    assert evidence.main(["--rows", "two worlds", "--seeds", "2", "--json", str(target)]) == 0
    rows = json.loads(target.read_text())["rows"]
    assert list(rows) == ["two worlds, ε = 8"] and "tradeoff" in capsys.readouterr().out
    assert all(len(values) == 2 for values in rows["two worlds, ε = 8"]["figures"].values())


def test_it_is_the_median_that_is_held_against_a_bar_and_not_the_best_seed():
    name = "two worlds, ε = 8"
    found = evidence.summary(name, {"tradeoff": [0.70, 0.99, 0.71], "cost": [50.0, 70.0, 55.0], "maximal": [0.1]})
    assert found["tradeoff"] == {"median": 0.71, "least": 0.70, "most": 0.99, "bar": 0.78, "met": False}
    assert found["cost"]["met"] and found["cost"]["bar"] == 60.0
    assert "MISSED" in evidence._line("tradeoff", found["tradeoff"]) and "bar" not in found["maximal"]


def test_every_bar_is_about_a_row_there_is_and_the_committed_summary_follows_from_the_figures():
    assert set(evidence.BARS) == set(evidence.rows())
    committed = json.loads((Path(evidence.__file__).with_suffix(".json")).read_text())
    assert set(committed["rows"]) == set(evidence.rows())
    for name, row in committed["rows"].items():
        assert evidence.summary(name, row["figures"]) == row["summary"]
        assert all(len(values) == len(row["seeds"]) for values in row["figures"].values())


def test_choosing_the_threshold_uncorrected_shows_more_than_any_fixed_one():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1.0, 1.0, 60), rng.normal(0.0, 1.0, 60)
    hits, alarms = int(np.sum(inside >= 0.5)), int(np.sum(outside >= 0.5))
    fixed = gdp.lower_bound_from_counts(
        true_positives=hits, false_negatives=60 - hits, false_positives=alarms, true_negatives=60 - alarms,
        delta=evidence.DELTA, confidence=evidence.CONFIDENCE,
    )  # fmt: skip
    assert evidence._uncorrected(inside, outside) > fixed > 0
