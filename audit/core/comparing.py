"""Runs of a computation under recorded streams, and how two of them that should hardly differ do differ.

Where noise is added, M(D; r) = f(D) + Z(r) for the random words r. For neighbours D, D' under the same r,

    M(D; r) − M(D'; r)  =  f(D) − f(D')

whatever Z is: its norm is at most the sensitivity, it is the same for every r, and all else about both runs, from the
form of what is released to the draws, is equal. Each of these is checked, up to rounding: 10^-6 of the sensitivity and
four roundings of the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.core.findings import KINDS, ReplayFinding
from audit.core.outputs import Numbers, form, numbers, precision
from audit.core.recording import Draw, first_difference, replayed
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source

SLACK = 1e-6  # of the sensitivity: what rounding to a public grid may add
ROUNDINGS = 4.0
NORMS = (1.0, 2.0, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Additive:
    """The description of a computation that adds noise to what it computes.

    Args:
        sensitivity: the most by which one record moves what noise is added to, > 0; None where that is not said.
        norm: in which it is measured: 1, 2 or inf.
        per_record: streams, by how their names begin, that hold some words for each record, so that of neighbours of
            different size one may draw more of them at once.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> Additive(sensitivity=1).norm
    2.0
    """

    sensitivity: float | None
    norm: float = 2.0
    per_record: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sensitivity is not None:
            checked = validate.positive("Additive", "sensitivity", self.sensitivity)
            object.__setattr__(self, "sensitivity", checked)
        if validate.real("Additive", "norm", self.norm) not in NORMS:
            raise InvalidParameter(f"Additive: norm must be 1, 2 or inf, got {self.norm}.")
        object.__setattr__(self, "norm", float(self.norm))
        object.__setattr__(self, "per_record", validate.sequence("Additive", "per_record", self.per_record))

    def size(self, difference: Numbers) -> float:
        """Return the norm of a difference."""
        return float(np.linalg.norm(difference, self.norm)) if difference.size else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """One run.

    Args:
        value: what was released, None if it ended in an error.
        error: type and text of the error, None without one.
        draws: what was drawn.
    """

    value: Any
    error: tuple[str, str] | None
    draws: list[Draw]


def play(computation: Callable[[Any, Source], Any], data: Any, seed: int, key: int) -> Played:
    """Return the run of `computation` on `data` under the streams of a key."""
    source = replayed(seed, key)
    try:
        with np.errstate(all="ignore"):
            value = computation(data, source)
    except Exception as error:  # whatever it is, a record decided on it or not: that is the question
        return Played(value=None, error=(type(error).__name__, str(error)), draws=source.draws)
    return Played(value=value, error=None, draws=source.draws)


def finding(kind: str, where: str, message: str = "", claimed: float | None = None, seen: float | None = None) -> Any:
    """Return a finding, in the words of its kind where there are no better ones."""
    return ReplayFinding(kind=kind, where=where, claimed=claimed, seen=seen, message=message or KINDS[kind])


def repeated(one: Played, again: Played, where: str) -> Iterator[ReplayFinding]:
    """Yield what differs between two runs on the same data under the same streams."""
    same = one.error == again.error and one.draws == again.draws and form(one.value) == form(again.value)
    if not same or not np.array_equal(numbers(one.value), numbers(again.value), equal_nan=True):
        yield finding("elsewhere", where)


def compared(one: Played, other: Played, description: Additive | None, where: str) -> Iterator[ReplayFinding]:
    """Yield what differs between runs on two neighbours under the same streams; at most what hides nothing else."""
    if one.error != other.error:
        yield finding("error", where, _errors(one, other))
        return
    if one.error is not None:
        return
    if description is not None and (draw := first_difference(one.draws, other.draws, description.per_record)):
        yield finding("draws", where, f"draws depend on a record, first at {draw.stream!r}, word {draw.counter}")
    yield from released(one.value, other.value, description, where)


def released(one: Any, other: Any, description: Additive | None, where: str) -> Iterator[ReplayFinding]:
    """Yield what differs between two releases."""
    mine, theirs = numbers(one), numbers(other)
    if np.isfinite(mine).all() != np.isfinite(theirs).all():
        yield finding("not finite", where)
    elif description is not None and form(one) != form(other):
        yield finding("form", where)
    elif description is not None and description.sensitivity is not None and np.isfinite(mine).all():
        seen, most = description.size(mine - theirs), description.sensitivity
        if seen > most + tolerance(one, other, description):
            message = f"one record moves the release by {seen:.6g}, claimed are {most:.6g}"
            yield finding("sensitivity", where, message, most, seen)


def depends_on_noise(pairs: list[tuple[Played, Played]], description: Additive, where: str) -> Iterator[ReplayFinding]:
    """Yield a finding if the differences of two neighbours are not the same under all streams."""
    values = [(one.value, other.value) for one, other in pairs if one.error is None and other.error is None]
    moves = [numbers(one) - numbers(other) for one, other in values if form(one) == form(other)]
    moves = [move for move in moves if np.isfinite(move).all() and move.shape == moves[0].shape]
    if len(moves) < 2:
        return
    spread = max(description.size(move - moves[0]) for move in moves[1:])
    allowed = 2 * max(tolerance(one, other, description) for one, other in values)
    if spread > allowed:
        yield finding("noise", where, claimed=allowed, seen=spread)


def tolerance(one: Any, other: Any, description: Additive) -> float:
    """Return by how much rounding may move the difference of two releases."""
    sizes = description.size(numbers(one)) + description.size(numbers(other))
    grid = SLACK * (description.sensitivity or 0.0)
    return grid + ROUNDINGS * max(precision(one), precision(other)) * sizes


def _errors(one: Played, other: Played) -> str:
    """Name what the two ended in; texts of errors may hold records and are not shown."""
    kinds = [played.error[0] if played.error else "no error" for played in (one, other)]
    if kinds[0] == kinds[1]:
        return f"the text of {kinds[0]} depends on a record"
    return f"{kinds[0]} with the record, {kinds[1]} without"
