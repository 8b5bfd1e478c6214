"""Permute-and-flip: choose one of finitely many candidates, with less regret than the exponential mechanism.

[MS20] R. McKenna, D. Sheldon. Permute-and-Flip: A New Mechanism for Differentially Private Selection. NeurIPS 2020.
arXiv:2010.12603.
[DKS21] Z. Ding, D. Kifer, S. M. Saghaian N. E., T. Steinke, Y. Wang, Y. Xiao, D. Zhang. The Permute-and-Flip Mechanism
is Identical to Report-Noisy-Max with Exponential Noise. 2021. arXiv:2105.07260.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath as mp

from mechanisms.core.candidates import DIGITS, Choice, answers, two_losses
from mechanisms.core.exact_choice import flipped
from mechanisms.core.noisy_maximum import noisy_maximum
from mechanisms.core.process import Adjacency, Pairs
from mechanisms.core.randomness import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteAndFlip(Choice):
    """Flip a coin for one candidate after the other, in random order, and choose the first that shows heads     [MS20].

    The coin of candidate i shows heads with probability e^{ε (u_i − max u)/(2Δ)}, u_i its score and Δ its sensitivity,
    or e^{ε (u_i − max u)/Δ} for `monotonic` scores. It is ε-differentially private and never worse, on average, than
    the exponential mechanism of the same ε, but a step of it tells more: its loss has no range below 2ε. The largest
    score plus exponential noise has the same law [DKS21], from which its pair follows: see
    `mechanisms.core.noisy_maximum`.

    Args:
        epsilon: ε > 0.
        adjacency: the neighbours between which no score moves by more than its sensitivity, an `Adjacency` or its name.
        monotonic: whether, between neighbours, all scores that move do so in the same direction.

    Raises:
        InvalidParameter: if ε is not above 0 and finite, the adjacency unknown, or `monotonic` no bool.

    >>> PermuteAndFlip(epsilon=1.0, adjacency="add_remove")
    PermuteAndFlip(epsilon=1.0, adjacency=Adjacency.ADD_REMOVE, monotonic=False)
    """

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of a Laplace mechanism of the same ε in every direction, and what two candidates show.

        Equal scores, one of which falls by Δ while the other rises by as much (monotonic: one falls by Δ), have the
        losses ε and −log(2 − e^{−ε}), with probability 1/2 each. Scores of Δ and 0 that change places (monotonic: Δ and
        Δ/2 that become 0 and Δ/2) have ± log(2 e^{ε/2} − 1). As any function of the dataset may be a score, whether
        the differing record is in a sample may decide which.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        with mp.workdps(DIGITS):
            other = float(-mp.log(2 - mp.exp(-mp.mpf(self.epsilon))))
        apart = answers(lambda e: 1 - mp.exp(-e / 2) / 2, lambda e: e / 2 + mp.log(2 - mp.exp(-e / 2)), self.shown)
        level = two_losses((other, self.epsilon), mp.mpf(0.5))
        return noisy_maximum(self.epsilon, adjacency) | {"witness": level, "witness_reversed": apart}

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> int:
        """Return the index of the chosen candidate.

        Guarantees: the law above, exactly, for the scores as the floats that they are. All coins are flipped, by exact
        comparisons, and one of those that show heads is chosen uniformly: in a random order each may come first. How
        long that takes depends on the scores, and is not part of the guarantee.

        Args:
            value: finite scores, shape (k,), k >= 1; the candidates are public, and the same whatever the data.
            sensitivity: Δ > 0, by which any score moves at most between neighbours, rounding of the scores included.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the scores are no finite vector of floats, or the sensitivity not above 0.

        >>> from mechanisms import KeyedSource
        >>> choice = PermuteAndFlip(epsilon=1.0, adjacency="add_remove")
        >>> choice.release([0.0, 3.0, 1.0], sensitivity=1.0, randomness=KeyedSource(0)) in range(3)
        True
        """
        return flipped(self.scores(value), self.rate(sensitivity), randomness, "permute_and_flip")
