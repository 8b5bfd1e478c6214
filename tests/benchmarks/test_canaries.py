"""The benchmark's table is written as it says; no test here looks at how well a canary is found."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tests.benchmarks import canaries


@pytest.mark.slow
def test_every_kind_has_a_row_and_sets_at_right_angles_do_not_interfere(tmp_path, capsys, monkeypatch):
    full = canaries.training

    def short(epsilon):
        base = full(epsilon)
        return dataclasses.replace(base, config=dataclasses.replace(base.config, steps=3))

    monkeypatch.setattr(canaries, "training", short)
    target = tmp_path / "canaries.json"
    assert canaries.main(["--canaries", "20", "--runs", "2", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["schema"] == "dp-calipers/canary-benchmark/1"
    rows = document["rows"]
    assert len(rows) == 7 and "CPU seconds" in capsys.readouterr().out
    assert rows["20 Dirac"]["largest cosine"] == 0.0 and rows["20 orthogonal"]["largest cosine"] < 1e-6
    assert rows["20 blank"]["largest cosine"] == pytest.approx(1.0)
    assert all(row["mean length"] <= 1 + 1e-6 and 0 <= row["mean share"] < 1 for row in rows.values())


def test_prescribed_gradients_are_those_that_the_canaries_have():
    made = canaries.signed_coordinates(canaries=3, dimension=5, rng=np.random.default_rng(0))
    found = canaries.gradients(made, None)
    assert np.all(found[np.arange(3), made.coordinates] == made.signs) and np.all(np.abs(found).sum(axis=1) == 1)
