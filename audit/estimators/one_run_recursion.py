"""Lower bounds of ε from right guesses in a single run, for all (ε, δ)-differentially private runs, by recursion.

The recursion of `audit.estimators.one_run_fdp` against the trade-off curve of (ε, δ). Like `one_run` it assumes nothing
but the design. It is the stronger of the two as soon as m δ counts: where `one_run` adds 2 m δ times the chance that
telling some canaries decides, it charges each guess for its own share of δ. With m δ near 0 it is weaker by some 0.01,
because it takes all successful runs to have just the number of right guesses that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.curves import ApproximateFamily
from audit.core.tangents import Side
from audit.estimators import one_run_fdp
from audit.evidence import Estimator, Guarantee
from audit.scores import Design, LabelledScores, OneRun
from mechanisms import Process


def rejects(
    *,
    canaries: int,
    guesses: int,
    correct: ArrayLike,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
    side: Side = "either",
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted; arguments are those of `one_run_fdp.rejects`."""
    return one_run_fdp.rejects(
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
        curve=ApproximateFamily(delta=delta),
        side=side,
    )


@dataclass(frozen=True, slots=True)
class OneRunRecursion(Estimator):
    """The bound of `one_run_fdp.lower_bound_from_guesses` with `ApproximateFamily`.

    >>> from audit.estimators.one_run import lower_bound_from_guesses
    >>> numbers = {"canaries": 100_000, "guesses": 400, "correct": 380, "delta": 1e-5, "confidence": 0.95}
    >>> found = one_run_fdp.lower_bound_from_guesses(**numbers, curve=ApproximateFamily(delta=1e-5))
    >>> round(lower_bound_from_guesses(**numbers), 2), round(found, 2)
    (1.99, 2.53)
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; the process plays no part."""
        return one_run_fdp.lower_bound_from_guesses(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.correct,
            delta=delta,
            confidence=confidence,
            curve=ApproximateFamily(delta=delta),
            side=one_run_fdp.side_of(data),
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
            side=one_run_fdp.side_of(data),
        )

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound if every guess were right."""
        return one_run_fdp.lower_bound_from_guesses(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.guessed,
            delta=delta,
            confidence=confidence,
            curve=ApproximateFamily(delta=delta),
            side=one_run_fdp.side_of(data),
        )
