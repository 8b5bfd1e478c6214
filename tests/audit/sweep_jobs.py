"""Jobs for tests of sweeps; `python -m tests.audit.sweep_jobs FOLDER [SCHEDULER]` begins one that somebody kills."""

import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from audit import AuditReport
from audit.core.jobs import Job
from audit.sweeps import sweep
from mechanisms import InvalidParameter

TEMPLATE = AuditReport.from_json((Path(__file__).parent / "report-1.json").read_text(encoding="utf-8"))
JOBS = 6


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: int | None
    does: str = "reports"
    folder: str = ""


def run(config):
    """Return a report that follows from the seed, unless something else is asked for."""
    if config.folder:
        with (Path(config.folder) / "runs").open("a") as runs:
            print(config.seed, file=runs)
    if config.does == "raises":
        raise ValueError("record 17 is 3.5")
    if config.does == "refuses":
        raise InvalidParameter("audit: seed must be\nanother")
    if config.does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    begun = Path(config.folder) / "begun"
    if config.does == "waits at first" and not begun.exists():
        begun.with_name("beginning").write_text(str(os.getpid()))
        begun.with_name("beginning").rename(begun)
        time.sleep(3600)
    if config.does == "hands back text":
        return "text"
    evidence = replace(TEMPLATE.evidence, epsilon=1 / (3 + config.seed))
    return replace(TEMPLATE, seed=config.seed, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """`run` that from the given seed on waits for ever: the sweep is certain to be killed midway."""

    start: int

    def __call__(self, config):
        if config.seed >= self.start:
            time.sleep(3600)
        return run(config)


def jobs(start=JOBS):
    return [Job(run=Waiting(start=start), config=Config(seed=seed)) for seed in range(JOBS)]


if __name__ == "__main__":
    from tests.audit import sweep_jobs  # under the name by which workers and tests know the jobs

    far = {"backend": "dask", "scheduler": sys.argv[2]} if len(sys.argv) > 2 else {}
    sweep(sweep_jobs.jobs(start=3), folder=sys.argv[1], workers=1, **far)
