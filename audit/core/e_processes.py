"""E-processes: wealth that no private computation lets grow on average, looked at as often as one likes.

Every look multiplies the wealth E, which starts at 1, by a payoff whose mean, given all earlier looks, is at most 1
under the claim. Then E is a nonnegative supermartingale, and [V39]

    P[some look finds E >= 1/α]  <=  α.

Averages of such payoffs, or of whole wealths, are such again. A claim refuted at one look stays refuted at all later
ones, so the bounds below only rise, and all of them hold together with the stated confidence.

[V39] J. Ville. Étude critique de la notion de collectif. Gauthier-Villars, 1939.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accountant.gdp import GDP
from audit.core import doors
from audit.core.finite import LARGEST
from audit.core.halving import last_refuted
from audit.core.payoffs import gaussian_delta
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency
from mechanisms.gaussian import Gaussian

Array = NDArray[np.float64]
SMALLEST_MU, LARGEST_MU = 1e-9, 64.0
OPEN = 1e-9  # far above the error of a few logarithms
SAFETY = 1e-9  # relative, by which a μ is raised: far above what the halving and δ in floats leave open


@dataclass(slots=True, kw_only=True)
class ConfidenceSequence(ABC):
    """Lower bounds of ε, one after every look, that all hold together: for watching a computation while it runs.

    It is the one thing here that changes as it is used, and grows with no number of looks.

    Args:
        delta: in (0, 1).
        confidence: in (0, 1), of all bounds together.

    Raises:
        InvalidParameter: if a level breaks its rule.
    """

    delta: float
    confidence: float
    looks: int = field(default=0, init=False)
    epsilon: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        check_level(type(self).__name__, delta=self.delta, confidence=self.confidence)

    def update(self, score: float, coin: bool) -> float:
        """Return the bound after one more look.

        Args:
            score: of a canary, higher the more likely it was in; finite.
            coin: True if it was in, which was tossed fairly for this look alone.

        Raises:
            InvalidParameter: if the score is not finite or the coin is no bool; the look is then not counted.
        """
        score = self._checked(score)
        if not isinstance(coin, (bool, np.bool_)):
            raise InvalidParameter(f"{type(self).__name__}: coin must be a bool, got {type(coin).__name__}.")
        self.looks += 1
        self.epsilon = self._bound(score, bool(coin))
        return self.epsilon

    def _checked(self, score: float) -> float:
        """Return the score as a float; the error tells nothing of it, which is private."""
        with suppress(InvalidParameter):
            return float(doors.sized("score", "score", validate.finite("score", "score", score)))
        raise InvalidParameter(
            f"{type(self).__name__}: score must be a finite number, got something else.\nDid training diverge?"
        )

    @abstractmethod
    def _bound(self, score: float, coin: bool) -> float:
        """Take in the look and return the bound after it, never below the one before."""


def log_required(confidence: float) -> float:
    """Return ln(1/α), the log wealth that refutes at α = 1 − confidence.

    >>> round(math.exp(log_required(0.95)), 9)
    20.0
    """
    return -math.log(1 - confidence)


def reaches(logs: Array, required: float) -> bool:
    """Tell whether the sum over the first axis of what `logs`, (k, …), are the logarithms of reaches e^required.

    The sum, at most k times its largest term, is only taken where that leaves it open.

    >>> reaches(np.log([[0.2, 0.4], [0.2, 0.5]]), math.log(0.9)), reaches(np.log([[0.2], [0.2]]), math.log(0.9))
    (True, False)
    """
    largest = np.max(logs, axis=0)
    open_looks = logs[:, largest >= required - math.log(len(logs)) - OPEN]
    return bool(open_looks.size and np.max(np.logaddexp.reduce(open_looks, axis=0)) >= required)


def looks_of(owner: str, values: ArrayLike, membership: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Return scores and coins as arrays of one shape (…, n), n >= 1.

    Raises:
        InvalidParameter: if there are none, shapes differ, a score is not finite, or coins are not bool.
    """
    scores, coins = doors.numbers(owner, "values", values), doors.array(owner, "membership", membership)
    if scores.ndim < 1 or scores.shape[-1] < 1:
        raise InvalidParameter(f"{owner}: values must hold one score or more, got shape {scores.shape}.")
    if coins.dtype != np.bool_ or coins.shape != scores.shape:
        raise InvalidParameter(
            f"{owner}: membership must be bool of shape {scores.shape}, got {coins.dtype} of shape {coins.shape}."
        )
    if not np.all(np.isfinite(scores)):
        raise InvalidParameter(f"{owner}: values must be finite, got some that are not. Did training diverge?")
    return doors.sized(owner, "values", scores), coins


def check_units(owner: str, centre: float, **unit: float) -> None:
    """Refuse units in which scores are no floats, or have no square.

    Args:
        owner: for the error.
        centre: at most 1e60 in size.
        unit: one, by its name, from 1e-60 to 1e60.

    Raises:
        InvalidParameter: naming the one that breaks its rule.
    """
    validate.finite(owner, "centre", centre)
    doors.sized(owner, "centre", centre)
    for name, value in unit.items():
        validate.positive(owner, name, value)
        doors.sized(owner, name, value, least=1 / LARGEST)


def check_normal_level(owner: str, *, delta: float, confidence: float) -> None:
    """Refuse, beside impossible levels, δ = 0, at which no normal noise has a finite ε.

    Raises:
        InvalidParameter: naming the one that breaks its rule.
    """
    check_level(owner, delta=delta, confidence=confidence)
    if delta == 0:
        raise InvalidParameter(
            f"{owner}: delta must be above 0, got 0: normal noise has no finite ε there.\n"
            "Choose the δ of the claim, or the estimator `anytime`, which assumes no curve."
        )


@lru_cache(maxsize=1024)
def epsilon_of(mu: float, delta: float) -> float:
    """Return a certified lower end of the ε that a μ-GDP computation may have at `delta` > 0; 0 below `SMALLEST_MU`.

    >>> round(epsilon_of(0.268051, 1e-5), 4)
    1.0
    """
    if mu < SMALLEST_MU:
        return 0.0
    softer = Gaussian(noise_multiplier=(1 + SAFETY) / mu)
    return float(GDP().profile(softer, adjacency=Adjacency.ADD_REMOVE).epsilon(delta).lower)


@lru_cache(maxsize=1024)
def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ whose GDP stays within (ε, δ), rounded up; infinite beyond `LARGEST_MU`.

    Raises:
        InvalidParameter: if ε is negative or NaN.

    >>> round(mu_of(8.0, 1e-5), 6)
    1.666031
    """

    def within(mu: float) -> bool:
        return bool(gaussian_delta(np.asarray(epsilon), np.asarray(mu)) <= delta)

    if validate.real("mu_of", "epsilon", epsilon) < 0:
        raise InvalidParameter(f"mu_of: epsilon must be at least 0, got {epsilon}.")
    return math.inf if within(LARGEST_MU) else last_refuted(within, SMALLEST_MU, LARGEST_MU) * (1 + SAFETY)
