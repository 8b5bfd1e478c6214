"""Sweeps: many seeded audits, each with a result file of its own, gathered into one report.

A job is named by the hash of what it follows from. Its result is written whole or not at all, as soon as it is there,
and found again by a later call: a sweep that was killed goes on, and gives the same `report.json`, byte for byte.
Failures are not kept: a later call tries them again.

Every report has its own claim, error and verdict, and all of them together no more than that: among n honest jobs at
confidence 95 %, 5 % of n may say "violated". To show a violation by a sweep, name its one job beforehand, or share the
error, see `audit.multiplicity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit.core.backends import BACKENDS, ClusterLost, Done, run
from audit.core.jobs import DescribedJob, Failure, Job, entry_of, json_text, read_entry, result_of, result_text
from audit.core.run_config import RunConfig
from audit.report import AuditReport
from mechanisms import InvalidParameter
from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.command_line import BUG
from mechanisms.core.documents import read_document
from mechanisms.core.files import check_writable, write_atomically

SCHEMA = "dp-calipers/sweep/1"
REPORT = "report.json"
PATIENCE = 60.0  # seconds
REFUTED = ("violated", "description refuted")

__all__ = ["BACKENDS", "PATIENCE", "REPORT", "ClusterLost", "MainJob", "SweepReport", "sweep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """The main job as one of a sweep: what `python -m audit run` does for a `RunConfig`, on one thread.

    Args:
        directory: where the data lies, see `dpsgd.load`.
    """

    directory: Path | None = None

    def __call__(self, config: RunConfig) -> AuditReport:
        """Return the report, the same on any number of cores."""
        import torch

        from audit import demo

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return demo.run(config, directory=self.directory, log=lambda line: None)
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What came of every job, in the jobs' order.

    Args:
        jobs: all different.
        outcomes: a report or a failure for each.

    Raises:
        InvalidParameter: if two jobs are the same, or there are more or fewer outcomes than jobs.
    """

    jobs: tuple[Job | DescribedJob, ...]
    outcomes: tuple[AuditReport | Failure, ...]

    def __post_init__(self) -> None:
        if len(self.jobs) != len(self.outcomes):
            raise InvalidParameter(
                f"SweepReport: outcomes must be one for each of {len(self.jobs)} jobs, got {len(self.outcomes)}."
            )
        if len({job.name for job in self.jobs}) < len(self.jobs):
            raise InvalidParameter("SweepReport: jobs must be all different, and two are the same.")

    @property
    def reports(self) -> tuple[AuditReport, ...]:
        """Those that there are."""
        return tuple(found for found in self.outcomes if isinstance(found, AuditReport))

    @property
    def failures(self) -> dict[str, Failure]:
        """The failures by the names of their jobs."""
        return {job.name: found for job, found in zip(self.jobs, self.outcomes, strict=True) if type(found) is Failure}

    @property
    def exit_status(self) -> int:
        """The status of the command.

        That of the gravest failure if a job failed: 1 for a bug, a dead worker or a trainer at fault, else 4 for a
        numerical failure, else 2 for bad input or what is not there; without failures 3 if any verdict is "violated" or
        "description refuted", else 0.
        """
        failed = {failure.status for failure in self.failures.values()}
        failed |= {BUG for report in self.reports if report.faults}
        refuted = any(report.verdict in REFUTED for report in self.reports)
        return next((status for status in (1, 4, 2) if status in failed), 3 if refuted else 0)

    @property
    def summary(self) -> str:
        """Verdicts and failures in words, a line for each kind, and a line for each failure."""
        counts = Counter(report.verdict for report in self.reports)
        lines = [f"{count} of {len(self.jobs)}: {verdict}" for verdict, count in sorted(counts.items())]
        if self.reports:
            chance = sum(1 - _confidence(report) for report in self.reports)
            lines.append(f"each at its own confidence: were all claims true, {chance:.3g} on average might be refuted")
        for job, found in zip(self.jobs, self.outcomes, strict=True):
            if isinstance(found, AuditReport) and found.faults:
                lines.append(f"{job.name} has no verdict: {found.faults[0]}")
        for name, failure in self.failures.items():
            lines.append(f"{name} failed: {failure.kind}{': ' * bool(failure.reason)}{failure.reason}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return jobs and outcomes as JSON text; the same sweep gives the same bytes."""
        entries = [entry_of(*one) for one in zip(self.jobs, self.outcomes, strict=True)]
        return json_text({"schema": SCHEMA, "library": library, "jobs": entries})

    @classmethod
    def from_json(cls, text: str) -> SweepReport:
        """Return the report that `to_json` wrote; its jobs are told, and cannot be run.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema, type or field is not known, or of another kind: it is
                named.
        """
        found = read_document("SweepReport", text, schema=SCHEMA)
        if not set(found) <= {"schema", "library", "jobs"}:
            raise InvalidParameter(f"SweepReport: the document must have the fields of one, got {sorted(found)}.")
        try:
            read = [read_entry(entry) for entry in validate.sequence("SweepReport", "jobs", found.get("jobs"))]
        except RecursionError:
            raise InvalidParameter("SweepReport: the document must not be nested that deep.") from None
        return cls(jobs=tuple(job for job, _ in read), outcomes=tuple(outcome for _, outcome in read))


def sweep(
    jobs: Iterable[Job | RunConfig],
    *,
    folder: str | Path,
    backend: str = "loky",
    scheduler: str | None = None,
    workers: int = -1,
    patience: float = PATIENCE,
    progress: bool = False,
) -> SweepReport:
    """Return what came of every job, having run those that have no result in the folder yet.

    Args:
        jobs: all different; a `RunConfig` stands for `Job(run=MainJob(), config=...)`.
        folder: of the result files, `<name of the job>.json`, and of `report.json`, which is written last; made if
            there is none. It belongs to one sweep, to which jobs may be added: a report that has others is not written
            over. One whose jobs' code has changed since must not be used again: names do not tell.
        backend: "loky", processes of this machine, or "dask", machines that have this library.
        scheduler: address of the Dask scheduler, such as "tcp://host:8786"; with "dask" alone. Whoever reaches a
            scheduler can run code on its workers: that is Dask's design, so keep it on a network of your own.
        workers: processes of this machine, −1 for all cores, 1 for this process itself; of Dask as many as it has.
        patience: for how many seconds a Dask scheduler may be silent, or without workers, before the sweep gives up.
        progress: whether to show on stderr how far it is.

    Guarantees: result files are JSON, and nothing else is read from the folder; what a kill leaves of a file that was
    being written, `.<name>…`, stays there and does no harm. A job that raises, or whose worker dies, is named in the
    result, and the others go on; a job that kills its worker twice has failed, under Dask one that does so more often
    than the scheduler's `allowed-failures` says. With one worker there is no other process: then a job that dies ends
    the sweep, which goes on when it is called again. Every report is by this version of the library.

    Raises:
        InvalidParameter: before the first job, if two jobs are the same, a value breaks its rule, the folder is not
            writable, holds a result of another kind or the report of something else, joblib or Dask is not installed,
            or a scheduler does not answer or has no workers.
        ClusterLost: if the scheduler is lost, or all of its workers. What had come is kept: the same call goes on from
            there.
    """
    asked = tuple(job if isinstance(job, Job) else Job(run=MainJob(), config=job) for job in jobs)
    _check(asked, backend, scheduler, workers, patience)
    place = Path(folder)
    check_writable("sweep", place)
    _check_report(asked, place / REPORT)
    place.mkdir(parents=True, exist_ok=True)
    outcomes: dict[int, AuditReport | Failure] = dict(_found(asked, place))
    left = [number for number in range(len(asked)) if number not in outcomes]
    ran = run(asked, left, scheduler=scheduler, workers=workers, patience=patience)
    with _Shown(len(asked), len(outcomes), visible=progress) as shown, closing(ran):
        for number, outcome in ran:
            if isinstance(outcome, AuditReport):
                write_atomically(_path(place, asked[number]), result_text(asked[number], outcome).encode())
            outcomes[number] = outcome
            shown.advance(asked[number], outcome)
    report = SweepReport(jobs=asked, outcomes=tuple(outcomes[number] for number in range(len(asked))))
    _check_report(asked, place / REPORT)
    write_atomically(place / REPORT, report.to_json().encode())
    return report


def _check(jobs: Sequence[Job], backend: str, scheduler: str | None, workers: int, patience: float) -> None:
    names = [job.name for job in jobs]
    if not names or len(set(names)) < len(names):
        raise InvalidParameter(
            f"sweep: jobs must be one or more, all different, got {len(names)} of which {len(set(names))} differ.\n"
            "Jobs that differ in nothing give the same report: give each a seed of its own."
        )
    validate.choice("sweep", "backend", backend, BACKENDS)
    if (backend == "dask") != isinstance(scheduler, str):
        raise InvalidParameter(
            f"sweep: scheduler must be an address with backend 'dask', and None with 'loky', got {scheduler!r} with "
            f"{backend!r}."
        )
    if workers != -1:
        validate.count("sweep", "workers", workers, least=1)
    validate.positive("sweep", "patience", patience)


def _check_report(jobs: Sequence[Job], path: Path) -> None:
    """Refuse to write over the report of something else, of whose jobs some are not among these."""
    if not path.exists():
        return
    try:
        there = SweepReport.from_json(path.read_text(encoding="utf-8", errors="replace")).jobs
        lost = len({job.name for job in there} - {job.name for job in jobs})
    except InvalidParameter as error:
        held = f"is no report of a sweep: {Failure.of(error).reason}"
    else:
        held = f"has {lost} of {len(there)} jobs that are not among these {len(jobs)}"
        if not lost:
            return
    raise InvalidParameter(
        f"sweep: folder must belong to one sweep, but its {path.name} {held}\n"
        "It would be written over. Choose another folder, or move the file away: results by job are kept and used."
    )


def _found(jobs: Sequence[Job], folder: Path) -> Iterator[Done]:
    """Return the outcomes that an earlier call has left."""
    for number, job in enumerate(jobs):
        path = _path(folder, job)
        if not path.exists():
            continue
        try:
            yield number, result_of(job, path.read_text(encoding="utf-8", errors="replace"))
        except InvalidParameter as error:
            raise InvalidParameter(
                f"sweep: folder must hold results of these jobs, but {path.name} is none: {Failure.of(error).reason}\n"
                "Results are written whole, so something else has changed it. Remove it to run the job again."
            ) from None


def _path(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.json"


class _Shown:
    """A context that shows on stderr how many jobs are done: a bar in a terminal, else a line for each."""

    def __init__(self, jobs: int, done: int, *, visible: bool) -> None:
        self._console = Console(stderr=True, soft_wrap=True, quiet=not visible)
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            TextColumn("audits"), *columns, console=self._console, disable=not (visible and self._console.is_terminal)
        )
        self._task = self._bar.add_task("audits", total=jobs, completed=done)
        self._jobs, self._done = jobs, done

    def advance(self, job: Job, outcome: AuditReport | Failure) -> None:
        self._done += 1
        self._bar.advance(self._task)
        told = outcome.verdict if isinstance(outcome, AuditReport) else f"failed: {outcome.kind}"
        self._console.print(f"{self._done}/{self._jobs} {job.name} {told}", highlight=False, markup=False)

    def __enter__(self) -> Self:
        if self._done:
            self._console.print(f"{self._done} of {self._jobs} audits are there already", highlight=False)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _confidence(report: AuditReport) -> float:
    """Return the confidence of all that decides in a report, by the union bound."""
    errors = [1 - bound.confidence for bound in (report.evidence, report.refutation) if bound is not None]
    return 1 - sum(errors)
