"""What `python -m audit coverage` does: run the bench, print its table, write it as JSON, Markdown and a picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.core.auditors import Auditor, our_auditors
from audit.core.coverage_rows import HEADINGS, NOTES, markdown, remarks, rows
from audit.core.peers import PEERS, installed, peer_auditors
from audit.core.verdicts import HONEST, Verdicts, verdicts
from audit.coverage import SIZES, Coverage, bench
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.files import write_atomically

WIDTH = 100  # of the table
RIGHT = ("false", "n", "ε", "outside", "ms")
ASKED = (("faithful", True), ("faithful", False), ("response", False), ("quiet", True), ("loud", False))
CANARIES = (200, 1000)


def run(
    *,
    names: Sequence[str] | None,
    simulations: int,
    sizes: Sequence[int] | None,
    cases: int,
    power: int,
    reports: int,
    seed: int,
    out: Path,
    console: Console,
    log: Callable[[str], None],
) -> bool:
    """Run the bench and tell whether a guarantee failed. Arguments are the command's."""
    simulations = validate.count("coverage", "simulations", simulations, least=1)
    cases, reports = validate.count("coverage", "cases", cases), validate.count("coverage", "reports", reports)
    seed, power = validate.count("coverage", "seed", seed), validate.count("coverage", "power", power)
    earlier = _earlier(out / "coverage.json", seed)
    asked_sizes = [validate.count("coverage", "size", one, least=20) for one in sizes or SIZES]
    found = bench(
        _auditors(names),
        sizes=asked_sizes,
        simulations=simulations,
        cases=cases,
        power=power,
        seed=seed,
        folder=out / "cells",
        known=earlier.trials if earlier else (),
        log=log,
    )
    whole = _whole_reports(reports, seed, log)
    write(found.over(earlier) if earlier else found, whole or _earlier_reports(out / "reports.json"), out)
    show(found, whole, console)
    if names is None:
        for name in sorted(set(PEERS) - set(installed())):
            log(f"left out: {name} is not installed")
    return bool(found.failing) or any(one.fails for one in whole)


def show(coverage: Coverage, whole: Sequence[Verdicts], console: Console) -> None:
    """Print the table, at most 100 columns wide, and what there is to be said below."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in RIGHT else "left", no_wrap=True)
    for row in rows(coverage):
        table.add_row(*map(escape, row.cells), style="bold" if row.fails else None)
    console.print(table)
    for line in (*NOTES, *remarks(coverage), *map(_said, whole)):
        console.print(line, markup=False)


def write(coverage: Coverage, whole: Sequence[Verdicts], out: Path) -> None:
    """Write coverage.json, reports.json, coverage.md and, if matplotlib is there, coverage.png."""
    coverage.save(out / "coverage.json")
    text = markdown(coverage) + "".join(f"- {_said(one)}\n" for one in whole)
    write_atomically(out / "coverage.md", text.encode())
    if whole:
        document = [dataclasses.asdict(one) for one in whole]
        write_atomically(out / "reports.json", (json.dumps(document, indent=1) + "\n").encode())
    import io

    from audit.plots import false_claims

    picture = io.BytesIO()
    false_claims(coverage).savefig(picture, format="png", metadata={"Software": None})
    write_atomically(out / "coverage.png", picture.getvalue())


def _earlier(path: Path, seed: int) -> Coverage | None:
    found = Coverage.load(path) if path.exists() else None
    if found is not None and found.seed != seed:
        raise InvalidParameter(
            f"coverage: seed must be {found.seed}, as in {path.name} of that folder, got {seed}.\n"
            "Write to another folder, or remove what is there."
        )
    return found


def _earlier_reports(path: Path) -> list[Verdicts]:
    return [Verdicts(**one) for one in json.loads(path.read_text())] if path.exists() else []


def _auditors(names: Sequence[str] | None) -> list[Auditor]:
    kinds: dict[str, Auditor] = {**our_auditors(), **peer_auditors()}
    return [kinds[validate.choice("coverage", "estimator", name, tuple(kinds))] for name in names or kinds]


def _whole_reports(reports: int, seed: int, log: Callable[[str], None]) -> list[Verdicts]:
    found = []
    for canaries in CANARIES if reports else ():
        for trainer, refuter in ASKED:
            log(f"{reports} reports: {trainer}, m = {canaries}")
            number = reports if trainer in HONEST else max(1, reports // 20)
            found.append(verdicts(trainer, canaries=canaries, reports=number, refuter=refuter, seed=seed))  # type: ignore[arg-type]
    return found


def _said(one: Verdicts) -> str:
    expected = "FAILS: " if one.fails else ""
    plan = "primary and refuter" if one.refuter else "primary alone"
    return (
        f"{expected}{one.reports} reports at {one.confidence:g}, {one.trainer} trainer, m = {one.canaries}, {plan}: "
        f"{one.violated} violated, {one.refuted} description refuted"
    )
