"""Outputs of two worlds sorted into cells that one half of them fixed, for one set of runs or many at once.

A cell is a value where there are few, else a stretch between quantiles of both worlds together, on the line: outputs of
more than one coordinate are put there by `audit.core.rankings.odds_of_worlds`. Which cell an output lies in depends on
the first half and the output alone, to the last bit, so that what the second half shows of any union of cells is a test
fixed before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audit.core.counts import Array
from audit.core.held_out import Counts, Halves
from audit.core.rankings import odds_of_worlds

OUTPUTS_PER_CELL = 50  # of both worlds together: enough for the ratio of a cell to mean something
MOST_CELLS = 24  # on the line: of 8, 16, 24, 32 and 64 the best over Laplace and Gaussian pairs at 500 and 10,000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """How many outputs lie in each cell, shape (…, cells), cells by the rising ratio of the worlds' shares.

    Args:
        log_ratio: logarithm of the ratio of the shares in the half learnt from, each count raised by half; inf where a
            set has no further cell.
        first: counts of the first world in the half learnt from; so `second`.
        second: of the second world.
        first_held: of the first world in the half held out; so `second_held`.
        second_held: of the second world.
    """

    log_ratio: Array
    first: Counts
    second: Counts
    first_held: Counts
    second_held: Counts

    @classmethod
    def of(cls, halves: Halves) -> Cells:
        """Return the cells that the first halves fix, and all counts."""
        worlds = _on_the_line(halves)
        edges = _edges(np.sort(np.concatenate(worlds[:2], axis=-1), axis=-1))
        first, second, *held = (_counts(world, edges) for world in worlds)
        shares = [(world + 0.5) / len_of.shape[-1] for world, len_of in zip((first, second), worlds, strict=False)]
        log_ratio = np.where(first + second > 0, np.log(shares[0]) - np.log(shares[1]), np.inf)
        rising = np.argsort(log_ratio, axis=-1, kind="stable")
        log_ratio, first, second, *held = (
            np.take_along_axis(one, rising, axis=-1) for one in (log_ratio, first, second, *held)
        )
        return cls(log_ratio=log_ratio, first=first, second=second, first_held=held[0], second_held=held[1])


def _on_the_line(halves: Halves) -> list[Array]:
    """Return all four parts as numbers, shape (…, n)."""
    parts = halves.parts
    if parts[0].shape[-1] == 1:
        return [part[..., 0] for part in parts]
    if parts[0].ndim == 2:
        project = odds_of_worlds(halves.first, halves.second)
        return [project(part) for part in parts]
    return [np.array(part) for part in zip(*map(_on_the_line, halves.each()), strict=True)]


def _edges(rising: Array) -> Array:
    """Return where the cells begin, shape (…, cells); inf, or one edge twice, where there are fewer."""
    sets = rising.reshape(-1, rising.shape[-1])
    cells = max(2, sets.shape[1] // OUTPUTS_PER_CELL)
    shares = np.linspace(0.0, 1.0, min(cells, MOST_CELLS), endpoint=False)
    edges = np.full((len(sets), cells), np.inf)
    edges[:, : len(shares)] = sets[:, np.maximum(np.ceil(sets.shape[1] * shares - 1), 0).astype(np.intp)]
    new = np.concatenate([np.ones((len(sets), 1), dtype=bool), sets[:, 1:] > sets[:, :-1]], axis=1)
    few = np.count_nonzero(new, axis=1) <= cells
    edges[few] = np.inf
    which, place = np.nonzero(new & few[:, None])
    edges[which, np.cumsum(new, axis=1)[which, place] - 1] = sets[which, place]
    return edges.reshape(*rising.shape[:-1], cells)


def _counts(outputs: Array, edges: Array) -> Counts:
    """Return how many outputs lie from each edge to the next; those below the first count to its cell."""
    sets, ends = np.sort(outputs, axis=-1).reshape(-1, outputs.shape[-1]), edges.reshape(-1, edges.shape[-1])
    below = np.array([np.searchsorted(one, those) for one, those in zip(sets, ends, strict=True)])
    below[:, 0] = 0
    counts: Counts = np.diff(below, axis=1, append=sets.shape[1])
    return counts.reshape(edges.shape)
