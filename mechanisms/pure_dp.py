"""A guarantee given as a number: ε-differential privacy, of whatever mechanism it was shown for.

[KOV15] see `mechanisms.approximate_dp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from mechanisms.approximate_dp import guaranteed, no_release
from mechanisms.core import validate
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Mechanism, Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class PureDP(Mechanism):
    """Any mechanism that is ε-differentially private under its adjacency: a description, nothing that runs.

    Randomised response to two categories dominates every such mechanism and is one itself [KOV15], so that its lower
    ends are those of the class.

    Args:
        epsilon: ε >= 0.
        adjacency: the neighbours that the guarantee is about, an `Adjacency` or its name.

    Raises:
        InvalidParameter: if ε is negative, NaN or infinite, or the adjacency unknown.

    >>> PureDP(epsilon=1.0, adjacency="replace_one")
    PureDP(epsilon=1.0, adjacency=Adjacency.REPLACE_ONE)
    """

    epsilon: float
    adjacency: Adjacency

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.non_negative("PureDP", "epsilon", self.epsilon))
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return randomised response to two categories in every direction: its mirror image is itself.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        return guaranteed(self, self.epsilon, 0.0, stated=self.adjacency, asked=adjacency)

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> NoReturn:
        """Refuse: a guarantee does not run.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess(no_release(self))
