"""Random questions for accountants: a process, its neighbours and a δ, each from a seed of its own.

Only `random.Random.random` is called, the one stream that Python promises never to change, so that (seed, index)
names the same question on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import mechanisms
from mechanisms import Adjacency, Compose, Gaussian, Mechanism, Poisson, Process, RandomizedResponse, Repeat, Sampled

MOST_LEAVES = 4
MIXED_SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One kind of step and how often it runs.

    Args:
        kind: a key of `PLAIN`, after "sampled " where it runs on Poisson samples.
        noise: noise multiplier in [.1, 100]; a mechanism that is given by its ε has .3 ÷ that.
        rate: sampling probability in [1e-6, 1].
        times: number of runs in [1, 1e9].
    """

    kind: str
    noise: float
    rate: float
    times: int

    def process(self, adjacency: Adjacency) -> Process:
        """Return the step, repeated."""
        sampled, _, name = self.kind.rpartition(" ")
        step: Process = PLAIN[name](self, adjacency)
        if sampled:
            step = Sampled(step, Poisson(probability=self.rate))
        return Repeat(step, self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What ε is, of these steps for these neighbours at this δ."""

    leaves: tuple[Leaf, ...]
    adjacency: Adjacency
    delta: float

    @property
    def process(self) -> Process:
        """The steps composed; a single one stands alone."""
        parts = tuple(leaf.process(self.adjacency) for leaf in self.leaves)
        return parts[0] if len(parts) == 1 else Compose(parts)

    @property
    def stratum(self) -> str:
        """The part of the domain that it stands for: neighbours, kind of step, size of T and of δ."""
        kind = self.leaves[0].kind if len(self.leaves) == 1 else "mixed"
        times = max(leaf.times for leaf in self.leaves)
        steps = "T<1e3" if times < 1e3 else "T<1e6" if times < 1e6 else "T<=1e9"
        return f"{self.adjacency.value}, {kind}, {steps}, {'δ>1e-10' if self.delta > 1e-10 else 'δ<=1e-10'}"

    @property
    def harder(self) -> Question:
        """The same with more steps and, where there is sampling, a larger probability: its ε is no less."""
        leaves = (
            replace(leaf, rate=min(1.0, 1.7 * leaf.rate), times=leaf.times + 1 + leaf.times // 3)
            if leaf.kind != "approximate"  # its rate is part of the mechanism
            else replace(leaf, times=leaf.times + 1)
            for leaf in self.leaves
        )
        return replace(self, leaves=tuple(leaves))


def question(seed: int, index: int) -> Question:
    """Return the question of this number.

    >>> question(0, 1) == question(0, 1) != question(0, 2)
    True
    """
    draw = random.Random(f"dp-calipers {seed} {index}").random
    adjacency = tuple(Adjacency)[int(3 * draw())]
    count = 2 + int((MOST_LEAVES - 1) * draw()) if draw() < MIXED_SHARE else 1
    leaves = tuple(
        Leaf(
            kind=_kind(draw(), adjacency),
            noise=_logarithmic(draw(), 0.1, 100.0),
            rate=_logarithmic(draw(), 1e-6, 1.0),
            times=int(_logarithmic(draw(), 1.0, 1e9)),
        )
        for _ in range(count)
    )
    return Question(leaves=leaves, adjacency=adjacency, delta=_logarithmic(draw(), 1e-30, 1e-2))


def stratified(seed: int, count: int, most: int) -> frozenset[int]:
    """Return the numbers of `most` of the first `count` questions, as evenly over the strata as these allow."""
    seen: dict[str, int] = {}
    order = []
    for index in range(count if most else 0):
        stratum = question(seed, index).stratum
        seen[stratum] = seen.get(stratum, 0) + 1
        order.append((seen[stratum], index))
    return frozenset(index for _, index in sorted(order)[:most])


def _stated(name: str, leaf: Leaf, **given: object) -> Mechanism:
    """Return the mechanism of that name, where this version has it; else a Gaussian in its place."""
    kind = getattr(mechanisms, name, None)
    return kind(**given) if kind else Gaussian(noise_multiplier=leaf.noise)


PLAIN: dict[str, Callable[[Leaf, Adjacency], Mechanism]] = {
    "gaussian": lambda leaf, adjacency: Gaussian(noise_multiplier=leaf.noise),
    "laplace": lambda leaf, adjacency: _stated("Laplace", leaf, noise_multiplier=leaf.noise),
    "response": lambda leaf, adjacency: RandomizedResponse(
        epsilon=0.3 / leaf.noise,
        categories=2 + int(1e4 * leaf.noise) % 9,  # by digits that `harder` leaves alone
    ),
    "pure": lambda leaf, adjacency: _stated("PureDP", leaf, epsilon=0.3 / leaf.noise, adjacency=adjacency),
    "approximate": lambda leaf, adjacency: _stated(
        "ApproximateDP", leaf, epsilon=0.3 / leaf.noise, delta=1e-30 * leaf.rate, adjacency=adjacency
    ),
}
SAMPLED_KINDS = (*("sampled gaussian",) * 4, "sampled laplace", "gaussian", "laplace", "pure", "approximate")
REPLACED_KINDS = ("gaussian", "gaussian", "laplace", "response", "response", "pure", "approximate")


def _kind(share: float, adjacency: Adjacency) -> str:
    kinds = REPLACED_KINDS if adjacency is Adjacency.REPLACE_ONE else SAMPLED_KINDS
    return kinds[int(len(kinds) * share)]


def _logarithmic(share: float, least: float, most: float) -> float:
    return least * math.exp(share * math.log(most / least))
