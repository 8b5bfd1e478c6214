"""The steps of a process, seen through their Rényi divergences: from pairs, from bounds of their own, or from both."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Bounds
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.process import Adjacency, Direction, Process, leaves
from mechanisms.core.renyi import PairDivergence, RenyiBound

MOST_REPEATS = 2**53  # counts up to here are exact as floats
RenyiSteps = tuple[tuple[tuple[RenyiBound, ...], int], ...]
"""Per step: the bounds that all hold for it, and how often it runs."""


@lru_cache(maxsize=16)
def renyi_steps(process: Process, adjacency: Adjacency) -> dict[Direction, RenyiSteps]:
    """Return, for every direction, what bounds the Rényi divergences of each step, and how often it runs.

    Raises:
        UnsupportedProcess: if neither a pair nor a Rényi bound of a step is known; the message is that of its pairs.
        InvalidParameter: if a step runs more often than floats can count.
    """
    parts = [(_known(leaf, adjacency), times) for leaf, times in leaves(process)]
    if any(times > MOST_REPEATS for _, times in parts):
        raise InvalidParameter("Repeat: times must be at most 2**53 in all for any one step to be priced, got more.")
    return {
        direction: tuple((bounds[direction], times) for bounds, times in parts) for direction in adjacency.directions
    }


def _known(leaf: Process, adjacency: Adjacency) -> dict[Direction, tuple[RenyiBound, ...]]:
    """Return all that is known of a step, direction by direction."""
    try:
        own: tuple[RenyiBound, ...] = (leaf.renyi(adjacency),)
    except UnsupportedProcess:
        own = ()
    try:
        pairs = leaf.pairs(adjacency)
    except UnsupportedProcess:
        if not own:
            raise
        return dict.fromkeys(adjacency.directions, own)
    return {direction: (*own, PairDivergence(pair=pairs[direction])) for direction in adjacency.directions}


@lru_cache(maxsize=256)
def divergences(steps: RenyiSteps, orders: tuple[float, ...]) -> tuple[float, ...]:
    """Bound Σ n_i D_α(step i) from above at every order, rounded up; may be inf.

    >>> from mechanisms.core.renyi import LinearDivergence
    >>> 3.0 <= divergences((((LinearDivergence(rho=0.5),), 3),), (2.0,))[0] < 3.0000001
    True
    """
    asked, total = np.array(orders), Bounds.exact(np.zeros(len(orders)))
    for bounds, times in steps:
        least = np.min([bound.divergences(asked) for bound in bounds], axis=0, initial=math.inf)
        total = total + float(times) * Bounds.exact(least)
    return tuple(np.asarray(total.upper).tolist())
