"""Lower bounds of ε from the number of right guesses about many canaries in a single run.

[SNJ23] T. Steinke, M. Nasr, M. Jagielski. Privacy Auditing with One (1) Training Run. NeurIPS 2023. arXiv:2305.08846.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
ROUND_OFF_PER_GUESS = 1e-14  # relative, added to p-values: log C(n, j) in floats errs by 4e-15 n, measured to n = 1e7
MOST_GUESSES = 10_000_000
HALVINGS = 48
LARGEST = 64.0  # no number of guesses that fits a computer shows more


def lower_bound_from_guesses(*, canaries: int, guesses: int, correct: int, delta: float, confidence: float) -> float:
    """Return the largest ε refuted by the number of right guesses, 0 if none is.

    With B ~ Bin(guesses, e^ε / (1 + e^ε)), an (ε, δ)-differentially private run gives, whatever the guesses rest on,

        P[correct >= v] <= P[B >= v] + 2 m δ max_{1 <= i <= v} P[v − i <= B < v] / i =: p(ε)                  [SNJ23]

    and ε is refuted where p(ε) <= 1 − confidence.

    Args:
        canaries: m >= 1, each in or out by its own fair coin.
        guesses: how many of them were guessed, 0 <= guesses <= m, a number fixed before the run.
        correct: how many guesses were right, 0 <= correct <= guesses.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, for any computation and any rule of guessing. Scores
    may depend on each other in any way: only coins are to be independent. The float returned was itself refuted. Levels
    1 − confidence above 1/2 are answered at 1/2, since up to there p rises through the level once only: p can fall
    where 2mδ > i, but then P[B >= v − i] >= 1/2 bounds it from below.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> round(lower_bound_from_guesses(canaries=1000, guesses=100, correct=100, delta=1e-5, confidence=0.95), 5)
    3.46538
    """
    canaries, guesses, correct = _checked(canaries, guesses, correct)
    check_level("one_run", delta=delta, confidence=confidence)
    level = min(1 - confidence, 0.5)
    log_ways = _log_ways(guesses, correct)
    refuted, unrefuted = 0.0, LARGEST
    if _p_value(canaries, guesses, log_ways, refuted, delta) > level:
        return 0.0
    for _ in range(HALVINGS):
        middle = 0.5 * (refuted + unrefuted)
        if _p_value(canaries, guesses, log_ways, middle, delta) <= level:
            refuted = middle
        else:
            unrefuted = middle
    return refuted


def ceiling(*, canaries: int, guesses: int, delta: float, confidence: float) -> float:
    """Return the largest ε that so many guesses could show: the bound if every guess were right.

    >>> round(ceiling(canaries=5_000, guesses=500, delta=1e-5, confidence=0.96), 2)
    4.89
    """
    return lower_bound_from_guesses(
        canaries=canaries, guesses=guesses, correct=guesses, delta=delta, confidence=confidence
    )


def rejects(
    *, canaries: int, guesses: int, correct: ArrayLike, epsilon: ArrayLike, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_guesses` inverts.

    Arguments are those of `lower_bound_from_guesses`; `correct` and `epsilon` >= 0 are arrays that broadcast.
    """
    check_level("one_run", delta=delta, confidence=confidence)
    canaries, guesses, _ = _checked(canaries, guesses, 0)
    level = min(1 - confidence, 0.5)
    right = doors.counts("one_run", "correct", correct, guesses)
    counts, points = np.broadcast_arrays(right, doors.losses("one_run", epsilon))
    beyond, points = points > LARGEST, np.minimum(points, LARGEST)
    pairs, back = np.unique(np.stack([counts.ravel(), points.ravel()], axis=1), axis=0, return_inverse=True)
    refuted = [
        _p_value(canaries, guesses, _log_ways(guesses, int(count)), float(point), delta) <= level
        for count, point in pairs
    ]
    return np.array(refuted, dtype=bool)[back].reshape(counts.shape) & ~beyond


@dataclass(frozen=True, slots=True)
class OneRunBound(Estimator):
    """The bound of `lower_bound_from_guesses`.

    >>> OneRunBound().name
    'one_run'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; the process plays no part."""
        return lower_bound_from_guesses(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.correct,
            delta=delta,
            confidence=confidence,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted; the process plays no part."""
        return rejects(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.correct,
            epsilon=epsilon,
            delta=delta,
            confidence=confidence,
        )

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound if every guess were right."""
        return ceiling(canaries=data.scores.design.size, guesses=data.guessed, delta=delta, confidence=confidence)


def _checked(canaries: int, guesses: int, correct: int) -> tuple[int, int, int]:
    canaries = doors.trials("one_run", "canaries", canaries)
    guesses = doors.trials("one_run", "guesses", guesses, least=0, most=MOST_GUESSES)
    correct = validate.count("one_run", "correct", correct)
    if guesses > canaries:
        raise InvalidParameter(f"one_run: guesses must be at most the {canaries} canaries, got {guesses}.")
    if correct > guesses:
        raise InvalidParameter(f"one_run: correct must be at most the {guesses} guesses, got {correct}.")
    return canaries, guesses, correct


def _log_ways(guesses: int, correct: int) -> Array:
    """Return the logarithms of C(guesses, j), j = correct − 1, …, 0, shape (correct,)."""
    counts = np.arange(correct - 1, -1, -1, dtype=np.float64)
    ways: Array = -special.betaln(counts + 1, guesses - counts + 1) - np.log(guesses + 1.0)
    return ways


def _p_value(canaries: int, guesses: int, log_ways: Array, epsilon: float, delta: float) -> float:
    """Return p(ε) for len(log_ways) right guesses, rounded up; sums of positive terms only, so that no tail cancels."""
    correct = len(log_ways)
    if correct == 0:
        return 1.0
    log_right, log_wrong = -np.log1p(np.exp(-epsilon)), -np.logaddexp(0.0, epsilon)
    tail = float(special.betaincc(guesses - correct + 1, correct, np.exp(log_wrong)))
    counts = np.arange(correct - 1, -1, -1, dtype=np.float64)
    masses = np.exp(log_ways + counts * log_right + (guesses - counts) * log_wrong)
    worst = float(np.max(np.cumsum(masses) / np.arange(1, correct + 1)))
    return (tail + 2.0 * canaries * delta * worst) * (1 + ROUND_OFF_PER_GUESS * (100 + guesses))
