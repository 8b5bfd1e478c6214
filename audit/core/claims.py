"""What the accountants say of the claimed process."""

from __future__ import annotations

import math

from accountant import Claim, available, epsilon_bounds
from audit.report import AccountantAnswer
from mechanisms import Adjacency, InvalidParameter, NumericalFailure, Process, UnsupportedProcess


def claimed_bounds(process: Process, *, delta: float, adjacency: Adjacency) -> Claim:
    """Return the tightest certified bounds of ε.

    Raises:
        InvalidParameter: if ε is infinite: then nothing is claimed.
        UnsupportedProcess: if no accountant can treat the process.
    """
    found = epsilon_bounds(process, delta=delta, adjacency=adjacency)
    if found.upper == math.inf:
        raise InvalidParameter(
            "audit: the claimed process must have noise: its ε is infinite, so nothing is claimed.\n"
            f"Some processes have a finite ε only at a larger δ than {delta:g}: no Gaussian has one at δ = 0."
        )
    return found


def accountant_answers(process: Process, *, delta: float, adjacency: Adjacency) -> tuple[AccountantAnswer, ...]:
    """Return what every accountant says, the refusals too; "tightest" is the claim itself."""
    return tuple(_answer(name, process, delta, adjacency) for name in available() if name != "tightest")


def _answer(name: str, claim: Process, delta: float, adjacency: Adjacency) -> AccountantAnswer:
    try:
        bounds = epsilon_bounds(claim, delta=delta, adjacency=adjacency, accountant=name)
    except (UnsupportedProcess, NumericalFailure) as error:
        return AccountantAnswer(name=name, claim=None, refusal=str(error).splitlines()[0])
    if bounds.lower == 0.0 and bounds.upper == math.inf:
        return AccountantAnswer(name=name, claim=None, refusal=f"{name}: it has no bound for this process.")
    return AccountantAnswer(name=name, claim=bounds, refusal="")
