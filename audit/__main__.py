"""The command line of audits: `run` trains and audits, `sweep` does so many times, `scores` reads scores of others.

`zoo` tries out the detectors, `coverage` the estimators, `verdicts` whole reports.

Exit codes: 0 done; 1 a bug, or a trainer at fault, so that there is no verdict; 2 bad input, an unsupported process, or
a file or scheduler that is not there; 3 violated or refuted, a bug of the zoo missed, or a guarantee of the bench
broken; 4 numerical failure; 130 interrupted. Errors are one line on stderr.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.core.plan import WHERE_IT_APPLIES
from audit.core.printed import DIGITS, confidently
from audit.core.rows import HEADINGS, MEANINGS, facts, meaning, notes, rows, showing, shown
from audit.core.run_config import CANARIES, RUNS, RunConfig
from audit.core.sweep_command import sweep
from audit.report import AuditReport, decides, verdict
from audit.zoo.__main__ import zoo
from mechanisms import InvalidParameter
from mechanisms.core import command_line
from mechanisms.core.files import check_writable, write_atomically

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
log = Console(stderr=True, highlight=False)
REPORTS, PICTURES = ("report.json", "report.md"), ("report.html", "bracket.png")
CONFIG, COST = "config.json", "cost.json"
FOLDERS = ("config", "data_dir", "out")


@app.callback()
def main() -> None:
    """Measure from below the privacy that a training run loses, and hold it against the claim.

    Exit codes: 0 done; 1 a bug, or a trainer at fault, so that there is no verdict; 2 bad input, an unsupported
    process, or a file or scheduler that is not there; 3 a claim violated or a description refuted, by zoo a bug that is
    missed, by coverage and verdicts a guarantee that does not hold; 4 a numerical failure; 130 interrupted.
    """


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="A config.json of an earlier run, for all but folders.")] = None,
    data: Annotated[str, typer.Option(help="digits, fashion_mnist or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data, else $DPCALIPERS_DATA.")] = None,
    epsilon: Annotated[float, typer.Option(help="Privacy budget ε of the training.")] = 4.0,
    delta: Annotated[float, typer.Option(help="δ of the budget.")] = 1e-5,
    seed: Annotated[int | None, typer.Option(help="Makes the run reproducible, and so not private.")] = None,
    design: Annotated[str, typer.Option(help="one_run, or independent_runs of a tiny model.")] = "one_run",
    canaries: Annotated[int, typer.Option(help="How many canaries enter the one run.")] = CANARIES,
    runs: Annotated[int, typer.Option(help="How many independent runs.")] = RUNS,
    primary: Annotated[str | None, typer.Option(help="The estimator that decides, else the design's own.")] = None,
    refuter: Annotated[str, typer.Option(help="The estimator of the noise, or none.")] = WHERE_IT_APPLIES,
    attack: Annotated[str, typer.Option(help="What makes scores of releases.")] = "gradient",
    out: Annotated[Path, typer.Option(help="Where the report, its picture and config.json go.")] = Path("audit-report"),
) -> None:
    """Train privately with canaries inside, audit the run, print and write the report."""
    started = time.process_time()
    check_out(out)
    setting = chosen(context, config)
    import torch

    from audit import demo

    torch.set_num_threads(1)  # matrices this small gain nothing from more, and sums would depend on their number
    report = demo.run(setting, directory=data_dir, log=log.print)
    seconds = time.process_time() - started
    out.mkdir(parents=True, exist_ok=True)
    for name in REPORTS:
        report.save(out / name, seconds=seconds)
    write_atomically(out / CONFIG, setting.to_json().encode())
    if report.cost is not None:
        write_atomically(out / COST, report.cost.to_json().encode())
    show(report, Console(highlight=False))
    drawn = [name for name in PICTURES if saved(report, out / name, seconds=seconds)]
    log.print(f"took {seconds:.0f} s of processor time, wrote {', '.join((*REPORTS, *drawn, CONFIG))} in {out}")
    if report.faults:
        print(f"error: audit: no verdict, for {report.faults[0]}.", file=sys.stderr)
        raise typer.Exit(1)
    if report.verdict in ("violated", "description refuted"):
        raise typer.Exit(3)


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written, or has the configuration or the report of something else.

    Raises:
        InvalidParameter: if it is such a one.
    """
    check_writable("audit", out)
    for name, read in ((CONFIG, RunConfig.read), (REPORTS[0], _read_report)):
        if not (out / name).exists():
            continue
        try:
            read(out / name)
        except InvalidParameter:
            raise InvalidParameter(
                f"audit: --out must hold nothing but an audit, got {out} with a {name} of something else.\n"
                "It would be written over: name another --out."
            ) from None


def _read_report(path: Path) -> AuditReport:
    return AuditReport.from_json(path.read_text(encoding="utf-8", errors="replace"))


def saved(report: AuditReport, path: Path, *, seconds: float) -> bool:
    """Write what is drawn, and tell whether that was possible: the report is there without it."""
    try:
        report.save(path, seconds=seconds)
    except Exception as error:
        log.print(f"warning: {path.name} could not be made ({type(error).__name__})")
        return False
    return True


