"""Lower bounds of ε from a classifier: black-box outputs told apart by logistic regression on a held-out half.

The hockey-stick divergence sup_A P(A) − e^ε Q(A) is above δ where some event A has P(A) > e^ε Q(A) + δ; the event tried
is a threshold of the classifier's odds [KMRA23]. Hoeffding's inequality on that difference, as in DP-Auditorium, could
not see a δ of 1e-5 with fewer than 1e12 outputs at ε = 2; exact limits of both probabilities can.

[KMRA23] W. Kong, A. Muñoz Medina, M. Ribero, U. Syed. DP-Auditorium: a Large Scale Library for Auditing Differential
Privacy. 2023. arXiv:2307.05608.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import Array
from audit.core.held_out import RankedEvent
from audit.core.rankings import Ranking, odds_of_worlds


def lower_bound_from_outputs(first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
    """Return the largest ε refuted by outputs of a mechanism on two neighbouring inputs, 0 if none is.

    Arguments, guarantees and errors are those of `audit.core.held_out.OutputsEstimator`.

    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.laplace(1.0, size=2_000), rng.laplace(0.0, size=2_000)  # ε = 1
    >>> round(lower_bound_from_outputs(first, second, delta=0.0, confidence=0.95), 2)
    0.72
    """
    return HockeyStick().bound(first, second, delta=delta, confidence=confidence)


def rejects(
    *, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts.

    Outputs of several sets of runs have shape (sets, n, k), and ε is then one number.
    """
    return HockeyStick().refutes(first, second, epsilon, delta=delta, confidence=confidence)


@dataclass(frozen=True, slots=True)
class HockeyStick(RankedEvent):
    """The bound of `lower_bound_from_outputs`, of scores or of outputs.

    >>> HockeyStick().guarantee
    'frequentist'
    """

    def learn(self, first: Array, second: Array) -> Ranking:
        """Return the log-odds of a logistic regression on the coordinates and their squares."""
        return odds_of_worlds(first, second)
