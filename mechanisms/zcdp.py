"""A guarantee of zero-concentrated differential privacy, of whatever mechanism it was shown for.

[BS16] M. Bun, T. Steinke. Concentrated Differential Privacy: Simplifications, Extensions, and Lower Bounds. TCC 2016.
arXiv:1605.02065.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from mechanisms.approximate_dp import no_release
from mechanisms.core import validate
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Mechanism
from mechanisms.core.renyi import LinearDivergence


@dataclass(frozen=True, slots=True, kw_only=True)
class ZCDP(Mechanism):
    """Any mechanism that is ρ-zero-concentrated differentially private: a description, nothing that runs.

        D_α(M(x) ‖ M(x')) <= α ρ    for all α > 1 and all neighbours x, x'                   [BS16, Def 1.1]

    Args:
        rho: ρ >= 0.
        adjacency: the neighbours that the guarantee is about, an `Adjacency` or its name.

    Raises:
        InvalidParameter: if ρ is negative, NaN or infinite, or the adjacency unknown.

    >>> ZCDP(rho=0.5, adjacency="replace_one").renyi(Adjacency.REPLACE_ONE)
    LinearDivergence(rho=0.5)
    """

    rho: float
    adjacency: Adjacency

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", validate.non_negative("ZCDP", "rho", self.rho))
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))

    def pairs(self, adjacency: Adjacency) -> NoReturn:
        """Refuse: no pair is known that dominates all mechanisms of this kind and is one itself.

        Raises:
            UnsupportedProcess: always.
        """
        self._check(adjacency)
        raise UnsupportedProcess(
            "ZCDP: no dominating pair follows from its guarantee that could be composed. "
            "Use accountant='rdp' or accountant='zcdp'."
        )

    def renyi(self, adjacency: Adjacency) -> LinearDivergence:
        """Return D_α <= α ρ.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        self._check(adjacency)
        return LinearDivergence(rho=self.rho)

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> NoReturn:
        """Refuse: a guarantee does not run.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess(no_release(self))

    def _check(self, asked: Adjacency) -> None:
        if asked is not self.adjacency:
            raise UnsupportedProcess(
                f"ZCDP: its guarantee is about {self.adjacency.value} neighbours, got {asked.value}.\n"
                f"Use adjacency={self.adjacency.value!r}, or state the guarantee that holds under {asked.value}."
            )
