"""DP-SGD in miniature, with every part replaceable: what the bugs of `audit.zoo` are planted in.

Records are rows (n, d) and the loss is linear in the weights, so that the gradient of a record is its row. Rows are
clipped to norm 1. Every coin and noise has its place in the streams by run, step and record, as in `dpsgd`. Samples
other than Poisson's are in `audit.core.toy_samples`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.randomness import Source, coins, normals, uniforms

Rows = NDArray[np.float64]
Mask = NDArray[np.bool_]
Drawn = Mask | NDArray[np.int64]
RUN, STEP = 2**60, 2**24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What a step releases, see `dpsgd.Release`."""

    step: int
    weights_before: Rows
    noisy_sum: Rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where a step draws from.

    Args:
        plan: of the run.
        source: of all randomness.
        begin: where the run begins in the streams.
        step: its number.
    """

    plan: Plan
    source: Source
    begin: int
    step: int

    @property
    def position(self) -> int:
        """The first position of the step."""
        return self.begin + self.step * STEP


class Train(Protocol):
    """A training run: rows, plan, source and the weights, changed in place, to its steps."""

    def __call__(self, rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
        """Return an iterator that takes a step for every one it yields."""


class Sample(Protocol):
    """Which of `n` records take part in a step."""

    def __call__(self, n: int, place: Place) -> Drawn:
        """Return a mask, shape (n,), or the numbers of the records, one of them as often as it takes part."""


class Total(Protocol):
    """What a step adds up."""

    def __call__(self, rows: Rows, place: Place) -> Rows:
        """Return the sum of the rows' contributions, shape (d,)."""


class Noise(Protocol):
    """What a step adds to the sum."""

    def __call__(self, dimension: int, place: Place) -> Rows:
        """Return noise, shape (d,)."""


def poisson(n: int, place: Place) -> Mask:
    """Return independent coins of probability q."""
    return coins(place.source, "coins", place.position, n, probability=place.plan.probability)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is claimed to run: such samples, rows clipped to norm 1, normal noise on the sum.

    Args:
        noise_multiplier: σ.
        probability: q, how often a record takes part in a step on average, before what a scheme cuts off.
        steps: T.
        expected_batch_size: public; the divisor.
        sample: draws the records of a step.
    """

    noise_multiplier: float
    probability: float
    steps: int
    expected_batch_size: float
    sample: Sample = poisson


def clipped(rows: Rows, bound: float = 1.0) -> Rows:
    """Return rows scaled into the ball of radius `bound`; those that are not finite become 0.

    >>> clipped(np.array([[3e200, 4e200], [0.3, 0.4], [np.nan, 1.0]])).round(9).tolist()
    [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]
    """
    finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    largest = np.maximum(np.abs(finite).max(axis=1, keepdims=True, initial=0.0), bound)  # keeps squares in the floats
    small = finite / largest
    inside: Rows = bound * small / np.maximum(bound / largest, np.linalg.norm(small, axis=1, keepdims=True))
    return inside


def clipped_sum(rows: Rows, place: Place) -> Rows:
    """Return the sum of the clipped rows."""
    total: Rows = clipped(rows).sum(axis=0)
    return total


def gaussian(dimension: int, place: Place) -> Rows:
    """Return σ times standard normals, new ones in every step of every run."""
    return place.plan.noise_multiplier * normals(place.source, "noise", place.position, dimension)


def dp_sgd(
    rows: Rows,
    plan: Plan,
    source: Source,
    weights: Rows,
    *,
    sample: Sample | None = None,
    total: Total = clipped_sum,
    noise: Noise = gaussian,
    rate: float = 0.1,
) -> Iterator[Step]:
    """Yield the steps of a run whose parts are what the plan says, unless others are given."""
    begin, drawn = source.reserve("runs", 1) * RUN, sample or plan.sample
    for step in range(plan.steps):
        place = Place(plan=plan, source=source, begin=begin, step=step)
        noisy_sum = total(rows[drawn(len(rows), place)], place) + noise(rows.shape[1], place)
        before = weights.copy()
        weights -= rate * noisy_sum / plan.expected_batch_size
        yield Step(step=step, weights_before=before, noisy_sum=noisy_sum)


def textbook_laplace(source: Source, scale: float, n: int) -> Rows:
    """Return Laplace noise by the inverse of its distribution in floats, whose low bits tell what it was added to.

    >>> from mechanisms import KeyedSource
    >>> textbook_laplace(KeyedSource(0), 1.0, 3).shape
    (3,)
    """
    u = uniforms(source.words("laplace", source.reserve("laplace", 2 * n), 2 * n)) - 0.5
    return -scale * np.sign(u) * np.log1p(-2.0 * np.abs(u))
