"""The benchmark's own rules: how it times and judges. No test here looks at how fast anything is."""

import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import judge, noise, peers
from tests.benchmarks.measure import Timing, interleaved
from tests.benchmarks.rows import SMOKE, Bars, Row, rows

ROW = Row(name="a", ours=lambda factor: None, bars=Bars(milliseconds=10, relative=1e-3, speedup=100))


def claim(lower, upper):
    return SimpleNamespace(lower=lower, upper=upper, method="pld")


def found(ours, peer=None):
    timings = {judge.OURS: ours} | ({peers.PLD: peer} if peer else {})
    return judge.judged(ROW, timings)


def test_two_rows_and_the_import_are_timed_and_written(tmp_path, capsys, monkeypatch):
    target, asked = tmp_path / "results.json", command._asked

    def asked_here(name, given, more):
        """One row in processes of its own, the other in this one: each takes a second to start."""
        if name == SMOKE[0]:
            return asked(name, given, more)
        return command._child(name, command._parsed(["--smoke", "--rounds", "1", *more]))

    monkeypatch.setattr(command, "_asked", asked_here)
    assert command.main(["--smoke", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["schema"] == "dp-calipers/benchmarks/1"
    assert [row["row"] for row in document["rows"]] == [*SMOKE, "import accountant"]
    for row in document["rows"]:
        assert row["milliseconds"] > 0 and row["bars"]
        assert all(isinstance(bar["met"], bool) for bar in row["bars"].values())
    assert document["rows"][2]["bars"]["heavy modules"]["met"]
    assert document["rows"][1]["lower"] <= 1462.28501596478 <= document["rows"][1]["upper"]
    assert "bars met" in capsys.readouterr().out


def test_every_bar_of_the_table_has_a_row():
    names = list(rows())
    assert sum("δ=1e-5" in name and name.startswith("DP-SGD") for name in names) == 8
    assert sum("δ=1e-30" in name for name in names) == 8
    assert {"calibration", "hard jumps", "1,000", "Gaussian", "randomised"} <= {
        word
        for name in names
        for word in ("calibration", "hard jumps", "1,000", "Gaussian", "randomised")
        if word in name
    }


def test_contestants_take_turns_and_no_call_repeats_a_question():
    calls = []
    contestants = {name: lambda factor, name=name: calls.append((name, factor)) for name in "ab"}
    timings = interleaved(contestants, rounds=3, patience=1.0, limit=5.0)
    assert [name for name, _ in calls] == list("abababab")
    assert len({factor for name, factor in calls if name == "a"}) == 4
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]


def test_a_contestant_that_is_too_slow_or_raises_says_so_and_is_left_out():
    def slow(factor):
        time.sleep(5)

    def broken(factor):
        raise ValueError("Floating point errors will dominate")

    timings = interleaved({"slow": slow, "broken": broken}, rounds=2, patience=1.0, limit=0.3)
    assert timings["slow"].note == "> 0.3 s" and timings["slow"].milliseconds is None
    assert timings["broken"].note == "ValueError: Floating point errors will dominate"


def test_bars_are_met_on_the_right_side_only():
    good = found(Timing(answer=claim(1.0, 1.0005), seconds=[0.001]), Timing(answer=1.1, seconds=[0.2]))
    assert all(bar["met"] for bar in good["bars"].values())
    bad = found(Timing(answer=claim(1.0, 1.1), seconds=[0.02]), Timing(answer=1.1, seconds=[0.2]))
    assert not any(bar["met"] for bar in bad["bars"].values())
    assert good["peers"][peers.PLD]["ratio"] == pytest.approx(200)
    assert good["peers"][peers.PLD]["off"] == pytest.approx(0.0995)


def test_a_peer_below_our_lower_end_is_called_unsound():
    row = found(Timing(answer=claim(1.0, 1.1), seconds=[0.02]), Timing(answer=0.9, seconds=[0.2]))
    assert row["peers"][peers.PLD]["note"] == "below our lower end: UNSOUND"


def test_no_answer_meets_no_bar():
    row = found(Timing(note="NumericalFailure: width reached 1"))
    assert not any(bar["met"] for bar in row["bars"].values())
    assert row["upper"] == math.inf and row["note"].startswith("NumericalFailure")


def test_a_calibration_that_overshoots_its_target_misses_its_bar():
    row = Row(name="c", ours=lambda factor: 1.0, bars=Bars(milliseconds=9, absolute=1e-4), bracket=lambda noise: noise)
    for reached, met in (((2.99995, 3.0), True), ((2.999, 3.0), False), ((3.00001, 3.0), False)):
        assert judge.judged(row, {judge.OURS: Timing(answer=reached, seconds=[0.001])})["bars"]["width"]["met"] is met


def test_noise_is_drawn_judged_and_written(tmp_path, capsys):
    target = tmp_path / "noise.json"
    assert noise.main(["--draws", "100", "--rounds", "1", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert document["machine"]["numpy"] == np.__version__ and document["machine"]["load"] >= 0
    assert set(document["peers"]) <= set(noise.PEERS) and all(document["peers"].values())
    assert all(row["dp-calipers"] > 0 for row in document["draws a second"].values())
    assert all(row["dp-calipers"] == 0 for row in document["told apart"].values())
    assert document["noise"]["ε = 1, δ = 1e-05"]["dp-calipers"] == pytest.approx(3.73063, abs=1e-4)
    assert "told apart" in capsys.readouterr().out


def test_textbook_noise_is_told_apart_by_its_last_digits():
    generator = np.random.default_rng(0)
    assert noise.told_apart(lambda x, n, scale: x + generator.laplace(scale=scale, size=n), 1000) > 0.01
