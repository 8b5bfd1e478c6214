"""What `python -m audit coverage` does: run the bench, print its table, write it as JSON, Markdown and a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.core.auditors import Auditor, our_auditors
from audit.core.coverage_rows import HEADINGS, NOTES, markdown, remarks, rows
from audit.core.peers import PEERS, installed, peer_auditors
from audit.coverage import SIZES, Coverage, bench
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.files import write_atomically

WIDTH = 100  # of the table
RIGHT = ("false", "n", "ε", "outside", "ms")


def run(
    *,
    names: Sequence[str] | None,
    simulations: int,
    sizes: Sequence[int] | None,
    cases: int,
    power: int,
    seed: int,
    out: Path,
    console: Console,
    log: Callable[[str], None],
) -> bool:
    """Run the bench and tell whether a guarantee failed. Arguments are the command's."""
    simulations = validate.count("coverage", "simulations", simulations, least=1)
    cases, power = validate.count("coverage", "cases", cases), validate.count("coverage", "power", power)
    seed = validate.count("coverage", "seed", seed)
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
    write(found.over(earlier) if earlier else found, out)
    show(found, console)
    if names is None:
        for name in sorted(set(PEERS) - set(installed())):
            log(f"left out: {name} is not installed")
    return bool(found.failing)


def show(coverage: Coverage, console: Console) -> None:
    """Print the table, at most 100 columns wide, and what there is to be said below."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in RIGHT else "left", no_wrap=True)
    for row in rows(coverage):
        table.add_row(*map(escape, row.cells), style="bold" if row.fails else None)
    console.print(table)
    for line in (*NOTES, *remarks(coverage)):
        console.print(line, markup=False)


def write(coverage: Coverage, out: Path) -> None:
    """Write coverage.json, coverage.md and, if matplotlib is there, coverage.png."""
    coverage.save(out / "coverage.json")
    write_atomically(out / "coverage.md", markdown(coverage).encode())
    if importlib.util.find_spec("matplotlib") is None:
        return
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


def _auditors(names: Sequence[str] | None) -> list[Auditor]:
    kinds: dict[str, Auditor] = {**our_auditors(), **peer_auditors()}
    return [kinds[validate.choice("coverage", "estimator", name, tuple(kinds))] for name in names or kinds]
