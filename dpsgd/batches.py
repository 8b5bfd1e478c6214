"""Poisson samples: which records take part in a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechanisms import Poisson, Source
from mechanisms.core.randomness import coins

STEP = 2**40
"""Coins from one step to the next: more than there are records, so that their number moves no coin."""


def poisson_mask(source: Source, sampling: Poisson, *, run: int, step: int, records: int) -> NDArray[np.bool_]:
    """Return which of `records` records take part in a step, shape (records,).

    Each takes part with the sampling's probability, independently. Any step can be had alone, and record i's coin
    is the same however many records there are: one record more changes no other's part.

    Args:
        source: where the coins come from, its stream "sampling".
        sampling: the probability.
        run: where the run begins, see `dpsgd.runs`.
        step: number of the step, from 0.
        records: number of coins, >= 0.

    Guarantees: exact coins, see `mechanisms.core.randomness.coins`.

    >>> from mechanisms import KeyedSource
    >>> poisson_mask(KeyedSource(0), Poisson(probability=0.5), run=0, step=0, records=4)
    array([ True, False, False,  True])
    """
    return coins(source, "sampling", run + step * STEP, records, probability=sampling.probability)
