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

from audit.core.zoo_run import ALPHA, ZooReport, run_zoo
from mechanisms.core import command_line


def zoo(
    names: Annotated[list[str] | None, typer.Argument(help="Files of audit/zoo; all if none is named.")] = None,
    seed: Annotated[int, typer.Option(help="Of all records, coins and noise.")] = 0,
) -> None:
    """Run every detector on every documented bug and on its correct twin."""
    log = Console(stderr=True, highlight=False)
    report = run_zoo(tuple(names or ()), seed=seed, tell=lambda row: log.print(f"{row.name}: {row.seconds:.1f} s"))
    show(report, Console(highlight=False))
    if not report.passed:
        raise typer.Exit(3)


def show(report: ZooReport, console: Console) -> None:
    """Print the table, what was seen first of every bug, and the level."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in ("bug", "caught by", "runs", "CPU s", "twin", "source"):
        table.add_column(heading, justify="right" if heading in ("runs", "CPU s") else "left", overflow="fold")
    for row in report.rows:
        caught = ", ".join(one.detector for one in row.caught) or "nothing"
        runs = str(min((one.runs for one in row.caught), default=0)) if row.caught else "–"
        twin = "passes" if not row.alarms else "caught by " + ", ".join(one.detector for one in row.alarms)
        table.add_row(*map(escape, (row.name, caught, runs, f"{row.seconds:.1f}", twin, row.source)))
    console.print(table)
    for row in report.rows:
        evidence = row.caught[0].evidence if row.caught else f"missed: {', '.join(row.expected)} should have caught it"
        console.print(f"{row.name}: {row.title}. {evidence}", markup=False)
    console.print(
        f"level {report.level:.2g} a test, {ALPHA:g} in all; replay is deterministic. Runs are the fewest that a "
        f"detector took; seed {report.seed}.",
        markup=False,
    )


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(zoo)
    sys.exit(command_line.run(app))
