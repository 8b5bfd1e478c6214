import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from audit import __main__ as cli
from audit import demo
from audit.core.backends import ClusterLost
from audit.core.faults import TrainerFailure, TrainerFault, TrainerRefusal
from audit.core.run_config import RunConfig
from audit.scores import Stream
from mechanisms import NumericalFailure, UnsupportedProcess
from mechanisms.core import command_line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --epsilon nan", "epsilon must be a number, got nan"),
        ("run --epsilon=-1", "epsilon must be above 0, got -1.0"),
        ("run --epsilon inf", "epsilon must be finite, got inf"),
        ("run --epsilon four", "Invalid value for '--epsilon'"),
        ("run --delta 2", "delta must be below 1, got 2.0"),
        ("run --delta 0", "delta must be above 0, got 0.0"),
        ("run --delta nan", "delta must be a number, got nan"),
        ("run --seed=-1", "seed must be at least 0, got -1"),
        ("run --seed 1.5", "Invalid value for '--seed'"),
        ("run --sed 3", "No such option: --sed"),
        ("run --data cifar", "data must be one of 'digits', 'fashion_mnist', 'mnist', got 'cifar'"),
        ("run --data mnist --data-dir nowhere", "mnist must have the file train-images-idx3-ubyte.gz"),
        ("run --out file/inside", "the output directory must be writable, got file/inside"),
        ("run something", "unexpected extra argument"),
        ("walk", "No such command 'walk'"),
        ("", "Missing command"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert command_line.run(cli.app, arguments.split()) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_option_that_counts_once_is_refused_twice(tmp_path, capsys):
    """The last alone would count: of several bounds on the same scores no one can tell which was named before."""
    options = ["scores", str(tmp_path / "scores.npz"), "--estimator", "one_run", "--estimator=calibrated"]
    assert command_line.run(cli.app, options) == 2
    assert capsys.readouterr().err == (
        "error: scores: --estimator must be given once, got it 2 times. The last alone would count.\n"
    )


def test_an_option_that_takes_several_is_given_several_times(tmp_path, capsys):
    options = ["coverage", "--size", "0", "--size", "50", "--out", str(tmp_path)]
    assert command_line.run(cli.app, options) == 2
    assert "got 0" in capsys.readouterr().err


def run_with(outcome, monkeypatch, tmp_path):
    """Run the command with `demo.run` returning, or raising, `outcome`."""

    def stand_in(*_, **__):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(demo, "run", stand_in)
    return command_line.run(cli.app, ["run", "--out", str(tmp_path / "made" / "here")])


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (UnsupportedProcess("no theorem\nuse another"), 2),
        (OSError(28, "No space left on device"), 2),
        (TrainerRefusal("the adapter\nrefuses"), 2),
        (ClusterLost("the scheduler\nwas lost"), 2),
        (NumericalFailure("too wide"), 4),
        (TrainerFailure("too wide for the adapter"), 4),
        (TrainerFault("the trainer raised KeyError in training"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_their_exit_codes(outcome, code, monkeypatch, tmp_path, capsys):
    assert run_with(outcome, monkeypatch, tmp_path) == code
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_not_hidden(monkeypatch, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_with(ZeroDivisionError("a bug"), monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("verdict", "code"), [("consistent", 0), ("none", 0), ("violated", 3), ("description refuted", 3)]
)
def test_the_verdict_sets_the_exit_code_after_everything_is_written(
    verdict, code, honest_report, judged, monkeypatch, tmp_path
):
    report = judged(honest_report, verdict)
    assert run_with(report, monkeypatch, tmp_path) == code
    written = {path.name for path in (tmp_path / "made" / "here").iterdir()}
    assert written == {"report.html", "bracket.png", "report.json", "report.md", "config.json", "cost.json"}


@pytest.mark.parametrize(
    ("broken", "left"), [("audit.core.page.page", "report.html"), ("audit.plots.png", "bracket.png")]
)
def test_a_picture_that_fails_loses_neither_report_nor_verdict(
    broken, left, honest_report, judged, monkeypatch, tmp_path, capsys
):
    def fail(*_, **__):
        raise ValueError("record 17")

    monkeypatch.setattr(broken, fail)
    assert run_with(judged(honest_report, "violated"), monkeypatch, tmp_path) == 3
    written = {path.name for path in (tmp_path / "made" / "here").iterdir()}
    assert {"report.json", "report.md"} < written and left not in written
    told = capsys.readouterr().err
    assert f"warning: {left} could not be made (ValueError)" in told and "record 17" not in told


def test_a_trainer_at_fault_is_an_error_after_everything_is_written(honest_report, monkeypatch, tmp_path, capsys):
    faulty = dataclasses.replace(honest_report, faults=("the trainer raised KeyError in training",), verdict="none")
    assert run_with(faulty, monkeypatch, tmp_path) == 1
    assert "error: audit: no verdict, for the trainer raised KeyError in training.\n" in capsys.readouterr().err
    assert (tmp_path / "made" / "here" / "report.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("config.json", RunConfig(seed=3).to_json(), 0),
        ("config.json", "of a training run", 2),
        ("report.json", Path(__file__).with_name("report-1.json").read_text(), 0),
        ("report.json", Path(__file__).with_name("sweep-1.json").read_text(), 2),
        ("report.json", "[" * 100_000, 2),
    ],
    ids=["own", "other", "own report", "sweep", "nested"],
)
def test_what_belongs_to_something_else_is_not_written_over(
    name, content, code, honest_report, judged, monkeypatch, tmp_path, capsys
):
    place = tmp_path / "made" / "here" / name
    place.parent.mkdir(parents=True)
    place.write_text(content)
    assert run_with(judged(honest_report, "none"), monkeypatch, tmp_path) == code
    assert (place.read_text() == content) == (code == 2)
    assert (f"with a {name} of something else" in capsys.readouterr().err) == (code == 2)


def test_help_says_the_exit_codes(capsys):
    assert command_line.run(cli.app, ["--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 a bug, or a trainer at fault" in told and "3 a claim violated or a description refuted" in told


def test_the_table_fits_a_terminal_of_eighty_columns(honest_report):
    printed = io.StringIO()
    cli.show(honest_report, Console(width=80, file=printed))
    text = printed.getvalue()
    assert "…" not in text
    assert "accountant_inversion  refuter" in text and "verdict: consistent" in text


def test_the_terminal_says_that_a_stream_is_about_one_step(honest_report):
    streamed = dataclasses.replace(honest_report.evidence, design=Stream(looks=7))
    for evidence, told in ((streamed, 1), (honest_report.evidence, 0)):
        printed = io.StringIO()
        cli.show(dataclasses.replace(honest_report, evidence=evidence), Console(width=200, file=printed))
        assert printed.getvalue().count("Claim and evidence are about one step") == told


def test_the_module_runs_as_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "audit", "run", "--delta", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: audit: delta must be below 1, got 2.0: with δ = 1 anything is private.\n"
    assert done.stdout == ""


def test_the_configuration_written_is_taken_back(honest_report, monkeypatch, tmp_path, capsys):
    ran = []
    monkeypatch.setattr(demo, "run", lambda config, **_: ran.append(config) or honest_report)
    options = "--seed 3 --canaries 4000 --epsilon 2 --refuter none --primary one_run_fdp"
    assert command_line.run(cli.app, ["run", *options.split(), "--out", str(tmp_path / "a")]) == 0
    written = tmp_path / "a" / "config.json"
    assert command_line.run(cli.app, ["run", "--config", str(written), "--out", str(tmp_path / "b")]) == 0
    asked = RunConfig(seed=3, canaries=4_000, epsilon=2.0, refuter=None, primary="one_run_fdp")
    assert ran == [asked, asked]
    assert written.read_bytes() == (tmp_path / "b" / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (RunConfig().to_json(), "--seed 3", "--config must stand for all options but folders, got --seed besides"),
        ("{", "", "configuration: JSON must be well formed"),
        ('{"schema": "dp-calipers/report/1"}', "", "configuration: schema must be 'dp-calipers/audit_config/1'"),
        ('{"schema": "dp-calipers/audit_config/1", "config": {"sed": 1}}', "", "got ['sed']"),
        ('{"schema": "dp-calipers/audit_config/1", "config": [1]}', "", "a configuration must have fields of"),
        ('{"schema": "dp-calipers/audit_config/1", "config": {"data": 1}}', "", "data must be a name, got 1"),
        ('{"schema": "dp-calipers/audit_config/1", "config": {"refuter": 1}}', "", "refuter must be a name or null"),
        ('{"schema": "dp-calipers/audit_config/1", "config": {"runs": 2}}', "", "runs must be at least 20, got 2"),
        ("{", "", "config.json must be the config.json of a run, but: audit, configuration: JSON must"),
        (None, "", "No such file or directory"),
    ],
)
def test_a_configuration_that_says_something_else_is_refused(content, options, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    asked = ["run", "--config", str(tmp_path / "config.json"), *options.split(), "--out", str(tmp_path / "made")]
    assert command_line.run(cli.app, asked) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and message in errors


@pytest.mark.slow
def test_independent_runs_are_audited_from_the_command_line(tmp_path, monkeypatch, capsys):
    options = "--seed 0 --design independent_runs --runs 24 --refuter none"
    assert command_line.run(cli.app, ["run", *options.split(), "--out", str(tmp_path)]) == 0
    assert "24 independent runs" in capsys.readouterr().out
