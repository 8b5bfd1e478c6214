"""Laws of scores that come one after the other, each with a fair coin, and are looked at after every one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from audit.core.law import DELTA, Array, Batch, Law, gaussian_of
from audit.evidence import Null
from audit.scores import Design, Stream, Threshold
from mechanisms import Gaussian


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks(Law):
    """n looks, every score being guessed by a threshold."""

    design: ClassVar[type[Design]] = Stream
    threshold: ClassVar[float] = 0.5

    @abstractmethod
    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return the scores of coins that are 1 for in and 0 for out, shape (k, n)."""

    def sample(self, rng: np.random.Generator, n: int, audits: int) -> Batch:
        """Return the scores of so many audits."""
        membership = rng.random((audits, n)) < 0.5
        return Batch(
            values=self.scores(rng, membership.astype(np.float64)),
            membership=membership,
            design=Stream(looks=n),
            guessing_rule=Threshold(value=self.threshold),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseStream(Looks):
    """A randomised response at ε for every coin."""

    delta: ClassVar[float] = 0.0
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy",))

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return the answers."""
        truthful = rng.random(coins.shape) < special.expit(self.epsilon)
        answers: Array = np.where(truthful, coins, 1 - coins)
        return answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamWithAtom(ResponseStream):
    """Coins told with probability δ = .01, else a randomised response at ε."""

    delta: ClassVar[float] = 0.01

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return the answers, far off where they are told."""
        told = rng.random(coins.shape) < self.delta
        scores: Array = np.where(told, 10 * coins - 4.5, super(StreamWithAtom, self).scores(rng, coins))
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianStream(Looks):
    """The Gaussian mechanism of ε at δ = 1e-5 at every look, in units of the clip norm."""

    delta: ClassVar[float] = DELTA
    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp"))

    @property
    def process(self) -> Gaussian:
        """The mechanism of one look."""
        return gaussian_of(self.epsilon, self.delta)

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return coins plus noise."""
        return coins + rng.normal(0.0, self.process.noise_multiplier, coins.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiedStream(GaussianStream):
    """The Gaussian stream, rounded to the nearer of the two sides."""

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return 0 and 1."""
        sides: Array = (super(TiedStream, self).scores(rng, coins) >= self.threshold).astype(np.float64)
        return sides


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamInNoiseUnits(GaussianStream):
    """The Gaussian stream in units of its noise."""

    holds: ClassVar[frozenset[Null]] = frozenset(("privacy", "gdp", "normal"))

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return coins times μ, plus standard normal noise."""
        return coins / self.process.noise_multiplier + rng.normal(size=coins.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdaptiveStream(StreamInNoiseUnits):
    """The Gaussian stream in units of its noise, its canary strong or weak as it pleases one who sees the past.

    It is strong until the guesses so far are more often right than half of the time by two standard deviations, then
    weak until they no longer are: wealth is kept where it is large.
    """

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return coins times μ or 0, plus standard normal noise."""
        noise, mu = rng.normal(size=coins.shape), 1 / self.process.noise_multiplier
        scores, ahead = np.empty_like(noise), np.zeros(len(coins))
        for look in range(coins.shape[1]):
            strong = ahead < 2 * np.sqrt(look + 1)
            scores[:, look] = np.where(strong, mu, 0.0) * coins[:, look] + noise[:, look]
            ahead += np.where((scores[:, look] >= mu / 2) == (coins[:, look] > 0), 1.0, -1.0)
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamOfNothing(StreamInNoiseUnits):
    """Scores that know nothing: ε = 0, whatever is described."""

    epsilons: ClassVar[tuple[float, ...]] = (0.0,)

    def scores(self, rng: np.random.Generator, coins: Array) -> Array:
        """Return standard normals."""
        return rng.normal(size=coins.shape)
