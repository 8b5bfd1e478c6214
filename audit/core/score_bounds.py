"""Estimators that need no more than the scores of both kinds of runs, at whatever threshold."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.thresholds import at_most
from audit.evidence import Estimator, Guarantee
from audit.scores import Design, IndependentRuns, LabelledScores
from mechanisms.core.process import Process


class ScoresEstimator(Estimator):
    """Its bound, over independent runs; guessing rule and process play no part."""

    __slots__ = ()

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    @abstractmethod
    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; the process plays no part."""
        return self.bound(included=data.included, excluded=data.excluded, delta=delta, confidence=confidence)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted: whether it is at most the bound, as p-values rise with ε."""
        return at_most(epsilon, self.epsilon(data, process=process, delta=delta, confidence=confidence))
