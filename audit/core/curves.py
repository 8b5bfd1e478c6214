"""Trade-off curves of hypothetical runs, as bounds on what guesses must get wrong.

A curve is F: guesses about a canary that are right with probability R in all are wrong with at least F(R), R + F(R)
being the probability of a guess. With f symmetric and guesses of both kinds, F is the inverse of 1 − f.       [DRS22]

From the profiles δ₁ of removing and δ₂ of adding a record, at any ε >= 0:

    guesses                R <= δ̄ + e^ε W          their complements        share − W <= δ̄' + e^ε (share − R)
    all in                 δ̄ = δ₁/2                δ̄' = δ₂/2                share = 1/2
    all out                δ̄ = δ₂/2                δ̄' = δ₁/2                share = 1/2
    either                 δ̄ = (δ₁ + δ₂)/2         δ̄' = δ̄                   share = 1

for R, W are halves, by the fair coin, of the probabilities of "guessed in" given in and given out, and of "guessed out"
given out and given in. Lines for some ε only leave F too small, never too large.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from accountant import Accountant
from accountant.core.profile import Profile
from accountant.gdp import GDP
from accountant.tightest import Tightest
from audit.core.described import SampledGaussianRun
from audit.core.tangents import INVERSE_ERROR, Curve, Side, Tangents, lines
from mechanisms import Gaussian, InvalidParameter, Process
from mechanisms.core import validate
from mechanisms.core.process import Adjacency


class Family(ABC):
    """Hypothetical runs, numbered so that their loss falls as the index rises."""

    __slots__ = ()

    resolution: ClassVar[int]  # how much of an index matters: it is found to ±1 of these
    reach: ClassVar[int]  # the largest |index|, in units of the resolution

    @abstractmethod
    def check(self, delta: float) -> None:
        """Refuse a δ at which this family says nothing."""

    @abstractmethod
    def curve(self, index: int, side: Side) -> Curve:
        """Return F of the run with this index, for guesses that all say in, all say out, or either."""

    @abstractmethod
    def epsilon(self, index: int, delta: float) -> float:
        """Return a lower bound of that run's ε at δ."""

    def at_least(self, index: int, epsilon: float, delta: float) -> bool:
        """Tell whether that run is known to have at least this ε at δ."""
        return self.epsilon(index, delta) >= epsilon


class NormalFamily(Family):
    """Runs with normal noise, on a geometric grid of noises."""

    __slots__ = ()

    reach: ClassVar[int] = 8

    def check(self, delta: float) -> None:
        """Refuse δ = 0, at which normal noise has no ε."""
        if delta == 0:
            raise InvalidParameter(
                f"{type(self).__name__}: delta must be above 0, got 0: normal noise has no ε there.\n"
                "Give the δ of the claim, or use one_run, which needs none."
            )


@dataclass(frozen=True, slots=True)
class GaussianFamily(NormalFamily):
    """μ-GDP: f(α) = Φ(Φ⁻¹(1 − α) − μ) in both directions, μ on a geometric grid.

    >>> GaussianFamily().curve(0, "either")(0.5)  # Φ(−1)
    0.158655253931...
    """

    resolution: ClassVar[int] = 2**24

    def curve(self, index: int, side: Side) -> Curve:
        """Return F(R) = Φ(Φ⁻¹(R) − μ), or F(2 R)/2 for guesses on one side."""
        mu = 1.0 / self._step(index).noise_multiplier
        quantile, share = NormalDist().inv_cdf, 1.0 if side == "either" else 0.5

        def least_wrong(right: float) -> float:
            mass = right / share
            if not 0.0 < mass < 1.0:
                return 0.0 if mass <= 0.0 else share
            return share * 0.5 * math.erfc((mu - quantile(mass)) * math.sqrt(0.5)) * (1 - INVERSE_ERROR)

        return least_wrong

    def epsilon(self, index: int, delta: float) -> float:
        """Return the lower end of the exact ε."""
        return float(_profile(self._step(index), GDP()).epsilon(delta).lower)

    def at_least(self, index: int, epsilon: float, delta: float) -> bool:
        """Compare δ at this ε, which is in closed form."""
        return bool(_profile(self._step(index), GDP()).delta(epsilon).lower >= delta)

    def _step(self, index: int) -> Gaussian:
        return Gaussian(noise_multiplier=2.0 ** (index / self.resolution))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFamily(NormalFamily):
    """Runs as described but for the noise, which runs over a geometric grid around the described one.

    F is the largest of the lines that the certified upper ends of both profiles give at some losses, which lie where
    the member has its own: whichever they are, F is too small by a little and never too large.

    Args:
        described: the run in the middle of the grid; its noise multiplier is > 0.

    Raises:
        InvalidParameter: if it has no noise.
    """

    described: SampledGaussianRun
    resolution: ClassVar[int] = 512

    def __post_init__(self) -> None:
        if self.described.noise_multiplier == 0:
            raise InvalidParameter(
                "ProcessFamily: described must have noise, got noise_multiplier 0: it claims nothing."
            )

    def curve(self, index: int, side: Side) -> Curve:
        """Return the largest of the lines."""
        return Tangents.of(self._process(index)).curve(side)

    def epsilon(self, index: int, delta: float) -> float:
        """Return the lower end of the accountant's ε."""
        return float(_profile(self._process(index), Tightest()).epsilon(delta).lower)

    def _process(self, index: int) -> Process:
        noise = self.described.noise_multiplier * 2.0 ** (index / self.resolution)
        run = self.described
        return SampledGaussianRun(noise_multiplier=noise, probability=run.probability, steps=run.steps).process()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateFamily(Family):
    """Every (ε, δ)-differentially private run, at one δ: nothing else is assumed of it.

    Args:
        delta: δ in [0, 1).
    """

    delta: float
    resolution: ClassVar[int] = 2**24
    reach: ClassVar[int] = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", validate.probability("ApproximateFamily", "delta", self.delta))

    def curve(self, index: int, side: Side) -> Curve:
        """Return the largest of 0 and the two lines."""
        both = np.array([self.delta])
        (up, down), (low, high) = lines(np.array([self.epsilon(index, self.delta)]), both, both, side)
        up, down, low, high = float(up), float(down), float(low), float(high)
        return lambda right: max(0.0, up * right + low, down * right + high)

    def epsilon(self, index: int, delta: float) -> float:
        """Return −index / resolution, which is never negative: who is not (ε, δ) private is not so at a smaller δ."""
        return max(0.0, -index / self.resolution)

    def check(self, delta: float) -> None:
        """Refuse a δ above the family's."""
        if delta > self.delta:
            raise InvalidParameter(f"ApproximateFamily: delta must be at most the family's {self.delta}, got {delta}.")


def family_of(process: Process) -> Family:
    """Return the described run's family: normal releases of every record are μ-GDP, whatever their number.

    Raises:
        UnsupportedProcess: if the process is no repeated Gaussian on Poisson samples.

    >>> family_of(Gaussian(noise_multiplier=2.0))
    GaussianFamily()
    """
    family = ProcessFamily(described=SampledGaussianRun.of(process))
    return GaussianFamily() if family.described.probability == 1 else family


def _profile(process: Process, accountant: Accountant) -> Profile:
    return accountant.profile(process, adjacency=Adjacency.ADD_REMOVE)
