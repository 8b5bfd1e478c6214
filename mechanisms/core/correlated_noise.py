"""Noise that is correlated from step to step, made anew at any step from a source's counters.

    | noise | row t | carried from step to step |
    |---|---|---|
    | Toeplitz | w_t = (z_t − Σ_{0 < m < b} c_m w_{t−m}) / c_0, that is C^{-1} z | the last b − 1 rows |
    | tree | what one more step changes in the noise of the tree's prefix sums | a row for each bit of t that is 1 |

White noise z has rows of its own counters, so that every rank can make the same row, and a run goes on at any step from
what is carried, or from `carried_at`, which makes all rows before again. A row is what is added to the value of one
step (a gradient): the noise of a prefix sum is the sum of the rows up to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source, normals
from mechanisms.core.toeplitz import check_growth

Floats = NDArray[np.float64]
Carried = tuple[Floats, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelatedNoise(ABC):
    """Rows of noise, one a step, each a function of (step, what is carried, source) alone.

    Args:
        size: how many coordinates a row has.
        scale: standard deviation of the white noise.
        stream: name of the source's stream.
        start: number of the stream's first normal to be used, a multiple of 2.
    """

    size: int
    scale: float
    stream: str
    start: int = 0

    @property
    def rows_a_step(self) -> int:
        """At most so many rows of white noise go into one more step."""
        return 1

    @abstractmethod
    def carried_rows(self, step: int) -> int:
        """Return how many rows are carried to `step`."""

    @abstractmethod
    def advance(self, step: int, carried: Carried, randomness: Source) -> tuple[Floats, Carried]:
        """Return row number `step`, shape (size,), and what to carry to the next, given what the one before left."""

    def carried_at(self, step: int, randomness: Source) -> Carried:
        """Return what is carried to `step`, by making all rows before it again; () at step 0."""
        carried: Carried = ()
        for before in range(validate.count(type(self).__name__, "step", step)):
            carried = self.advance(before, carried, randomness)[1]
        return carried

    def words(self, steps: int) -> int:
        """Return how many words of the stream, two a normal, so many steps take."""
        return 2 * steps * self.rows_a_step * self._padded

    def white(self, row: int, randomness: Source) -> Floats:
        """Return row number `row` of independent N(0, scale²), shape (size,)."""
        return self.scale * normals(randomness, self.stream, self.start + row * self._padded, self.size)

    def check(self, step: int, carried: Carried) -> None:
        """Refuse what can't have been carried to `step`: noise made from it would protect less than it is priced at.

        Raises:
            InvalidParameter: if the rows are too many or too few, or of another size.
        """
        owner = type(self).__name__
        rows = self.carried_rows(validate.count(owner, "step", step))
        if len(carried) != rows or any(row.shape != (self.size,) for row in carried):
            raise InvalidParameter(
                f"{owner}: carried must be the {rows} rows of {self.size} that step {step} goes on from, "
                f"got shapes {[row.shape for row in carried]}. Use carried_at(step, randomness) to make them again."
            )

    @property
    def _padded(self) -> int:
        return self.size + self.size % 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ToeplitzNoise(CorrelatedNoise):
    """Rows of C^{-1} z for a lower-triangular Toeplitz C of few bands.

    >>> from mechanisms import KeyedSource
    >>> noise, source = ToeplitzNoise(coefficients=(1.0, 0.5), size=3, scale=1.0, stream="noise"), KeyedSource(0)
    >>> row, carried = noise.advance(7, noise.carried_at(7, source), source)
    >>> bool((row == noise.white(7, source) - 0.5 * noise.carried_at(7, source)[0]).all())
    True
    """

    coefficients: tuple[float, ...]

    def carried_rows(self, step: int) -> int:
        """The last b − 1, as far as there are."""
        return min(step, len(self.coefficients) - 1)

    def advance(self, step: int, carried: Carried, randomness: Source) -> tuple[Floats, Carried]:
        """Return w_t and the last b − 1 rows, the latest first."""
        self.check(step, carried)
        return solve(self.coefficients, self.white(step, randomness), carried)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNoise(CorrelatedNoise):
    """What every step changes in the noise of prefix sums that are read off a binary tree.

    A node of 2^l steps has noise z of its own; the estimate of its sum from all nodes below has the noise
    e = v_l z + (1 − v_l)(e_left + e_right), v_l = 2^l / (2^{l+1} − 1), of variance v_l, the least there is. The prefix
    of t steps is the sum of one node for each bit of t that is 1; what is carried are their e, the largest node first.
    """

    @property
    def rows_a_step(self) -> int:
        """Two: T leaves have fewer than T complete nodes above them."""
        return 2

    def carried_rows(self, step: int) -> int:
        """One for each bit that is 1."""
        return step.bit_count()

    def advance(self, step: int, carried: Carried, randomness: Source) -> tuple[Floats, Carried]:
        """Return the change of the prefix' noise by the leaf `step` and the nodes that it completes."""
        self.check(step, carried)
        added = self.node(0, step, randomness)
        stack, before, level = list(carried), sum(carried, np.zeros(self.size)), 0
        while step >> level & 1:
            level += 1
            weight = own_weight(level)
            added = weight * self.node(level, step >> level, randomness) + (1.0 - weight) * (stack.pop() + added)
        after = (*stack, added)
        return sum(after, np.zeros(self.size)) - before, after

    def node(self, level: int, index: int, randomness: Source) -> Floats:
        """Return the noise of the node of steps index · 2^level on, numbered as the tree is read from left to right."""
        return self.white(((2 * index + 1) << level) - 1, randomness)


def own_weight(level: int) -> float:
    """Return v_l = 2^l / (2^{l+1} − 1): a node's own weight in its best estimate, and that estimate's variance."""
    return 1.0 / (2.0 - 2.0**-level)


def solve(coefficients: tuple[float, ...], value: Floats, carried: Carried) -> tuple[Floats, Carried]:
    """Return w with c_0 w + Σ c_m w_{−m} = value, w_{−m} the carried rows, and what to carry on.

    Raises:
        NumericalFailure: if w is beyond floats.
    """
    row = value
    with np.errstate(over="ignore", invalid="ignore"):
        for c, earlier in zip(coefficients[1:], carried, strict=False):
            row = row - c * earlier
        row = check_growth(row / coefficients[0])
    return row, (row, *carried)[: len(coefficients) - 1]
