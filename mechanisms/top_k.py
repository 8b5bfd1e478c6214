"""Top-k selection: several candidates one after the other, each by the exponential mechanism.

[DR19] see `mechanisms.core.range_pair`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from mechanisms.approximate_dp import guaranteed
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds
from mechanisms.core.candidates import Choice
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.exact_choice import drawn_in_order
from mechanisms.core.process import Adjacency, Pairs, Process, Repeat
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import LinearDivergence
from mechanisms.exponential import Exponential


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(Choice):
    """Choose `count` candidates in order: each by the exponential mechanism of this ε among those that are left.

    The `count` largest scores after Gumbel noise of scale 2Δ/ε (monotonic: Δ/ε) was added to all of them at once have
    the same law [DR19]. It is priced as that many adaptive steps of the exponential mechanism, which it is. How many
    candidates there are is left open, and with it the price is no smaller: among many candidates of the two scores of
    `Exponential.pairs`, as many of either, a choice hardly changes their numbers, and the next tells as much.

    Args:
        epsilon: ε > 0 of each choice.
        adjacency: the neighbours between which no score moves by more than its sensitivity, an `Adjacency` or its name.
        monotonic: whether, between neighbours, all scores that move do so in the same direction.
        count: k >= 1.

    Raises:
        InvalidParameter: if ε is not above 0 and finite, the adjacency unknown, `monotonic` no bool, or k below 1.

    >>> TopK(epsilon=1.0, adjacency="add_remove", count=3).distributed()
    Repeat(part=Exponential(epsilon=1.0, adjacency=Adjacency.ADD_REMOVE, monotonic=False), times=3)
    """

    count: int

    def __post_init__(self) -> None:
        Choice.__post_init__(self)
        object.__setattr__(self, "count", validate.count("TopK", "count", self.count, least=1))

    def distributed(self) -> Process:
        """Return the `count` choices."""
        return Repeat(self._one, self.count)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return, for samples around all choices at once, the pair of count · ε-differential privacy; it is not shown.

        Without such samples the choices are priced one by one, which is far better.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        if self.count == 1:
            return self._one.pairs(adjacency)
        total = float((float(self.count) * Bounds.exact(self.epsilon)).upper)
        whole = guaranteed(self, total, 0.0, stated=adjacency, asked=adjacency)
        return {direction: replace(cast(DiscretePair, pair), attained=False) for direction, pair in whole.items()}

    def renyi(self, adjacency: Adjacency) -> LinearDivergence:
        """Return the sum of the divergences of the choices, α times what one of them has of ρ.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self.check(adjacency)
        one = self._one.renyi(adjacency)
        return (
            one if self.count == 1 else LinearDivergence(rho=float((float(self.count) * Bounds.exact(one.rho)).upper))
        )

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> tuple[int, ...]:
        """Return the indices of the chosen candidates, in the order of choice.

        Guarantees: the law above, exactly, as `Exponential.release` has it.

        Args:
            value: finite scores, shape (n,), n >= count; the candidates are public, and the same whatever the data.
            sensitivity: Δ > 0, by which any score moves at most between neighbours, rounding of the scores included.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the scores are no finite vector of at least `count` floats, or the sensitivity not
            above 0.

        >>> from mechanisms import KeyedSource
        >>> choice = TopK(epsilon=1.0, adjacency="add_remove", count=2)
        >>> sorted(choice.release([-1e6, 3.0, 1.0], sensitivity=1.0, randomness=KeyedSource(0)))
        [1, 2]
        """
        scores, rate = self.scores(value, least=self.count), self.rate(sensitivity)
        return drawn_in_order(scores, rate, self.count, randomness, "top_k")

    @property
    def _one(self) -> Exponential:
        return Exponential(epsilon=self.epsilon, adjacency=self.adjacency, monotonic=self.monotonic)
