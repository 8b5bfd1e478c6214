"""Counts: how often one test was right and wrong over independent runs, and the estimators that need no more."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.evidence import Estimator
from audit.scores import Design, GuessExtremes, IndependentRuns, LabelledScores
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
RELATIVE_ERROR = 1e-12  # of ε and what it is computed from


def check_enough(owner: str, included: int, excluded: int, *, least: tuple[int, int] = (2, 2)) -> None:
    """Refuse too few in, or out, without a word on which or how many: how coins fell is private.

    Raises:
        InvalidParameter: if a number is negative or fractional, or below its least.
    """
    for name, number, fewest in zip(("included", "excluded"), (included, excluded), least, strict=True):
        if doors.trials(owner, name, number, least=0) < fewest:
            raise InvalidParameter(
                f"{owner}: included must be at least {least[0]} and excluded at least {least[1]}, got fewer of one.\n"
                "Nothing can be compared: toss more coins."
            )


class Errors(TypedDict):
    """Numbers of errors among so many runs with the canary in, and out."""

    false_negatives: int
    included: int
    false_positives: int
    excluded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many runs with the canary in, and out, a test called in and out.

    Args:
        owner: the estimator that asks, for the texts of errors.
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> Counts(owner="jeffreys", true_positives=9, false_negatives=1, false_positives=2, true_negatives=8).excluded
    10
    """

    owner: str
    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int

    def __post_init__(self) -> None:
        for name in ("true_positives", "false_negatives", "false_positives", "true_negatives"):
            object.__setattr__(self, name, doors.trials(self.owner, name, getattr(self, name), least=0))
        if not (self.included and self.excluded):
            raise InvalidParameter(
                f"{self.owner}: counts must hold runs with the canary in and runs with it out, got none of one kind."
            )

    @classmethod
    def of(cls, owner: str, data: LabelledScores) -> Counts:
        """Return the counts of the guesses, a run that is not guessed counting as called out.

        Raises:
            InvalidParameter: if runs were called in by rank: they chose the threshold, and errors are no binomials.
        """
        rule = data.scores.guessing_rule
        if isinstance(rule, GuessExtremes):
            raise InvalidParameter(
                f"{owner}: guessing rule must judge each run by itself, got {rule!r}.\n"
                "That ranks it among the others: use Threshold(value=...), fixed before the runs."
            )
        called_in = data.scores.guesses == 1
        return cls(
            owner=owner,
            true_positives=int(np.count_nonzero(called_in & data.membership)),
            false_negatives=int(np.count_nonzero(~called_in & data.membership)),
            false_positives=int(np.count_nonzero(called_in & ~data.membership)),
            true_negatives=int(np.count_nonzero(~called_in & ~data.membership)),
        )

    @property
    def included(self) -> int:
        """The number of runs with the canary in."""
        return self.true_positives + self.false_negatives

    @property
    def excluded(self) -> int:
        """The number of runs with the canary out."""
        return self.false_positives + self.true_negatives

    @property
    def errors(self) -> Errors:
        """The numbers of errors and runs, by the names under which tests take them."""
        return Errors(
            false_negatives=self.false_negatives,
            included=self.included,
            false_positives=self.false_positives,
            excluded=self.excluded,
        )

    @property
    def flawless(self) -> Counts:
        """The counts of a test that never errs on so many runs."""
        return Counts(
            owner=self.owner,
            true_positives=self.included,
            false_negatives=0,
            false_positives=0,
            true_negatives=self.excluded,
        )


class CountsEstimator(Estimator):
    """An estimator that needs no more than the counts of the guesses, over independent runs."""

    __slots__ = ()

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns,)

    @abstractmethod
    def bound(self, counts: Counts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these counts give."""

    @abstractmethod
    def refutes(
        self, counts: Counts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether these counts refute (ε, δ): the test that `bound` inverts."""

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound from the guesses; a run that is not guessed counts as called out."""
        return self.bound(Counts.of(self.name, data), process=process, delta=delta, confidence=confidence)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted."""
        counts = Counts.of(self.name, data)
        return self.refutes(counts, epsilon, process=process, delta=delta, confidence=confidence)


def rectangle_bound(missed: ArrayLike, alarms: ArrayLike, *, delta: float) -> Array:
    """Return the largest ε that upper limits of both error rates refute, elementwise, 0 where they refute none.

        ε = max{0, ln((1 − δ − FNR⁺) / FPR⁺), ln((1 − δ − FPR⁺) / FNR⁺)}                                     [KOV15]

    [KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015.
    arXiv:1311.0776.

    >>> round(float(rectangle_bound(0.1, 0.1, delta=0.0)), 4)  # ln 9
    2.1972
    """
    fnr, fpr = np.asarray(missed, dtype=np.float64), np.asarray(alarms, dtype=np.float64)
    ratio = np.maximum((1 - delta - fnr) / fpr, (1 - delta - fpr) / fnr)
    bound: Array = np.log(np.maximum(ratio, 1.0)) * (1 - RELATIVE_ERROR)
    return bound


def rectangle_refutes(missed: ArrayLike, alarms: ArrayLike, *, epsilon: ArrayLike, delta: float) -> NDArray[np.bool_]:
    """Tell, elementwise, whether upper limits of both error rates refute (ε, δ): what `rectangle_bound` inverts."""
    fnr, fpr = np.asarray(missed, dtype=np.float64), np.asarray(alarms, dtype=np.float64)
    with np.errstate(over="ignore"):  # infinite, it refutes nothing
        growth = np.exp(np.asarray(epsilon, dtype=np.float64)) * (1 + RELATIVE_ERROR)
    refuted: NDArray[np.bool_] = (fnr + growth * fpr < 1 - delta) | (fpr + growth * fnr < 1 - delta)
    return refuted
