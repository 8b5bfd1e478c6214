import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from audit import AuditReport, demo
from audit.core.jobs import Failure, Job
from audit.core.run_config import RunConfig
from audit.core.sweep_command import sweep as command
from audit.sweeps import REPORT, ClusterLost, MainJob, SweepReport, sweep
from mechanisms import InvalidParameter
from tests.audit.sweep_jobs import JOBS, TEMPLATE, Config, jobs, run
from tests.conftest import ROOT

pytest.importorskip("joblib")


def job(seed=0, **more):
    return Job(run=run, config=Config(seed=seed, **more))


def results(folder):
    return sorted(path.name for path in folder.glob("*.json") if path.name != REPORT)


def test_a_killed_sweep_goes_on_and_gives_the_same_report_byte_for_byte(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sweep(jobs(), folder=whole, workers=1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-m", "tests.audit.sweep_jobs", str(killed)], env=environment, cwd=ROOT)
    try:
        while len(results(killed)) < 3 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(results(killed)) == 3 and not (killed / REPORT).exists()
    before = {name: (killed / name).stat().st_mtime_ns for name in results(killed)}
    sweep(jobs(), folder=killed, workers=1)
    assert {name: (killed / name).stat().st_mtime_ns for name in before} == before
    for name in [*results(whole), REPORT]:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert results(killed) == results(whole) and len(results(whole)) == JOBS


def test_a_job_that_has_a_result_is_not_run_again(tmp_path):
    asked = [job(seed, folder=str(tmp_path)) for seed in range(3)]
    first = sweep(asked[:2], folder=tmp_path / "sweep", workers=1)
    second = sweep(asked, folder=tmp_path / "sweep", workers=1)
    assert (tmp_path / "runs").read_text().split() == ["0", "1", "2"]
    assert second.outcomes[:2] == first.outcomes
    (tmp_path / "sweep" / f"{asked[1].name}.json").unlink()
    assert sweep(asked, folder=tmp_path / "sweep", workers=1) == second
    assert (tmp_path / "runs").read_text().split() == ["0", "1", "2", "1"]


def test_a_report_of_other_jobs_is_not_written_over(tmp_path):
    sweep([job(0), job(1)], folder=tmp_path, workers=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for other in ([job(2)], [job(1), job(2)]):
        with pytest.raises(InvalidParameter, match=r"report\.json has [12] of 2 jobs that are not among these [12]"):
            sweep(other, folder=tmp_path, workers=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    sweep([job(1), job(0)], folder=tmp_path, workers=1)
    sweep([job(0), job(1)], folder=tmp_path, workers=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_of_no_sweep_is_not_written_over(tmp_path):
    for text in (TEMPLATE.to_json(), "no report"):
        (tmp_path / REPORT).write_text(text)
        with pytest.raises(
            InvalidParameter, match=r"report\.json is no report of a sweep: .*\nIt would be written over"
        ):
            sweep([job(0)], folder=tmp_path, workers=1)
        assert (tmp_path / REPORT).read_text() == text and not results(tmp_path)


def test_a_report_that_another_sweep_wrote_meanwhile_is_not_written_over(tmp_path):
    asked = job(0)
    there = sweep([job(1)], folder=tmp_path / "other", workers=1).to_json()
    moved = replace(asked, config=replace(asked.config))
    object.__setattr__(moved, "run", lambda config: (tmp_path / REPORT).write_text(there) and run(config))
    with pytest.raises(InvalidParameter, match=r"report\.json has 1 of 1 jobs"):
        sweep([moved], folder=tmp_path, workers=1)
    assert (tmp_path / REPORT).read_text() == there


def test_outcomes_stand_in_the_jobs_order_whatever_was_there(tmp_path):
    asked = [job(seed) for seed in (4, 1, 3)]
    sweep([asked[2]], folder=tmp_path, workers=1)
    found = sweep(asked, folder=tmp_path, workers=1)
    assert [report.seed for report in found.outcomes] == [4, 1, 3]
    document = json.loads((tmp_path / REPORT).read_text())
    assert [one["config"]["seed"] for one in document["jobs"]] == [4, 1, 3]
    assert [AuditReport.from_json(json.dumps(one["report"])) for one in document["jobs"]] == list(found.outcomes)
    assert [one["name"] for one in document["jobs"]] == [one.name for one in asked]


def test_a_job_that_fails_is_named_and_the_others_go_on(tmp_path):
    asked = [job(1, does="raises"), job(2), job(3, does="refuses"), job(4, does="hands back text")]
    found = sweep(asked, folder=tmp_path, workers=1)
    assert found.outcomes[0] == Failure(kind="ValueError")
    assert found.reports[0].seed == 2
    assert found.outcomes[2] == Failure(kind="InvalidParameter", reason="audit: seed must be another")
    assert found.outcomes[3] == Failure(kind="str", reason="is no report")
    assert "record 17" not in found.summary + (tmp_path / REPORT).read_text()
    assert f"{asked[0].name} failed: ValueError\n" in found.summary
    assert list(found.failures) == [asked[0].name, asked[2].name, asked[3].name]
    assert results(tmp_path) == [f"{asked[1].name}.json"]


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_own_job_alone(tmp_path):
    asked = [job(0), job(1, does="dies"), job(2)]
    found = sweep(asked, folder=tmp_path, workers=2)
    assert list(found.failures) == [asked[1].name] and found.failures[asked[1].name].kind == "TerminatedWorkerError"
    assert [report.seed for report in found.reports] == [0, 2]
    assert found.exit_status == 1


@pytest.mark.parametrize(
    ("kinds", "verdicts", "status"),
    [
        ([], ["consistent", "none"], 0),
        ([], ["consistent", "description refuted"], 3),
        (["InvalidParameter"], ["description refuted"], 2),
        (["InvalidParameter", "NumericalFailure"], ["consistent"], 4),
        (["UnsupportedProcess", "NumericalFailure", "KeyError"], [], 1),
        (["NumericalFailure"], ["fault", "violated"], 1),
        (["TrainerRefusal"], ["violated"], 2),
        (["FileNotFoundError", "TrainerFailure"], [], 4),
        (["FileNotFoundError"], ["description refuted"], 2),
        (["TrainerFault", "TrainerFailure"], ["consistent"], 1),
        (["KilledWorker"], ["violated"], 1),
        (["exit"], ["violated"], 1),
        ([], ["fault", "description refuted"], 1),
    ],
)
def test_the_exit_status_is_that_of_the_gravest(kinds, verdicts, status, judged):
    faulty = replace(TEMPLATE, faults=("the trainer raised KeyError in training",), verdict="none")
    outcomes = [Failure(kind=kind) for kind in kinds]
    outcomes += [faulty if verdict == "fault" else judged(TEMPLATE, verdict) for verdict in verdicts]
    asked = tuple(job(seed) for seed in range(len(outcomes)))
    assert SweepReport(jobs=asked, outcomes=tuple(outcomes)).exit_status == status


def test_the_summary_says_how_many_refutations_chance_explains():
    asked = tuple(job(seed) for seed in range(40))
    report = SweepReport(jobs=asked, outcomes=(TEMPLATE,) * 40)
    errors = [1 - bound.confidence for bound in (TEMPLATE.evidence, TEMPLATE.refutation) if bound is not None]
    assert f"were all claims true, {40 * sum(errors):.3g} on average might be refuted" in report.summary


def test_a_name_follows_from_configuration_function_and_library_alone(monkeypatch):
    config = RunConfig(seed=3)
    name = Job(run=MainJob(), config=config).name
    assert name == Job(run=MainJob(directory=ROOT), config=replace(config)).name
    others = {Job(run=MainJob(), config=replace(config, seed=4)).name, Job(run=run, config=config).name}
    monkeypatch.setattr("audit.core.jobs.library", "another")
    others.add(Job(run=MainJob(), config=config).name)
    assert len(others | {name}) == 4


def test_a_result_of_something_else_is_refused_by_name(tmp_path):
    first, second = job(0), job(1)
    sweep([first], folder=tmp_path, workers=1)
    (tmp_path / REPORT).unlink()
    path = tmp_path / f"{second.name}.json"
    for content, reason in [
        ((tmp_path / f"{first.name}.json").read_bytes(), "must be of the job whose name it has"),
        (TEMPLATE.to_json().encode(), "schema must be 'dp-calipers/sweep_result/2', got 'dp-calipers/report/1'"),
        (b"{", "JSON must be well formed"),
        (b"\x80\x04.", f"but {path.name} is none"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InvalidParameter, match=reason):
            sweep([second], folder=tmp_path, workers=1)
        assert path.read_bytes() == content


@dataclass
class Thawed:
    seed: int = 0


@dataclass(frozen=True)
class Holding:
    seed: int = 0
    what: object = None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": lambda config: TEMPLATE}, "run must be a function or class at the top of a module"),
        ({"config": Thawed()}, "config must be a frozen dataclass, got Thawed"),
        ({"config": Config}, "config must be a frozen dataclass, got type"),
        ({"config": Config(seed=None)}, "config must have a seed, got none"),
        ({"config": Config(seed=-1)}, "seed must be at least 0, got -1"),
        ({"config": Holding(what=float("nan"))}, "config must hold JSON values alone"),
        ({"config": Holding(what=run)}, "config must hold JSON values alone"),
    ],
)
def test_a_job_that_could_not_be_run_again_is_refused(arguments, message):
    with pytest.raises(InvalidParameter, match=message):
        Job(**({"run": run, "config": Config(seed=0)} | arguments))


@pytest.mark.parametrize(
    ("asked", "keywords", "message"),
    [
        ([], {}, "jobs must be one or more, all different, got 0"),
        ([job(), job()], {}, "all different, got 2 of which 1 differ"),
        ([job()], {"backend": "threads"}, "backend must be one of 'loky', 'dask', got 'threads'"),
        ([job()], {"backend": "dask"}, "scheduler must be an address with backend 'dask'"),
        ([job()], {"scheduler": "tcp://here:1"}, "scheduler must be .* None with 'loky', got 'tcp://here:1'"),
        ([job()], {"workers": 0}, "workers must be at least 1, got 0"),
        ([job()], {"patience": 0}, "patience must be above 0, got 0"),
        ([RunConfig()], {}, "config must have a seed"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_it_begins(asked, keywords, message, tmp_path):
    with pytest.raises(InvalidParameter, match=message):
        sweep(asked, folder=tmp_path / "sweep", **keywords)
    assert not (tmp_path / "sweep").exists()


def test_what_must_be_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InvalidParameter, match=r'pip install "dp-calipers\[cluster\]"'):
        sweep([job()], folder=tmp_path, backend="dask", scheduler="tcp://127.0.0.1:1")


def test_the_command_runs_each_configuration_under_each_seed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        demo, "run", lambda config, *, directory, log: replace(TEMPLATE, seed=config.seed, verdict="consistent")
    )
    (tmp_path / "a.json").write_text(RunConfig(epsilon=2.0).to_json())
    (tmp_path / "b.json").write_text(RunConfig().to_json())
    command([tmp_path / "a.json", tmp_path / "b.json"], seeds=2, workers=1, out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / REPORT).read_text())
    told = [(one["config"]["epsilon"], one["config"]["seed"]) for one in document["jobs"]]
    assert told == [(2.0, 0), (2.0, 1), (4.0, 0), (4.0, 1)]
    out, shown = capsys.readouterr()
    assert "4 of 4: consistent" in out and shown.splitlines()[-1].startswith("4/4 ")


class Future:
    """What a stand-in for Dask hands back: done at once, or cancelled as when a connection breaks."""

    def __init__(self, outcome):
        self.outcome = outcome

    def cancelled(self):
        return self.outcome is None

    def result(self, timeout):
        return self.outcome()


def dask(submit, *, workers=1):
    """A stand-in for `distributed` that runs nothing but what `submit` says; tests of the real one are slow."""

    class Client(contextlib.nullcontext):
        loop = scheduler = SimpleNamespace(ncores=None)

        def __init__(self, address, **_):
            super().__init__()

        def wait_for_workers(self, count, timeout):
            if not workers:
                raise TimeoutError

        def submit(self, do, job, pure):
            return Future(submit(do, job))

        def sync(self, what, callback_timeout):
            return {}

    return SimpleNamespace(
        Client=Client,
        CancelledError=asyncio.CancelledError,
        as_completed=lambda futures, loop: SimpleNamespace(
            next_batch=lambda block: [futures.pop() for one in futures[-1:] if one.outcome != "never"]
        ),
    )


@pytest.mark.parametrize(
    ("outcome", "workers", "error", "message"),
    [
        (None, 1, ClusterLost, r"'tcp://here:1' was lost\.\nThe results that had come are kept"),
        ("never", 1, ClusterLost, r"'tcp://here:1' had no workers for 0\.2 s"),
        (None, 0, InvalidParameter, r"must have a worker within 0\.2 s, got none at 'tcp://here:1'"),
    ],
)
def test_a_lost_cluster_ends_the_sweep_with_what_had_come(outcome, workers, error, message, monkeypatch, tmp_path):
    def submit(do, job):
        return (lambda: do(job)) if job.config.seed == 1 else outcome

    monkeypatch.setitem(sys.modules, "distributed", dask(submit, workers=workers))
    with pytest.raises(error, match=message):
        sweep([job(0), job(1)], folder=tmp_path, backend="dask", scheduler="tcp://here:1", patience=0.2)
    assert results(tmp_path) == [f"{job(1).name}.json"] * workers and not (tmp_path / REPORT).exists()


def test_a_client_that_cannot_connect_is_closed_at_once(monkeypatch, tmp_path):
    closed = []

    class Client:
        def __init__(self, address, **_):
            raise OSError

        def close(self):
            closed.append(self)

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    with pytest.raises(InvalidParameter, match="must be one that answers within 60 s, got 'tcp://here:1': OSError"):
        sweep([job(0)], folder=tmp_path, backend="dask", scheduler="tcp://here:1")
    assert len(closed) == 1


def test_a_report_by_another_version_is_none(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", dask(lambda do, job: lambda: ("another", do(job)[1])))
    found = sweep([job(0)], folder=tmp_path, backend="dask", scheduler="tcp://here:1")
    assert "workers must have version" in found.summary and "got another" in found.summary
    assert found.exit_status == 2 and not results(tmp_path)
