"""The command line: `python -m audit.zoo` runs every detector on every documented bug and prints who caught it.

Exit codes as in `python -m audit`; 3 if a bug was missed or a twin caught.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.core.sampled_zoo import run_sampled_zoo
from audit.core.zoo_run import ALPHA, ZooReport, ZooRow, run_zoo
from mechanisms import InvalidParameter
from mechanisms.core import command_line


def zoo(
    names: Annotated[list[str] | None, typer.Argument(help="Files of audit/zoo; all if none is named.")] = None,
    seed: Annotated[int, typer.Option(help="Of all records, coins and noise.")] = 0,
    samples: Annotated[
        bool, typer.Option("--samples", help="Instead: planted faults under every sampling scheme, 1e-4 in all.")
    ] = False,
) -> None:
    """Run every detector on every documented bug and on its correct twin."""
    log = Console(stderr=True, highlight=False)
    if samples and names:
        raise InvalidParameter(f"zoo: --samples must stand alone, got {names[0]!r} besides.")

    def tell(row: ZooRow) -> None:
        log.print(f"{row.name}: {row.seconds:.1f} s")

    report = run_sampled_zoo(seed=seed, tell=tell) if samples else run_zoo(tuple(names or ()), seed=seed, tell=tell)
    show(report, Console(highlight=False))
    if not report.passed:
        raise typer.Exit(3)


def show(report: ZooReport, console: Console) -> None:
    """Print the table, what was seen of every bug, and the level."""
    sourced = any(row.source for row in report.rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in ("bug", "caught by", "runs", "CPU s", "twin", "source" if sourced else "evidence"):
        table.add_column(heading, justify="right" if heading in ("runs", "CPU s") else "left", overflow="fold")
    for row in report.rows:
        caught = ", ".join(one.detector for one in row.caught) or "nothing"
        runs = str(min((one.runs for one in row.caught), default=0)) if row.caught else "–"
        twin = "passes" if not row.alarms else "caught by " + ", ".join(one.detector for one in row.alarms)
        last = row.source if sourced else evidence(row)
        table.add_row(*map(escape, (row.name, caught, runs, f"{row.seconds:.1f}", twin, last)))
    console.print(table)
    for row in report.rows if sourced else ():
        console.print(f"{row.name}: {row.title}. {evidence(row)}", markup=False)
    console.print(
        f"level {report.level:.2g} a test, {ALPHA:g} in all; replay is deterministic. Runs are the fewest that a "
        f"detector took; seed {report.seed}.",
        markup=False,
    )


def evidence(row: ZooRow) -> str:
    """Return what was seen by the first detector that should have caught a bug and did."""
    seen = [one.evidence for one in row.caught if one.detector in row.expected]
    return seen[0] if seen else f"missed: {', '.join(row.expected)} should have caught it"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(zoo)
    sys.exit(command_line.run(app))
