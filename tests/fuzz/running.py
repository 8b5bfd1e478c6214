"""A fuzz run: questions in chunks, one file a chunk, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from accountant.core.base import Accountant
from tests.fuzz import pool
from tests.fuzz.asking import FAST, Answer, ask, faults
from tests.fuzz.configurations import question, stratified

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "dp-calipers/fuzz-chunk/1"
HARDER_EVERY = 4
Row = dict[str, Any]
Task = tuple[int, tuple[str, ...], tuple[str, ...]]
"""A question's number, whom to ask, and whom to ask the harder question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is asked, and how.

    Args:
        accountants: by name.
        seed: of all questions.
        configs: their number.
        slow: how many of them accountants that are not in `FAST` are asked.
        chunk: questions a file.
        workers: processes.
        deadline: seconds after which a question is taken to hang.
        folder: where the chunks are written.
    """

    accountants: Mapping[str, Accountant]
    seed: int
    configs: int
    slow: int = 0
    chunk: int = 500
    workers: int = 2
    deadline: float = 60.0
    folder: Path = ROOT / "build" / "fuzz"

    @property
    def settings(self) -> Row:
        """What its answers depend on."""
        names = {name: repr(accountant) for name, accountant in self.accountants.items()}
        given = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("workers", "folder")
        }
        return given | {"accountants": names, "code": _code()}

    @property
    def chunks(self) -> Path:
        """A folder for these settings and this code alone, so that answers of different ones never mix."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{self.seed}-{digest[:12]}"


def rows(run: Run, report: Callable[[int], None]) -> Iterator[Row]:
    """Yield the row of every question, from the chunks that are there already and from asking; report their number."""
    chosen = stratified(run.seed, run.configs, run.slow)
    for start in range(0, run.configs, run.chunk):
        path = run.chunks / f"{start:09d}.json"
        if not path.exists():
            numbers = range(start, min(start + run.chunk, run.configs))
            found = sorted(_asked(run, numbers, chosen), key=lambda row: int(row["index"]))
            write(path, {"schema": SCHEMA, "settings": run.settings, "rows": found})
        document = json.loads(path.read_text(encoding="utf-8"))
        report(len(document["rows"]))
        yield from document["rows"]


def replayed(run: Run, index: int) -> Row:
    """Return the row of one question, asked of everybody, in this process and without a deadline."""
    everybody = tuple(run.accountants)
    yielded = list(_answers(run.accountants, run.seed, (index, everybody, everybody)))
    return _row(run.seed, index, yielded, "") | {"question": repr(question(run.seed, index))}


def write(path: Path, document: Row) -> None:
    """Write JSON at once or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(f".{os.getpid()}.partial")
    partial_file.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    partial_file.replace(path)


def _asked(run: Run, numbers: range, chosen: frozenset[int]) -> Iterator[Row]:
    fast = tuple(name for name in run.accountants if name in FAST)
    tasks = [
        (index, tuple(run.accountants) if index in chosen else fast, () if index % HARDER_EVERY else fast)
        for index in numbers
    ]
    work = partial(_answers, dict(run.accountants), run.seed)
    for (index, *_), yielded, ending in pool.results(work, tasks, workers=run.workers, deadline=run.deadline):
        yield _row(run.seed, index, yielded, ending)


def _answers(accountants: Mapping[str, Accountant], seed: int, task: Task) -> Iterator[tuple[str, str, Any]]:
    """Yield whom is asked before the answer, so that the one who never answers is known."""
    index, everybody, some = task
    easy = question(seed, index)
    for level, asked, names in (("answers", easy, everybody), ("harder", easy.harder, some)):
        for name in names:
            yield level, name, None
            yield level, name, ask(accountants[name], asked)
    yield "megabytes", "", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _row(seed: int, index: int, yielded: list[tuple[str, str, Any]], ending: str) -> Row:
    answers: dict[str, dict[str, Answer]] = {"answers": {}, "harder": {}}
    for level, name, value in yielded:
        if level in answers:
            answers[level][name] = value or Answer(status=ending)
    wrong = faults(answers["answers"], answers["harder"]) + ([ending] if ending and not yielded else [])
    asked = question(seed, index)
    return {
        "index": index,
        "stratum": asked.stratum,
        "answers": {name: _plain(answer) for name, answer in answers["answers"].items()},
        "faults": wrong,
        "megabytes": next((value for level, _, value in yielded if level == "megabytes"), 0.0),
    } | ({"question": repr(asked)} if wrong else {})


def _plain(answer: Answer) -> Row:
    """Return an answer as JSON: infinities and NaN as strings, an error's message only where it is one."""
    row = asdict(answer) | {"width": answer.width, "relative_width": answer.relative_width}
    if answer.status in ("answered", "refused"):
        del row["message"]
    return {name: repr(x) if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}


def _code() -> str:
    """Return a digest of the sources whose answers these are."""
    digest = hashlib.sha256()
    for package in ("mechanisms", "accountant", "tests/fuzz"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
