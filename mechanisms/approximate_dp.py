"""A guarantee given as two numbers: (ε, δ)-differential privacy, of whatever mechanism it was shown for.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Mechanism, Pairs, Process


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateDP(Mechanism):
    """Any mechanism that is (ε, δ)-differentially private under its adjacency: a description, nothing that runs.

    With probability δ the answer gives the record away, else it is randomised response to two categories. That pair
    dominates every (ε, δ)-private mechanism and is one itself [KOV15], so that its lower ends are those of the class.

    Args:
        epsilon: ε >= 0.
        delta: δ in [0, 1].
        adjacency: the neighbours that the guarantee is about, an `Adjacency` or its name.

    Raises:
        InvalidParameter: if ε is negative, NaN or infinite, δ outside [0, 1], or the adjacency unknown.

    >>> ApproximateDP(epsilon=1.0, delta=1e-6, adjacency="zero_out").adjacency
    Adjacency.ZERO_OUT
    """

    epsilon: float
    delta: float
    adjacency: Adjacency

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.non_negative("ApproximateDP", "epsilon", self.epsilon))
        object.__setattr__(self, "delta", validate.probability("ApproximateDP", "delta", self.delta))
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the (ε, δ) randomised response in every direction: its mirror image is itself.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        return guaranteed(self, self.epsilon, self.delta, stated=self.adjacency, asked=adjacency)

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> NoReturn:
        """Refuse: a guarantee does not run.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess(no_release(self))


def guaranteed(mechanism: Process, epsilon: float, delta: float, *, stated: Adjacency, asked: Adjacency) -> Pairs:
    """Return the (ε, δ) randomised response in every direction of the adjacency.

        loss            ε                     −ε                  infinite under P    −∞ under Q
        mass    (1 − δ)/(1 + e^{−ε})   (1 − δ)/(1 + e^ε)             δ                   δ

    Raises:
        UnsupportedProcess: if another adjacency is asked for than the one stated.
    """
    if asked is not stated:
        raise UnsupportedProcess(
            f"{type(mechanism).__name__}: its guarantee is about {stated.value} neighbours, got {asked.value}.\n"
            f"Use adjacency={stated.value!r}, or state the guarantee that holds under {asked.value}."
        )
    kept, lost = 1.0 - Bounds.exact(delta), Bounds.exact(delta)
    shares = [kept / (1.0 + exp(Bounds.exact(sign * epsilon))) for sign in (1, -1)]
    pair = DiscretePair(
        losses=(-epsilon, epsilon) if delta < 1 else (),
        masses=tuple(share.clip(0.0, 1.0) for share in shares) if delta < 1 else (),
        infinite_mass=lost,
        missing_mass=lost,
        attained=True,
    )
    return dict.fromkeys(asked.directions, pair)


def no_release(mechanism: Mechanism) -> str:
    """Say why a guarantee does not run."""
    return (
        f"{type(mechanism).__name__}: it states a guarantee and runs nothing, so it can't release a value. "
        "Use the mechanism that the guarantee is about."
    )
