"""What `python -m audit verdicts` does: simulate whole reports by the thousand, and say how often each kind errs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audit.core.simulated_trainers import HONEST, KINDS, Kind
from audit.core.verdicts import DESIGNS, DesignName, Verdicts, verdicts
from mechanisms import InvalidParameter
from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.documents import document_text, read_document
from mechanisms.core.files import write_atomically

SCHEMA = "dp-calipers/verdicts/2"
FILES = ("reports.json", "reports.md")
ASKED: tuple[tuple[Kind, bool], ...] = (
    ("faithful", True),
    ("faithful", False),
    ("response", False),
    ("quiet", True),
    ("loud", False),
)
ALONE: tuple[tuple[Kind, bool], ...] = tuple((trainer, False) for trainer in KINDS)
"""Of independent runs, which have no refuter."""
SIZES: dict[DesignName, tuple[int, ...]] = {"one_run": (100, 1000), "independent_runs": (100,)}
EPSILONS = (0.1, 1.0, 4.0, 8.0)
LEAST_EPSILON, LARGEST_EPSILON = 0.01, 16.0  # beyond, accountants take minutes, and so few canaries show nothing
FEWER = 100  # times fewer reports of trainers with a bug, whose rates need no such precision
LEAST = 20  # canaries, or runs: fewer may all be in, or all out
MOST = 10**6  # of them: all are drawn at once
WIDTH = 100  # of the table
HEADINGS = ("trainer", "refuter", "ε", "size", "reports", "violated", "refuted", "shared", "")


def run(
    *,
    reports: int,
    canaries: Sequence[int] | None,
    runs: Sequence[int] | None,
    epsilons: Sequence[float] | None,
    seed: int,
    out: Path,
    log: Callable[[str], None],
) -> list[Verdicts]:
    """Return what whole reports find, those that `out` has already and those left to be made, and write both there.

    Args:
        reports: of each honest trainer, claim and number of canaries, >= 1.
        canaries: numbers m >= `LEAST` of one run's, or None.
        runs: numbers >= `LEAST` of independent runs, or None; if both are None, `SIZES` of both designs.
        epsilons: of the claims, between `LEAST_EPSILON` and `LARGEST_EPSILON`, or None for `EPSILONS`.
        seed: of the simulations, >= 0.
        out: the folder; it is written anew after every line of the table, so that a run that was stopped goes on there.
        log: is told what is being done.
    """
    reports = validate.count("verdicts", "reports", reports, least=1)
    sizes = _sizes(canaries, runs)
    claims = [_claimable(one) for one in epsilons or EPSILONS]
    seed = validate.count("verdicts", "seed", seed)
    found = {_place(one): one for one in earlier(out / FILES[0])}
    for design, trainer, refuter, epsilon, size in _cells(sizes, claims):
        number = reports if trainer in HONEST else max(1, reports // FEWER)
        before = found.get((design, trainer, refuter, epsilon, size, seed))
        if before is None or before.reports < number:
            asked: dict[str, Any] = {"design": design, "epsilon": epsilon, "size": size, "refuter": refuter}
            log(f"{number} reports: {trainer} trainer, ε = {epsilon:g}, {sized(design, size)}{', refuter' * refuter}")
            new = verdicts(trainer, reports=number, seed=seed, **asked)
            found[_place(new)] = new
            write([found[place] for place in sorted(found)], out)
    return [found[place] for place in sorted(found)]


def _size(name: str, value: int) -> int:
    size = validate.count("verdicts", name, value, least=LEAST)
    if size > MOST:
        raise InvalidParameter(f"verdicts: {name} must be at most {MOST}, got {size}: all are drawn at once.")
    return size


def _sizes(canaries: Sequence[int] | None, runs: Sequence[int] | None) -> dict[DesignName, Sequence[int]]:
    if not canaries and not runs:
        return dict(SIZES)
    return {
        "one_run": [_size("canaries", one) for one in canaries or ()],
        "independent_runs": [_size("runs", one) for one in runs or ()],
    }


def _claimable(epsilon: float) -> float:
    epsilon = validate.positive("verdicts", "epsilon", epsilon)
    if not LEAST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise InvalidParameter(
            f"verdicts: epsilon must be between {LEAST_EPSILON:g} and {LARGEST_EPSILON:g}, got {epsilon:g}.\n"
            "Reports on so few canaries or runs cannot tell a larger claim, or a smaller one from these."
        )
    return epsilon


def earlier(path: Path) -> list[Verdicts]:
    """Return what `write` left there, nothing where there is no such file.

    Raises:
        InvalidParameter: if the file is of another schema, or what it says cannot be: it is named.
    """
    if not path.exists():
        return []
    owner = f"verdicts, {path.name}"
    text = document_text("verdicts", path)
    entries = validate.sequence(owner, "verdicts", read_document(owner, text, schema=SCHEMA).get("verdicts"))
    return [_read(owner, one) for one in entries]


def _read(owner: str, entry: object) -> Verdicts:
    fields = {field.name for field in dataclasses.fields(Verdicts)}
    if not isinstance(entry, dict) or set(entry) != fields:
        told = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise InvalidParameter(f"{owner}: verdicts must have the fields {sorted(fields)}, got {told}.")
    return Verdicts(**entry)


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
    "size: canaries of one run, or independent runs with one canary, in which every record is in every step.",
    "shared: reports in which any of four estimators, at a quarter of the error each, refutes an honest claim; over "
    "independent runs, which have no refuter, any of three at a third.",
    "A primary refutes nothing where no error at all shows less than the claim: ε = 4 at a size of 100, 8 at 1000.",
)


def sized(design: DesignName, size: int) -> str:
    """Return the size in words."""
    return f"{size} {'canaries' if design == 'one_run' else 'runs'}"


def row(one: Verdicts) -> tuple[str, ...]:
    """Return what the table says of one kind of report.

    >>> row(Verdicts(design="one_run", trainer="faithful", refuter=True, epsilon=4.0, size=100, reports=1000,
    ...              violated=0, refuted=9, shared=12, confidence=0.95, seed=0))[5:8]
    ('0', '9 (.90 %)', '12 (1.20 %)')
    """
    counts = (_share(count, one.reports) for count in (one.violated, one.refuted, one.shared))
    numbers = (f"{one.epsilon:g}", sized(one.design, one.size), str(one.reports))
    return (one.trainer, "yes" if one.refuter else "no", *numbers, *counts, "FAILS" if one.fails else "")


def _share(count: int | None, reports: int) -> str:
    if not count:
        return "" if count is None else "0"
    return f"{count} ({100 * count / reports:.2f} %)".replace("(0.", "(.")


def _cells(
    sizes: dict[DesignName, Sequence[int]], claims: Sequence[float]
) -> Iterator[tuple[DesignName, Kind, bool, float, int]]:
    for design in DESIGNS:
        for size in sizes[design]:
            for epsilon in claims:
                for trainer, refuter in ASKED if design == "one_run" else ALONE:
                    yield design, trainer, refuter, epsilon, size


def _place(one: Verdicts) -> tuple[DesignName, Kind, bool, float, int, int]:
    return one.design, one.trainer, one.refuter, one.epsilon, one.size, one.seed
