"""Prefix sums by a binary tree of noisy partial sums: tree aggregation, the noise of DP-FTRL.

Steps are the leaves; a node of level l sums 2^l steps, and shows its sum plus N(0, σ²) as soon as it is complete. A
record in the steps S moves node v by at most |S ∩ v|, contributions being of norm at most 1:

    sens² = max_S Σ_v |S ∩ v|²,        S of at most k steps, at least s apart, v the complete nodes,

an integer: ⌊log₂ T⌋ + 1 = ⌈log₂(T + 1)⌉ for one participation [KMSTTX21], otherwise by dynamic programming over the
tree. A subtree is entered with the first step that is free in it, and is left with how much of the wait of s steps
reaches beyond it; for each number of participations in it only the best sums for a wait are kept. Equal contributions
in the best S move the nodes by exactly that.

Prefix sums are read off by the least-variance estimate from the complete nodes [Hon15], which costs no privacy.

[KMSTTX21] P. Kairouz, B. McMahan, S. Song, O. Thakkar, A. Thakurta, Z. Xu. Practical and Private (Deep) Learning
without Sampling or Shuffling. ICML 2021. arXiv:2103.00039.
[Hon15] J. Honaker. Efficient Use of Differentially Private Binary Trees. TPDP 2015.
[CSVW22] see `mechanisms.core.exact_noise`.
[DNPR10] C. Dwork, M. Naor, T. Pitassi, G. Rothblum. Differential Privacy under Continual Observation. STOC 2010.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, sqrt
from mechanisms.core.correlated_noise import TreeNoise, own_weight
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.streams import (
    PrefixSums,
    check_fields,
    checked_shape,
    checked_stream,
    in_unit,
    noise_scale,
    noisy_rows,
    stream_pairs,
)
from mechanisms.core.toeplitz import largest_number
from mechanisms.core.whole_rows import node_sums, step_for, whole

MOST_STEPS = 2**53
MOST_SUMS = 100_000  # of the dynamic programme: some tenths of a second
MOST_PLACED = 4096  # participations of the named neighbours where the programme is too long

Front = tuple[tuple[int, int], ...]
"""Pairs (Σ |S ∩ v|², wait that reaches beyond the subtree), the larger sum for the longer wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree(Mechanism):
    """Release the prefix sums of a stream of T values, each node of a binary tree noised by noise_multiplier · bound.

    Args:
        noise_multiplier: standard deviation of a node's noise ÷ norm bound of one record's contribution to one step.
        steps: T, in [1, 2^53].
        participations: how many steps one record contributes to, at most, as whoever forms the stream sees to.
        separation: how far apart its steps lie, at least; 1 lets them be neighbours.

    Guarantees and assumptions: as in `mechanisms.core.streams`: values may depend on everything shown before, the steps
    and the pattern are fixed before the run, and neighbours are zero_out or replace_one.

    Raises:
        InvalidParameter: if a field lies outside its range, or the separation exceeds the steps.

    >>> Tree(noise_multiplier=7.0, steps=2000, participations=6, separation=313).squared_sensitivity
    (79, 79)
    """

    noise_multiplier: float
    steps: int
    participations: int = 1
    separation: int = 1

    def __post_init__(self) -> None:
        check_fields("Tree", self, most_steps=MOST_STEPS)

    @property
    def squared_sensitivity(self) -> tuple[int, int]:
        """The largest Σ_v |S ∩ v|² and that of a known S: both the same where the maximum was found."""
        return _squared_sensitivity(self.steps, self.participations, self.separation)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N(μ, 1) against N(0, 1), μ = sens/σ, doubled under replace-one, with witnesses if sens is a bound.

        Lower ends are about who sees the noisy nodes, each as it is complete. `release` shows prefix sums alone, which
        tell less than all nodes do.

        Raises:
            UnsupportedProcess: under add_remove.
        """
        most, shown = self._sensitivity()
        return stream_pairs("Tree", adjacency, self.noise_multiplier, most, shown)

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> NDArray[np.float64]:
        """Return the T private prefix sums of `value`, in its shape.

        Guarantees: all nodes are one Gaussian release, and what holds for that holds here, for all finite values: they
        are rounded to whole steps and summed exactly (see `mechanisms.core.whole_rows`). A step is between 2^-26 and
        2^-24 of the sensitivity over √d, d the coordinates of a row; noise is larger than described, by a factor of at
        most 1 + 2^-24, to cover what rounding moves. Lower ends are of the process described. Nodes saturate at ±2^61
        steps, at least 2^35 · sensitivity/√d in every coordinate.

        Args:
            value: shape (T, …), finite; row t is the sum over records of their contributions to step t. That no record
                moves the floats in it by more than its bound is for the caller to see to [CSVW22].
            sensitivity: > 0, Euclidean norm of one record's contribution to one step, at most.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is not finite or has not T rows, or the sensitivity is not above 0.
            NumericalFailure: if a sum leaves the floats.

        >>> from mechanisms import KeyedSource
        >>> Tree(noise_multiplier=0.0, steps=3).release([1.0, 2.0, 3.0], sensitivity=1.0, randomness=KeyedSource(0))
        array([1., 3., 6.])
        """
        bound = validate.positive("Tree", "sensitivity", sensitivity)
        rows = checked_stream("Tree", value, self.steps)
        noise_scale("Tree", self.noise_multiplier, bound)
        step = step_for(bound, rows.shape[1])
        levels = node_sums(whole(rows, step))
        most = float(step.bound.upper)
        noisy = noisy_rows("Tree", np.concatenate(levels), self.noise_multiplier, most, randomness)
        ends = np.cumsum([len(level) for level in levels])[:-1]
        return in_unit("Tree", _prefix_sums(np.split(noisy, ends)), step.exponent).reshape(np.shape(value))

    def stream(self, shape: Iterable[int], *, sensitivity: float, randomness: Source) -> PrefixSums:
        """Return an accumulator that takes the values one by one, `add`, in memory of log T rows.

        Args:
            shape: of one value.
            sensitivity: > 0, Euclidean norm of one record's contribution to one step, at most.
            randomness: a `SystemSource` for real releases.

        >>> from mechanisms import KeyedSource
        >>> sums = Tree(noise_multiplier=0.0, steps=2).stream((2,), sensitivity=1.0, randomness=KeyedSource(0))
        >>> sums.add([1.0, 0.0]), sums.add([1.0, 5.0])
        (array([1., 0.]), array([2., 5.]))
        """
        shape = checked_shape("Tree", shape)
        return PrefixSums("Tree", self.noise(math.prod(shape), sensitivity=sensitivity), shape, self.steps, randomness)

    def noise(self, size: int, *, sensitivity: float, start: int = 0) -> TreeNoise:
        """Return the noise alone: what is added to the values of single steps, of `size` coordinates.

        Args:
            size: coordinates of one value.
            sensitivity: > 0, as for `release`.
            start: the first normal of the stream "tree" to use, even; whoever gives it keeps runs apart.

        >>> Tree(noise_multiplier=2.0, steps=8).noise(10, sensitivity=0.5).scale
        1.0
        """
        scale = noise_scale("Tree", self.noise_multiplier, sensitivity)
        size = validate.count("Tree", "size", size)
        return TreeNoise(size=size, scale=scale, stream="tree", start=validate.count("Tree", "start", start))

    def squared_errors(self) -> NDArray[np.float64]:
        """Return σ² Σ_l 2^l/(2^{l+1} − 1) over the bits l of t, shape (T,): a prefix sum's error, squared.

        The expected squared error of a coordinate of each prefix sum, for contributions of norm 1, in float64.

        >>> Tree(noise_multiplier=1.0, steps=4).squared_errors().round(3)
        array([1.   , 0.667, 1.667, 0.571])
        """
        t = np.arange(1, self.steps + 1)
        levels = range(self.steps.bit_length())
        total = sum((own_weight(level) * (t >> level & 1) for level in levels), np.zeros(self.steps))
        return np.asarray(self.noise_multiplier**2 * total, dtype=np.float64)

    def _sensitivity(self) -> tuple[Bounds, Bounds]:
        most, shown = self.squared_sensitivity
        upper = _root(most)
        return upper, upper if most == shown else _root(shown)


def _root(square: int) -> Bounds:
    """Enclose the square root of a whole number, which a float may have to round."""
    return sqrt(Bounds.exact(float(square)).inflate(0.0 if square <= 2**53 else 2.0**-52))


@lru_cache(maxsize=256)
def _squared_sensitivity(steps: int, participations: int, separation: int) -> tuple[int, int]:
    """Return Σ_v |S ∩ v|², at most and for a known S."""
    participations = min(participations, largest_number(steps, separation))
    if participations == 1:
        return steps.bit_length(), steps.bit_length()
    exact = _Programme(separation).largest(steps, participations) if participations <= MOST_PLACED else None
    if exact is not None:
        return exact, exact
    return _at_most(steps, participations, separation), _of_earliest(steps, participations, separation)


def _at_most(steps: int, participations: int, separation: int) -> int:
    """Return an upper bound, level by level: nodes of 2^l steps hold at most ⌈2^l/s⌉ participations, and k in all."""
    total = 0
    for level in range(steps.bit_length()):
        nodes, each = steps >> level, -(-(1 << level) // separation)
        full = min(nodes, participations // each)
        total += full * each**2 + (participations - full * each if full < nodes else 0) ** 2
    return total


def _of_earliest(steps: int, participations: int, separation: int) -> int:
    """Return Σ_v |S ∩ v|² for S = {0, s, 2s, …}."""
    places = np.arange(min(participations, MOST_PLACED)) * separation
    total = 0
    for level in range(steps.bit_length()):
        inside = places[places < steps >> level << level]
        total += int((np.unique(inside >> level, return_counts=True)[1] ** 2).sum())
    return total


class _Programme:
    """Dynamic programme for the largest Σ_v |S ∩ v|² of one separation."""

    def __init__(self, separation: int) -> None:
        self.separation = separation
        self.known: dict[tuple[int, int, int], Front] = {}
        self.sums = 0

    def largest(self, steps: int, participations: int) -> int | None:
        """Return the maximum, or None if it takes too many sums: complete trees side by side, the largest first."""
        fronts: dict[int, Front] = {0: ((0, 0),)}
        for level in reversed(range(steps.bit_length())):
            if steps >> level & 1:
                fronts = self._beside(fronts, level, participations)
            if self.sums > MOST_SUMS:
                return None
        return max(total for front in fronts.values() for total, _ in front)

    def _beside(self, fronts: dict[int, Front], level: int, participations: int) -> dict[int, Front]:
        found: dict[int, list[tuple[int, int]]] = {}
        for used, front in fronts.items():
            for more in range(participations - used + 1 if self.sums <= MOST_SUMS else 1):
                found.setdefault(used + more, []).extend(self._followed(front, level, more, 0))
        return {used: _front(candidates) for used, candidates in found.items() if candidates}

    def _followed(self, front: Front, level: int, count: int, own: int) -> list[tuple[int, int]]:
        """Return what comes of each member of a front when a subtree with `count` participations follows it."""
        joined = [(a + b + own, wait) for a, first in front for b, wait in self.front(level, count, first)]
        self.sums += 1 + len(joined)
        return joined

    def front(self, level: int, count: int, first: int) -> Front:
        """Return the front of a subtree of 2^level steps with `count` participations, none before the step `first`."""
        size = 1 << level
        if count == 0:
            return ((0, max(first - size, 0)),)
        if first + (count - 1) * self.separation >= size or self.sums > MOST_SUMS:
            return ()
        if count == 1:
            return ((level + 1, max(first + self.separation - size, 0)),)
        key = level, count, first
        if key not in self.known:
            halves = ((self.front(level - 1, left, first), count - left) for left in range(count + 1))
            sums = [one for half, right in halves for one in self._followed(half, level - 1, right, count**2)]
            self.known[key] = _front(sums)
        return self.known[key]


def _front(candidates: list[tuple[int, int]]) -> Front:
    """Return the candidates that no other one with as short a wait exceeds."""
    kept: list[tuple[int, int]] = []
    for total, wait in sorted(candidates, key=lambda one: (one[1], -one[0])):
        if not kept or total > kept[-1][0]:
            kept.append((total, wait))
    return tuple(kept)


def _prefix_sums(noisy: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the best estimates of all prefix sums from noisy nodes, level by level."""
    t = np.arange(1, len(noisy[0]) + 1)
    total, best = np.zeros_like(noisy[0]), noisy[0]
    for level, own in enumerate(noisy):
        if level:
            below = best[: 2 * len(own)]
            best = own_weight(level) * own + (1.0 - own_weight(level)) * (below[0::2] + below[1::2])
        here = (t >> level & 1).astype(bool)
        total[here] += best[(t[here] >> level) - 1]
    return total
