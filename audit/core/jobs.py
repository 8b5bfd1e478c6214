"""Jobs of a sweep: what each follows from, the name that this gives it, and what came of it, as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from audit.core.serialise import digest
from audit.report import AuditReport
from mechanisms import DPError, InvalidParameter
from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.command_line import exit_status
from mechanisms.core.documents import read_document

RESULT = "dp-calipers/sweep_result/2"
NAME_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One audit that follows from a seeded configuration alone: run again, it gives the same report.

    Args:
        run: configuration -> report. A function or class at the top of a module, or an object of such a class; what an
            object holds, such as the folder of the data, must not change the report, for it is no part of the name.
        config: a frozen dataclass of JSON values, whose field `seed` is a whole number.

    Raises:
        InvalidParameter: if `run` cannot be found again by its name, or the configuration is of another kind.
    """

    run: Callable[[Any], AuditReport]
    config: Any

    def __post_init__(self) -> None:
        if not callable(self.run) or not _place(self.run).isprintable() or "<" in _place(self.run):
            raise InvalidParameter(
                f"Job: run must be a function or class at the top of a module, got {_place(self.run)}.\n"
                "Its name stands for it in the result files: a lambda or an inner function has none."
            )
        config = self.config
        frozen = dataclasses.is_dataclass(config) and getattr(config, "__dataclass_params__").frozen  # noqa: B009
        if not frozen or isinstance(config, type):
            raise InvalidParameter(f"Job: config must be a frozen dataclass, got {type(config).__name__}.")
        if getattr(config, "seed", None) is None:
            raise InvalidParameter(
                "Job: config must have a seed, got none.\nWithout one a job that is run again gives another report: "
                "set it, or have the command give some with --seeds."
            )
        validate.count("Job", "seed", config.seed)
        try:
            json.dumps(dataclasses.asdict(config), allow_nan=False)
        except (TypeError, ValueError):
            raise InvalidParameter("Job: config must hold JSON values alone: numbers, texts, lists, null.") from None

    @property
    def described(self) -> dict[str, Any]:
        """What the report follows from, as JSON: the library's version, the name of `run` and the configuration."""
        return {"library": library, "run": _place(self.run), "config": dataclasses.asdict(self.config)}

    @property
    def name(self) -> str:
        """The hash of all that, by which its result file is called."""
        return _name(self.described)

    def done(self) -> AuditReport | Failure:
        """Run it; return the report, or why there is none."""
        try:
            found = self.run(self.config)
        except Exception as error:
            return Failure.of(error)
        return found if isinstance(found, AuditReport) else Failure(kind=type(found).__name__, reason="is no report")


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedJob:
    """A job that was read from a document. It cannot be run: nothing that a document names is ever imported.

    Args:
        library: the version.
        run: the name of what ran.
        config: its configuration, as JSON text.

    Raises:
        InvalidParameter: if one is no text, or the configuration no JSON object.
    """

    library: str
    run: str
    config: str

    def __post_init__(self) -> None:
        for name in ("library", "run", "config"):
            if not isinstance(getattr(self, name), str):
                raise InvalidParameter(f"DescribedJob: {name} must be text, got {type(getattr(self, name)).__name__}.")
        try:
            found = json.loads(self.config)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise InvalidParameter("DescribedJob: config must be the text of a JSON object.")

    @property
    def described(self) -> dict[str, Any]:
        """The same as `Job.described`."""
        return {"library": self.library, "run": self.run, "config": json.loads(self.config)}

    @property
    def name(self) -> str:
        """The same as `Job.name`."""
        return _name(self.described)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job has no report.

    Args:
        kind: of the error.
        reason: its text, if it is one of the library's, which hold no data; else empty.
    """

    kind: str
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("kind", "reason"):
            if not isinstance(getattr(self, name), str):
                raise InvalidParameter(f"Failure: {name} must be text, got {type(getattr(self, name)).__name__}.")

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what may be told of an error."""
        told = " ".join(str(error).split()) if isinstance(error, DPError) else ""
        return cls(kind=type(error).__name__, reason=told)

    @property
    def status(self) -> int:
        """The exit status that is due to it: the one with which the job alone would end a command."""
        return exit_status(self.kind)


def _place(run: Any) -> str:
    named = run if hasattr(run, "__qualname__") else type(run)
    return f"{named.__module__}:{named.__qualname__}"


def result_text(job: Job, report: AuditReport) -> str:
    """Return the content of a job's result file: the job, its report and what tells whether it was changed."""
    document = json.loads(report.to_json())
    return json_text({"schema": RESULT, "job": job.described, "digest": digest(document), "report": document})


def result_of(job: Job, text: str) -> AuditReport:
    """Return the report in a job's result file.

    Raises:
        InvalidParameter: if the text is no result, that of another job, or its report was changed.
    """
    found = read_document("sweep, result", text, schema=RESULT)
    if found.get("job") != json.loads(json.dumps(job.described)):
        raise InvalidParameter(f"sweep: a result must be of the job whose name it has, {job.name}, and is of another.")
    report = found.get("report")
    if found.get("digest") != digest(report):
        raise InvalidParameter("sweep: a result must have the digest of its report, and has another: it was changed.")
    return AuditReport.from_json(json.dumps(report))


def entry_of(job: Job | DescribedJob, outcome: AuditReport | Failure) -> dict[str, Any]:
    """Return job and outcome as the entry of a sweep's document."""
    entry: dict[str, Any] = {"name": job.name, **job.described}
    if isinstance(outcome, Failure):
        return entry | {"failure": {"kind": outcome.kind, "reason": outcome.reason}}
    return entry | {"report": json.loads(outcome.to_json())}


def read_entry(entry: object) -> tuple[DescribedJob, AuditReport | Failure]:
    """Return job and outcome of an entry that `entry_of` made.

    Raises:
        InvalidParameter: if a field is missing, not known or of another kind, or the name is not that of the job.
    """
    given = entry if isinstance(entry, dict) else {}
    kind = "failure" if "failure" in given else "report"
    expected = {"name", "library", "run", "config", kind}
    if set(given) != expected:
        told = sorted(given) if isinstance(entry, dict) else type(entry).__name__
        raise InvalidParameter(f"SweepReport: a job must have the fields {sorted(expected)}, got {told}.")
    job = DescribedJob(library=given["library"], run=given["run"], config=json.dumps(given["config"]))
    if given["name"] != job.name:
        raise InvalidParameter(f"SweepReport: the name of this job must be {job.name}, and is another: it was changed.")
    if kind == "report":
        return job, AuditReport.from_json(json.dumps(given["report"]))
    if not isinstance(given["failure"], dict) or set(given["failure"]) != {"kind", "reason"}:
        raise InvalidParameter("SweepReport: a failure must have the fields ['kind', 'reason'], and has others.")
    return job, Failure(**given["failure"])


def _name(described: dict[str, Any]) -> str:
    """Return the hash of a description, the same before it is written as JSON and after it is read."""
    text = json.dumps(json.loads(json.dumps(described, allow_nan=False)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]


def json_text(document: dict[str, Any]) -> str:
    """Return a document as indented JSON text that ends with a line break."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2) + "\n"
