"""Auditors: whatever claims to refute (ε, δ) from scores and coins, ours and others'.

An auditor from elsewhere needs no more than `Auditor` names, or, if it gives bounds, than a `BoundAuditor` around it.
`audit.core.routes` asks auditors about many audits at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audit.core.law import Array
from audit.evidence import Estimator, Guarantee, Null, estimators
from audit.scores import Design, LabelledScores
from mechanisms import Process

Refuted = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an auditor is asked to refute.

    Args:
        epsilon: ε >= 0.
        delta: δ in [0, 1).
        confidence: at which, in (0, 1).
        process: the description that goes with it.
        factor: by which the process's noise is to be multiplied, for tests that are tuned to a description.
    """

    epsilon: float
    delta: float
    confidence: float
    process: Process
    factor: float = 1.0

    @property
    def context(self) -> dict[str, Any]:
        """All but ε and the factor, as estimators take it."""
        return {"process": self.process, "delta": self.delta, "confidence": self.confidence}


class Auditor(Protocol):
    """An auditor that a test bench can try.

    `guarantee` is what it claims to give, and `null` what it refutes, see `audit.core.law`. `designs` are those of
    scores that it takes.
    """

    @property
    def name(self) -> str:
        """Its name in tables."""

    @property
    def guarantee(self) -> Guarantee:
        """What it claims to give."""

    @property
    def null(self) -> Null:
        """What has to hold for its claims to be false."""

    @property
    def designs(self) -> tuple[type[Design], ...]:
        """The designs that it takes."""

    def rejects(self, data: LabelledScores, question: Question) -> bool:
        """Tell whether it refutes what is asked."""

    def epsilon(self, data: LabelledScores, question: Question) -> float:
        """Return its lower bound of ε at δ and the process's family; the question's ε plays no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAuditor:
    """An auditor known by its lower bounds of ε.

    Args:
        name: in tables.
        guarantee: that it claims.
        null: what it refutes.
        designs: that it takes.
        bound: (scores in, scores out, δ, confidence) -> lower bound of ε.

    >>> from audit.core.law import DELTA
    >>> from audit.scores import IndependentRuns
    >>> BoundAuditor(name="credulous", guarantee="frequentist", null="privacy", designs=(IndependentRuns,),
    ...              bound=lambda inside, outside, delta, confidence: 1.0).name
    'credulous'
    """

    name: str
    guarantee: Guarantee
    null: Null
    designs: tuple[type[Design], ...]
    bound: Callable[[Array, Array, float, float], float]

    def rejects(self, data: LabelledScores, question: Question) -> bool:
        """Tell whether the bound is above ε."""
        return self.epsilon(data, question) > question.epsilon

    def epsilon(self, data: LabelledScores, question: Question) -> float:
        """Return the bound."""
        return float(self.bound(data.included, data.excluded, question.delta, question.confidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class OurAuditor:
    """One of our estimators.

    Args:
        estimator: as it is without options.
    """

    estimator: Estimator

    @property
    def name(self) -> str:
        """The estimator's file."""
        return self.estimator.name

    @property
    def guarantee(self) -> Guarantee:
        """The estimator's."""
        return self.estimator.guarantee

    @property
    def null(self) -> Null:
        """The estimator's."""
        return self.estimator.null

    @property
    def designs(self) -> tuple[type[Design], ...]:
        """The estimator's."""
        return self.estimator.designs

    @property
    def module(self) -> ModuleType:
        """The estimator's file."""
        return importlib.import_module(type(self.estimator).__module__)

    def rejects(self, data: LabelledScores, question: Question) -> bool:
        """Tell whether the estimator rejects ε."""
        return bool(self.estimator.rejects(data, question.epsilon, **question.context))

    def epsilon(self, data: LabelledScores, question: Question) -> float:
        """Return the estimator's bound."""
        return self.estimator.epsilon(data, **question.context)


def our_auditors() -> dict[str, OurAuditor]:
    """Return every estimator there is.

    >>> our_auditors()["gdp"].null, our_auditors()["one_run"].null
    ('gdp', 'privacy')
    """
    return {name: OurAuditor(estimator=kind()) for name, kind in estimators().items()}
