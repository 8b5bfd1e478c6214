"""Whole reports by the thousand: shortcuts change no verdict, and the table says who errs and goes on where it was."""

import dataclasses
import json
import re

import numpy as np
import pytest

from audit import __main__ as cli
from audit import audit
from audit.core import verdicts_page
from audit.core.described import SampledGaussianRun
from audit.core.simulated_trainers import DELTA, EPSILON, KINDS, coordinates, described, simulated, simulated_runs
from audit.core.verdicts import LESS, STRIDE, Judge, Verdicts, guesses, noise_refuted, observed, verdicts
from audit.core.verdicts_of_runs import RunsJudge, observed_runs
from audit.core.verdicts_of_runs import guesses as runs_guesses
from audit.estimators.accountant_inversion import AccountantInversion
from audit.multiplicity import shared_confidences
from mechanisms import KeyedSource
from mechanisms.core import command_line

pytest.importorskip("torch")
RUN = SampledGaussianRun(noise_multiplier=0.5, probability=0.5, steps=4)
EVERYBODY = {"refuter": True, "confidence": 0.95}
FOUND = Verdicts(
    design="one_run",
    trainer="faithful",
    refuter=True,
    epsilon=4.0,
    size=20,
    reports=20,
    violated=0,
    refuted=2,
    shared=1,
    confidence=0.95,
    seed=0,
)


@pytest.mark.parametrize("trainer", ["faithful", "quiet"])
@pytest.mark.parametrize("seed", range(3))
def test_the_refuter_is_asked_what_its_bound_says(trainer, seed):
    data = observed(trainer, RUN, epsilon=EPSILON, canaries=60, seed=(7, seed))
    bound = AccountantInversion().noise_multiplier(data, process=RUN.process(), confidence=0.99)
    for factor, refuted in ((1 + 1e-6, True), (1 - 1e-6, False)):
        asked = dataclasses.replace(RUN, noise_multiplier=factor * bound / LESS)
        assert noise_refuted(data, asked, share=LESS, confidence=0.99) is refuted


@pytest.mark.slow
@pytest.mark.parametrize("trainer", KINDS)
def test_simulated_verdicts_are_those_of_whole_reports(trainer):
    run, refuter = described(), trainer in ("faithful", "quiet")
    judge = Judge(run, canaries=200, refuter=refuter, confidence=0.95)
    for number in range(3):
        report = audit(
            simulated(trainer, run, seed=(1, number)),
            claim=run.process(),
            delta=DELTA,
            canaries=coordinates(200),
            guessing_rule=guesses(trainer, 200),
            randomness=KeyedSource(STRIDE + number),
            refuter="accountant_inversion" if refuter else None,
        )
        data = observed(trainer, run, epsilon=EPSILON, canaries=200, seed=(1, number))
        found = judge.verdict(data)  # "none" and "consistent" are not told apart where the refuter has nothing to say
        assert (found == "description refuted") == (report.verdict == "description refuted")
        assert (found == "violated") == (report.verdict == "violated")
        assert judge.refutation(data) is None or report.claim.upper < judge.refutation(data).epsilon
        assert judge.refutation(data) is None or judge.refutation(data).epsilon <= report.refutation.epsilon


@pytest.mark.thinned(2)
@pytest.mark.parametrize("trainer", KINDS)
def test_simulated_verdicts_on_runs_are_those_of_whole_reports(trainer):
    run = SampledGaussianRun(noise_multiplier=2.2, probability=1.0, steps=4)
    judge = RunsJudge(run, runs=40, confidence=0.95)
    for number in range(2):
        seed, key = (3, number), 3 * STRIDE + number
        asked = {"epsilon": 4.0, "runs": 40, "seed": seed}
        report = audit(
            simulated_runs(trainer, run, **asked),
            claim=run.process(),
            delta=DELTA,
            canaries=coordinates(1),
            guessing_rule=runs_guesses(trainer, run),
            randomness=KeyedSource(key),
            runs=40,
        )
        data = observed_runs(trainer, run, key=key, **asked)
        found = judge.verdict(data)
        assert (report.guesses, report.correct) == (data.guessed, data.correct)
        assert (found == "violated") == (report.verdict == "violated")
        assert (found == "description refuted") == (report.verdict == "description refuted")
        assert judge.plan.evidence(data, "").epsilon == report.evidence.epsilon
        assert report.refutation is None


@pytest.mark.slow
def test_reports_on_runs_find_what_was_planted_and_nothing_else():
    asked = {"design": "independent_runs", "epsilon": 1.0, "size": 100, "refuter": False, "seed": 0}
    quiet = verdicts("quiet", reports=10, **asked)
    assert not quiet.fails and quiet.refuted == 0 and quiet.shared is None
    loud = verdicts("loud", reports=10, **asked)
    assert loud.violated >= 6 and not loud.fails
    faithful = verdicts("faithful", reports=20, **asked)
    assert faithful.violated + faithful.refuted <= 4 and faithful.shared <= 4


def test_runs_that_leave_nobody_in_show_nothing():
    judge = RunsJudge(SampledGaussianRun(noise_multiplier=2.2, probability=1.0, steps=4), runs=20, confidence=0.95)
    data = observed_runs("quiet", judge.run, epsilon=1.0, runs=20, seed=(0, 0), key=0)
    for membership in (np.zeros(20, dtype=bool), np.ones(20, dtype=bool), np.arange(20) == 3):
        alone = dataclasses.replace(data, membership=membership)
        assert judge.verdict(alone) == "none" and not judge.shared_bounds_refute(alone)


