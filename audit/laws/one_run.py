"""Laws of the scores of m canaries in one run, each in by a fair coin.

Against all (ε, δ)-private runs the hard ones are answers that are right, each by itself, with probability
e^ε / (1 + e^ε) [SNJ23], and runs that tell everything at once with probability δ. Against those within a trade-off
curve it is one that draws its level of loss once for all canaries: guesses stand and fall together.

[SNJ23] T. Steinke, M. Nasr, M. Jagielski. Privacy Auditing with One (1) Training Run. NeurIPS 2023. arXiv:2305.08846.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy import integrate, special, stats

from accountant import calibrate_noise_multiplier
from audit.core.described import SampledGaussianRun
from audit.core.law import DELTA, Array, Batch, Law, gaussian_of
from audit.evidence import Null
from audit.scores import Design, GuessExtremes, OneRun
from mechanisms import Gaussian, Process

SAMPLE_RATE, STEPS = 0.1, 100
FARTHEST, POINTS = 9.0, 4001  # of the quadrature over the level of loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ManyCanaries(Law):
    """m coins and scores; a tenth of the canaries is guessed in, a tenth out."""

    design: ClassVar[type[Design]] = OneRun

    @abstractmethod
    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return the scores of coins that are 1 for in and −1 for out, shape (k, m)."""

    def right(self, n: int) -> Array | None:
        """Return the law of the number of right guesses, shape (guesses + 1,), where it is known."""
        return None

    def guesses(self, n: int) -> int:
        """Return how many guesses are made."""
        return 2 * (n // 10)

    def sample(self, rng: np.random.Generator, n: int, audits: int) -> Batch:
        """Return the scores of so many audits."""
        membership = rng.random((audits, n)) < 0.5
        return Batch(
            values=self.scores(rng, np.where(membership, 1.0, -1.0)),
            membership=membership,
            design=OneRun(canaries=n),
            guessing_rule=GuessExtremes(included=n // 10, excluded=n // 10),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoinwiseResponse(ManyCanaries):
    """A randomised response at ε for every coin, with ranks that say nothing.

    >>> CoinwiseResponse(epsilon=0.0).right(10).round(2)
    array([0.25, 0.5 , 0.25])
    """

    delta: ClassVar[float] = 0.0
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy",))

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return the answers times a rank in (0, 1]."""
        truthful = rng.random(membership.shape) < special.expit(self.epsilon)
        scores: Array = np.where(truthful, membership, -membership) * (1 - rng.random(membership.shape))
        return scores

    def right(self, n: int) -> Array | None:
        """Return the binomial of so many independent guesses."""
        return self._binomial(n)

    def _binomial(self, n: int) -> Array:
        guesses = self.guesses(n)
        masses: Array = stats.binom.pmf(np.arange(guesses + 1), guesses, special.expit(self.epsilon))
        return masses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToldAtOnce(CoinwiseResponse):
    """All coins told with probability δ = .01, else a randomised response at ε for every coin."""

    delta: ClassVar[float] = 0.01

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return the coins, or the answers, times a rank."""
        told = rng.random((len(membership), 1)) < self.delta
        ranks = 1 - rng.random(membership.shape)
        scores: Array = np.where(told, membership * ranks, super(ToldAtOnce, self).scores(rng, membership))
        return scores

    def right(self, n: int) -> Array:
        """Return the mixture of all right and the binomial."""
        masses = (1 - self.delta) * self._binomial(n)
        masses[-1] += self.delta
        return masses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswersWithAtoms(CoinwiseResponse):
    """Each coin told by itself with probability δ = .01, else a randomised response at ε; those told are guessed."""

    delta: ClassVar[float] = 0.01

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return the answers times a rank, those told beyond all others."""
        told = rng.random(membership.shape) < self.delta
        scores: Array = np.where(told, 2.0 * membership, super(AnswersWithAtoms, self).scores(rng, membership))
        return scores

    def right(self, n: int) -> Array:
        """Return, given how many are told in and out, the binomial of the rest of the guesses; summed over them."""
        half = n // 10
        told = stats.multinomial(n, [self.delta / 2, self.delta / 2, 1 - self.delta])
        masses = np.zeros(2 * half + 1)
        most = int(stats.binom.isf(1e-14, n, self.delta / 2)) + 1
        for told_in in range(most + 1):
            for told_out in range(most + 1):
                sure = min(told_in, half) + min(told_out, half)
                chance = float(told.pmf([told_in, told_out, n - told_in - told_out]))
                rest = np.arange(2 * half - sure + 1)
                masses[sure:] += chance * stats.binom.pmf(rest, 2 * half - sure, special.expit(self.epsilon))
        return masses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrelatedAbstentions(CoinwiseResponse):
    """A randomised response at ε for every coin; those are guessed whose neighbours answer alike."""

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return the answers times one more than the number of neighbours that agree, plus a rank."""
        scores = super(CorrelatedAbstentions, self).scores(rng, membership)
        answers = np.sign(scores)
        agreeing = sum((np.roll(answers, shift, axis=1) == answers).astype(float) for shift in (1, -1))
        ranked: Array = scores + answers * agreeing
        return ranked

    def right(self, n: int) -> Array | None:
        """Return None: it is simulated, and checks the binomial."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IsolatedGaussians(ManyCanaries):
    """The Gaussian mechanism of ε at δ = 1e-5, on a coordinate of its own for every canary."""

    delta: ClassVar[float] = DELTA
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "curve", "normal", "mechanism"))

    @property
    def process(self) -> Gaussian:
        """The Gaussian mechanism."""
        return gaussian_of(self.epsilon, self.delta)

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return coins plus noise."""
        scores: Array = (membership > 0) + rng.normal(0.0, self.process.noise_multiplier, membership.shape)
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelDrawnOnce(IsolatedGaussians):
    """The Gaussian mechanism of ε at δ = 1e-5, but with the size of all scores drawn once: guesses fall together.

    |score| has the same law in and out, so that drawing it once for all, independently of the coins, leaves each
    canary's trade-off function as it is, whatever the others' coins.
    """

    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "curve"))

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return answers that are right with the odds that the size drawn gives, times a rank."""
        mu = 1 / self.process.noise_multiplier
        size = np.abs(rng.normal(mu / 2, 1.0, (len(membership), 1)))
        truthful = rng.random(membership.shape) < special.expit(mu * size)
        scores: Array = np.where(truthful, membership, -membership) * (1 - rng.random(membership.shape)) * size
        return scores

    def right(self, n: int) -> Array:
        """Return the mixture of binomials over the size, by Simpson's rule."""
        guesses, mu = self.guesses(n), 1 / self.process.noise_multiplier
        size = np.linspace(0.0, FARTHEST + mu / 2, POINTS)
        density = stats.norm.pdf(size - mu / 2) + stats.norm.pdf(size + mu / 2)
        counts = np.arange(guesses + 1)[:, None]
        masses: Array = integrate.simpson(
            density * stats.binom.pmf(counts, guesses, special.expit(mu * size)), x=size, axis=1
        )
        normalised: Array = masses / masses.sum()
        return normalised


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoissonDPSGD(ManyCanaries):
    """DP-SGD with q = .1 and T = 100, of ε at δ = 1e-5, its noisy sums added up on coordinates of isolated canaries."""

    delta: ClassVar[float] = DELTA
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "curve", "mechanism"))
    epsilons: ClassVar[tuple[float, ...]] = (1.0, 4.0)

    @property
    def process(self) -> Process:
        """The description, which is what is simulated."""
        return _dpsgd(self.epsilon).process()

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return how often each canary took part, plus all steps' noise."""
        taking_part = rng.binomial(STEPS, SAMPLE_RATE, membership.shape) * (membership > 0)
        noise = _dpsgd(self.epsilon).noise_multiplier * np.sqrt(STEPS)
        scores: Array = taking_part + rng.normal(0.0, noise, membership.shape)
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NothingLearnt(IsolatedGaussians):
    """Scores that know nothing: ε = 0, whatever is described."""

    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "curve", "normal"))
    epsilons: ClassVar[tuple[float, ...]] = (0.0,)

    def scores(self, rng: np.random.Generator, membership: Array) -> Array:
        """Return normals."""
        return rng.normal(size=membership.shape)

    def right(self, n: int) -> Array:
        """Return the binomial of fair guesses."""
        return CoinwiseResponse(epsilon=0.0)._binomial(n)


@lru_cache(maxsize=8)
def _dpsgd(epsilon: float) -> SampledGaussianRun:
    noise = calibrate_noise_multiplier(
        target_epsilon=epsilon, delta=DELTA, sample_rate=SAMPLE_RATE, steps=STEPS, adjacency="add_remove"
    )
    return SampledGaussianRun(noise_multiplier=noise, probability=SAMPLE_RATE, steps=STEPS)
