"""What `python -m audit verdicts` does: simulate whole reports by the thousand, and say how often each kind errs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audit.core.simulated_trainers import HONEST, Kind
from audit.core.verdicts import Verdicts, verdicts
from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.documents import read_document
from mechanisms.core.files import write_atomically

SCHEMA = "dp-calipers/verdicts/1"
FILES = ("reports.json", "reports.md")
ASKED: tuple[tuple[Kind, bool], ...] = (
    ("faithful", True),
    ("faithful", False),
    ("response", False),
    ("quiet", True),
    ("loud", False),
)
CANARIES, EPSILONS = (100, 1000), (0.1, 1.0, 4.0, 8.0)
FEWER = 100  # times fewer reports of trainers with a bug, whose rates need no such precision
LEAST = 20  # canaries: fewer may all be in, or all out
WIDTH = 100  # of the table
HEADINGS = ("trainer", "decided by", "ε", "m", "reports", "violated", "refuted", "shared", "")


def run(
    *,
    reports: int,
    canaries: Sequence[int] | None,
    epsilons: Sequence[float] | None,
    seed: int,
    out: Path,
    log: Callable[[str], None],
) -> list[Verdicts]:
    """Return what whole reports find, those that `out` has already and those left to be made, and write both there.

    Args:
        reports: of each honest trainer, claim and number of canaries, >= 1.
        canaries: numbers m >= `LEAST`, or None for `CANARIES`.
        epsilons: of the claims, > 0, or None for `EPSILONS`.
        seed: of the simulations, >= 0.
        out: the folder; it is written anew after every line of the table, so that a run that was stopped goes on there.
        log: is told what is being done.
    """
    reports = validate.count("verdicts", "reports", reports, least=1)
    sizes = [validate.count("verdicts", "canaries", one, least=LEAST) for one in canaries or CANARIES]
    claims = [validate.positive("verdicts", "epsilon", one) for one in epsilons or EPSILONS]
    seed = validate.count("verdicts", "seed", seed)
    found = {_place(one): one for one in earlier(out / FILES[0])}
    for trainer, refuter, epsilon, size in _cells(sizes, claims):
        number = reports if trainer in HONEST else max(1, reports // FEWER)
        before = found.get((trainer, refuter, epsilon, size, seed))
        if before is None or before.reports < number:
            log(f"{number} reports: {trainer} trainer, ε = {epsilon:g}, m = {size}{', with refuter' * refuter}")
            new = verdicts(trainer, epsilon=epsilon, canaries=size, reports=number, refuter=refuter, seed=seed)
            found[_place(new)] = new
            write([found[place] for place in sorted(found)], out)
    return [found[place] for place in sorted(found)]


def earlier(path: Path) -> list[Verdicts]:
    """Return what `write` left there, nothing where there is no such file.

    Raises:
        InvalidParameter: if the file is of another schema.
    """
    if not path.exists():
        return []
    document = read_document(f"verdicts, {path.name}", path.read_text(encoding="utf-8"), schema=SCHEMA)
    return [Verdicts(**one) for one in document["verdicts"]]


def write(found: Sequence[Verdicts], out: Path) -> None:
    """Write all as JSON and as a table in Markdown."""
    document: dict[str, Any] = {"schema": SCHEMA, "library": library}
    document["verdicts"] = [dataclasses.asdict(one) for one in found]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / FILES[0], (json.dumps(document, indent=1) + "\n").encode())
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row(one)) + " |" for one in found]
    write_atomically(out / FILES[1], ("\n".join([*lines, "", *NOTES]) + "\n").encode())


NOTES = (
    "violated, refuted: of so many whole reports at 95 %, from coins to verdict; honest ones may have 5 % together.",
    "shared: reports in which any of four estimators, at a quarter of the error each, refutes an honest claim.",
    "A primary refutes nothing where all guesses right show less than the claim: ε = 4 at m = 100, or 8 at 1,000.",
)


def row(one: Verdicts) -> tuple[str, ...]:
    """Return what the table says of one kind of report.

    >>> row(Verdicts(trainer="faithful", refuter=True, epsilon=4.0, canaries=100, reports=1000, violated=0, refuted=9,
    ...              shared=12, confidence=0.95, seed=0))[5:8]
    ('0', '9 (.90 %)', '12 (1.20 %)')
    """
    decided = "primary and refuter" if one.refuter else "primary"
    counts = (_share(count, one.reports) for count in (one.violated, one.refuted, one.shared))
    numbers = (f"{one.epsilon:g}", str(one.canaries), str(one.reports))
    return (one.trainer, decided, *numbers, *counts, "FAILS" if one.fails else "")


def _share(count: int | None, reports: int) -> str:
    if not count:
        return "" if count is None else "0"
    return f"{count} ({100 * count / reports:.2f} %)".replace("(0.", "(.")


def _cells(sizes: Sequence[int], claims: Sequence[float]) -> Iterator[tuple[Kind, bool, float, int]]:
    for size in sizes:
        for epsilon in claims:
            for trainer, refuter in ASKED:
                yield trainer, refuter, epsilon, size


def _place(one: Verdicts) -> tuple[Kind, bool, float, int, int]:
    return one.trainer, one.refuter, one.epsilon, one.canaries, one.seed
