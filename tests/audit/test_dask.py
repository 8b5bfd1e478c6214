"""Sweeps on a real scheduler and two workers, which are killed: nothing hangs, and what had come is kept."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audit.core.jobs import Job
from audit.sweeps import REPORT, ClusterLost, sweep
from mechanisms import InvalidParameter
from tests.audit.sweep_jobs import JOBS, Config, jobs, run
from tests.conftest import ROOT

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.slow
LONG, SHORT = 120, 20  # seconds: of a process to start on a busy machine, and that a scheduler may be silent there


class Cluster:
    """A scheduler and its workers, each a process of its own without a nanny that would start it again."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.file = folder / "scheduler.json"
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file)
        self.address = self._address()
        self.workers = [
            self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--local-directory", folder)
            for _ in range(workers)
        ]
        if workers:
            with distributed.Client(self.address, set_as_default=False, timeout=LONG) as client:
                client.wait_for_workers(workers, timeout=LONG)

    def _start(self, what: str, *options: object) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *map(str, options)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=self.environment, cwd=ROOT, **quiet)

    def _address(self) -> str:
        for _ in range(20 * LONG):
            if self.file.exists() and self.file.read_text().strip():
                return json.loads(self.file.read_text())["address"]
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        raise AssertionError("the scheduler did not start")

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    started = []

    def start(workers=2):
        folder = tmp_path / f"cluster-{len(started)}"
        folder.mkdir()
        started.append(Cluster(folder, workers))
        return started[-1]

    yield start
    for one in started:
        one.close()


def on(cluster, asked, folder, *, patience=LONG):
    return sweep(asked, folder=folder, backend="dask", scheduler=cluster.address, patience=patience)


def results(folder):
    return sorted(path.name for path in folder.glob("*.json") if path.name != REPORT)


def meanwhile(do, *, once):
    """Do something as soon as something is so, while the sweep runs."""

    def watch():
        for _ in range(20 * LONG):
            if once():
                return do()
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def killing(process, *, how=signal.SIGKILL):
    return lambda: os.kill(process.pid, how)


def test_dask_with_two_workers_gives_the_same_report_as_this_machine(tmp_path):
    asked = [Job(run=run, config=Config(seed=seed)) for seed in range(4)]
    asked.append(Job(run=run, config=Config(seed=9, does="raises")))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        far = sweep(asked, folder=tmp_path / "far", backend="dask", scheduler=cluster.scheduler_address)
    near = sweep(asked, folder=tmp_path / "near", workers=1)
    assert far == near
    assert (tmp_path / "far" / REPORT).read_bytes() == (tmp_path / "near" / REPORT).read_bytes()


@pytest.mark.parametrize(
    ("how", "told"),
    [(signal.SIGKILL, "was lost"), (signal.SIGSTOP, f"said nothing for {SHORT} s")],
    ids=["dies", "hangs"],
)
def test_a_sweep_whose_scheduler_is_lost_ends_and_goes_on_with_another(cluster, tmp_path, how, told):
    first, far, near = cluster(), tmp_path / "far", tmp_path / "near"
    watching = meanwhile(killing(first.scheduler, how=how), once=lambda: len(results(far)) == 3)
    with pytest.raises(ClusterLost, match=rf"{told}\.\nThe results that had come are kept"):
        on(first, jobs(start=3), far, patience=SHORT)
    watching.join()
    assert len(results(far)) == 3 and not (far / REPORT).exists()
    before = {name: (far / name).stat().st_mtime_ns for name in results(far)}
    on(cluster(), jobs(), far)
    sweep(jobs(), folder=near, workers=1)
    assert {name: (far / name).stat().st_mtime_ns for name in before} == before
    assert results(far) == results(near) and len(results(near)) == JOBS
    for name in [*results(near), REPORT]:
        assert (far / name).read_bytes() == (near / name).read_bytes()


def test_a_killed_sweep_goes_on_and_gives_the_same_report_byte_for_byte(cluster, tmp_path):
    one, far, near = cluster(), tmp_path / "far", tmp_path / "near"
    command = [sys.executable, "-m", "tests.audit.sweep_jobs", str(far), one.address]
    process = subprocess.Popen(command, env=one.environment, cwd=ROOT)
    try:
        while len(results(far)) < 3 and process.poll() is None:
            time.sleep(0.05)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL and not (far / REPORT).exists()
    one.close()  # its workers wait for ever, as they were told
    on(cluster(), jobs(), far)
    sweep(jobs(), folder=near, workers=1)
    assert results(far) == results(near)
    for name in [*results(near), REPORT]:
        assert (far / name).read_bytes() == (near / name).read_bytes()


def test_the_job_of_a_worker_that_dies_is_done_by_the_other(cluster, tmp_path):
    begun = tmp_path / "begun"
    asked = [Job(run=run, config=Config(seed=seed)) for seed in range(3)]
    asked.append(Job(run=run, config=Config(seed=9, does="waits at first", folder=str(tmp_path))))
    watching = meanwhile(lambda: os.kill(int(begun.read_text()), signal.SIGKILL), once=begun.exists)
    found = on(cluster(), asked, tmp_path / "sweep")
    watching.join()
    assert [report.seed for report in found.reports] == [0, 1, 2, 9] and found.exit_status == 0
    assert (tmp_path / "runs").read_text().split() == ["9", "9"]


def test_a_sweep_all_of_whose_workers_die_ends(cluster, tmp_path):
    one = cluster(workers=2)
    watching = meanwhile(lambda: [worker.kill() for worker in one.workers], once=lambda: len(results(tmp_path)) == 3)
    with pytest.raises(ClusterLost, match=f"had no workers for {SHORT} s"):
        on(one, jobs(start=3), tmp_path, patience=SHORT)
    watching.join()
    assert len(results(tmp_path)) == 3


def test_a_job_that_kills_every_worker_is_named(cluster, tmp_path):
    one = cluster(workers=5)
    asked = [Job(run=run, config=Config(seed=0, does="dies"))]
    assert on(one, asked, tmp_path).failures[asked[0].name].kind == "KilledWorker"


def test_a_scheduler_without_workers_is_named_with_its_address(cluster, tmp_path):
    one = cluster(workers=0)
    with pytest.raises(InvalidParameter, match=f"must have a worker within 1 s, got none at '{one.address}'"):
        on(one, jobs(), tmp_path, patience=1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "ftp://127.0.0.1:1", "", "tcp://"])
def test_no_scheduler_is_named(address, tmp_path):
    with pytest.raises(InvalidParameter, match="scheduler must be one that answers within 1 s"):
        sweep(jobs(), folder=tmp_path, backend="dask", scheduler=address, patience=1)
    left = [one for one in gc.get_objects() if isinstance(one, distributed.Client)]
    assert all(client.status == "closed" for client in left)  # else its collector may wait for ever


def test_a_sweep_that_is_done_needs_no_scheduler(tmp_path):
    done = sweep(jobs(), folder=tmp_path, workers=1)
    assert sweep(jobs(), folder=tmp_path, backend="dask", scheduler="tcp://127.0.0.1:1") == done
