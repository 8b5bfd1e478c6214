"""Scores: what an attack says about every canary, by which design they came about, and how guesses are read off them.

Scores hold no membership. Whoever tossed the coins joins them afterwards, as `LabelledScores`, for an estimator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.finite import finite
from audit.core.whitened_scores import Whitened
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Values = NDArray[np.float64]
Coins = NDArray[np.bool_]
Guesses = NDArray[np.int8]
Counts = NDArray[np.int64]


class Design(ABC):
    """How the canaries came to be in or out: what an estimator must know before it may compute."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of coins tossed, one for each score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun(Design):
    """One training run that many canaries entered, each by its own fair coin.

    Args:
        canaries: number of coins, m >= 1.

    >>> OneRun(canaries=5_000)
    OneRun(canaries=5000)
    """

    canaries: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "canaries", validate.count("OneRun", "canaries", self.canaries, least=1))

    @property
    def size(self) -> int:
        """The number of canaries."""
        return self.canaries


@dataclass(frozen=True, slots=True, kw_only=True)
class IndependentRuns(Design):
    """Independent training runs with fresh randomness, one canary each, in or out by a fair coin.

    Args:
        runs: number of runs, >= 1.

    >>> IndependentRuns(runs=400)
    IndependentRuns(runs=400)
    """

    runs: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", validate.count("IndependentRuns", "runs", self.runs, least=1))

    @property
    def size(self) -> int:
        """The number of runs."""
        return self.runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Design):
    """Scores that come one after the other, each with a fair coin of its own, looked at as often as one likes.

    Args:
        looks: number of scores so far, >= 1.

    >>> Stream(looks=100)
    Stream(looks=100)
    """

    looks: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "looks", validate.count("Stream", "looks", self.looks, least=1))

    @property
    def size(self) -> int:
        """The number of scores so far."""
        return self.looks


