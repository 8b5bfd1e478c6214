"""All accountants on one process: brackets, upper ends, estimates and refusals side by side, and how they spread."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from accountant.core.ask import estimate_epsilon
from accountant.core.base import available
from accountant.core.estimate import Estimate
from accountant.core.profile import Claim, Profile
from mechanisms.core import validate
from mechanisms.core.bounds import Array
from mechanisms.core.errors import InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.serialise import to_json
from mechanisms.core.version import VERSION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 9  # δ at which curves are drawn
NATS = 12.0  # natural logarithms that they go below and above the δ asked for, within (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one accountant says.

    Args:
        accountant: its name.
        claim: its bracket of ε, None if it has none.
        estimate: about ε, where it has no bracket but an approximation.
        reason: why it has none, in a line.
        profile: what the claim was read from.
    """

    accountant: str
    claim: Claim | None = None
    estimate: Estimate | None = None
    reason: str = ""
    profile: Profile | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every accountant's answer to one question, the smallest upper end first, then estimates, then refusals.

    Args:
        process: what was asked about.
        delta: δ.
        adjacency: the neighbours.
        rows: the answers.
    """

    process: Process
    delta: float
    adjacency: Adjacency
    rows: tuple[Row, ...]

    def document(self) -> dict[str, Any]:
        """Return all that is shown as JSON values, infinities as strings."""
        return {
            "schema": "dp-calipers/comparison/1",
            "library": VERSION,
            "process": json.loads(to_json(self.process))["process"],
            "delta": self.delta,
            "adjacency": self.adjacency.value,
            "accountants": {row.accountant: _entry(row) for row in self.rows},
        }

    def curves(self) -> dict[str, tuple[Array, Array, Array]]:
        """Return (δ, lower ends, upper ends of ε) of every accountant with a claim, about the δ asked for."""
        center = float(np.log(self.delta))
        deltas = np.exp(np.linspace(max(center - NATS, -700.0), min(center + NATS, -0.1), POINTS))
        found = {}
        for row in self.rows:
            if row.profile is None:
                continue
            try:
                ends = row.profile.epsilon(deltas)
            except NumericalFailure:
                continue
            found[row.accountant] = deltas, np.asarray(ends.lower), np.asarray(ends.upper)
        return found

    def plot(self) -> Figure:
        """Return the figure: all brackets on one ε axis, and upper ends as δ changes."""
        from accountant.core.plots import figure

        return figure(self)


def compare(process: Process, *, delta: float, adjacency: str = "add_remove") -> Comparison:
    """Ask every accountant for the ε of a process.

    Args:
        process: what is run.
        delta: δ in (0, 1).
        adjacency: "add_remove", "replace_one" or "zero_out".

    Raises:
        InvalidParameter: if δ or the adjacency is out of range.

    >>> from mechanisms import Gaussian, Repeat
    >>> rows = compare(Repeat(Gaussian(noise_multiplier=2.0), 10), delta=1e-5).rows
    >>> [f"{row.accountant} {row.claim.upper:.4f}" for row in rows if row.accountant in ("gdp", "rdp")]
    ['gdp 7.5113', 'rdp 8.0784']
    """
    neighbours, level = Adjacency.parse(adjacency), validate.probability("compare", "delta", delta)
    if not 0.0 < level < 1.0:
        raise InvalidParameter(f"compare: delta must be in (0, 1), got {delta!r}.")
    rows = [_row(name, process, level, neighbours) for name in available()]
    return Comparison(process=process, delta=level, adjacency=neighbours, rows=tuple(sorted(rows, key=_rank)))


def _row(name: str, process: Process, delta: float, adjacency: Adjacency) -> Row:
    try:
        profile = available()[name]().profile(process, adjacency=adjacency)
        claim = profile.epsilon(delta)
        if claim.lower == 0.0 and claim.upper == math.inf:
            return Row(accountant=name, reason="says nothing here: from 0 to inf")
        return Row(accountant=name, claim=claim, profile=profile)
    except UnsupportedProcess as error:
        reason = str(error).splitlines()[0]
    except NumericalFailure as error:
        return Row(accountant=name, reason="failed: " + str(error).splitlines()[0])
    try:
        estimate = estimate_epsilon(process, delta=delta, adjacency=adjacency.value, accountant=name)
        return Row(accountant=name, estimate=estimate, reason=estimate.validity)
    except UnsupportedProcess:
        return Row(accountant=name, reason=reason)


def _rank(row: Row) -> tuple[int, float, float, str]:
    if row.claim is not None:
        return 0, float(row.claim.upper), -float(row.claim.lower), row.accountant
    return (1 if row.estimate else 2), 0.0, 0.0, row.accountant


def _entry(row: Row) -> dict[str, Any]:
    if row.claim is not None:
        ends = {"lower": float(row.claim.lower), "upper": float(row.claim.upper)}
        return {name: value if np.isfinite(value) else repr(value) for name, value in ends.items()}
    if row.estimate is not None:
        return {"estimate": row.estimate.value, "validity": row.estimate.validity}
    return {"none": row.reason}
