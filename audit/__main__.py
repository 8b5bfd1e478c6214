"""The command line: `python -m audit run` trains, audits and reports.

Exit codes: 0 done; 1 a bug; 2 bad input or an unsupported process; 3 violated or refuted; 4 numerical failure;
130 interrupted. Errors are one line on stderr.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.core.rows import HEADINGS, MEANINGS, ceiling_note, facts, rows
from audit.report import AuditReport
from mechanisms.core import command_line
from mechanisms.core.files import check_writable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
log = Console(stderr=True, highlight=False)
REPORTS = ("report.html", "bracket.png", "report.json")


@app.callback()
def main() -> None:
    """Measure from below the privacy that a training run loses, and hold it against the claim."""


@app.command()
def run(
    data: Annotated[str, typer.Option(help="digits, fashion_mnist or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, else $DPCALIPERS_DATA.")] = None,
    epsilon: Annotated[float, typer.Option(help="Privacy budget ε of the training.")] = 4.0,
    delta: Annotated[float, typer.Option(help="δ of the budget.")] = 1e-5,
    seed: Annotated[int | None, typer.Option(help="Makes the run reproducible, and so not private.")] = None,
    out: Annotated[Path, typer.Option(help="Where report.html, bracket.png and report.json go.")] = Path(
        "audit-report"
    ),
) -> None:
    """Train privately with canaries inside, audit the run, print and write the report."""
    started = time.perf_counter()
    check_writable("audit", out)
    import torch

    from audit import demo

    torch.set_num_threads(1)  # matrices this small gain nothing from more, and sums would depend on their number
    report = demo.run(data=data, directory=data_dir, epsilon=epsilon, delta=delta, seed=seed, log=log.print)
    seconds = time.perf_counter() - started
    out.mkdir(parents=True, exist_ok=True)
    for name in REPORTS:
        report.save(out / name, seconds=seconds)
    show(report, Console(highlight=False))
    log.print(f"took {seconds:.0f} s, wrote {', '.join(REPORTS)} in {out}")
    if report.verdict in ("violated", "description refuted"):
        raise typer.Exit(3)


@app.command()
def coverage(
    estimator: Annotated[
        list[str] | None, typer.Option(help="One or more; all, and installed peers', if none.")
    ] = None,
    simulations: Annotated[int, typer.Option(help="Audits where a rate is no sum over counts.")] = 1_000,
    size: Annotated[list[int] | None, typer.Option(help="Runs a side, canaries or looks; 50 and 200 if none.")] = None,
    cases: Annotated[int, typer.Option(help="Cases on which to compare each test with its bound.")] = 0,
    reports: Annotated[int, typer.Option(help="Whole reports to simulate for each kind of trainer.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
    out: Annotated[Path, typer.Option(help="Where coverage.{json,md,png} go, and what is done already.")] = Path(
        "coverage"
    ),
) -> None:
    """Try auditors on laws of known ε: how often each claims what is false, and how much of ε it shows."""
    check_writable("coverage", out)
    from audit.core import bench_page

    failing = bench_page.run(
        names=estimator,
        simulations=simulations,
        sizes=size,
        cases=cases,
        reports=reports,
        seed=seed,
        out=out,
        console=Console(highlight=False, width=max(bench_page.WIDTH, log.width)),
        log=log.print,
    )
    if failing:
        raise typer.Exit(3)


def show(report: AuditReport, console: Console) -> None:
    """Print the table and the verdict."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("ε", "ratio", "level") else "left", no_wrap=True)
    for row in rows(report):
        table.add_row(*map(escape, row.cells))
    console.print(table)
    for name, value in facts(report):
        console.print(f"{name}: {value}", markup=False)
    if ceiling_note(report):
        console.print(ceiling_note(report), markup=False)
    console.print(f"verdict: {report.verdict}. {MEANINGS[report.verdict]}", markup=False)


if __name__ == "__main__":
    sys.exit(command_line.run(app))
