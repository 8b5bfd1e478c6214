"""What mechanisms that choose among finitely many candidates have in common: their options, scores and neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.process import Adjacency, Mechanism

MOST_SHOWN, DIGITS = 600.0, 300  # ε of what named neighbours show, and digits, for rare outcomes
EXACT_INTEGERS = 2**53  # whole numbers up to here are floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Mechanism):
    """The options that every such mechanism has.

    Args:
        epsilon: ε > 0.
        adjacency: the neighbours between which no score moves by more than its sensitivity, an `Adjacency` or its name.
        monotonic: whether, between neighbours, all scores that move do so in the same direction.

    Raises:
        InvalidParameter: if ε is not above 0 and finite, the adjacency unknown, or `monotonic` no bool.
    """

    epsilon: float
    adjacency: Adjacency
    monotonic: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "epsilon", validate.positive(name, "epsilon", self.epsilon))
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        if not isinstance(self.monotonic, (bool, np.bool_)):
            raise InvalidParameter(f"{name}: monotonic must be True or False, got {self.monotonic!r}.")
        object.__setattr__(self, "monotonic", bool(self.monotonic))

    @property
    def shown(self) -> float:
        """The ε of named neighbours: scores may move by less than their sensitivity."""
        return min(self.epsilon, MOST_SHOWN)

    def check(self, asked: Adjacency) -> None:
        """Refuse other neighbours than those that the sensitivity is about.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        if asked is not self.adjacency:
            raise UnsupportedProcess(
                f"{type(self).__name__}: its scores' sensitivity is about {self.adjacency.value} neighbours, got "
                f"{asked.value}.\nUse adjacency={self.adjacency.value!r}, or state the ε that holds under "
                f"{asked.value}: scores may move twice as far where a record is changed as where one is added."
            )

    def rate(self, sensitivity: float) -> Fraction:
        """Return ε/(2Δ), or ε/Δ for monotonic scores, exactly.

        Raises:
            InvalidParameter: if the sensitivity Δ is not above 0.
        """
        known = Fraction(validate.positive(type(self).__name__, "sensitivity", sensitivity))
        return Fraction(self.epsilon) / (known if self.monotonic else 2 * known)

    def scores(self, value: Any, *, least: int = 1) -> Array:
        """Return the scores as floats, shape (k,), none of them changed.

        Raises:
            InvalidParameter: if they are no vector of at least that many finite numbers, or would have to be rounded.
        """
        name = type(self).__name__
        data = plain_array(name, value, rule="value must hold one score for each candidate, shape (k,)")
        if data.ndim != 1 or len(data) < least:
            raise InvalidParameter(
                f"{name}: value must hold one score for each candidate, shape (k,) with k >= {least}."
            )
        if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
            raise InvalidParameter(f"{name}: value must hold scores that are floats of 64 bits, or integers.")
        if data.dtype.kind in "iu" and np.any((data > EXACT_INTEGERS) | (data < -EXACT_INTEGERS)):
            raise InvalidParameter(
                f"{name}: value must hold integers of at most 2**53 in size. Rounding moves larger ones: "
                "round them first, and count that in the sensitivity."
            )
        scores = data.astype(np.float64)
        if not np.all(np.isfinite(scores)):
            raise InvalidParameter(f"{name}: value must be finite. Bound the scores first, by a rule no data decides.")
        return scores


def answers(better: Callable[[mp.mpf], mp.mpf], loss: Callable[[mp.mpf], mp.mpf], epsilon: float) -> DiscretePair:
    """Return the pair of two outcomes that change places between the neighbours: its mirror image is itself.

    Args:
        better: from ε to the probability of the likelier one.
        loss: from ε to log of how much likelier it is.
        epsilon: ε.
    """
    with mp.workdps(DIGITS):
        exact = mp.mpf(epsilon)
        ends = float(loss(exact))
        return two_losses((-ends, ends), better(exact))


def two_losses(losses: tuple[float, float], likelier: mp.mpf) -> DiscretePair:
    """Return the pair of named neighbours with these losses, the larger one of which has this probability."""
    none = Bounds.exact(0.0)
    with mp.workdps(DIGITS):
        masses = _enclosed(1 - likelier), _enclosed(likelier)
    return DiscretePair(losses=losses, masses=masses, infinite_mass=none, missing_mass=none, attained=True)


def _enclosed(value: mp.mpf) -> Bounds:
    return Bounds.exact(float(value)).inflate(2.0**-52).clip(0.0, 1.0)
