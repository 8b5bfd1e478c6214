"""Batches: which records take part in a step, by exact draws of which any step's can be had alone.

**Laws.** Every draw is made of whole numbers from streams whose positions are fixed by run, step (or epoch) and record.
- A coin of probability p compares 64 bits with the binary digits of p, a tie by all that follow: exactly p, a float.
- A uniform number below n is a word of 64 bits modulo n, words of the last, incomplete period being drawn again.
- Uniform subsets and orders are those of independent random keys. Where two of the keys that decide are equal, all are
  drawn again: the records are exchangeable in that event, so that given its opposite the law is uniform, exactly.

**Neighbours.** Record i's coin, key, bin and group are the same however many records follow it. One record more changes
no other's part under Poisson sampling, also within groups, and balls in bins, and in a cut sample takes the place of
one other at most, but for keys drawn again, about once in 2^64 pairs of records. In fixed-size batches and shuffles the
number is part of the law.

How long redrawing takes depends on the keys alone.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from dpsgd.config import DPSGD
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import (
    BallsInBins,
    FixedSize,
    InvalidParameter,
    Poisson,
    Shuffled,
    Source,
    TruncatedPoisson,
    WithReplacement,
)

Rows = NDArray[np.int64]
STEP = 2**40
"""Draws from one step to the next: more than there are records, so that their number moves no draw."""
TIE = 32  # words of later bits for a coin: floats have no digits beyond 2^-1074
AHEAD = 8  # steps drawn at once: between steps the code that draws has left the cache, and costs more than the draws
LARGE = 2**16  # rows expected in a step, past which none is drawn ahead: it would be held in memory beside the batch


def drawn_rows(source: Source, config: DPSGD, *, run: int, records: int) -> Callable[[int], Rows]:
    """Return the function from the number of a step to the rows that take part in it: increasing, one for each time.

    Args:
        source: where the draws come from, its streams "sampling" and "sampling ties", "… keys", "… places", "… groups".
        config: its scheme.
        run: where the run begins, see `dpsgd.core.runs`.
        records: their number.

    Guarantees: exactly the law that `config.process()` describes, independent between steps or, where the scheme spans
    an epoch, between epochs; any step can be had alone.

    Raises:
        InvalidParameter: if the scheme's law is about another number of records.

    >>> from mechanisms import KeyedSource
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Shuffled(), expected_batch_size=2, steps=6,
    ...                learning_rate=0.1, steps_per_epoch=3)
    >>> rows = drawn_rows(KeyedSource(0), config, run=0, records=7)
    >>> sorted(int(row) for step in range(3) for row in rows(step))
    [0, 2, 3, 4, 5, 6]
    """
    check_records(config, records)
    one = _one_step(source, config, run=run, records=records)
    together = AHEAD if config.expected_batch_size <= LARGE else 1
    ahead, several = range(0), list[Rows]()

    def rows(step: int) -> Rows:
        nonlocal ahead, several
        if step not in ahead:
            ahead = range(0)  # until they are drawn: an interrupt may come between
            several = [one(each) for each in range(step, min(step + together, max(config.steps, step + 1)))]
            ahead = range(step, step + len(several))
        return several[step - ahead.start]

    return rows


def _one_step(source: Source, config: DPSGD, *, run: int, records: int) -> Callable[[int], Rows]:
    """Return the function that draws the rows of a step."""
    sampling, per_epoch, size = config.sampling, config.steps_per_epoch or 1, int(config.expected_batch_size)

    def at(number: int) -> int:
        return run + number * STEP

    @lru_cache(maxsize=1)
    def spread(epoch: int) -> Rows:
        return _spread(source, config, at(epoch), records)

    @lru_cache(maxsize=1)
    def groups(number: int) -> Rows:
        return _uniform(source, "sampling groups", run, records, below=number)

    def rows(step: int) -> Rows:
        epoch, place = divmod(step, per_epoch)
        match sampling:
            case Poisson():
                return np.flatnonzero(poisson_mask(source, sampling, run=run, step=step, records=records))
            case TruncatedPoisson(probability=probability, largest_batch=largest):
                plain = Poisson(probability=probability)
                taken = np.flatnonzero(poisson_mask(source, plain, run=run, step=step, records=records))
                return _some(source, at(step), records, taken, min(largest, len(taken)))
            case FixedSize(batch_size=batch):
                return _some(source, at(step), records, np.arange(records), batch)
            case WithReplacement(batch_size=batch):
                return np.sort(_uniform(source, "sampling places", at(step), batch, below=records))
            case Shuffled():
                return np.sort(spread(epoch)[place * size : (place + 1) * size])
            case BallsInBins():
                return np.flatnonzero(spread(epoch) == place)
            case Cyclic():
                return np.arange(place, records, per_epoch)
            case CyclicPoisson(groups=number):
                mask = poisson_mask(source, sampling.within, run=run, step=step, records=records)
                return np.flatnonzero(mask & (groups(number) == step % number))

    return rows


def _spread(source: Source, config: DPSGD, position: int, records: int) -> Rows:
    """Return how the records stand in an epoch: their order, or the step into which each falls."""
    if isinstance(config.sampling, Shuffled):
        return uniform_order(source, position, records)
    return _uniform(source, "sampling places", position, records, below=config.steps_per_epoch or 1)


def check_records(config: DPSGD, records: int) -> None:
    """Refuse a number of units that the scheme's law is not about. It is public there, and still in no message.

    Args:
        config: its scheme, and what a unit is.
        records: the number of units: of users where they are the unit.

    Raises:
        InvalidParameter: if it is not the one declared, or shuffled batches need more.
    """
    units = f"{config.unit}s"
    declared = getattr(config.sampling, "records", None)
    if declared is not None and records != declared:
        raise InvalidParameter(
            f"steps: dataset must hold as many {units} as {config.sampling!r} declares, and holds another number.\n"
            "Their number is public in this scheme, so write it down. Where it must not be: Poisson(probability=...)."
        )
    if isinstance(config.sampling, Shuffled) and config.steps_per_epoch is not None:
        least = int(config.expected_batch_size) * config.steps_per_epoch
        if records < least:
            raise InvalidParameter(
                f"steps: dataset must hold at least {least} {units}, expected_batch_size · steps_per_epoch, for "
                "Shuffled(), and holds fewer.\nTheir number is public in this scheme. Lower one of the two."
            )


def poisson_mask(source: Source, sampling: Poisson, *, run: int, step: int, records: int) -> NDArray[np.bool_]:
    """Return which of `records` records take part in a step, shape (records,).

    Each takes part with the sampling's probability, independently. Any step can be had alone, and record i's coin
    is the same however many records there are: one record more changes no other's part.

    Args:
        source: where the coins come from, its stream "sampling" and, for ties, "sampling ties".
        sampling: the probability.
        run: where the run begins, see `dpsgd.core.runs`.
        step: number of the step, from 0.
        records: number of coins, >= 0.

    Guarantees: exact coins.

    >>> from mechanisms import KeyedSource
    >>> poisson_mask(KeyedSource(0), Poisson(probability=0.5), run=0, step=0, records=4)
    array([ True, False, False,  True])
    """
    threshold, rest = divmod(Fraction(sampling.probability) * 2**64, 1)
    if threshold == 2**64:
        return np.ones(records, dtype=np.bool_)
    position, (high, low) = run + step * STEP, divmod(int(threshold), 2**32)
    words = source.words("sampling", 2 * position, 2 * records)  # at once: where a piece ends, a record would show
    first, second = words[::2], words[1::2]
    taken = first < np.uint32(high)
    for tied in (first == np.uint32(high)).nonzero()[0]:
        taken[tied] = second[tied] < low
        if second[tied] == low and rest:
            later = source.words("sampling ties", TIE * (position + int(tied)), TIE)
            taken[tied] = sum(int(word) << 32 * k for k, word in enumerate(later)) < rest * 2 ** (32 * TIE)
    return taken


def _some(source: Source, position: int, records: int, among: Rows, size: int) -> Rows:
    """Return a uniformly random subset of `among` of this size, in order: those of the smallest keys."""
    if size in (0, len(among)):
        return among[:size]
    for attempt in count():
        keys = _words(source, _again("sampling keys", attempt), position, records)[among]
        by_key = np.argpartition(keys, (size - 1, size))
        if keys[by_key[size - 1]] < keys[by_key[size]]:
            return np.sort(among[by_key[:size]])
    raise AssertionError


def uniform_order(source: Source, position: int, records: int) -> Rows:
    """Return a uniformly random order of all records.

    Args:
        source: where it comes from, its streams "sampling keys" and "sampling keys …".
        position: where the draws begin in them, see `STEP`.
        records: their number, >= 0.
    """
    for attempt in count():
        keys = _words(source, _again("sampling keys", attempt), position, records)
        order = np.argsort(keys)
        if (keys[order[1:]] > keys[order[:-1]]).all():
            return order
    raise AssertionError


def _uniform(source: Source, stream: str, position: int, n: int, *, below: int) -> Rows:
    """Return `n` independent uniform integers in [0, below); each is redrawn, or not, whatever the others are."""
    drawn, spare = _words(source, stream, position, n), 2**64 % below
    for attempt in count(1) if spare else ():
        late = drawn >= np.uint64(2**64 - spare)
        if not late.any():
            break
        drawn[late] = _words(source, _again(stream, attempt), position, n)[late]
    return (drawn % np.uint64(below)).astype(np.int64)


def _again(stream: str, attempt: int) -> str:
    return f"{stream} {attempt}" if attempt else stream


def _words(source: Source, stream: str, position: int, n: int) -> NDArray[np.uint64]:
    """Return `n` words of 64 bits, those numbered `position` on."""
    words = source.words(stream, 2 * position, 2 * n).astype(np.uint64).reshape(-1, 2)
    joined: NDArray[np.uint64] = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return joined