def chosen(context: typer.Context, config: Path | None) -> RunConfig:
    """Return the configuration in the file, or that of the options.

    Raises:
        InvalidParameter: if both are given, or a value breaks its rule.
    """
    options = {name: value for name, value in context.params.items() if name not in FOLDERS}
    if config is None:
        refuter = None if options["refuter"] == "none" else options["refuter"]
        return RunConfig(**(options | {"refuter": refuter}))
    given = [name for name in options if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        raise InvalidParameter(
            f"audit: --config must stand for all options but folders, got --{given[0].replace('_', '-')} besides.\n"
            "Change a copy of the file instead."
        )
    return RunConfig.read(config)


@app.command()
def scores(
    file: Annotated[
        Path, typer.Argument(help="A .npz with arrays scores and membership, or a .csv with these columns.")
    ],
    estimator: Annotated[str, typer.Option(help="Chosen before the scores were seen.")] = "one_run",
    design: Annotated[str, typer.Option(help="one_run: many canaries; independent_runs: one, in many.")] = "one_run",
    delta: Annotated[float, typer.Option(help="δ that goes with ε.")] = 1e-5,
    confidence: Annotated[float, typer.Option(help="With which the bound holds.")] = 0.95,
    threshold: Annotated[float | None, typer.Option(help="Guess in from this score on.")] = None,
    guesses: Annotated[int | None, typer.Option(help="Guess so many, half of them in, by rank.")] = None,
    adjacency: Annotated[str, typer.Option(help="add_remove, zero_out or replace_one.")] = "add_remove",
    noise_multiplier: Annotated[float | None, typer.Option(help="Of the claimed process, with the next two.")] = None,
    sample_rate: Annotated[float | None, typer.Option(help="Of the claimed process.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the claimed process.")] = None,
) -> None:
    """Print what scores in a file show of ε, and hold it against a claim where there is one."""
    from audit.core.claims import claimed_bounds
    from audit.score_files import claimed, deciders, guessing_rule, lower_bound_from_file

    claim = claimed(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    bound = lower_bound_from_file(
        file,
        estimator=estimator,
        design=design,
        guessing_rule=guessing_rule(threshold=threshold, guesses=guesses),
        claim=claim,
        adjacency=adjacency,
        delta=delta,
        confidence=confidence,
    )
    bounds = None if claim is None else claimed_bounds(claim, delta=delta, adjacency=bound.adjacency)
    print(
        f"ε ≥ {command_line.at_least(bound.epsilon, DIGITS)} at δ = {bound.delta}, {bound.adjacency} neighbours, "
        f"confidence {confidently(bound.confidence)} ({bound.method}, {bound.guarantee}, about {bound.about})"
    )
    if bounds is None:
        return
    found = verdict(bounds, *deciders(bound))
    told = MEANINGS[found] if decides(bound) else f"What is {bound.guarantee}, about {bound.about}, decides nothing."
    print(f"claim: ε in {command_line.outward(bounds, DIGITS)} ({bounds.method})")
    if decides(bound) and bound.guarantee == "parametric":
        told += f" That is, if scores are what {bound.method} takes them for, which no file says."
    print(f"verdict: {found}. {told}")
    if found in ("violated", "description refuted"):
        raise typer.Exit(3)


app.command()(sweep)
app.command()(zoo)


@app.command()
def coverage(
    estimator: Annotated[
        list[str] | None, typer.Option(help="One or more; all, and installed peers', if none.")
    ] = None,
    simulations: Annotated[int, typer.Option(help="Audits where a rate is no sum over counts.")] = 1_000,
    size: Annotated[list[int] | None, typer.Option(help="Runs a side, canaries or looks; 50 and 200 if none.")] = None,
    cases: Annotated[int, typer.Option(help="Cases on which to compare each test with its bound.")] = 0,
    power: Annotated[int, typer.Option(help="Bounds to average at ε = 2 under the constant ratio, 1,000 a side.")] = 0,
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
        power=power,
        seed=seed,
        out=out,
        console=Console(highlight=False, width=max(bench_page.WIDTH, log.width)),
        log=log.print,
    )
    if failing:
        raise typer.Exit(3)


@app.command()
def verdicts(
    reports: Annotated[int, typer.Option(help="Of each honest trainer; fewer of those with a bug.")] = 1_000,
    canaries: Annotated[list[int] | None, typer.Option(help="How many, of one run.")] = None,
    runs: Annotated[list[int] | None, typer.Option(help="How many independent runs, with one canary.")] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Of the claims, .01 to 16; .1, 1, 4 and 8 if none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
    out: Annotated[Path, typer.Option(help="Where reports.{json,md} go, and what is done already.")] = Path("coverage"),
) -> None:
    """Try whole reports on simulated trainers: how often one that does what is claimed is found out, or a bug is.

    Without --canaries and --runs: one run of 100 and of 1000 canaries, and 100 independent runs.
    """
    check_writable("verdicts", out)
    from audit.core import verdicts_page

    found = verdicts_page.run(
        reports=reports, canaries=canaries, runs=runs, epsilons=epsilon, seed=seed, out=out, log=log.print
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in verdicts_page.HEADINGS:
        table.add_column(heading, no_wrap=True)
    for one in found:
        table.add_row(*verdicts_page.row(one), style="bold" if one.fails else None)
    console = Console(highlight=False, width=max(verdicts_page.WIDTH, log.width))
    console.print(table)
    for line in verdicts_page.NOTES:
        console.print(line, markup=False)
    if any(one.fails for one in found):
        raise typer.Exit(3)


def show(report: AuditReport, console: Console) -> None:
    """Print the table and the verdict."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in HEADINGS:
        justify: Literal["left", "right"] = "right" if heading in ("ε", "ratio", "level") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != "rests on")
    for row in rows(report):
        table.add_row(*map(escape, row.cells))
    console.print(table)
    for name, value in facts(report):
        console.print(f"{name}: {value}", markup=False)
    for note in notes(report):
        console.print(note, markup=False)
    console.print(shown(report), markup=False)
    if showing(report):
        console.print(f"shown by, fewest runs first: {showing(report)}", markup=False)
    console.print(f"verdict: {report.verdict}. {meaning(report)}", markup=False)


if __name__ == "__main__":
    sys.exit(command_line.run(app))
