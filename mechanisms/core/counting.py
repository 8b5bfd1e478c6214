"""How many records a scheme draws from, which schemes it may stand around for that, and whose neighbours are shown.

A record that is set to zero counts as absent wherever a step shows the same with and without it, as a noisy sum does.
Schemes that count records do not: in a batch of fixed size, a cut one or a shuffle, a record that contributes nothing
takes the place of another or moves the cuts. With R without the record, P_x with it and P_0 with it set to zero, a
scheme that takes it with probability q shows (1 − q) R + q P_x against (1 − q) R + q P_0, and the theorems on Poisson
samples and on balls in bins, in which P_0 is R, do not hold.

A scheme that states its number of records fits only where the scheme around it fixes that number: a batch of fixed
size, or one of the batches that it is shuffled into. How many records fall into a bin is random.
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
        UnsupportedProcess: if one inside states a number of records that the outer one does not fix to that, would tell
            a record set to zero from one that was not taken, or has more batches than there are records.
    """
    owner, batch = type(outer).__name__, getattr(outer, "batch_size", None)
    for scheme, batches in () if isinstance(outer, Shuffled) else _counted(part):
        if batch is None or batches == 0 or batch // batches != scheme.records:
            raise UnsupportedProcess(
                f"{owner}: {scheme!r} must count the records of the sample that it is inside, whose number "
                f"{outer!r} does not fix to that. Use FixedSize(batch_size=...) of as many around it."
            )
    for node in drawing(part):
        if adjacency == "zero_out" and isinstance(outer, RANDOM) and isinstance(node.sampling, COUNTING):
            raise UnsupportedProcess(
                f"{owner}: no proved bound under zero_out around {node.sampling!r}, where a record set to zero counts, "
                "and one that was not taken does not. Use FixedSize(...) around it, or another adjacency."
            )
    fewest = _most_shuffled(part)
    if batch is not None and batch < fewest:
        raise UnsupportedProcess(
            f"{owner}: batch_size must be at least {fewest}, the number of shuffled batches, got {batch}, which leaves "
            "some empty. Use a larger batch, or fewer steps."
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

    Those of cut samples, where no number is stated, hold one record; those of shuffles one for each batch, as a batch
    of several may tell less: local answers to several records hide each other.
    """
    for node in drawing(part):
        scheme = node.sampling
        if isinstance(scheme, TruncatedPoisson) and scheme.records is None and records > scheme.largest_batch:
            return True
        if isinstance(scheme, Shuffled) and records != node.part.times:
            return True
        if _of_others(node.part, 1 if isinstance(scheme, Shuffled) else getattr(scheme, "batch_size", records)):
            return True
    return False


def drawing(process: Any) -> Iterator[Any]:
    """Yield the outermost parts of a process that draw samples from its records, or spread them."""
    if hasattr(process, "sampling"):
        yield process
        return
    for part in _parts(process):
        yield from drawing(part)


def _counted(process: Any) -> Iterator[tuple[Any, int]]:
    """Yield the schemes that state how many of the records of `process` itself there are.

    Each with the number of batches of one size into which the records were cut before, 0 where their sizes are random.
    """
    scheme = getattr(process, "sampling", None)
    if isinstance(scheme, Sampling):
        if getattr(scheme, "records", None) is not None:
            yield scheme, 1
        return
    times = 1 if scheme is None else process.part.times if isinstance(scheme, Shuffled) else 0
    for part in _parts(process):
        yield from ((inner, times * batches) for inner, batches in _counted(part))


def _most_shuffled(process: Any) -> int:
    """Return the largest number of batches into which the records of `process` itself are shuffled, or 1."""
    scheme = getattr(process, "sampling", None)
    if isinstance(scheme, Sampling):
        return 1
    inner = max((_most_shuffled(part) for part in _parts(process)), default=1)
    return int(process.part.times) * inner if isinstance(scheme, Shuffled) else inner


def _parts(process: Any) -> tuple[Any, ...]:
    one = getattr(process, "part", None)
    return (*getattr(process, "parts", ()), *(() if one is None else (one,)))
