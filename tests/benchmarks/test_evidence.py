"""The table of what audits show is written as it says; no test here looks at how much that is."""

import json

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
    assert all(len(values) == 2 for values in rows["two worlds, ε = 8"].values())


def test_choosing_the_threshold_uncorrected_shows_more_than_any_fixed_one():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1.0, 1.0, 60), rng.normal(0.0, 1.0, 60)
    hits, alarms = int(np.sum(inside >= 0.5)), int(np.sum(outside >= 0.5))
    fixed = gdp.lower_bound_from_counts(
        true_positives=hits, false_negatives=60 - hits, false_positives=alarms, true_negatives=60 - alarms,
        delta=evidence.DELTA, confidence=evidence.CONFIDENCE,
    )  # fmt: skip
    assert evidence._uncorrected(inside, outside) > fixed > 0
