"""Black boxes: run any mechanism on two neighbouring inputs, and bound from below what its answers give away."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.core.claims import accountant_answers, claimed_bounds
from audit.core.counts import Array
from audit.core.faults import TrainerFault, blamed
from audit.core.held_out import OutputsEstimator
from audit.core.streams import RunStreams, check_source, reserve_run
from audit.evidence import LowerBound, check_level, estimators
from audit.report import AuditReport, verdict
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.randomness import Source

NUMBERS = "biufO"  # kinds of numpy: real ones, and objects, such as fractions, that may be
THREAT_MODEL = "black box: the answers alone, on two inputs chosen before"


def mechanism_lower_bound(
    release: Callable[[Any], Any],
    first: Any,
    second: Any,
    *,
    runs: int,
    adjacency: Adjacency | str,
    delta: float,
    confidence: float,
    tester: str = "hockey_stick",
) -> LowerBound:
    """Return a lower bound of the ε of `release`, shown by its answers on two neighbouring inputs.

    Args:
        release: input -> a number, or an array of always the same shape; fresh randomness at each call. It is handed a
            copy of the input each time, so that calls which write on it stay independent.
        first: one input.
        second: a neighbour of it; the two are called in turn, so that what changes in time strikes both.
        runs: number of calls on each, >= 4. With n runs no more than about ln(n/7.4) can be shown at 95 %.
        adjacency: the neighbours that the two inputs are.
        delta: δ in [0, 1).
        confidence: in (0, 1), one-sided.
        tester: a name of `output_estimators()`, chosen before the runs: the largest of several bounds is no bound.

    Guarantees: frequentist; see `audit.core.held_out.OutputsEstimator`.

    Raises:
        InvalidParameter: if a value breaks its rule, or an answer is no finite number or changes its shape.

    >>> from mechanisms import KeyedSource, RandomizedResponse
    >>> coin, source = RandomizedResponse(epsilon=1.0, categories=2), KeyedSource(0)
    >>> found = mechanism_lower_bound(lambda answer: coin.release(answer, randomness=source), 1, 0, runs=500,
    ...                               adjacency="replace_one", delta=0.0, confidence=0.95)
    >>> round(found.epsilon, 2), found.guarantee
    (0.67, 'frequentist')
    """
    question = Question(
        runs=runs, adjacency=Adjacency.parse(adjacency), delta=delta, confidence=confidence, tester=tester
    )
    answers = [
        (_answer(release(copy.deepcopy(first))), _answer(release(copy.deepcopy(second)))) for _ in range(question.runs)
    ]
    return question.bound(question.tested(answers))


def audit_mechanism(
    mechanism: Callable[[Any, Source], Any],
    first: Any,
    second: Any,
    *,
    claim: Process,
    runs: int,
    adjacency: Adjacency | str,
    delta: float,
    randomness: Source,
    confidence: float = 0.95,
    tester: str = "hockey_stick",
    check: bool = False,
) -> AuditReport:
    """Return the report of an audit of a mechanism: what is claimed, what its answers show, and the verdict.

    Args:
        mechanism: (dataset, streams) -> a number, or an array of always the same shape. Each call is handed a copy of
            the dataset and fresh streams; a mechanism that needs a generator of numpy seeds it from their words.
        first: one dataset.
        second: a neighbour of it.
        claim: the process that the mechanism is said to be.
        runs: as in `mechanism_lower_bound`, and so `adjacency`, `delta`, `confidence` and `tester`.
        adjacency: as there.
        delta: as there.
        randomness: of the streams.
        confidence: as there.
        tester: as there.
        check: call it twice more with the same streams, to see whether its answers follow from streams and dataset.

    Guarantees: if the claim holds, P(verdict "violated") <= 1 − confidence, as long as calls are independent. A
    mechanism that raises, answers no finite numbers, or fails the check gets a report that names it under `faults`, and
    the verdict "none". One that fails on purpose should answer a number of its own instead: failing is an event too.

    Raises:
        InvalidParameter: before the runs, if a value breaks its rule.
        UnsupportedProcess: before the runs, if no accountant can treat the claim.

    >>> from mechanisms import KeyedSource, RandomizedResponse
    >>> coin = RandomizedResponse(epsilon=1.0, categories=2)
    >>> report = audit_mechanism(lambda answer, streams: coin.release(answer, randomness=streams), 1, 0, claim=coin,
    ...                          runs=500, adjacency="replace_one", delta=0.0, randomness=KeyedSource(0))
    >>> report.verdict
    'consistent'
    """
    question = Question(
        runs=runs, adjacency=Adjacency.parse(adjacency), delta=delta, confidence=confidence, tester=tester
    )
    check_source("audit_mechanism", randomness)
    claimed = claimed_bounds(claim, delta=delta, adjacency=question.adjacency)

    def called(dataset: Any, number: int) -> Array:
        with blamed("a call"):
            released = mechanism(copy.deepcopy(dataset), RunStreams(randomness, number))
        return _answer(released)

    def answered(dataset: Any) -> Array:
        return called(dataset, reserve_run(randomness))

    faults: tuple[str, ...] = ()
    epsilon = 0.0
    try:
        if check:
            number = reserve_run(randomness)
            _check_same(lambda: called(first, number))
        epsilon = question.tested([(answered(first), answered(second)) for _ in range(question.runs)])
    except (TrainerFault, Unusable) as fault:
        faults = (str(fault).replace("the trainer", "the mechanism"),)
    evidence = question.bound(epsilon)
    return AuditReport(
        process=claim,
        claim=claimed,
        accountants=accountant_answers(claim, delta=delta, adjacency=question.adjacency),
        evidence=evidence,
        refutation=None,
        exploratory=(),
        verdict="none" if faults else verdict(claimed, evidence, None),
        multiplicity=f"error {1 - confidence:.4g} = {1 - confidence:.4g} ({tester})",
        ceiling=math.inf if faults else question.ceiling,
        guesses=0,
        correct=0,
        noise_ratio=None,
        reproducible=randomness.reproducible,
        faults=faults,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the answers of a mechanism.

    Args:
        runs: number of calls on each input, >= 4.
        adjacency: the neighbours that the inputs are.
        delta: in [0, 1).
        confidence: in (0, 1).
        tester: a name of `output_estimators()`.

    Raises:
        InvalidParameter: if a value breaks its rule.
    """

    runs: int
    adjacency: Adjacency
    delta: float
    confidence: float
    tester: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", validate.count("black_box", "runs", self.runs, least=4))
        validate.choice("black_box", "tester", self.tester, tuple(output_estimators()))
        check_level("black_box", delta=self.delta, confidence=self.confidence)

    def tested(self, answers: list[tuple[Array, Array]]) -> float:
        """Return the ε that pairs of answers show.

        Raises:
            Unusable: if answers change their shape or are not finite.
        """
        if len({len(answer) for pair in answers for answer in pair}) != 1:
            raise Unusable("black_box: answers must always have the same shape, got several.")
        worlds = [np.stack([pair[side] for pair in answers]) for side in (0, 1)]
        if not all(np.all(np.isfinite(world)) and world.shape[1] for world in worlds):
            raise Unusable(
                "black_box: answers must be finite numbers.\n"
                "If the mechanism may fail, or answer no number, code that as a number of its own: it is an event too."
            )
        estimator = output_estimators()[self.tester]()
        return estimator.bound(*worlds, delta=self.delta, confidence=self.confidence)

    @property
    def ceiling(self) -> float:
        """The largest ε that so many runs could show, infinite where the tester knows none."""
        halves = np.arange(2 * self.runs) % 2 == 0
        design, rule = IndependentRuns(runs=len(halves)), Threshold(value=0.0)
        apart = Scores(values=halves.astype(np.float64), design=design, guessing_rule=rule)
        data = LabelledScores(scores=apart, membership=halves)
        return output_estimators()[self.tester]().ceiling(data, delta=self.delta, confidence=self.confidence)

    def bound(self, epsilon: float) -> LowerBound:
        """Return the bound with all that it rests on."""
        return LowerBound(
            epsilon=epsilon,
            delta=self.delta,
            confidence=self.confidence,
            adjacency=self.adjacency,
            method=self.tester,
            guarantee=output_estimators()[self.tester].guarantee,
            threat_model=THREAT_MODEL,
            design=IndependentRuns(runs=2 * self.runs),
        )


class Unusable(InvalidParameter):
    """A mechanism's answers are no finite numbers of one shape."""


def _check_same(call: Callable[[], Array]) -> None:
    first, again = call(), call()
    if first.tobytes() != again.tobytes():
        raise TrainerFault("the mechanism changed its answer between two calls with the same streams and dataset")


def output_estimators() -> dict[str, type[OutputsEstimator]]:
    """Return every estimator that takes whatever a mechanism answers, by the name of its file.

    >>> "histogram" in output_estimators()
    True
    """
    return {name: kind for name, kind in estimators().items() if issubclass(kind, OutputsEstimator)}


def _answer(released: Any) -> Array:
    try:
        answer = np.asarray(released)
        if answer.dtype.kind not in NUMBERS:
            raise TypeError
        with np.errstate(over="ignore"):  # beyond the floats is not finite, and refused as that
            numbers: Array = answer.astype(np.float64).ravel()
    except Exception:  # a ragged list, a tensor with gradients, an integer beyond the floats, or whatever it may be
        raise Unusable(
            f"black_box: answers must be numbers or arrays of them, got {type(released).__name__}.\n"
            "Code other answers, failures among them, as numbers."
        ) from None
    return numbers
