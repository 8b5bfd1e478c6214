"""The benchmark's table is written as it says; no test here looks at how often a guess is right."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tests.benchmarks import attributes


@pytest.mark.slow
def test_every_budget_has_a_row_and_the_last_one_half_the_noise(tmp_path, capsys):
    target = tmp_path / "attributes.json"
    assert attributes.main(["--epsilon", "4", "--runs", "4", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["schema"] == "dp-calipers/attribute-benchmark/1"
    assert [row["noise factor"] for row in document["rows"]] == [1.0, 0.5]
    assert all(0.5 < row["blind"] < row["allowed"] < 1 for row in document["rows"])
    assert "CPU seconds" in capsys.readouterr().out
