"""The harness: one audit from claim to verdict.

Which estimator decides, at which share of the error, and how guesses are made is settled before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from accountant import Claim
from audit.attack import Attack, Trainer
from audit.canaries import Canaries
from audit.core.checks import check_trainer
from audit.core.claims import accountant_answers, claimed_bounds
from audit.core.correlated import correlated_run
from audit.core.described import gaussian_steps
from audit.core.faults import TrainerFault
from audit.core.jaws import Course, jaws_path, looked_at
from audit.core.picturing import pictured, whatever_succeeds
from audit.core.plan import WHERE_IT_APPLIES, Plan, check_rule, chosen_attack, described_noise, planned, told_apart
from audit.evidence import LowerBound, check_level
from audit.pictures import Pictures
from audit.report import AccountantAnswer, AuditReport, verdict
from audit.runs import Setup, independent_design, observe_course, observe_independent_runs, one_run_design
from audit.scores import Design, GuessingRule, LabelledScores
from mechanisms import Adjacency, InvalidParameter, Process, Source
from mechanisms.core import validate

if TYPE_CHECKING:
    from dpsgd import Dataset


def audit(
    trainer: Trainer,
    *,
    claim: Process | None = None,
    delta: float,
    canaries: Canaries,
    guessing_rule: GuessingRule,
    randomness: Source,
    runs: int | None = None,
    adjacency: Adjacency | str = Adjacency.ADD_REMOVE,
    confidence: float = 0.95,
    primary: str | None = None,
    refuter: str | None = WHERE_IT_APPLIES,
    attack: str | Attack = "gradient",
    exploratory: Sequence[LowerBound | str] = (),
    pool: Dataset | None = None,
    check: bool = False,
) -> AuditReport:
    """Return the report of an audit of any trainer: what is claimed, what was shown, and the verdict.

    Args:
        trainer: runs the computation, see `audit.attack.Trainer`.
        claim: the process that it is said to be, for the accountants; None for the trainer's own `process`.
        delta: δ in [0, 1) at which claim and evidence are compared.
        canaries: the records to add; each is in by a fair coin.
        guessing_rule: how guesses are read off the scores; it fixes their number.
        randomness: of the coins, and of what every run is handed for samples and noise.
        runs: number of independent runs with the one canary; None for one run with all canaries.
        adjacency: the neighbours that claim and evidence are about, and so what a canary that is out leaves behind:
            nothing (add_remove), a contribution of zero (zero_out), or the record that it replaces (replace_one).
        confidence: of everything that decides, in (0, 1).
        primary: the frequentist estimator whose evidence decides: it can show a violation if it is about any
            computation, and refute the description if it is about the claimed family; None for "one_run" or, with
            `runs`, "calibrated".
        refuter: the parametric estimator that can refute the description, or None; it gets a fifth of the error.
            "where it applies" takes "accountant_inversion" where claim, design and attack allow it, and else none.
        attack: what turns releases into scores, by name or itself.
        exploratory: further bounds, and names of estimators that give some: listed, and deciding nothing. One that
            fails after the run is listed as `failed`, and loses no other.
        pool: public records of the same kind, for attacks that train shadow models.
        check: run the trainer three times more, or more often where canaries take part rarely, to see whether its
            answers follow from streams and coins alone, and heed the coins.

    Guarantees: if the claimed process ran, P(verdict "violated" or "description refuted") <= 1 − confidence; if only
    its (ε, δ) holds, that bounds P("violated") still. "violated" needs no assumption on the trainer but that `runs` do
    not depend on each other, nor what it says of known records and turns on the coins (`check` finds that out),
    "description refuted" those of its estimator: none besides if it is the primary. A trainer that raises, releases
    what no trainer may, or fails the check gets a report that names it under `faults`, and the verdict "none".

    Raises:
        InvalidParameter: before the run, if a value breaks its rule or a name is not known.
        UnsupportedProcess: before the run, if no accountant, or not an estimator that is named, can treat the claim.
        TrainerRefusal, TrainerFailure: if an adapter refuses what it is asked for, or a number that it needs fails.
    """
    check_level("audit", delta=delta, confidence=confidence)
    _check_exploratory(exploratory, delta, Adjacency.parse(adjacency))
    setup = Setup(
        trainer=trainer,
        canaries=canaries,
        attack=chosen_attack(attack),
        guessing_rule=guessing_rule,
        randomness=randomness,
        process=claimed_process(trainer, claim),
        adjacency=Adjacency.parse(adjacency),
        pool=pool,
    )
    design = _design(setup, runs)
    plan = _plan(setup, design, primary, refuter, exploratory, delta=delta, confidence=confidence)
    claimed = claimed_bounds(plan.claim, delta=delta, adjacency=setup.adjacency)
    answers = accountant_answers(plan.claim, delta=delta, adjacency=setup.adjacency)
    try:
        if check:
            check_trainer(setup)
        if runs is None:
            data, before = observe_course(setup, at=looked_at(setup))
        else:
            data, before = observe_independent_runs(setup, runs=design.size), ()
    except TrainerFault as fault:
        return _faulty(setup, plan, design, claimed, answers, str(fault), given=_given(exploratory))
    return _report(setup, plan, data, before, claimed, answers, given=_given(exploratory))


def claimed_process(trainer: Trainer, claim: Process | None) -> Process:
    """Return the claim, or the trainer's own.

    Raises:
        InvalidParameter: if there is neither.
    """
    found = claim if claim is not None else getattr(trainer, "process", None)
    if not isinstance(found, Process):
        raise InvalidParameter(
            f"audit: claim must be a process, or None for a trainer that has one, got {type(found).__name__}.\n"
            "Say what it is said to be: claim=config.process(), or Repeat(Sampled(Gaussian(...), Poisson(...)), steps)."
        )
    return found


def _design(setup: Setup, runs: int | None) -> Design:
    """Return the design, if there are enough of what it takes, and the rule of guessing is one for it."""
    if runs is None:
        found = one_run_design(setup)
        setup.guessing_rule.guess(np.zeros(found.canaries))  # refuses what does not fit so many canaries
        return found
    design = independent_design(setup, runs)
    check_rule(design, setup.guessing_rule)
    return design


def _plan(
    setup: Setup,
    design: Design,
    primary: str | None,
    refuter: str | None,
    exploratory: Sequence[LowerBound | str],
    *,
    delta: float,
    confidence: float,
) -> Plan:
    assert setup.process is not None
    return planned(
        primary=primary,
        refuter=refuter,
        exploratory=[other for other in exploratory if isinstance(other, str)],
        attack=setup.attack,
        design=design,
        claim=setup.process,
        adjacency=setup.adjacency,
        delta=delta,
        confidence=confidence,
    )


def _check_exploratory(exploratory: Sequence[LowerBound | str], delta: float, adjacency: Adjacency) -> None:
    others = validate.sequence("audit", "exploratory", exploratory, "Name one estimator as exploratory=['...'].")
    for other in others:
        if not isinstance(other, (str, LowerBound)):
            raise InvalidParameter(
                f"audit: exploratory must hold names of estimators and LowerBounds, got {type(other).__name__}."
            )
        if isinstance(other, LowerBound) and (other.delta, other.adjacency) != (delta, adjacency):
            raise InvalidParameter(
                f"audit: exploratory must be about δ = {delta} and {adjacency} neighbours, as the claim is, got "
                f"{other.delta} and {other.adjacency} ({other.method})."
            )


def _given(exploratory: Sequence[LowerBound | str]) -> tuple[LowerBound, ...]:
    return tuple(other for other in exploratory if isinstance(other, LowerBound))


def _report(
    setup: Setup,
    plan: Plan,
    data: LabelledScores,
    before: Course,
    claimed: Claim,
    answers: tuple[AccountantAnswer, ...],
    *,
    given: tuple[LowerBound, ...],
) -> AuditReport:
    threat_model = setup.attack.threat_model
    evidence, refutation = plan.evidence(data, threat_model), plan.refutation(data, threat_model)
    exploratory, failed = plan.exploratory(data, threat_model)
    return AuditReport(
        process=plan.claim,
        claim=claimed,
        accountants=answers,
        evidence=evidence,
        refutation=refutation,
        exploratory=(*exploratory, *given),
        verdict=verdict(claimed, evidence, refutation),
        multiplicity=plan.multiplicity,
        ceiling=plan.ceiling(data),
        guesses=data.guessed,
        correct=data.correct,
        noise_ratio=_noise_ratio(setup, data),
        reproducible=setup.randomness.reproducible,
        pictures=whatever_succeeds(
            scores=lambda: _pictures(setup, data, claimed),
            jaws=lambda: Pictures(jaws=jaws_path(setup, plan, before, claimed=claimed, evidence=evidence)),
        ),
        failed=failed,
        cost=setup.stopwatch.cost,
    )


def _faulty(
    setup: Setup,
    plan: Plan,
    design: Design,
    claimed: Claim,
    answers: tuple[AccountantAnswer, ...],
    fault: str,
    *,
    given: tuple[LowerBound, ...],
) -> AuditReport:
    evidence, refutation = plan.nothing(design, setup.attack.threat_model)
    return AuditReport(
        process=plan.claim,
        claim=claimed,
        accountants=answers,
        evidence=evidence,
        refutation=refutation,
        exploratory=given,
        verdict="none",
        multiplicity=plan.multiplicity,
        ceiling=math.inf,
        guesses=0,
        correct=0,
        noise_ratio=None,
        reproducible=setup.randomness.reproducible,
        faults=(fault,),
        cost=setup.stopwatch.cost,
    )


def _noise_ratio(setup: Setup, data: LabelledScores) -> float | None:
    """Return the out-scores' variance ÷ that of the described noise in a sum of all steps, T σ² if it is drawn anew.

    None where canaries share directions, so that their parts stand in each other's scores.
    """
    described = _noise_in_sum(setup)
    if not setup.attack.measures_noise or data.scores.measuring is not None or not described or len(data.excluded) < 2:
        return None
    return float(np.var(data.scores.measured[~data.membership], ddof=1)) / described


def _noise_in_sum(setup: Setup) -> float | None:
    """Return the variance of the described noise in a sum of all steps, in units of the clip norm, or None."""
    assert setup.process is not None
    if (run := correlated_run(setup.process)) is not None:
        return run.prefix_variance(run.steps) * run.noise_multiplier**2
    if (described := gaussian_steps(setup.process)) is None:
        return None
    noise, steps = described
    return steps * noise**2


def _pictures(setup: Setup, data: LabelledScores, claimed: Claim) -> Pictures:
    """Return what there is to see, with the described law where scores are sums of its noise alone."""
    assert setup.process is not None
    if not told_apart(data):
        return Pictures()
    apart = data.scores.measuring is None
    summed = setup.attack.measures_noise and setup.adjacency is not Adjacency.REPLACE_ONE and apart
    return pictured(
        data,
        process=setup.process,
        adjacency=setup.adjacency,
        accountant=claimed.method,
        described=described_noise(setup.process) if summed else None,
    )
