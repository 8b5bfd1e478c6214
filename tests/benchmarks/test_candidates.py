"""The benchmark's table is written as it says; no test here looks at how often a guess is right."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tests.benchmarks import candidates


@pytest.mark.slow
def test_every_budget_has_a_row_within_what_is_allowed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(candidates, "BUDGETS", (4.0,))
    target = tmp_path / "candidates.json"
    assert candidates.main(["--candidates", "3", "--runs", "4", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["schema"] == "dp-calipers/candidate-benchmark/1" and len(document["rows"]) == 1
    row = document["rows"][0]
    assert row["success"] <= row["allowed"] and row["blind"] == pytest.approx(1 / 3) and row["epsilon shown"] <= 4
    assert "CPU seconds" in capsys.readouterr().out