@pytest.mark.slow
def test_reports_find_what_was_planted_and_nothing_else():
    quiet = verdicts("quiet", size=200, reports=2, refuter=True, seed=0)
    assert quiet.refuted == 2 and not quiet.fails and quiet.shared is None
    loud = verdicts("loud", epsilon=1.0, size=200, reports=2, refuter=False, seed=0)
    assert loud.violated == 2 and not loud.fails
    faithful = verdicts("faithful", size=100, reports=10, refuter=True, seed=0)
    assert faithful.violated + faithful.refuted <= 3 and faithful.shared <= 3


@pytest.mark.slow
def test_bounds_that_share_the_error_refute_what_one_of_them_does():
    judge = Judge(described(), canaries=200, refuter=True, confidence=0.95)
    level = shared_confidences(4, confidence=0.95)[0]
    for trainer, refuted in (("faithful", False), ("quiet", True)):
        data = observed(trainer, judge.run, epsilon=EPSILON, canaries=200, seed=(0, 0))
        assert judge.shared_bounds_refute(data) is refuted
        assert noise_refuted(data, judge.run, share=1.0, confidence=level) is refuted
    data = observed("loud", judge.run, epsilon=4 * EPSILON, canaries=200, seed=(0, 0))  # every answer is right
    assert judge.shared_bounds_refute(data)


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"refuted": 7}, True),
        ({}, False),
        ({"violated": 5}, True),
        ({"shared": 7}, True),
        ({"trainer": "quiet", "refuted": 9, "shared": None}, False),
    ],
)
def test_only_honest_trainers_that_are_found_out_too_often_fail(change, fails, tmp_path, capsys):
    found = dataclasses.replace(FOUND, **change)
    assert found.fails is fails
    assert ("FAILS" in verdicts_page.row(found)) is fails
    verdicts_page.write([found], tmp_path)
    assert verdicts_page.earlier(tmp_path / "reports.json") == [found]


def test_what_was_done_is_not_done_again_and_decides_the_exit_code(tmp_path, monkeypatch, capsys):
    made = []

    def simulated_verdicts(trainer, **asked):
        made.append((trainer, asked["reports"]))
        return dataclasses.replace(FOUND, trainer=trainer, shared=None, refuted=asked["reports"] // 2, **asked)

    monkeypatch.setattr(verdicts_page, "verdicts", simulated_verdicts)
    asked = ["verdicts", "--reports", "1000", "--canaries", "20", "--epsilon", "4", "--out", str(tmp_path)]
    assert command_line.run(cli.app, asked) == 3
    assert made == [("faithful", 1000), ("faithful", 1000), ("response", 1000), ("quiet", 10), ("loud", 10)]
    assert "500 (50.00 %)" in (tmp_path / "reports.md").read_text()
    assert max(map(len, capsys.readouterr().out.splitlines())) <= verdicts_page.WIDTH
    assert command_line.run(cli.app, asked) == 3 and len(made) == 5
    asked[2] = "2000"
    command_line.run(cli.app, asked)
    assert made[5:] == [("faithful", 2000), ("faithful", 2000), ("response", 2000), ("quiet", 20), ("loud", 20)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--reports 0", "reports must be at least 1, got 0"),
        ("--canaries 3", "canaries must be at least 20, got 3"),
        ("--runs 3", "runs must be at least 20, got 3"),
        ("--runs 99999999999", "runs must be at most 1000000, got 99999999999"),
        ("--canaries 99999999999", "canaries must be at most 1000000, got 99999999999"),
        ("--epsilon 0", "epsilon must be above 0, got 0"),
        ("--epsilon 1e9", "epsilon must be between 0.01 and 16, got 1e+09"),
        ("--epsilon 1e-9", "epsilon must be between 0.01 and 16, got 1e-09"),
        ("--seed=-1", "seed must be at least 0, got -1"),
    ],
)
def test_bad_input_is_refused(arguments, message, tmp_path, capsys):
    assert command_line.run(cli.app, ["verdicts", *arguments.split(), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_another_schema_is_refused(tmp_path, capsys):
    (tmp_path / "reports.json").write_text('{"schema": "dp-calipers/coverage/1"}')
    assert command_line.run(cli.app, ["verdicts", "--out", str(tmp_path)]) == 2
    assert "schema" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "reports.json must be JSON text, and is none"),
        ({}, "verdicts must be a sequence, got None"),
        ({"verdicts": [3]}, "verdicts must have the fields .*, got int"),
        ({"verdicts": [{"trainer": "faithful"}]}, "verdicts must have the fields .*, got .'trainer'"),
        ({"reports": "20"}, "reports must be a whole number, got '20'"),
        ({"violated": -5}, "violated must be at least 0, got -5"),
        ({"violated": 19}, "at most the 20 reports, got 19 .+ 2 and 1"),
        ({"shared": 21}, "at most the 20 reports, got 0 .+ 2 and 21"),
        ({"trainer": "honest"}, "trainer must be one of"),
        ({"design": "two_runs"}, "design must be one of"),
        ({"refuter": "no"}, "refuter must be a bool, got str"),
        ({"confidence": 1.5}, "confidence must"),
    ],
)
def test_a_file_that_was_damaged_is_refused_in_a_line(content, message, tmp_path, capsys):
    if isinstance(content, dict):
        whole = {} if content == {} else {"verdicts": [dataclasses.asdict(FOUND) | content]}
        document = {"schema": verdicts_page.SCHEMA} | (content if "verdicts" in content else whole)
        content = json.dumps(document).encode()
    (tmp_path / "reports.json").write_bytes(content)
    assert command_line.run(cli.app, ["verdicts", "--out", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)
