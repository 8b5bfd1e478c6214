"""The fuzz run itself: it finds every kind of lie, survives hangs and deaths, and goes on where it was stopped."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from accountant import available
from accountant.gdp import GDP
from mechanisms import Gaussian, Poisson, RandomizedResponse, Repeat, Sampled, UnsupportedProcess
from tests.fuzz import configurations, running
from tests.fuzz.__main__ import main
from tests.fuzz.asking import Answer, accountants, ask, faults
from tests.fuzz.configurations import Leaf, Question, question, stratified
from tests.fuzz.liars import Liar
from tests.fuzz.running import Run, replayed, rows
from tests.fuzz.summary import Budget, show, summary
from tests.fuzz.truth import Truth
from tests.strategies import ADD_REMOVE, REPLACE_ONE

RECORDED = sorted(Path(__file__).with_name("results").glob("summary-*.json"))
LIES = {
    "low": "apart: gdp says at least",
    "nan": "tightest: nan [nan, nan]",
    "negative": "tightest: negative",
    "inverted": "tightest: inverted",
    "raises": "tightest: error ZeroDivisionError: a bug",
    "warns": "tightest: error RuntimeWarning: overflow encountered",
}
GAUSSIAN = Question(leaves=(Leaf(kind="gaussian", noise=2.0, rate=1.0, times=7),), adjacency=REPLACE_ONE, delta=1e-5)


def run(folder, accountants, configs=6, **given):
    return Run(accountants=accountants, seed=5, configs=configs, folder=folder, workers=1, **given)


def outcome(asked):
    return summary(rows(asked, lambda count: None), asked.settings, Budget())


@pytest.fixture
def no_workers(monkeypatch):
    """Ask in this process: no worker has to start, and monkeypatches do not reach any."""
    monkeypatch.setattr(running.pool, "results", in_this_process)


@pytest.fixture
def gaussian_questions(no_workers, monkeypatch):
    """Ask about Gaussians alone."""
    monkeypatch.setattr(running, "question", lambda seed, index: GAUSSIAN)


def in_this_process(work, tasks, *, workers, deadline):
    for task in tasks:
        yield task, list(work(task)), ""


@pytest.mark.parametrize(("lie", "finding"), LIES.items(), ids=LIES)
def test_every_kind_of_lie_is_found(gaussian_questions, tmp_path, lie, finding):
    found = outcome(run(tmp_path, {"gdp": GDP(), "tightest": Liar(lie=lie)}))
    assert not found["passed"]
    assert len(found["unsound"]) == 6
    assert any(fault.startswith(finding) for fault in found["unsound"][0]["faults"])


@pytest.mark.parametrize(("lie", "count"), [("fails", "failed"), ("wide", "answered")])
def test_failures_and_wide_brackets_of_the_default_are_sound_but_do_not_pass(gaussian_questions, tmp_path, lie, count):
    found = outcome(run(tmp_path, {"gdp": GDP(), "tightest": Liar(lie=lie)}))
    assert not found["unsound"] and not found["passed"]
    assert found["accountants"]["tightest"]["statuses"] == {count: 6}
    assert found["missed"]["share"] == 1.0


def test_honest_answers_pass_and_the_tables_show_them(gaussian_questions, tmp_path):
    found = outcome(run(tmp_path, {"gdp": GDP(), "tightest": GDP()}))
    assert found["passed"] and found["missed"]["count"] == 0
    console = Console(record=True, width=160, file=io.StringIO())
    show(found, console)
    assert "passed" in console.export_text()


@pytest.mark.parametrize(
    ("lie", "deadline", "finding"), [("hangs", 2.5, "tightest: error hang"), ("dies", 60.0, "tightest: error died 9")]
)
def test_a_worker_that_hangs_or_dies_is_replaced_and_named(tmp_path, lie, deadline, finding):
    asked = run(tmp_path, {"gdp": GDP(), "tightest": Liar(lie=lie)}, configs=2, deadline=deadline)
    found = outcome(asked)
    assert [fault["index"] for fault in found["unsound"]] == [0, 1]
    assert all(fault["faults"][0].startswith(finding) for fault in found["unsound"])
    assert found["accountants"]["gdp"]["asked"] == 2


def test_a_run_goes_on_where_it_was_killed_and_asks_nothing_twice(no_workers, tmp_path):
    asked = run(tmp_path, {"gdp": GDP()}, configs=6, chunk=2)
    whole = list(rows(asked, lambda count: None))
    chunks = sorted(asked.chunks.glob("*.json"))
    assert [row["index"] for row in whole] == list(range(6)) and len(chunks) == 3
    assert not list(asked.chunks.glob("*.partial"))
    chunks[1].unlink()
    times = [path.stat().st_mtime_ns for path in (chunks[0], chunks[2])]
    again = list(rows(asked, lambda count: None))
    assert [path.stat().st_mtime_ns for path in (chunks[0], chunks[2])] == times
    assert [row["answers"]["gdp"]["upper"] for row in again if "upper" in row["answers"]["gdp"]] == [
        row["answers"]["gdp"]["upper"] for row in whole if "upper" in row["answers"]["gdp"]
    ]


def test_other_settings_never_share_a_chunk(tmp_path):
    one, other = run(tmp_path, {"gdp": GDP()}), run(tmp_path, {"gdp": Liar(lie="low")})
    assert one.chunks != other.chunks != run(tmp_path, {"gdp": GDP()}, deadline=9.0).chunks


def test_replaying_gives_the_answers_of_the_run(no_workers, tmp_path):
    asked = run(tmp_path, {"gdp": GDP(), "rdp": accountants()["rdp"]}, configs=4)
    for row in rows(asked, lambda count: None):
        again = replayed(asked, row["index"])
        for name, answer in row["answers"].items():
            assert {k: v for k, v in answer.items() if k != "seconds"}.items() <= again["answers"][name].items()


def test_the_truth_is_what_closed_forms_say():
    def truth(process, adjacency, delta):
        return Truth().profile(process, adjacency=adjacency).epsilon(delta)

    one = truth(Gaussian(noise_multiplier=1.0), ADD_REMOVE, 1e-5)
    assert one.lower <= 4.3771780956812246 <= one.upper
    ten = Repeat(RandomizedResponse(epsilon=math.log(3)), 10)  # only the largest loss, of mass .75^10, lies above it
    exact = 10 * math.log(3) + math.log1p(-1e-5 / 0.75**10)
    assert truth(ten, REPLACE_ONE, 1e-5).lower == pytest.approx(exact, rel=1e-14)
    assert truth(RandomizedResponse(epsilon=0.5, categories=5), REPLACE_ONE, 0.9).upper == 0.0
    with pytest.raises(UnsupportedProcess):
        truth(Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)), 2), ADD_REMOVE, 1e-5)


@pytest.mark.parametrize("index", range(40))
def test_the_package_agrees_with_the_truth_where_it_is_known(index):
    asked = question(2, index)
    chosen = {name: accountants()[name] for name in ("gdp", "rdp", "truth")}
    assert faults({name: ask(accountant, asked) for name, accountant in chosen.items()}, {}) == []


def test_a_harder_question_never_costs_less():
    for index in range(12):
        easy = question(11, index)
        names = ("gdp", "rdp")
        answers = [{name: ask(accountants()[name], asked) for name in names} for asked in (easy, easy.harder)]
        assert faults(*answers) == []
    low, high = Answer(status="answered", lower=1.0, upper=2.0), Answer(status="answered", lower=0.0, upper=0.9)
    assert faults({"pld": low}, {"pld": high}) == ["falls: pld says at least 1.0, pld at most 0.9"]


def test_a_harder_question_asks_about_the_same_mechanisms():
    def answers(asked):
        return [leaf.process(asked.adjacency).part for leaf in asked.leaves if leaf.kind == "response"]

    asked = [question(7, index) for index in range(500)]
    assert all(answers(one) == answers(one.harder) for one in asked)
    assert {one.categories for each in asked for one in answers(each)} == set(range(2, 11))


def test_the_questions_cover_the_domain():
    asked = [question(0, index) for index in range(2000)]
    assert {len(one.leaves) for one in asked} == {1, 2, 3, 4}
    assert {leaf.kind for one in asked for leaf in one.leaves} == {
        *configurations.SAMPLED_KINDS,
        *configurations.REPLACED_KINDS,
    }
    assert min(one.delta for one in asked) < 1e-29 and max(one.delta for one in asked) > 5e-3
    assert max(leaf.times for one in asked for leaf in one.leaves) > 5e8


def test_a_stratified_choice_is_even_and_never_larger_than_asked():
    chosen = stratified(0, 3000, 200)
    counts = {}
    for index in chosen:
        counts[question(0, index).stratum] = counts.get(question(0, index).stratum, 0) + 1
    assert len(chosen) == 200 and len(counts) > 60
    assert max(counts.values()) <= 4
    assert stratified(0, 50, 0) == frozenset()


def test_the_command_fails_where_an_answer_is_missing(tmp_path, capsys):
    assert set(accountants()) == {*available(), "truth"}
    assert main(["--configs", "3", "--accountants", "gdp,rdp", "--folder", str(tmp_path), "--workers", "1"]) == 0
    assert main(["--accountants", "gdp,rdp", "--replay", "0", "1"]) == 0
    assert '"question": "Question(leaves=(Leaf(' in capsys.readouterr().out


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_recorded_runs_found_nothing_unsound(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["schema"] == "dp-calipers/fuzz-summary/1"
    assert found["unsound"] == [] and found["passed"]
    assert found["missed"]["share"] <= 0.01
    assert sum(row["count"] for row in found["worst"].values()) == found["settings"]["configs"]
