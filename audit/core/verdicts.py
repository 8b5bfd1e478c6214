"""Verdicts of whole reports: how often an honest trainer is found out, and how often a planted bug is.

Every simulated report goes the way of `audit.audit`, from the tossing of coins through attack and estimators to the
verdict; left out is only what cannot change it: the accountants' table; the primary's bound where one was found before
for as many right guesses, which are all that it reads; and the refuter's ε where the claimed noise is not refuted, or
where no more than `LESS` of it is left. Trainers are those of `audit.core.simulated_trainers`.

What honest trainers lose is what they claim, within the accountant's width: a primary whose bound is above the truth
says "violated". Beside the verdict, all of `SHARING` are asked at a k-th of the error each.

Reports on independent runs are those of `audit.core.verdicts_of_runs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from accountant import epsilon_bounds
from audit.attacks.gradient import GradientProjection
from audit.core.described import SampledGaussianRun
from audit.core.plan import Plan, planned
from audit.core.simulated_trainers import (
    DELTA,
    EPSILON,
    FULL_BATCHES,
    HONEST,
    KINDS,
    Kind,
    coordinates,
    described,
    simulated,
)
from audit.core.verdicts_of_runs import RunsJudge, observed_runs
from audit.estimators import accountant_inversion
from audit.evidence import LowerBound, check_level, estimators
from audit.multiplicity import shared_confidences
from audit.report import Verdict, verdict
from audit.runs import Setup, observe_one_run
from audit.scores import GuessExtremes, LabelledScores, OneRun
from mechanisms import Adjacency, InvalidParameter, KeyedSource
from mechanisms.core import validate

SHARING = ("one_run", "one_run_fdp", "one_run_recursion")  # all read the number of right guesses; and the refuter
LESS = 1 - 1e-4  # of the claimed noise: farther from it than accountant and refuter leave open
STANDARD_ERRORS = 4.0
THREAT = "simulated"
DesignName = Literal["one_run", "independent_runs"]
DESIGNS: tuple[DesignName, ...] = ("one_run", "independent_runs")
STRIDE = 1_000_003  # between the keys of two seeds: more than there are reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """How many of so many reports found what.

    Args:
        design: one run with many canaries, or independent runs with one.
        trainer: which ran.
        refuter: whether the report had one, beside its primary.
        epsilon: of the claim, at `DELTA`.
        size: number of canaries, or of runs.
        reports: their number.
        violated: how many found the claim violated.
        refuted: how many found its description refuted.
        shared: how many had at least one bound above the claim among four estimators, the refuter one of them, or
            three, where there is none, at their share of the error each; None where these were not asked.
        confidence: of the reports.
        seed: of the simulation.

    Raises:
        InvalidParameter: if a value breaks its rule, or more reports found something than there are.
    """

    design: DesignName
    trainer: Kind
    refuter: bool
    epsilon: float
    size: int
    reports: int
    violated: int
    refuted: int
    shared: int | None
    confidence: float
    seed: int

    def __post_init__(self) -> None:
        validate.choice("Verdicts", "design", self.design, DESIGNS)
        validate.choice("Verdicts", "trainer", self.trainer, KINDS)
        if not isinstance(self.refuter, bool):
            raise InvalidParameter(f"Verdicts: refuter must be a bool, got {type(self.refuter).__name__}.")
        validate.positive("Verdicts", "epsilon", self.epsilon)
        check_level("Verdicts", delta=DELTA, confidence=self.confidence)
        for name, least in (("size", 1), ("reports", 1), ("violated", 0), ("refuted", 0), ("seed", 0)):
            validate.count("Verdicts", name, getattr(self, name), least=least)
        shared = 0 if self.shared is None else validate.count("Verdicts", "shared", self.shared)
        if max(self.violated + self.refuted, shared) > self.reports:
            raise InvalidParameter(
                f"Verdicts: violated, refuted and shared must be at most the {self.reports} reports, got "
                f"{self.violated} + {self.refuted} and {shared}."
            )

    @property
    def rate(self) -> float:
        """The share of reports that found something."""
        return (self.violated + self.refuted) / self.reports

    @property
    def fails(self) -> bool:
        """Whether honest trainers were found out more often than the confidence allows, by four standard errors."""
        level = 1 - self.confidence
        allowed = level + STANDARD_ERRORS * np.sqrt(level * (1 - level) / self.reports)
        return self.trainer in HONEST and bool(max(self.rate, (self.shared or 0) / self.reports) > allowed)


def verdicts(
    trainer: Kind,
    *,
    design: DesignName = "one_run",
    epsilon: float = EPSILON,
    size: int,
    reports: int,
    refuter: bool,
    seed: int,
    confidence: float = 0.95,
) -> Verdicts:
    """Return what so many reports on such a trainer find.

    Args:
        trainer: which runs.
        design: one run with many canaries, or independent runs with one.
        epsilon: of the claim, > 0.
        size: number of canaries, guessed as `guesses` says, or of runs.
        reports: >= 1.
        refuter: whether to have one, beside the primary; independent runs have none. A faithful trainer's reports with
            all that they may have ask all that share, too.
        seed: of coins, noise and canaries.
        confidence: of the reports.
    """
    validate.choice("coverage", "trainer", trainer, KINDS)
    judge = _judge(design, epsilon=epsilon, size=size, refuter=refuter, confidence=confidence)
    sharing = trainer == "faithful" and refuter is (design == "one_run")
    found, shared = [], 0
    for number in range(reports):
        data = _observed(trainer, judge, epsilon=epsilon, size=size, seed=(seed, number))
        found.append(judge.verdict(data))
        shared += sharing and judge.shared_bounds_refute(data)
    return Verdicts(
        design=design,
        trainer=trainer,
        refuter=refuter,
        epsilon=epsilon,
        size=size,
        reports=reports,
        violated=found.count("violated"),
        refuted=found.count("description refuted"),
        shared=shared if sharing else None,
        confidence=confidence,
        seed=seed,
    )


def _judge(design: DesignName, *, epsilon: float, size: int, refuter: bool, confidence: float) -> Judge | RunsJudge:
    if design == "one_run":
        return Judge(described(epsilon), canaries=size, refuter=refuter, confidence=confidence)
    if refuter:
        raise InvalidParameter("coverage: refuter must be False over independent runs, got True: there is none.")
    return RunsJudge(described(epsilon, sample_rate=FULL_BATCHES), runs=size, confidence=confidence)


def _observed(
    trainer: Kind, judge: Judge | RunsJudge, *, epsilon: float, size: int, seed: tuple[int, int]
) -> LabelledScores:
    if isinstance(judge, Judge):
        return observed(trainer, judge.run, epsilon=epsilon, canaries=size, seed=seed)
    key = seed[0] * STRIDE + seed[1]
    return observed_runs(trainer, judge.run, epsilon=epsilon, runs=size, seed=seed, key=key)


class Judge:
    """What reports on one claim find; it keeps what they have in common.

    Args:
        run: that is claimed.
        canaries: m.
        refuter: whether there is one, beside the primary.
        confidence: of the reports.
    """

    def __init__(self, run: SampledGaussianRun, *, canaries: int, refuter: bool, confidence: float) -> None:
        self.run = run
        self.plan = simulated_plan(run, canaries=canaries, refuter=refuter, confidence=confidence)
        self.claim = epsilon_bounds(run.process(), delta=DELTA, adjacency="add_remove")
        self._evidence: dict[int, LowerBound] = {}
        self._refuting: dict[int, bool] = {}

    def verdict(self, data: LabelledScores) -> Verdict:
        """Return the verdict on the scores of one run."""
        if data.correct not in self._evidence:
            self._evidence[data.correct] = self.plan.evidence(data, THREAT)
        return verdict(self.claim, self._evidence[data.correct], self.refutation(data))

    def refutation(self, data: LabelledScores) -> LowerBound | None:
        """Return the refuter's bound, or one no larger that is above the claim too; None where it is not above it."""
        level = self.plan.refuter_confidence
        if self.plan.refuter is None or not noise_refuted(data, self.run, share=1.0, confidence=level):
            return None
        if noise_refuted(data, self.run, share=LESS, confidence=level):
            nothing = self.plan.nothing(data.scores.design, THREAT)[1]
            assert nothing is not None
            return replace(
                nothing, epsilon=epsilon_at(replace(self.run, noise_multiplier=LESS * self.run.noise_multiplier))
            )
        return self.plan.refutation(data, THREAT)

    def shared_bounds_refute(self, data: LabelledScores) -> bool:
        """Tell whether any of `SHARING` and the refuter refutes the claim at its share of the error."""
        level = shared_confidences(len(SHARING) + 1, confidence=self.plan.confidence)[0]
        if data.correct not in self._refuting:
            answers = [
                estimators()[name]().rejects(
                    data, self.claim.upper, process=self.run.process(), delta=DELTA, confidence=level
                )
                for name in SHARING
            ]
            self._refuting[data.correct] = bool(np.any(answers))
        return self._refuting[data.correct] or noise_refuted(data, self.run, share=1.0, confidence=level)


