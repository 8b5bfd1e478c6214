"""Verdicts of whole reports: how often an honest trainer is found out, and how often a planted bug is.

Every simulated report goes the way of `audit.audit`, from the tossing of coins through attack and estimators to the
verdict; only the accountants' table is left out, and ε of the refuter's noise where that is no less than the claimed,
which decides nothing. Trainers are arithmetic on arrays:

| trainer  | releases                                                          | the claim holds |
|----------|-------------------------------------------------------------------|-----------------|
| faithful | what the claim describes                                          | yes             |
| response | a randomised response of every coin at the claim's ε, ill described | yes; shown with a primary alone |
| quiet    | what the claim describes, with half the noise                     | no              |
| loud     | a randomised response of every coin at twice the claim's ε        | no              |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from scipy import special

from accountant import calibrate_noise_multiplier, epsilon_bounds
from audit.attack import Observations, Trainer, TrainerTask
from audit.attacks.gradient import GradientProjection
from audit.canaries import SignedCoordinates
from audit.core.described import SampledGaussianRun
from audit.core.plan import Plan, planned
from audit.estimators.accountant_inversion import AccountantInversion
from audit.evidence import LowerBound
from audit.report import Verdict, verdict
from audit.runs import Setup, observe_one_run
from audit.scores import GuessExtremes, LabelledScores, OneRun
from mechanisms import Adjacency, Bounds, KeyedSource
from mechanisms.core import validate

if TYPE_CHECKING:
    from dpsgd.descent import Release

Kind = Literal["faithful", "response", "quiet", "loud"]
KINDS: tuple[Kind, ...] = ("faithful", "response", "quiet", "loud")
HONEST: tuple[Kind, ...] = ("faithful", "response")
EPSILON, DELTA, SAMPLE_RATE, STEPS = 4.0, 1e-5, 0.5, 4
STANDARD_ERRORS = 4.0
THREAT = "simulated"
STRIDE = 1_000_003  # between the keys of two seeds: more than there are reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """How many of so many reports found what.

    Args:
        trainer: which ran.
        refuter: whether the report had one, beside its primary.
        canaries: m.
        reports: their number.
        violated: how many found the claim violated.
        refuted: how many found its description refuted.
        confidence: of the reports.
        seed: of the simulation.
    """

    trainer: Kind
    refuter: bool
    canaries: int
    reports: int
    violated: int
    refuted: int
    confidence: float
    seed: int

    @property
    def rate(self) -> float:
        """The share of reports that found something."""
        return (self.violated + self.refuted) / self.reports

    @property
    def fails(self) -> bool:
        """Whether honest trainers were found out more often than the confidence allows, by four standard errors."""
        level = 1 - self.confidence
        allowed = level + STANDARD_ERRORS * np.sqrt(level * (1 - level) / self.reports)
        return self.trainer in HONEST and bool(self.rate > allowed)


def verdicts(
    trainer: Kind, *, canaries: int, reports: int, refuter: bool, seed: int, confidence: float = 0.95
) -> Verdicts:
    """Return what so many reports on such a trainer find.

    Args:
        trainer: which runs.
        canaries: m; a tenth of them is guessed in, a tenth out.
        reports: >= 1.
        refuter: whether to have one, beside the primary.
        seed: of coins, noise and canaries.
        confidence: of the reports.
    """
    validate.choice("coverage", "trainer", trainer, KINDS)
    run = described()
    claim = epsilon_bounds(run.process(), delta=DELTA, adjacency="add_remove")
    plan = simulated_plan(run, canaries=canaries, refuter=refuter, confidence=confidence)
    found = [one_verdict(trainer, run, claim, plan, canaries=canaries, seed=(seed, one)) for one in range(reports)]
    return Verdicts(
        trainer=trainer,
        refuter=refuter,
        canaries=canaries,
        reports=reports,
        violated=found.count("violated"),
        refuted=found.count("description refuted"),
        confidence=confidence,
        seed=seed,
    )


def one_verdict(
    trainer: Kind, run: SampledGaussianRun, claim: Bounds, plan: Plan, *, canaries: int, seed: tuple[int, int]
) -> Verdict:
    """Return the verdict of one report; coins and noise follow from the seed."""
    setup = Setup(
        trainer=simulated(trainer, run, seed=seed),
        canaries=coordinates(canaries),
        guessing_rule=GuessExtremes(included=canaries // 10, excluded=canaries // 10),
        randomness=KeyedSource(seed[0] * STRIDE + seed[1]),
        attack=GradientProjection(),
        process=run.process(),
    )
    return verdict(claim, *deciding(observe_one_run(setup), plan, run))


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


def coordinates(canaries: int) -> SignedCoordinates:
    """Return so many canaries on the only coordinates there are."""
    numbers = np.arange(canaries)
    return SignedCoordinates(coordinates=numbers, signs=np.where(numbers % 2, 1.0, -1.0), dimension=canaries)


def described() -> SampledGaussianRun:
    """Return the run that is claimed: a few steps, of ε = 4 at δ = 1e-5."""
    noise = calibrate_noise_multiplier(
        target_epsilon=EPSILON, delta=DELTA, sample_rate=SAMPLE_RATE, steps=STEPS, adjacency="add_remove"
    )
    return SampledGaussianRun(noise_multiplier=noise, probability=SAMPLE_RATE, steps=STEPS)


def deciding(data: LabelledScores, plan: Plan, run: SampledGaussianRun) -> tuple[LowerBound, LowerBound | None]:
    """Return the bounds that decide; no refutation where the refuter finds no less noise than claimed."""
    evidence = plan.evidence(data, THREAT)
    if plan.refuter is None:
        return evidence, None
    refuter, level = cast(AccountantInversion, plan.refuter), plan.refuter_confidence
    if refuter.noise_multiplier(data, process=run.process(), confidence=level) >= run.noise_multiplier:
        return evidence, None
    return evidence, plan.refutation(data, THREAT)


def simulated(trainer: Kind, run: SampledGaussianRun, *, seed: tuple[int, ...]) -> Trainer:
    """Return the trainer, whose records are the canaries alone."""

    def trained(task: TrainerTask) -> Observations:
        import torch

        return Observations(
            released=_released(trainer, task, run, np.random.default_rng(seed)),
            max_grad_norm=1.0,
            expected_sum=torch.zeros_like,
        )

    return trained


def _released(trainer: Kind, task: TrainerTask, run: SampledGaussianRun, rng: np.random.Generator) -> Iterator[Release]:
    import torch

    assert isinstance(task.canaries, SignedCoordinates)
    noise = run.noise_multiplier * (0.5 if trainer == "quiet" else 1.0)
    ratio = special.expit(2 * EPSILON if trainer == "loud" else EPSILON)
    truthful = rng.random(len(task.canaries)) < ratio
    answers = np.where(truthful == task.membership, 1.0, -1.0) * (1 - rng.random(len(task.canaries)))
    for step in range(run.steps):
        taking_part = (rng.random(len(task.canaries)) < run.probability) & task.membership
        seen = taking_part + rng.normal(0.0, noise, len(task.canaries))
        sums = np.zeros(task.canaries.dimension)
        sums[task.canaries.coordinates] = task.canaries.signs * (answers if trainer in ("response", "loud") else seen)
        weights = torch.zeros(task.canaries.dimension)
        yield cast("Release", SimpleNamespace(step=step, weights_before=weights, noisy_sum=torch.from_numpy(sums)))
