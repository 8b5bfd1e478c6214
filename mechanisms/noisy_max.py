"""Report noisy max: add noise to the score of every candidate, and tell only which one is the largest.

[DR14] C. Dwork, A. Roth. The Algorithmic Foundations of Differential Privacy. 2014, §3.3.
[DR19] see `mechanisms.core.range_pair`.
[DKS21] see `mechanisms.permute_and_flip`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import mpmath as mp

from mechanisms.core import validate
from mechanisms.core.candidates import Choice, answers
from mechanisms.core.exact_choice import laplace_race
from mechanisms.core.noisy_maximum import noisy_maximum
from mechanisms.core.process import Adjacency, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import RenyiBound
from mechanisms.exponential import Exponential
from mechanisms.permute_and_flip import PermuteAndFlip

NOISES = ("gumbel", "exponential", "laplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyMax(Choice):
    """Tell which score is the largest after noise of scale 2Δ/ε was added to each, or Δ/ε to `monotonic` scores.

    With Gumbel noise it is the exponential mechanism [DR19], with exponential noise permute-and-flip [DKS21]: the same
    laws, and the same price. With Laplace noise it is ε-differentially private like both [DR14], and priced as in
    `mechanisms.core.noisy_maximum`. The noise is continuous, so that no two scores tie.

    Args:
        epsilon: ε > 0.
        adjacency: the neighbours between which no score moves by more than its sensitivity, an `Adjacency` or its name.
        monotonic: whether, between neighbours, all scores that move do so in the same direction.
        noise: "gumbel", "exponential" or "laplace".

    Raises:
        InvalidParameter: if ε is not above 0 and finite, the adjacency or the noise unknown, or `monotonic` no bool.

    >>> NoisyMax(epsilon=1.0, adjacency="add_remove", noise="laplace").pairs(Adjacency.ADD_REMOVE)["add"].attained
    False
    """

    noise: Literal["gumbel", "exponential", "laplace"]

    def __post_init__(self) -> None:
        Choice.__post_init__(self)
        validate.choice("NoisyMax", "noise", self.noise, NOISES)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return those of the mechanism of the same law; with Laplace noise that of a Laplace mechanism of this ε.

        There, scores of Δ and 0 that change places (monotonic: Δ and Δ/2 that become 0 and Δ/2) show what two
        candidates do: the difference of two Laplace variables exceeds d > 0 with probability e^{−d} (2 + d)/4.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        same = self._same
        if same is not None:
            return same.pairs(adjacency)

        def worse(e: mp.mpf) -> mp.mpf:
            return mp.exp(-e / 2) * (2 + e / 2) / 4

        shown = answers(lambda e: 1 - worse(e), lambda e: mp.log((1 - worse(e)) / worse(e)), self.shown)
        return noisy_maximum(self.epsilon, adjacency) | {"witness": shown, "witness_reversed": shown}

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the bound of the exponential mechanism for Gumbel noise; there is none for other noise."""
        self.check(adjacency)
        same = self._same
        return Choice.renyi(self, adjacency) if same is None else same.renyi(adjacency)

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> int:
        """Return the index of the largest noisy score; no noisy score is told.

        Guarantees: the law above, exactly, for the scores as the floats that they are: of Gumbel and exponential noise
        through the mechanism of the same law, of Laplace noise by comparing noisy scores to as many bits as tell them
        apart. How long that takes depends on the scores, and is not part of the guarantee.

        Args:
            value: finite scores, shape (k,), k >= 1; the candidates are public, and the same whatever the data.
            sensitivity: Δ > 0, by which any score moves at most between neighbours, rounding of the scores included.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the scores are no finite vector of floats, or the sensitivity not above 0.

        >>> from mechanisms import KeyedSource
        >>> choice = NoisyMax(epsilon=1.0, adjacency="add_remove", noise="laplace")
        >>> choice.release([0.0, 3.0, 1.0], sensitivity=1.0, randomness=KeyedSource(0)) in range(3)
        True
        """
        scores, rate, same = self.scores(value), self.rate(sensitivity), self._same
        if same is not None:
            return same.release(scores, sensitivity=sensitivity, randomness=randomness)
        return laplace_race(scores, rate, randomness, "noisy_max")

    @property
    def _same(self) -> Exponential | PermuteAndFlip | None:
        """The mechanism of the same law."""
        kinds: dict[str, type[Exponential] | type[PermuteAndFlip]] = {
            "gumbel": Exponential,
            "exponential": PermuteAndFlip,
        }
        kind = kinds.get(self.noise)
        options: dict[str, Any] = {"epsilon": self.epsilon, "adjacency": self.adjacency, "monotonic": self.monotonic}
        return None if kind is None else kind(**options)
