"""The benchmark's table is written as it says; no test here looks at how strong an attack is."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tests.benchmarks import membership


def test_every_attack_has_a_row_with_limits_and_every_order_an_answer(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(membership, "TRAINING", membership.NonPrivate(batch_size=50, steps=15, learning_rate=0.5))
    target = tmp_path / "membership.json"
    assert membership.main(["--data", "digits", "--shadows", "8", "--targets", "2", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert set(document["tuned"]) == {"offline", "online"} and len(document["margins"]) == 6
    assert document["schema"] == "dp-calipers/membership-benchmark/1"
    assert len(document["rows"]) == 7 and len(document["orders"]) == 12
    for row in document["rows"].values():
        assert row["area lower"] < row["area"] < row["area upper"]
        assert row["rate lower"] <= row["rate"] <= row["rate upper"]
        assert row["false positives"] <= 0.001 * 2000
    assert "CPU seconds" in capsys.readouterr().out


def test_orders_compare_the_best_of_each_attack():
    rows = {
        name: {"area": area, "rate": rate}
        for name, area, rate in (
            ("loss", 0.5, 0.1),
            ("rmia, offline", 0.6, 0.2),
            ("rmia, online", 0.7, 0.3),
            ("lira, offline, pooled", 0.55, 0.0),
            ("lira, online, pooled", 0.65, 0.2),
            ("lira, online, per_canary", 0.75, 0.2),
        )
    }
    kept = membership.orders(rows)
    assert kept["area: lira, online >= rmia, online"] and not kept["rate: lira, online >= rmia, online"]
    assert kept["area: lira, offline >= loss, offline"] and not kept["rate: lira, offline >= loss, offline"]


def test_the_loss_ranks_as_the_confidence_does():
    seen = np.array([-800.0, 0.0, 30.0, 31.0, 800.0])
    scores = membership.negative_loss(seen, seen)
    assert scores[0] == -800.0 and scores[1] == pytest.approx(-np.log(2)) and np.all(np.diff(scores) >= 0)
