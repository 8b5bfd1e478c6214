"""What whole reports on independent runs find, in which one canary is in or out by the coin of each run.

A report is made as `audit.audit` makes it, but for what cannot change the verdict: runs are not handed one after the
other to the attack, whose score of a run here is the sum over its steps; and bounds are found only where the test that
they invert refutes the claim. Records take part in every step, so that scores are as normal as the noise is. There is
no refuter: none is about runs of this design.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accountant import epsilon_bounds
from audit.attacks.gradient import GradientProjection
from audit.core.described import SampledGaussianRun
from audit.core.plan import Plan, planned, told_apart
from audit.core.simulated_trainers import DELTA, Kind, Numbers, answers
from audit.estimators import calibrated, clopper_pearson, tradeoff
from audit.multiplicity import shared_confidences
from audit.report import Verdict, verdict
from audit.runs import toss
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms import Adjacency, KeyedSource

SHARING = 3  # calibrated, clopper_pearson and tradeoff, which read the counts of the guesses
THREAT = "simulated"


class RunsJudge:
    """What reports on one claim find; it keeps what they have in common.

    Args:
        run: that is claimed.
        runs: their number.
        confidence: of the reports.
    """

    def __init__(self, run: SampledGaussianRun, *, runs: int, confidence: float) -> None:
        self.run = run
        self.plan = simulated_plan(run, runs=runs, confidence=confidence)
        self.claim = epsilon_bounds(run.process(), delta=DELTA, adjacency="add_remove")
        self._violated: dict[tuple[int, int, int], bool] = {}
        self._refuting: dict[tuple[int, int, int], bool] = {}

    def verdict(self, data: LabelledScores) -> Verdict:
        """Return the verdict on the scores of the runs; "none" and "consistent" are not told apart."""
        evidence, _ = self.plan.nothing(data.scores.design, THREAT)
        if told_apart(data) and self._primary_refutes(data):
            evidence = self.plan.evidence(data, THREAT)
        return verdict(self.claim, evidence, None)

    def shared_bounds_refute(self, data: LabelledScores) -> bool:
        """Tell whether any of `SHARING` refutes the claim at its share of the error."""
        if not told_apart(data):
            return False
        level, counts = shared_confidences(SHARING, confidence=self.plan.confidence)[0], errors(data)
        if counts not in self._refuting:
            self._refuting[counts] = self._any_refutes(self._about(counts, data, confidence=level))
        return self._refuting[counts]

    def _primary_refutes(self, data: LabelledScores) -> bool:
        counts = errors(data)
        if counts not in self._violated:
            asked = self._about(counts, data, confidence=self.plan.primary_confidence)
            self._violated[counts] = bool(calibrated.rejects(**asked, **self._claimed))
        return self._violated[counts]

    def _any_refutes(self, asked: dict[str, Any]) -> bool:
        joint, rectangle = (one.rejects(**asked, **self._claimed) for one in (calibrated, clopper_pearson))
        curve = tradeoff.rejects(**asked, process=self.run.process(), adjacency=Adjacency.ADD_REMOVE)
        return bool(joint or rectangle or curve)

    @property
    def _claimed(self) -> dict[str, Any]:
        return {"epsilon": self.claim.upper, "delta": DELTA}

    @staticmethod
    def _about(counts: tuple[int, int, int], data: LabelledScores, *, confidence: float) -> dict[str, Any]:
        included, missed, alarms = counts
        excluded = len(data.membership) - included
        return {
            "false_negatives": missed,
            "included": included,
            "false_positives": alarms,
            "excluded": excluded,
            "confidence": confidence,
        }


def errors(data: LabelledScores) -> tuple[int, int, int]:
    """Return how many runs had the canary in, how many of these were called out, and how many of the others in."""
    called_in = data.scores.guesses == 1
    counts = data.membership, data.membership & ~called_in, ~data.membership & called_in
    included, missed, alarms = (int(np.count_nonzero(one)) for one in counts)
    return included, missed, alarms


def observed_runs(
    trainer: Kind, run: SampledGaussianRun, *, epsilon: float, runs: int, seed: tuple[int, ...], key: int
) -> LabelledScores:
    """Return the scores of so many runs and their coins, which follow from the key, as the noise does from the seed."""
    membership = toss(KeyedSource(key), runs)
    numbers = Numbers.drawn(np.random.default_rng(seed), steps=run.steps, count=runs)
    sums = np.sum(answers(trainer, run, epsilon, membership, numbers), axis=0)
    scores = Scores(values=sums, design=IndependentRuns(runs=runs), guessing_rule=guesses(trainer, run), sums=sums)
    return LabelledScores(scores=scores, membership=membership)


def guesses(trainer: Kind, run: SampledGaussianRun) -> Threshold:
    """Return the rule: half way between the worlds."""
    return Threshold(value=0.0 if trainer in ("response", "loud") else 0.5 * run.steps * run.probability)


def simulated_plan(run: SampledGaussianRun, *, runs: int, confidence: float) -> Plan:
    """Return the plan of `audit.audit` for independent runs with its usual primary."""
    return planned(
        primary=None,
        refuter=None,
        exploratory=(),
        attack=GradientProjection(),
        design=IndependentRuns(runs=runs),
        claim=run.process(),
        adjacency=Adjacency.ADD_REMOVE,
        delta=DELTA,
        confidence=confidence,
    )
