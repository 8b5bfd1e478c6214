"""Lower bounds of ε from guesses that come one after the other, valid for every computation and at every look.

A guess that rests on an (ε, δ)-private output is right with P[right] <= e^ε P[wrong] + δ, its coin being fair. With
p = (e^ε + δ)/(1 + e^ε), the most that P[right] can be where every score is guessed, and any u in [0, 1], a look pays

    1 + (1 − u)(1 − p)/p  if right,     u  if wrong,     1  if passed on;     divided by 1 + δ(1 − u).               (1)

The mean of (1) is at most 1: linear in (P[right], P[wrong]), it is largest at a corner of what is allowed. The
corners with a right guess are (δ, 0) and (p, 1 − p), with means 1 + δ(1 − u)(1 − p)/p and 1 before the division, and
p >= 1/2. The divisor is needed because a computation may tell the truth with probability δ, and the guesser pass on all
else. But for it, (1) is the bet λ = (1 − u)/p on being right, E = Π (1 + λ (W − p)) [WR24]. Wealth is an average over
values of u fixed beforehand, depends on the numbers of right, wrong and passed guesses alone, and falls as ε rises.

[WR24] I. Waudby-Smith, A. Ramdas. Estimating Means of Bounded Random Variables by Betting. JRSS B 86 (2024).
arXiv:2010.09686.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors, e_processes
from audit.core.halving import last_refuted
from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, GuessExtremes, LabelledScores, Stream, Threshold
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
STAKES = np.concatenate([0.5 ** np.arange(1.0, 10.0, 2.0), 1 - 0.5 ** np.arange(3.0, 10.0, 2.0), [1.0]])  # 1 − u
LARGEST = 64.0
ROUND_OFF = 1e-13  # a look, taken from log wealth: sums of logarithms times counts err by less


def lower_bound_from_outcomes(outcomes: ArrayLike, *, delta: float, confidence: float) -> float:
    """Return the largest ε refuted at any look, 0 if none is.

    Args:
        outcomes: shape (n,), of the guesses in the order of the looks: 1 right, −1 wrong, 0 passed on. Whether and how
            to guess may depend on everything seen before, and on the score itself, but not on its coin.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, for any computation of which every look is (ε, δ)-
    differentially private given the earlier ones, whenever one stops. Several looks at one noisy sum are so along
    directions at right angles alone: else the coin of one, once told, tells of the noise of the next. The float that is
    returned was itself refuted.

    Raises:
        InvalidParameter: if an outcome is none of these, there are none, or a level breaks its rule.

    >>> round(lower_bound_from_outcomes(np.ones(1000), delta=1e-5, confidence=0.95), 2)
    5.58
    """
    counted = _checked(outcomes, 1)
    check_level("anytime", delta=delta, confidence=confidence)
    counts = _counts(counted)
    required = e_processes.log_required(confidence)

    def refuted(epsilon: float) -> bool:
        return bool(np.max(log_wealth(*counts, epsilon, delta)) >= required)

    return last_refuted(refuted, 0.0, LARGEST)


def rejects(*, outcomes: ArrayLike, epsilon: float, delta: float, confidence: float) -> NDArray[np.bool_]:
    """Tell for every stream, shape (…, n), whether (ε, δ) is refuted at any look: the test that the bound inverts.

    An ε beyond `LARGEST` never is.
    """
    check_level("anytime", delta=delta, confidence=confidence)
    if doors.loss("anytime", epsilon) > LARGEST:
        return np.zeros(np.shape(outcomes)[:-1], dtype=bool)
    counted = _checked(outcomes, None)
    streams = counted.reshape(-1, counted.shape[-1])
    required = e_processes.log_required(confidence) + np.log(len(STAKES))
    refuted = [e_processes.reaches(_log_products(*_counts(stream), epsilon, delta), required) for stream in streams]
    return np.array(refuted, dtype=bool).reshape(counted.shape[:-1])


@dataclass(slots=True, kw_only=True)
class GuessConfidenceSequence(e_processes.ConfidenceSequence):
    """The bound of `lower_bound_from_outcomes` after every look; it keeps three counts.

    Args:
        delta: in [0, 1).
        confidence: in (0, 1), of all bounds together.
        rule: guess in from this score on, out below.

    >>> watched = GuessConfidenceSequence(delta=1e-5, confidence=0.95, rule=Threshold(value=0.5))
    >>> [round(watched.update(1.0, True), 2) for _ in range(8)]
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.16, 0.36, 0.53]
    """

    rule: Threshold
    _counted: dict[int, int] = field(default_factory=lambda: {1: 0, -1: 0}, init=False, repr=False)

    def _bound(self, score: float, coin: bool) -> float:
        self._counted[1 if (score >= self.rule.value) == coin else -1] += 1
        counts = np.array(self._counted[1]), np.array(self._counted[-1]), np.array(self.looks)
        required = e_processes.log_required(self.confidence)

        def refuted(epsilon: float) -> bool:
            return bool(log_wealth(*counts, epsilon, self.delta) >= required)

        return last_refuted(refuted, self.epsilon, LARGEST)


@dataclass(frozen=True, slots=True)
class Anytime(Estimator):
    """The bound of `lower_bound_from_outcomes`, of a rule that guesses about each score by itself.

    >>> Anytime().guarantee
    'frequentist'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (Stream,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; the process plays no part.

        Raises:
            InvalidParameter: if guesses were read off all scores together, later ones too, or scores share noise.
        """
        doors.check_apart(self.name, data.scores)
        return lower_bound_from_outcomes(_outcomes(data), delta=delta, confidence=confidence)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted; the process plays no part."""
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) <= self.epsilon(
            data, process=process, delta=delta, confidence=confidence
        )
        return refuted & bool(rejects(outcomes=_outcomes(data), epsilon=0.0, delta=delta, confidence=confidence))

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound if every guess were right."""
        best = np.abs(_outcomes(data))
        return lower_bound_from_outcomes(best, delta=delta, confidence=confidence)


def _outcomes(data: LabelledScores) -> NDArray[np.int8]:
    rule = data.scores.guessing_rule
    if isinstance(rule, GuessExtremes):
        raise InvalidParameter(
            f"anytime: guessing rule must judge each score by itself, got {rule!r}, which ranks it among later ones.\n"
            "Use Threshold(value=...)."
        )
    guesses = data.scores.guesses
    outcomes: NDArray[np.int8] = np.where(data.membership, guesses, -guesses).astype(np.int8)
    return outcomes


def _checked(outcomes: ArrayLike, dimensions: int | None) -> NDArray[np.int8]:
    given = doors.numbers("anytime", "outcomes", outcomes)
    if given.ndim < 1 or given.shape[-1] < 1 or (dimensions is not None and given.ndim != dimensions):
        raise InvalidParameter(f"anytime: outcomes must have shape (n,), n at least 1, got {given.shape}.")
    if not np.all(np.isin(given, (-1, 0, 1))):
        raise InvalidParameter("anytime: outcomes must be 1 (right), -1 (wrong) or 0 (no guess), got others.")
    return given.astype(np.int8)


def _counts(outcomes: NDArray[np.int8]) -> tuple[Array, Array, Array]:
    """Return how many guesses were right, how many wrong, and how many looks there were, after every look."""
    right, wrong = np.cumsum(outcomes == 1, axis=-1), np.cumsum(outcomes == -1, axis=-1)
    return right.astype(float), wrong.astype(float), np.arange(1.0, outcomes.shape[-1] + 1)


def log_wealth(right: Array, wrong: Array, looks: Array, epsilon: float, delta: float) -> Array:
    """Return the log of the average of (1)'s products over the stakes, rounded down."""
    products = _log_products(right, wrong, looks, epsilon, delta)
    wealth: Array = np.logaddexp.reduce(products, axis=0) - np.log(len(STAKES))
    return wealth


def _log_products(right: Array, wrong: Array, looks: Array, epsilon: float, delta: float) -> Array:
    """Return the logs of (1)'s products, stakes along the first axis, rounded down."""
    odds = (1 - delta) / (np.exp(epsilon) + delta)
    stakes = STAKES.reshape(-1, *[1] * np.ndim(right))
    with np.errstate(divide="ignore"):
        lost = np.where(wrong > 0, np.log1p(-stakes), 0.0)  # a stake of 1 is lost for good
    logs: Array = (
        right * np.log1p(stakes * odds) + np.maximum(wrong, 1.0) * lost - looks * (np.log1p(delta * stakes) + ROUND_OFF)
    )
    return logs