class GuessingRule(ABC):
    """How guesses are read off scores. A rule is fixed before the run: one chosen after it proves nothing."""

    __slots__ = ()

    @abstractmethod
    def guess(self, values: Values) -> Guesses:
        """Return for every score 1 (in), −1 (out) or 0 (no guess), shape (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessExtremes(GuessingRule):
    """Guess that the highest scores are in and the lowest out, and pass on the rest.

    Args:
        included: how many to guess in, >= 0.
        excluded: how many to guess out, >= 0.

    >>> GuessExtremes(included=1, excluded=2).guess(np.array([0.3, -1.0, 2.0, 0.1]))
    array([ 0, -1,  1, -1], dtype=int8)
    """

    included: int
    excluded: int

    def __post_init__(self) -> None:
        for name in ("included", "excluded"):
            object.__setattr__(self, name, validate.count("GuessExtremes", name, getattr(self, name)))

    def guess(self, values: Values) -> Guesses:
        """Return the guesses; ties are broken by position, which knows nothing of membership.

        Raises:
            InvalidParameter: if there are fewer scores than guesses.
        """
        if self.included + self.excluded > len(values):
            raise InvalidParameter(
                f"GuessExtremes: guesses must be at most the {len(values)} canaries, "
                f"got {self.included} included and {self.excluded} excluded."
            )
        order = np.argsort(values, kind="stable")
        guesses = np.zeros(len(values), dtype=np.int8)
        guesses[order[: self.excluded]] = -1
        guesses[order[len(values) - self.included :]] = 1
        return guesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(GuessingRule):
    """Guess in where the score is at least `value`, out elsewhere.

    >>> Threshold(value=0.5).guess(np.array([0.3, 0.5]))
    array([-1,  1], dtype=int8)
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", validate.finite("Threshold", "value", self.value))

    def guess(self, values: Values) -> Guesses:
        """Return the guesses."""
        return np.where(values >= self.value, 1, -1).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """One number for every canary, higher the more likely it was in.

    Args:
        values: shape (m,), finite, at most 1e60 in size; copied and made read-only.
        design: how the canaries came to be in or out; its size is m.
        guessing_rule: how guesses are read off, fixed before the run.
        squares: shape (m,), finite and >= 0: the squares, summed over the steps, of what `measured` sums; None where an
            attack does not look at steps one by one. Guesses never see them: they measure the noise.
        sums: shape (m,), finite: projections summed over the steps, in units of the clip norm, where `values` are
            another statistic of the same steps; None where `values` are these sums. Guesses never see them either.
        measuring: bool (m,), where canaries share directions, so that their `measured` share noise: whose `squares`,
            then of projections made independent, count; None where canaries are at right angles, and all do.
        whitened: where noise is correlated over the steps: `squares` are then of whitened projections, `sums` are not.

    Raises:
        InvalidParameter: if a number is not finite or too large, a square negative, or there are not as many as coins.

    >>> Scores(values=np.zeros(3), design=OneRun(canaries=3), guessing_rule=Threshold(value=0.0)).guesses
    array([1, 1, 1], dtype=int8)
    """

    values: Values
    design: Design
    guessing_rule: GuessingRule
    squares: Values | None = None
    sums: Values | None = None
    measuring: Coins | None = None
    whitened: Whitened | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self._checked("values", self.values))
        if self.whitened is not None and len(self.whitened.energies) != self.design.size:
            raise InvalidParameter(f"Scores: whitened must be of {self.design.size} canaries, as the values are.")
        if self.sums is not None:
            object.__setattr__(self, "sums", self._checked("sums", self.sums))
        if self.measuring is not None:
            object.__setattr__(self, "measuring", _bools("Scores", "measuring", self.measuring, self.values.shape))
        if self.squares is not None:
            object.__setattr__(self, "squares", self._checked("squares", self.squares))
            if np.any(self.squares < 0):
                raise InvalidParameter("Scores: squares must be at least 0: they are sums of squares over the steps.")

    def _checked(self, name: str, given: Values) -> Values:
        numbers = np.array(given, dtype=np.float64)
        if numbers.shape != (self.design.size,):
            raise InvalidParameter(f"Scores: {name} must have shape ({self.design.size},), got {numbers.shape}.")
        return finite("Scores", name, numbers)

    @property
    def guesses(self) -> Guesses:
        """What the rule guesses, shape (m,): 1 in, −1 out, 0 no guess."""
        return self.guessing_rule.guess(self.values)

    @property
    def measured(self) -> Values:
        """The sums of projections, shape (m,): what estimators of the noise look at, whatever guesses are read off."""
        return self.values if self.sums is None else self.sums


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledScores:
    """Scores joined with the coins: what an estimator computes from.

    Args:
        scores: of the attack, made without the coins.
        membership: bool (m,), True where the canary was in.
        participations: int (m,), how many times each canary took part in a step, 0 where it was out; None where the
            trainer keeps that to itself. The attack never sees them.

    Raises:
        InvalidParameter: if a shape or type is another, or a canary that was out is said to have taken part.

    >>> scores = Scores(values=[2.0, -1.0], design=OneRun(canaries=2), guessing_rule=Threshold(value=0.0))
    >>> LabelledScores(scores=scores, membership=[True, True]).correct
    1
    """

    scores: Scores
    membership: Coins
    participations: Counts | None = None

    def __post_init__(self) -> None:
        shape = self.scores.values.shape
        object.__setattr__(self, "membership", _bools("LabelledScores", "membership", self.membership, shape))
        if self.participations is not None:
            object.__setattr__(self, "participations", self._counted(self.participations))

    def _counted(self, participations: Counts) -> Counts:
        counts = np.array(participations)
        if counts.dtype.kind not in "iu" or counts.shape != self.membership.shape:
            raise InvalidParameter(
                f"LabelledScores: participations must be whole numbers of shape {self.membership.shape}, "
                f"got {counts.dtype} of shape {counts.shape}."
            )
        if np.any(counts < 0) or np.any(counts[~self.membership] != 0):
            raise InvalidParameter(
                "LabelledScores: participations must be at least 0, and 0 where the canary was out.\n"
                "A trainer may draw for canaries that are out, but must not count those draws."
            )
        counts = counts.astype(np.int64)
        counts.flags.writeable = False
        return counts

    @property
    def included(self) -> Values:
        """The scores of the canaries that were in."""
        return self.scores.values[self.membership]

    @property
    def excluded(self) -> Values:
        """The scores of the canaries that were out."""
        return self.scores.values[~self.membership]

    @property
    def guessed(self) -> int:
        """The number of guesses made."""
        return int(np.count_nonzero(self.scores.guesses))

    @property
    def correct(self) -> int:
        """The number of guesses that are right."""
        return int(np.count_nonzero(self.scores.guesses == np.where(self.membership, 1, -1)))


def _bools(owner: str, name: str, given: Coins, shape: tuple[int, ...]) -> Coins:
    told = np.array(given)
    if told.dtype != np.bool_ or told.shape != shape:
        raise InvalidParameter(
            f"{owner}: {name} must be bool of shape {shape}, got {told.dtype} of shape {told.shape}."
        )
    told.flags.writeable = False
    return told
