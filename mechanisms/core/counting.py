"""How many records a scheme draws from, which schemes it may stand around for that, and whose neighbours are shown.

A record that is set to zero counts as absent wherever a step shows the same with and without it, as a noisy sum does.
Schemes that count records do not: in a batch of fixed size, a cut one or a shuffle, a record that contributes nothing
takes the place of another or moves the cuts. With R without the record, P_x with it and P_0 with it set to zero, a
scheme that takes it with probability q shows (1 − q) R + q P_x against (1 − q) R + q P_0, and the theorems on Poisson
samples and on balls in bins, in which P_0 is R, do not hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

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

if TYPE_CHECKING:
    from mechanisms.core.pair import DominatingPair
    from mechanisms.core.process import Pairs

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


def fitting(pairs: Pairs, part: Any, *records: int) -> Pairs:
    """Return the pairs of a process on datasets of these numbers of records: without what none of those shows.

    Args:
        pairs: its pairs.
        part: the process.
        records: the numbers that the schemes around it, or beside it in one run, state.
    """
    if not any(_of_others(part, number) for number in records):
        return pairs
    return {
        direction: cast("DominatingPair", replace(cast(Any, pair), attained=False)) if pair.attained else pair
        for direction, pair in pairs.items()
        if direction not in ("witness", "witness_reversed")
    }


def numbers(*parts: Any) -> set[int]:
    """Return the numbers of records that schemes of one run state, or else the least that fills all its shuffles."""
    nodes = [node for part in parts for node in drawing(part)]
    stated = {node.sampling.records for node in nodes if getattr(node.sampling, "records", None) is not None}
    shuffles = [node.part.times for node in nodes if isinstance(node.sampling, Shuffled)]
    return stated or ({math.lcm(*shuffles)} if shuffles else set())


def _of_others(part: Any, records: int) -> bool:
    """Tell whether the named neighbours of a process may be datasets of another number of records than this.

    Those of cut samples, where no number is stated, hold one record; those of shuffles one in every place of all
    batches, with none left over.
    """
    for node in drawing(part):
        scheme = node.sampling
        if isinstance(scheme, TruncatedPoisson) and scheme.records is None and records > scheme.largest_batch:
            return True
        if isinstance(scheme, Shuffled) and records % node.part.times:
            return True
        if _of_others(node.part, getattr(scheme, "batch_size", records)):
            return True
    return False


def drawing(process: Any) -> Iterator[Any]:
    """Yield the outermost parts of a process that draw samples from its records, or spread them."""
    if hasattr(process, "sampling"):
        yield process
        return
    for part in getattr(process, "parts", ()) or [inner for inner in (getattr(process, "part", None),) if inner]:
        yield from drawing(part)
