"""`python -m accountant`: ε, δ and noise of DP-SGD from the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accountant import (
    available,
    calibrate_delta,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
    delta_bounds,
    dp_sgd,
    epsilon_bounds,
)
from accountant import risk as risks
from accountant.compare import compare as compared
from accountant.core.ask import named, stated
from accountant.core.profile import Claim, Profile
from mechanisms.core.bounds import Bounds
from mechanisms.core.command_line import at_least, at_most, outward, run
from mechanisms.core.errors import InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency
from mechanisms.core.serialise import from_json
from mechanisms.core.version import VERSION

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

NoiseMultiplier = Annotated[float, typer.Option(help="Noise standard deviation ÷ clipping norm.")]
SampleRate = Annotated[float, typer.Option(help="Probability with which a record takes part in a step.")]
Steps = Annotated[int, typer.Option(help="Number of steps.")]
Delta = Annotated[float, typer.Option(help="δ in [0, 1].")]
Epsilon = Annotated[float, typer.Option(help="ε >= 0.")]
Neighbours = Annotated[str, typer.Option("--adjacency", help="add_remove, replace_one or zero_out.")]
Name = Annotated[str, typer.Option("--accountant", help="A name of accountant.available(), or all.")]
OneName = Annotated[str, typer.Option("--accountant", help="A name of accountant.available().")]
NoAnswer = tuple[str, str]  # refused or failed, and why
CALIBRATIONS: dict[str, Callable[..., float]] = {
    "delta": calibrate_delta,
    "noise_multiplier": calibrate_noise_multiplier,
    "sample_rate": calibrate_sample_rate,
    "steps": calibrate_steps,
}
PICTURES = (".png", ".svg", ".pdf")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def main() -> None:
    """Say what a computation promises: certified bounds of ε and δ.

    Exit codes: 0 done; 1 a bug; 2 bad input or an unsupported process; 4 a numerical failure; 130 interrupted.
    """


@app.command()
def epsilon(
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    delta: Delta,
    adjacency: Neighbours = "add_remove",
    accountant: Name = "tightest",
    as_json: Json = False,
) -> None:
    """Bound the ε of DP-SGD at a δ."""
    process = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)

    def ask(name: str) -> Claim:
        return epsilon_bounds(process, delta=delta, adjacency=adjacency, accountant=name)

    _show(_answers(ask, accountant), "ε", f"δ = {delta:g}", adjacency, as_json)


@app.command()
def delta(
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    epsilon: Epsilon,
    adjacency: Neighbours = "add_remove",
    accountant: Name = "tightest",
    as_json: Json = False,
) -> None:
    """Bound the δ of DP-SGD at an ε."""
    process = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)

    def ask(name: str) -> Claim:
        return delta_bounds(process, epsilon=epsilon, adjacency=adjacency, accountant=name)

    _show(_answers(ask, accountant), "δ", f"ε = {epsilon:g}", adjacency, as_json)


@app.command()
def calibrate(
    epsilon: Epsilon,
    delta: Annotated[float | None, typer.Option(help="δ in (0, 1).")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="Noise standard deviation ÷ clipping norm.")] = None,
    sample_rate: Annotated[float | None, typer.Option(help="Probability to take part in a step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    adjacency: Neighbours = "add_remove",
    accountant: Name = "tightest",
    as_json: Json = False,
) -> None:
    """Find the one number left out: least noise or δ, most steps or largest sample rate, that keep (ε, δ)."""
    given = {"delta": delta, "noise_multiplier": noise_multiplier, "sample_rate": sample_rate, "steps": steps}
    known = {name: value for name, value in given.items() if value is not None}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) != 1:
        raise InvalidParameter(
            "calibrate: exactly one of --delta, --noise-multiplier, --sample-rate and --steps must be left out, "
            f"got {len(missing)} left out."
        )
    found = CALIBRATIONS[missing[0]](target_epsilon=epsilon, adjacency=adjacency, accountant=accountant, **known)
    if as_json:
        print(json.dumps({"schema": "dp-calipers/calibration/1", "library": VERSION, missing[0]: found}))
        return
    words, shown = missing[0].replace("_", " "), at_least if missing[0] in ("steps", "sample_rate") else at_most
    promised = at_most(found, 9) if missing[0] == "delta" else f"{delta:g}"
    print(f"{words} {found if missing[0] == 'steps' else shown(found, 9)} keeps ({epsilon:g}, {promised}), {adjacency}")


@app.command()
def explain(
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    delta: Delta,
    adjacency: Neighbours = "add_remove",
    accountant: Name = "tightest",
) -> None:
    """Say what an ε rests on: the process, the neighbours, the accountant and every error counted."""
    process = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    claim = epsilon_bounds(process, delta=delta, adjacency=adjacency, accountant=accountant)
    print(f"process     {process!r}\nadjacency   {adjacency}\nε           {outward(claim)} at δ = {delta:g}")
    print(f"accountant  {claim.method}: {(available()[claim.method].__doc__ or '').splitlines()[0]}")
    table = Table("error counted", "bound", "of", "basis")
    for line in claim.ledger:
        table.add_row(line.source, f"{line.bound:.1e}", line.unit, line.basis)
    Console().print(table) if claim.ledger else print("errors      rounding of floats only, outward")


@app.command()
def compare(
    delta: Delta,
    noise_multiplier: Annotated[float | None, typer.Option(help="Noise standard deviation ÷ clipping norm.")] = None,
    sample_rate: Annotated[float | None, typer.Option(help="Probability to take part in a step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    process: Annotated[Path | None, typer.Option(help="A JSON file of any process, instead of these three.")] = None,
    adjacency: Neighbours = "add_remove",
    plot: Annotated[Path | None, typer.Option(help="Where to save the figure (.png, .svg or .pdf).")] = None,
    as_json: Json = False,
) -> None:
    """Show what every accountant says of one process, the smallest upper end first."""
    asked = stated(
        from_json(process.read_text(encoding="utf-8")) if process else None, noise_multiplier, sample_rate, steps
    )
    if plot and plot.suffix not in PICTURES:
        raise InvalidParameter(f"compare: --plot must end in one of {', '.join(PICTURES)}, got {str(plot)!r}.")
    found = compared(asked, delta=delta, adjacency=adjacency)
    if plot:
        found.plot().savefig(plot)
    if as_json:
        print(json.dumps(found.document(), allow_nan=False))
        return
    table = Table("accountant", "ε \\[lower, upper]", "above the least, or why", caption=f"δ = {delta:g}, {adjacency}")
    least = next((float(row.claim.upper) for row in found.rows if row.claim is not None), math.inf)
    for row in found.rows:
        if row.claim is not None:
            excess = f"{100 * (row.claim.upper / least - 1):+.3g} %" if 0 < least < math.inf else ""
            table.add_row(row.accountant, escape(outward(row.claim)), excess)
        else:
            value = f"about {row.estimate.value:.7g}" if row.estimate is not None else "none"
            table.add_row(row.accountant, value, escape(row.reason))
    Console().print(table)


@app.command()
def risk(
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    adjacency: Neighbours = "add_remove",
    accountant: OneName = "tightest",
    as_json: Json = False,
) -> None:
    """Bound what attackers gain: membership, reconstruction."""
    process = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    found = _risks(named(accountant).profile(process, adjacency=Adjacency.parse(adjacency)))
    if as_json:
        entries = [{"risk": name, "lower": ends.lower, "upper": ends.upper, "blind": b} for name, ends, b in found]
        document = {"schema": "dp-calipers/risks/1", "library": VERSION, "adjacency": adjacency, "risks": entries}
        print(json.dumps(document, allow_nan=False))
        return
    table = Table("of the best attack", escape("[lower, upper]"), "blind guess", caption=f"{accountant}, {adjacency}")
    for name, ends, blind in found:
        table.add_row(name, escape(outward(ends, 6)), f"{blind:g}")
    Console().print(table)


def _risks(profile: Profile) -> list[tuple[str, Bounds, float]]:
    """Return the name, the bounds and the value of a blind guess of each risk in the table."""
    rates = [0.001, 0.01, 0.1]
    power = risks.true_positive_rate(profile, false_positive_rate=rates)
    return [
        ("membership advantage", risks.advantage(profile), 0.0),
        *((f"TPR at FPR {rate:g}", power[i], rate) for i, rate in enumerate(rates)),
        ("membership error at prior 0.5", risks.bayes_error(profile, prior=0.5), 0.5),
        ("reconstruction at prior success 0.01", risks.reconstruction(profile, prior_success=0.01), 0.01),
    ]


def _answers(ask: Callable[[str], Claim], accountant: str) -> dict[str, Claim | NoAnswer]:
    """Return the claim of the accountant named, or of "all": each one's claim, or why it refused or failed."""
    if accountant != "all":
        return {accountant: ask(accountant)}
    answers: dict[str, Claim | NoAnswer] = {}
    for name in available():
        try:
            answers[name] = ask(name)
        except UnsupportedProcess as error:
            answers[name] = "refused", str(error).splitlines()[0]
        except NumericalFailure as error:
            answers[name] = "failed", str(error).splitlines()[0]
    return answers


def _show(claims: dict[str, Claim | NoAnswer], quantity: str, at: str, adjacency: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_document(claims), allow_nan=False))
        return
    table = Table("accountant", escape(f"{quantity} [lower, upper]"), "from", caption=f"{at}, {adjacency}")
    for name, claim in claims.items():
        row = (outward(claim), claim.method) if isinstance(claim, Claim) else claim
        table.add_row(name, *map(escape, row))
    Console().print(table)


def _document(claims: dict[str, Claim | NoAnswer]) -> dict[str, object]:
    def entry(claim: Claim | NoAnswer) -> dict[str, object]:
        if not isinstance(claim, Claim):
            return {claim[0]: claim[1]}
        ends = {"lower": claim.lower, "upper": claim.upper}
        return {
            "quantity": claim.quantity,
            "at": claim.at,
            **{name: value if math.isfinite(value) else str(value) for name, value in ends.items()},
            "adjacency": claim.adjacency.value,
            "method": claim.method,
        }

    return {
        "schema": "dp-calipers/claims/1",
        "library": VERSION,
        "claims": {name: entry(claim) for name, claim in claims.items()},
    }


if __name__ == "__main__":
    sys.exit(run(app))
