"""Every documented bug is caught at a family-wise 1e-4, and its correct twin is not."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import audit.zoo
from audit.__main__ import app
from audit.core import zoo_run
from audit.core.detectors import TRAINING, _dispersion_p_value, black_box
from audit.core.specimens import MechanismSpecimen, TrainingSpecimen, specimens
from audit.core.toy_training import Plan, clipped, dp_sgd
from audit.core.zoo_run import ALPHA, detections, level, run_zoo
from mechanisms import Adjacency, InvalidParameter, KeyedSource
from tests.audit.zoo_seeds import RESULTS

FOLDER = Path(audit.zoo.__file__).parent
FOUND = specimens()
REQUIRED = ("noise_halved", "mean_clipped", "shuffled_batches", "divided_by_batch", "outlier_stops")
BLACK_BOXES = [name for name, one in FOUND.items() if "black_box" in one.caught_by]
QUICK = [name for name in FOUND if name not in REQUIRED and name not in BLACK_BOXES]


def caught(name, which, seed=0):
    return {one.detector for one in detections(FOUND[name], which, level(), seed) if one.caught}


def is_caught_and_its_twin_is_not(name):
    assert set(FOUND[name].caught_by) <= caught(name, "broken")
    assert caught(name, "correct") == set()


@pytest.mark.parametrize("name", REQUIRED)
def test_a_planted_bug_is_caught_and_its_twin_is_not(name):
    is_caught_and_its_twin_is_not(name)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", QUICK)
def test_another_bug_is_caught_and_its_twin_is_not(name):
    is_caught_and_its_twin_is_not(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BLACK_BOXES)
def test_a_bug_that_only_statistics_see_is_caught_and_its_twin_is_not(name):
    is_caught_and_its_twin_is_not(name)


def test_one_such_bug_is_caught_every_day():
    is_caught_and_its_twin_is_not("svt_unscaled")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 100))
def test_no_twin_of_the_planted_bugs_is_ever_caught(seed):
    assert {name: caught(name, "correct", seed) for name in REQUIRED} == {name: set() for name in REQUIRED}


def test_the_committed_runs_over_many_seeds_caught_every_bug_and_no_twin():
    results = json.loads(RESULTS.read_text())
    assert set(results) == set(FOUND) and min(one["seeds"] for one in results.values()) >= 20
    for name, one in results.items():
        assert one["alarms"] == {}, name
        assert one["expected"] == list(FOUND[name].caught_by), name
        assert {detector: one["caught"].get(detector) for detector in one["expected"]} == dict.fromkeys(
            one["expected"], one["seeds"]
        ), name
    assert {results[name]["seeds"] for name in REQUIRED} == {100}


@pytest.mark.parametrize("name", FOUND)
def test_a_file_of_the_zoo_is_short_and_says_where_its_bug_is_documented(name):
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 60 and lines[0].endswith(".") and len(FOUND[name].source) > 10


def test_the_error_is_shared_by_all_tests_on_bugs_and_twins():
    tests = sum(
        len(TRAINING) - 1 if isinstance(one, TrainingSpecimen) else int(one.epsilon is not None)
        for one in FOUND.values()
    )
    assert level() * 2 * tests == pytest.approx(ALPHA)


def test_evidence_is_shown_no_stronger_than_it_is(monkeypatch):
    monkeypatch.setattr("audit.core.detectors.accountant_inversion.noise_multiplier_upper_bound", lambda **_: 1.2341)
    assert "noise multiplier is below 1.24," in TRAINING["inversion"](dp_sgd, level(), 0).evidence
    monkeypatch.setattr("audit.core.detectors.e_processes.epsilon_of", lambda mu, delta: 1.2341)
    assert "ε = 1.24 at δ = 1e-5 is not refuted after 200 runs" in TRAINING["anytime"](dp_sgd, level(), 0).evidence
    monkeypatch.setattr("audit.core.detectors.mechanism_lower_bound", lambda *_, **__: SimpleNamespace(epsilon=1.2399))
    specimen = FOUND["svt_unscaled"]
    assert "ε is at least 1.23," in black_box(specimen, specimen.broken, level(), 0).evidence


@pytest.mark.parametrize(("trials", "records", "probability"), [(2, 3, 0.5), (4, 2, 0.25)])
def test_numbers_that_scatter_have_the_p_value_of_brute_force(trials, records, probability):
    law = {}
    for coins in itertools.product((0, 1), repeat=trials * records):
        counts = np.array(coins).reshape(records, trials).sum(axis=1)
        mass = probability ** sum(coins) * (1 - probability) ** (len(coins) - sum(coins))
        spread = int(np.square(counts - trials * probability).sum())
        law.setdefault(spread, []).append((mass, counts))
    for spread, cases in law.items():
        low = sum(mass for other, many in law.items() if other <= spread for mass, _ in many)
        high = sum(mass for other, many in law.items() if other >= spread for mass, _ in many)
        found = _dispersion_p_value(cases[0][1], trials=trials, probability=probability)
        assert found == pytest.approx(min(1.0, 2 * min(low, high)), rel=1e-12)


def test_the_miniature_does_what_its_plan_says():
    rows = np.random.default_rng(0).normal(size=(5, 3))
    plan = Plan(noise_multiplier=0.0, probability=1.0, steps=2, expected_batch_size=4.0)
    weights = np.zeros(3)
    steps = list(dp_sgd(rows, plan, KeyedSource(0), weights, rate=0.5))
    total = sum(row / max(1.0, np.sqrt(sum(x * x for x in row))) for row in rows)
    assert all(np.allclose(step.noisy_sum, total) for step in steps)
    assert np.allclose(steps[1].weights_before, -0.5 * total / 4) and np.allclose(weights, -total / 4)


def test_the_noise_of_the_miniature_has_the_deviation_of_the_plan():
    plan = Plan(noise_multiplier=3.0, probability=0.5, steps=200, expected_batch_size=1.0)
    noise = np.array([one.noisy_sum for one in dp_sgd(np.zeros((0, 50)), plan, KeyedSource(0), np.zeros(50))])
    assert noise.std() == pytest.approx(3.0, rel=0.03) and abs(noise.mean()) < 0.1


@pytest.mark.parametrize("row", [[3e200, 4e200], [3e-320, 0.0], [np.inf, 0.0], [-1e308, 1e308], [0.3, 0.4]])
def test_clipped_rows_stay_in_the_ball_whatever_they_hold(row):
    (found,) = clipped(np.array([row]))
    assert np.hypot(*found) <= 1 + 1e-15
    if np.hypot(*np.array(row) / 2) <= 0.5:
        assert found.tolist() == row


HONEST = TrainingSpecimen(source="nowhere, it is correct", broken=dp_sgd, caught_by=("replay",))


def halved(*given):
    return FOUND["noise_halved"].broken(*given)


@pytest.mark.parametrize(("specimen", "code", "text"), [
    (HONEST, 3, "missed: replay should have caught it"),
    (TrainingSpecimen(source="nowhere", broken=halved, correct=halved, caught_by=("noise",)), 3, "caught by noise"),
    (FOUND["outlier_stops"], 0, "outlier_stops"),
])  # fmt: skip
def test_the_command_ends_in_3_where_a_bug_is_missed_or_a_twin_caught(monkeypatch, specimen, code, text):
    monkeypatch.setattr(zoo_run, "specimens", lambda: {"outlier_stops": specimen})
    result = CliRunner().invoke(app, ["zoo", "--seed", "1"])
    assert result.exit_code == code and text in " ".join(result.output.split())


def mechanism(**changed):
    common = {
        "source": "nowhere",
        "broken": max,
        "correct": max,
        "caught_by": ("replay",),
        "neighbours": (),
        "adjacency": Adjacency.ADD_REMOVE,
        "description": None,
        "epsilon": None,
    }
    return MechanismSpecimen(**common | changed)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: run_zoo(("noise_halfed",)), "names must be one of 'accumulated_then_clipped'"),
    (lambda: run_zoo(seed=-1), "seed must be at least 0, got -1"),
    (lambda: TrainingSpecimen(source="", broken=dp_sgd, caught_by=("black_box",)), "must name some of replay"),
    (lambda: TrainingSpecimen(source="", broken=dp_sgd, caught_by=()), "caught_by must name some of"),
    (lambda: mechanism(epsilon=0.0), "epsilon must be above 0, got 0"),
    (lambda: mechanism(runs=3), "runs must be at least 4, got 3"),
])  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidParameter, match=message):
        call()
