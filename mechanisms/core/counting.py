"""How many records a scheme draws from, and which schemes it may stand around for that.

A record that is set to zero counts as absent wherever a step shows the same with and without it, as a noisy sum does.
Schemes that count records do not: in a batch of fixed size, a cut one or a shuffle, a record that contributes nothing
takes the place of another or moves the cuts. With R without the record, P_x with it and P_0 with it set to zero, a
scheme that takes it with probability q shows (1 − q) R + q P_x against (1 − q) R + q P_0, and the theorems on Poisson
samples and on balls in bins, in which P_0 is R, do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.sampling import (
    Allocation,
    BallsInBins,
    FixedSize,
    Poisson,
    Sampling,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)

COUNTING = (FixedSize, WithReplacement, TruncatedPoisson, Shuffled)
RANDOM = (Poisson, TruncatedPoisson, BallsInBins)  # take a random number of records


def check_schemes(outer: Sampling | Allocation, part: Any, adjacency: str) -> None:
    """Refuse a scheme around others that rely on what it does not fix.

    Args:
        outer: the scheme.
        part: the process that runs on what it takes.
        adjacency: the name of the one that is asked for.

    Raises:
        UnsupportedProcess: if one inside states a number of records that the outer one does not fix to that, or would
            tell a record set to zero from one that was not taken.
    """
    owner = "Allocated" if isinstance(outer, Allocation) else "Sampled"
    for node in drawing(part):
        inner = node.sampling
        counted = getattr(inner, "records", None)
        if counted not in (None, getattr(outer, "batch_size", None)) and not isinstance(outer, Shuffled):
            raise UnsupportedProcess(
                f"{owner}: {inner!r} must count the records of the sample that it is inside, whose number "
                f"{outer!r} does not fix to that. Use FixedSize(batch_size=...) of as many around it."
            )
        if adjacency == "zero_out" and isinstance(outer, RANDOM) and isinstance(inner, COUNTING):
            raise UnsupportedProcess(
                f"{owner}: no proved bound under zero_out for {inner!r} inside {outer!r}: a record set to zero counts "
                "there, and one that was not taken does not. Use FixedSize(...) around it, or Poisson(...) around "
                "steps that count no records."
            )


def drawing(process: Any) -> Iterator[Any]:
    """Yield the outermost parts of a process that draw samples from its records, or spread them."""
    if hasattr(process, "sampling"):
        yield process
        return
    for part in getattr(process, "parts", ()) or [inner for inner in (getattr(process, "part", None),) if inner]:
        yield from drawing(part)
