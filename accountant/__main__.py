"""`python -m accountant`: ε, δ and noise of DP-SGD from the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accountant import available, calibrate_noise_multiplier, delta_bounds, dp_sgd, epsilon_bounds
from accountant.core.profile import Claim
from mechanisms.core.command_line import at_most, outward, run
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.version import VERSION

app = typer.Typer(
    help="What a computation promises: certified bounds of ε and δ.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NoiseMultiplier = Annotated[float, typer.Option(help="Noise standard deviation ÷ clipping norm.")]
SampleRate = Annotated[float, typer.Option(help="Probability with which a record takes part in a step.")]
Steps = Annotated[int, typer.Option(help="Number of steps.")]
Delta = Annotated[float, typer.Option(help="δ in [0, 1].")]
Epsilon = Annotated[float, typer.Option(help="ε >= 0.")]
Neighbours = Annotated[str, typer.Option("--adjacency", help="add_remove, replace_one or zero_out.")]
Name = Annotated[str, typer.Option("--accountant", help="A name of accountant.available(), or all.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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
    delta: Delta,
    sample_rate: SampleRate,
    steps: Steps,
    adjacency: Neighbours = "add_remove",
    accountant: Name = "tightest",
    as_json: Json = False,
) -> None:
    """Find the least noise multiplier of DP-SGD that keeps (ε, δ)."""
    noise = calibrate_noise_multiplier(
        target_epsilon=epsilon,
        delta=delta,
        sample_rate=sample_rate,
        steps=steps,
        adjacency=adjacency,
        accountant=accountant,
    )
    document = {"schema": "dp-calipers/calibration/1", "library": VERSION, "noise_multiplier": noise}
    print(
        json.dumps(document)
        if as_json
        else f"noise multiplier {at_most(noise, 9)} keeps ({epsilon:g}, {delta:g}), {adjacency}"
    )


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


def _answers(ask: Callable[[str], Claim], accountant: str) -> dict[str, Claim | str]:
    """Return the claim of the accountant named, or of "all": each one's claim, or the reason why it refuses."""
    if accountant != "all":
        return {accountant: ask(accountant)}
    answers: dict[str, Claim | str] = {}
    for name in available():
        try:
            answers[name] = ask(name)
        except UnsupportedProcess as error:
            answers[name] = str(error).splitlines()[0]
    return answers


def _show(claims: dict[str, Claim | str], quantity: str, at: str, adjacency: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_document(claims), allow_nan=False))
        return
    table = Table("accountant", escape(f"{quantity} [lower, upper]"), "from", caption=f"{at}, {adjacency}")
    for name, claim in claims.items():
        row = (outward(claim), claim.method) if isinstance(claim, Claim) else ("refused", claim)
        table.add_row(name, *row)
    Console().print(table)


def _document(claims: dict[str, Claim | str]) -> dict[str, object]:
    def entry(claim: Claim | str) -> dict[str, object]:
        if isinstance(claim, str):
            return {"refused": claim}
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
