"""Evidence: a lower bound of ε, what it relies on, what it is about, and the estimators that give one.

Two kinds of statement look alike. One bounds the ε of the run itself, whatever it computed. The other tests a family of
processes that differ in their noise: it refutes that the run's trade-off function lies above a member's, and its ε is
that of the most private member refuted, the least that a computation of the family could honestly claim. If that lies
above the claim's ε, then the claimed member's own curve is refuted, with no assumption on the run: what ran is not that
process, nor anything it dominates, and at some (ε', δ') it loses more than the claim's profile allows. It need not
be at the δ asked for: randomised response keeps (1, 1e-5), and its best test gains .46 over guessing, where no Gaussian
that keeps (1, 1e-5) allows more than .11. So evidence about a family can refute a description, but shows no violation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.scores import Design, LabelledScores
from mechanisms.core import validate
from mechanisms.core.discover import implementations
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process

Guarantee = Literal["frequentist", "parametric", "credible", "approximate"]
GUARANTEES = ("frequentist", "parametric", "credible", "approximate")
About = Literal["any computation", "the claimed family"]
ABOUT = ("any computation", "the claimed family")
Null = Literal["privacy", "gdp", "curve", "normal", "mechanism"]  # hypotheses: see `audit.core.law`


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """ε is at least `epsilon`, with what this rests on.

    Args:
        epsilon: >= 0, may be inf; 0 says that nothing was learnt.
        delta: the δ that goes with it, in [0, 1).
        confidence: probability, over coins and noise, that the bound holds; in (0, 1).
        adjacency: the neighbours that it is about.
        method: the estimator's name.
        guarantee: "frequentist" needs no more than the design; "parametric" needs the described process too;
            "credible" a prior; "approximate" large numbers.
        threat_model: what the attack was allowed to see, in words.
        design: how the canaries came to be in or out.
        about: "any computation" if it bounds the run's own ε, whatever ran; "the claimed family" if it is the least ε
            that a process as described, with some amount of noise, could honestly claim for the run.
        description_refuted: whether the described process itself is refuted, whatever is known of its ε: where that
            lies in a wide bracket, no ε of the family need lie above it. Only what is about the claimed family can.

    Raises:
        InvalidParameter: if ε is negative or NaN, or another value breaks its rule.
    """

    epsilon: float
    delta: float
    confidence: float
    adjacency: Adjacency
    method: str
    guarantee: Guarantee
    threat_model: str
    design: Design
    about: About = "any computation"
    description_refuted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.real("LowerBound", "epsilon", self.epsilon))
        if self.epsilon < 0:
            raise InvalidParameter(f"LowerBound: epsilon must be at least 0, got {self.epsilon}.")
        check_level("LowerBound", delta=self.delta, confidence=self.confidence)
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        validate.choice("LowerBound", "guarantee", self.guarantee, GUARANTEES)
        validate.choice("LowerBound", "about", self.about, ABOUT)
        if not isinstance(self.description_refuted, (bool, np.bool_)):
            raise InvalidParameter(
                f"LowerBound: description_refuted must be a bool, got {type(self.description_refuted).__name__}."
            )
        object.__setattr__(self, "description_refuted", bool(self.description_refuted))
        if self.description_refuted and self.about != "the claimed family":
            raise InvalidParameter(f"LowerBound: description_refuted must be False about {self.about}, got True.")


class Estimator(ABC):
    """A route from scores whose membership is known to a lower bound of ε.

    Subclasses are frozen dataclasses in a file of their own under `audit/estimators`; the file's name is theirs. One
    that makes anything of the process, be it that it refuses some, must say that it is about the claimed family. `null`
    is what a rejection refutes: the test bench counts those under laws of which it is true.
    """

    __slots__ = ()

    designs: ClassVar[tuple[type[Design], ...]]
    guarantee: ClassVar[Guarantee]
    about: ClassVar[About] = "any computation"
    null: ClassVar[Null] = "privacy"

    @property
    def name(self) -> str:
        """The name by which `estimators()` lists it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the lower bound of ε at `delta` that holds with probability `confidence`.

        Args:
            data: scores of the design that this estimator is for.
            process: the description claimed for the run; estimators about any computation ignore it.
            delta: in [0, 1).
            confidence: in (0, 1).
        """

    @abstractmethod
    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted: the test that `epsilon` inverts.

        Args:
            data: as in `epsilon`, and so the rest.
            epsilon: >= 0, of any shape, which is the result's.
            process: as there.
            delta: as there.
            confidence: as there.
        """

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the largest ε that these numbers of canaries and guesses could show, infinite where none is known."""
        return math.inf

    def refutes_description(self, data: LabelledScores, *, process: Process, confidence: float) -> bool:
        """Tell whether the described process itself is refuted, whatever its ε; by ε alone, where nothing is told.

        Args:
            data: as in `epsilon`, and so the rest; the two err together, with probability 1 − confidence at most.
            process: as there.
            confidence: as there.
        """
        return False

    def lower_bound(
        self, data: LabelledScores, *, process: Process, delta: float, confidence: float, threat_model: str
    ) -> LowerBound:
        """Return the bound with all that it rests on, for neighbours that differ in one canary more or less.

        Raises:
            InvalidParameter: if the scores came about by another design, or δ or the confidence breaks its rule.
        """
        check_level(self.name, delta=delta, confidence=confidence)
        if not isinstance(data.scores.design, self.designs):
            wanted = " or ".join(design.__name__ for design in self.designs)
            raise InvalidParameter(
                f"{self.name}: design must be {wanted}, got {data.scores.design!r}.\n"
                "Its guarantee holds for no other design: choose an estimator made for this one."
            )
        return LowerBound(
            epsilon=self.epsilon(data, process=process, delta=delta, confidence=confidence),
            delta=delta,
            confidence=confidence,
            adjacency=Adjacency.ADD_REMOVE,
            method=self.name,
            guarantee=self.guarantee,
            threat_model=threat_model,
            design=data.scores.design,
            about=self.about,
            description_refuted=self.refutes_description(data, process=process, confidence=confidence),
        )


def estimators() -> dict[str, type[Estimator]]:
    """Return every estimator there is, by the name of its file.

    >>> {'clopper_pearson', 'one_run'} <= set(estimators())
    True
    """
    return implementations("audit.estimators", Estimator)


def check_level(owner: str, *, delta: float, confidence: float) -> None:
    """Refuse a δ outside [0, 1) and a confidence outside (0, 1).

    Raises:
        InvalidParameter: naming the one that breaks its rule.
    """
    if validate.non_negative(owner, "delta", delta) >= 1:
        raise InvalidParameter(f"{owner}: delta must be below 1, got {delta}: with δ = 1 anything is private.")
    if not 0 < validate.finite(owner, "confidence", confidence) < 1:
        raise InvalidParameter(f"{owner}: confidence must lie strictly between 0 and 1, got {confidence}.")
