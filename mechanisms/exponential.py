"""The exponential mechanism: choose one of finitely many candidates, the likelier the higher its score.

[MT07] F. McSherry, K. Talwar. Mechanism Design via Differential Privacy. FOCS 2007.
[DDR20] J. Dong, D. Durfee, R. Rogers. Optimal Differential Privacy Composition for Exponential Mechanisms. ICML 2020.
arXiv:1909.13830.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath as mp

from mechanisms.core.bounds import Bounds
from mechanisms.core.candidates import DIGITS, Choice, two_losses
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.exact_choice import drawn
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.range_pair import RangeDivergence, RangePair


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(Choice):
    """Choose candidate i with probability proportional to e^{ε u_i/(2Δ)}, u_i its score, Δ its sensitivity     [MT07].

    If between neighbours no two scores move in opposite directions, as counts under add/remove, it is `monotonic` and
    chooses with probability proportional to e^{ε u_i/Δ}: the guarantee is the same, the choice better.

    Its loss is ε (u_i − u'_i)/(2Δ) but for what is the same for all candidates, so that it has the range ε [DDR20],
    which tells far less than ε-differential privacy: see `mechanisms.core.range_pair`.

    Args:
        epsilon: ε > 0.
        adjacency: the neighbours between which no score moves by more than its sensitivity, an `Adjacency` or its name.
        monotonic: whether, between neighbours, all scores that move do so in the same direction.

    Raises:
        InvalidParameter: if ε is not above 0 and finite, the adjacency unknown, or `monotonic` no bool.

    >>> Exponential(epsilon=1.0, adjacency="add_remove")
    Exponential(epsilon=1.0, adjacency=Adjacency.ADD_REMOVE, monotonic=False)
    """

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of the range ε in every direction, and what two candidates show.

        Let one dataset have the scores a and 0 and its neighbour a + Δ and −Δ (monotonic: a + Δ and 0): the losses are
        t and t − ε, where a decides t. Shown are t = ε/2, which tells most in many steps, and t = 3ε/4. As any function
        of the dataset may be a score, whether the differing record is in a sample may decide which, whatever the other
        records are, in either order.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        pair = RangePair(reach=Bounds.exact(self.epsilon), attained=False)
        found: dict[Direction, DominatingPair] = dict.fromkeys(adjacency.directions, pair)
        return found | {"witness": self._shown(0.5), "witness_reversed": self._shown(0.75)}

    def _shown(self, share: float) -> DiscretePair:
        """Return the pair of the losses t and t − ε, t being this share of ε, of 600 for a larger ε."""
        t = share * self.shown
        with mp.workdps(DIGITS):
            less = mp.mpf(t) - mp.mpf(self.shown)
            likelier = mp.expm1(less) / mp.expm1(-mp.mpf(self.shown))
            return two_losses((float(less), t), likelier)

    def renyi(self, adjacency: Adjacency) -> RangeDivergence:
        """Return the largest divergences of losses of the range ε.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        return RangeDivergence.of(self.epsilon)

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> int:
        """Return the index of the chosen candidate.

        Guarantees: the probabilities above, exactly, for the scores as the floats that they are: candidates are
        proposed by integer bounds of their weights, and taken by exact comparisons, else proposed anew. How long that
        takes depends on the scores, and is not part of the guarantee.

        Args:
            value: finite scores, shape (k,), k >= 1; the candidates are public, and the same whatever the data.
            sensitivity: Δ > 0, by which any score moves at most between neighbours, rounding of the scores included.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the scores are no finite vector of floats, or the sensitivity not above 0.

        >>> from mechanisms import KeyedSource
        >>> choice = Exponential(epsilon=1.0, adjacency="add_remove")
        >>> choice.release([0.0, 3.0, 1.0], sensitivity=1.0, randomness=KeyedSource(0)) in range(3)
        True
        """
        return drawn(self.scores(value), self.rate(sensitivity), randomness, "exponential")
