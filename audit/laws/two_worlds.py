"""Laws of scores of independent runs, n with the canary in and n with it out.

Every (ε, δ)-differentially private computation is a random function of four answers, whose odds of "in" against "out"
are ∞, e^ε, e^−ε and 0 [KOV15]: `ConstantRatio` and `Atom` keep these odds and add ranks that say nothing, so that a
rule may search among thresholds. The others put the loss where a test is weak: a rare event, ties, one tail.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from audit.core.law import DELTA, Array, Batch, Law, gaussian_of
from audit.evidence import Null
from audit.scores import Design, IndependentRuns, Threshold
from mechanisms import Gaussian, Laplace, Process

EVENTS = 3.0  # that a rare event is expected to have among n out-scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoWorlds(Law):
    """n runs with the canary in, then n with it out, and a threshold that was fixed for them."""

    design: ClassVar[type[Design]] = IndependentRuns

    @abstractmethod
    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return scores of one world, shape (k, n)."""

    @abstractmethod
    def threshold(self, n: int) -> float:
        """Return the score from which on a run is called in."""

    @abstractmethod
    def error_rates(self, n: int) -> tuple[float, float]:
        """Return the false-negative and the false-positive rate of that threshold."""

    def sample(self, rng: np.random.Generator, n: int, audits: int) -> Batch:
        """Return the scores of so many audits."""
        worlds = [self.scores(rng, (audits, n), included=included) for included in (True, False)]
        return Batch(
            values=np.concatenate(worlds, axis=1),
            membership=np.broadcast_to(np.arange(2 * n) < n, (audits, 2 * n)),
            design=IndependentRuns(runs=2 * n),
            guessing_rule=Threshold(value=self.threshold(n)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinaryResponse(TwoWorlds):
    """Randomised response with two answers at ε; where δ > 0, the four answers as scores 3 to 0 by falling odds.

    >>> BinaryResponse(epsilon=0.0).error_rates(50)
    (0.5, 0.5)
    """

    delta: ClassVar[float] = 0.0
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "curve"))

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return the answers."""
        truthful = rng.random(shape) < special.expit(self.epsilon)
        answers = np.where(truthful == included, 2.0, 1.0)
        told: Array = np.where(rng.random(shape) < self.delta, 3.0 if included else 0.0, answers)
        return told

    def threshold(self, n: int) -> float:
        """Return that between the answers in the middle."""
        return 2.0

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return the corner of the region that (ε, δ) allows."""
        rate = (1 - self.delta) * float(special.expit(-self.epsilon))
        return rate, rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConstantRatio(BinaryResponse):
    """Randomised response at ε, each answer with a rank that says nothing."""

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return the answers, plus a rank in [0, 1)."""
        ranked: Array = super(ConstantRatio, self).scores(rng, shape, included=included) + rng.random(shape)
        return ranked


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atom(ConstantRatio):
    """Membership told with probability δ = .01, else randomised response at ε, with ranks that say nothing."""

    delta: ClassVar[float] = 0.01
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy",))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianPair(TwoWorlds):
    """N(1, σ²) against N(0, σ²), of exactly ε at δ = 1e-5, judged half-way."""

    delta: ClassVar[float] = DELTA
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "curve", "normal"))

    @property
    def process(self) -> Gaussian:
        """The Gaussian mechanism."""
        return gaussian_of(self.epsilon, self.delta)

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return normals."""
        return rng.normal(float(included), self.process.noise_multiplier, shape)

    def threshold(self, n: int) -> float:
        """Return half-way."""
        return 0.5

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return the two tails beyond the threshold."""
        rate = float(special.ndtr(-0.5 / self.process.noise_multiplier))
        return rate, rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tied(GaussianPair):
    """The Gaussian pair, rounded to whole standard deviations from half-way: many ties."""

    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "curve"))

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return rounded normals."""
        noise = self.process.noise_multiplier
        scores = super(Tied, self).scores(rng, shape, included=included)
        tied: Array = 0.5 + noise * (np.floor((scores - 0.5) / noise) + 0.5)
        return tied


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaplacePair(TwoWorlds):
    """What the Laplace mechanism with ε gives on two neighbours: odds of e^ε on all of one tail."""

    delta: ClassVar[float] = 0.0
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "curve"))
    epsilons: ClassVar[tuple[float, ...]] = (1.0, 4.0)

    @property
    def process(self) -> Process:
        """The Laplace mechanism."""
        return Laplace(noise_multiplier=1 / self.epsilon)

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return Laplace variables."""
        return rng.laplace(float(included), 1 / self.epsilon, shape)

    def threshold(self, n: int) -> float:
        """Return the upper mode, where all odds above are e^ε."""
        return 1.0

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return the tails below and above it."""
        return 0.5, 0.5 * float(np.exp(-self.epsilon))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RareEvent(TwoWorlds):
    """Odds of e^ε on an event of which three are expected among n out-scores; all else is as even as can be."""

    delta: ClassVar[float] = 0.0
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "curve"))

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return ranks that say nothing, one more where the event happened."""
        missed, alarm = self.error_rates(shape[1])
        scores: Array = rng.random(shape) + (rng.random(shape) < (1 - missed if included else alarm))
        return scores

    def threshold(self, n: int) -> float:
        """Return where the event begins."""
        return 1.0

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return a point on the edge of what ε allows."""
        alarm = min(EVENTS / n, float(special.expit(-self.epsilon)))
        return 1 - float(np.exp(self.epsilon)) * alarm, alarm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RareMiss(RareEvent):
    """`RareEvent` with the worlds, and above with below, exchanged."""

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return a point on the other edge of what ε allows."""
        alarm, missed = super(RareMiss, self).error_rates(n)
        return missed, alarm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equal(GaussianPair):
    """Scores that know nothing: ε = 0, whatever is described."""

    epsilons: ClassVar[tuple[float, ...]] = (0.0,)

    def scores(self, rng: np.random.Generator, shape: tuple[int, int], *, included: bool) -> Array:
        """Return normals that are alike in both worlds."""
        return rng.normal(size=shape)

    def error_rates(self, n: int) -> tuple[float, float]:
        """Return what guessing gives."""
        miss = float(special.ndtr(0.5))
        return miss, 1 - miss
