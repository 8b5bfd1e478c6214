"""What a law of scores is to a test bench: scores of audits whose true loss is known, and what else is true of them.

A false claim is the rejection of something true. What is true of a law depends on the auditor's null hypothesis:

| null      | the auditor's claim is false if                                                             |
|-----------|---------------------------------------------------------------------------------------------|
| privacy   | the computation is (ε, δ)-differentially private                                            |
| gdp       | it is μ-Gaussian differentially private, μ being that of this ε at δ                        |
| curve     | its trade-off function lies above that of the process described                             |
| normal    | its scores are independent normals, of the loss ε at δ; in streams, in units of their noise |
| mechanism | the process described is what ran, and scores are its sums in units of the clip norm        |
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from audit.core.e_processes import mu_of
from audit.evidence import Null
from audit.scores import Design, GuessingRule, IndependentRuns, LabelledScores, OneRun, Scores
from mechanisms import ApproximateDP, Gaussian, Process, PureDP
from mechanisms.core.discover import implementations
from mechanisms.core.process import Adjacency

Array = NDArray[np.float64]
DELTA = 1e-5  # of laws with normal noise, and at which pure ones are asked where an auditor needs a δ


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Scores of k audits of one design and size, and their coins.

    Args:
        values: shape (k, n).
        membership: bool (k, n).
        design: of each audit, of size n.
        guessing_rule: of each.
    """

    values: Array
    membership: NDArray[np.bool_]
    design: Design
    guessing_rule: GuessingRule

    def __len__(self) -> int:
        return len(self.values)

    def first(self, audits: int) -> Batch:
        """Return at most so many of them."""
        if audits >= len(self):
            return self
        return dataclasses.replace(self, values=self.values[:audits], membership=self.membership[:audits])

    def audit(self, number: int) -> LabelledScores:
        """Return one of them, as an estimator takes it."""
        scores = Scores(values=self.values[number], design=self.design, guessing_rule=self.guessing_rule)
        return LabelledScores(scores=scores, membership=self.membership[number])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Law(ABC):
    """A law of scores that is (ε, δ)-differentially private, exactly or less.

    Args:
        epsilon: ε >= 0, one of `epsilons`.
    """

    design: ClassVar[type[Design]]
    delta: ClassVar[float]
    holds: ClassVar[frozenset[Null]]
    epsilons: ClassVar[tuple[float, ...]] = (0.0, 1.0, 4.0)  # at which the test bench asks for it
    epsilon: float

    @property
    def process(self) -> Process:
        """A process whose (ε, δ) the law keeps, and where `curve` holds its trade-off function too."""
        if self.delta == 0:
            return PureDP(epsilon=self.epsilon, adjacency=Adjacency.ADD_REMOVE)
        return ApproximateDP(epsilon=self.epsilon, delta=self.delta, adjacency=Adjacency.ADD_REMOVE)

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int, audits: int) -> Batch:
        """Return the scores of so many audits.

        Args:
            rng: of the simulation.
            n: runs in either world, canaries, or looks.
            audits: k >= 1.
        """


def laws() -> dict[str, type[Law]]:
    """Return every law there is, by its name.

    >>> "ConstantRatio" in laws()
    True
    """
    return {kind.__name__: kind for kind in implementations("audit.laws", Law).values()}


def gaussian_of(epsilon: float, delta: float) -> Gaussian:
    """Return the Gaussian mechanism of the largest μ that stays within (ε, δ), δ > 0, rounded down.

    >>> round(gaussian_of(1.0, 1e-5).noise_multiplier, 4)
    3.7306
    """
    return Gaussian(noise_multiplier=(1 + 1e-7) / mu_of(epsilon, delta))


def size_of(design: type[Design], n: int) -> Design:
    """Return the design of an audit with n runs in either world, n canaries, or n looks."""
    if design is IndependentRuns:
        return IndependentRuns(runs=2 * n)
    return OneRun(canaries=n) if design is OneRun else design(looks=n)  # type: ignore[call-arg]