def noise_refuted(data: LabelledScores, run: SampledGaussianRun, *, share: float, confidence: float) -> bool:
    """Tell whether the refuter refutes every noise of at least this share of the described."""
    inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
    assert data.scores.squares is not None
    refuted = accountant_inversion.rejects(
        gap=np.mean(inside) - np.mean(outside),
        deviation=np.std(outside, ddof=1),
        included=len(inside),
        excluded=len(outside),
        probability=run.probability,
        steps=run.steps,
        noise_multiplier=share * run.noise_multiplier,
        confidence=confidence,
        squares=np.sum(data.scores.squares[~data.membership]),
        degrees=len(outside) * run.steps,
    )
    return bool(refuted)


@lru_cache(maxsize=64)
def epsilon_at(run: SampledGaussianRun) -> float:
    """Return the certified lower end of the ε of a run."""
    return float(epsilon_bounds(run.process(), delta=DELTA, adjacency="add_remove").lower)


def observed(
    trainer: Kind, run: SampledGaussianRun, *, epsilon: float, canaries: int, seed: tuple[int, int]
) -> LabelledScores:
    """Return the scores of one run and its coins; coins and noise follow from the seed."""
    setup = Setup(
        trainer=simulated(trainer, run, epsilon=epsilon, seed=seed),
        canaries=coordinates(canaries),
        guessing_rule=guesses(trainer, canaries),
        randomness=KeyedSource(seed[0] * STRIDE + seed[1]),
        attack=GradientProjection(),
        process=run.process(),
    )
    return observe_one_run(setup)


def guesses(trainer: Kind, canaries: int) -> GuessExtremes:
    """Return the rule: a fifth of sums with normal noise is worth a guess, and all answers, which are equally sure."""
    side = canaries // (2 if trainer in ("response", "loud") else 10)
    return GuessExtremes(included=side, excluded=side)


def simulated_plan(run: SampledGaussianRun, *, canaries: int, refuter: bool, confidence: float) -> Plan:
    """Return the plan of `audit.audit` with its usual primary, and its usual refuter or none."""
    return planned(
        primary=None,
        refuter="accountant_inversion" if refuter else None,
        exploratory=(),
        attack=GradientProjection(),
        design=OneRun(canaries=canaries),
        claim=run.process(),
        adjacency=Adjacency.ADD_REMOVE,
        delta=DELTA,
        confidence=confidence,
    )
