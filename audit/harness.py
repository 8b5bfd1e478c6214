"""The harness: one audited run from claim to verdict.

Which estimator decides, at which share of the error, and how guesses are made is settled before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from accountant import available, epsilon_bounds
from audit.attack import Attack, Trainer, attacks
from audit.canaries import SignedCoordinates
from audit.core.described import SampledGaussianRun
from audit.evidence import Estimator, LowerBound, check_level, estimators
from audit.report import AccountantAnswer, AuditReport, Verdict
from audit.runs import Setup, observe_one_run
from audit.scores import GuessingRule, LabelledScores, OneRun
from mechanisms import Bounds, InvalidParameter, NumericalFailure, Process, Source, UnsupportedProcess
from mechanisms.core import validate

Plan = tuple[tuple[Estimator, float], ...]
REFUTER_SHARE = 0.2  # of the error; the primary, which needs no description to hold, gets the rest


def audit(
    trainer: Trainer,
    *,
    claim: Process,
    delta: float,
    canaries: SignedCoordinates,
    guessing_rule: GuessingRule,
    randomness: Source,
    confidence: float = 0.95,
    primary: str = "one_run",
    refuter: str | None = "accountant_inversion",
    attack: str = "gradient",
    exploratory: Sequence[LowerBound] = (),
) -> AuditReport:
    """Return the report of one audited training run: what is claimed, what was shown, and the verdict.

    Args:
        trainer: runs the computation, see `audit.attack.Trainer`.
        claim: the process that it is said to be, for the accountants.
        delta: δ in (0, 1) at which claim and evidence are compared.
        canaries: the records to add; each is in by a fair coin.
        guessing_rule: how guesses are read off the scores; it fixes their number.
        randomness: of the coins, and handed to the trainer for samples and noise.
        confidence: of everything that decides, in (0, 1).
        primary: the frequentist estimator whose evidence alone can show a violation.
        refuter: the parametric estimator that can refute the description, or None; it gets a fifth of the error.
        attack: what turns releases into scores.
        exploratory: further bounds, listed in the report and deciding nothing.

    Guarantees: if the claim holds, P(verdict "violated" or "description refuted") <= 1 − confidence; "violated" needs
    no assumption on the trainer, "description refuted" those of its estimator.

    Raises:
        InvalidParameter: before the run, if a value breaks its rule or a name is not known.
        UnsupportedProcess: before the run, if the claim is no repeated Gaussian on Poisson samples.
    """
    check_level("audit", delta=delta, confidence=confidence)
    described = _described(claim)
    plan = _plan(primary, refuter, confidence)
    watching = _attack(attack)
    guessing_rule.guess(np.zeros(len(canaries)))  # refuses before the run what does not fit so many canaries
    claimed = epsilon_bounds(claim, delta=delta, adjacency="add_remove")
    answers = _answers(claim, delta)
    setup = Setup(
        trainer=trainer,
        canaries=canaries,
        attack=watching,
        guessing_rule=guessing_rule,
        randomness=randomness,
        process=claim,
    )
    data = observe_one_run(setup)
    evidence, refutation = _weigh(data, plan, claim, delta, watching.threat_model)
    return AuditReport(
        process=claim,
        claim=claimed,
        accountants=answers,
        evidence=evidence,
        refutation=refutation,
        exploratory=tuple(exploratory),
        verdict=verdict(claimed, evidence, refutation),
        multiplicity=_multiplicity(plan, confidence),
        ceiling=plan[0][0].ceiling(data, delta=delta, confidence=plan[0][1]),
        guesses=data.guessed,
        correct=data.correct,
        noise_ratio=_noise_ratio(data, described),
        reproducible=randomness.reproducible,
    )


def verdict(claim: Bounds, evidence: LowerBound, refutation: LowerBound | None) -> Verdict:
    """Return what the two deciding bounds say about the claim's upper end.

    >>> from mechanisms import Adjacency
    >>> shown = LowerBound(epsilon=1.8, delta=1e-5, confidence=0.95, adjacency=Adjacency.ADD_REMOVE, method="one_run",
    ...                    guarantee="frequentist", threat_model="white box", design=OneRun(canaries=1000))
    >>> verdict(Bounds(lower=3.9, upper=4.0), shown, None)
    'consistent'
    """
    if evidence.epsilon > claim.upper:
        return "violated"
    if refutation is not None and refutation.epsilon > claim.upper:
        return "description refuted"
    learnt = evidence.epsilon > 0 or (refutation is not None and refutation.epsilon > 0)
    return "consistent" if learnt else "none"


def _described(claim: Process) -> SampledGaussianRun:
    described = SampledGaussianRun.of(claim)
    if described.noise_multiplier == 0:
        raise InvalidParameter(
            "audit: the claimed process must have noise, got noise_multiplier 0: nothing is claimed."
        )
    return described


def _named(role: str, name: str, guarantee: str) -> Estimator:
    kinds = estimators()
    kind = kinds[validate.choice("audit", role, name, tuple(kinds))]
    if kind.guarantee != guarantee or OneRun not in kind.designs:
        raise InvalidParameter(
            f"audit: {role} must be a {guarantee} estimator for OneRun, got {name!r}: "
            f"{kind.guarantee}, for {' or '.join(design.__name__ for design in kind.designs)}."
        )
    return kind()


def _attack(name: str) -> Attack:
    kinds = attacks()
    return kinds[validate.choice("audit", "attack", name, tuple(kinds))]()


def _answers(claim: Process, delta: float) -> tuple[AccountantAnswer, ...]:
    """Return what every accountant says, the refusals too; "tightest" is the claim itself."""
    return tuple(_answer(name, claim, delta) for name in available() if name != "tightest")


def _answer(name: str, claim: Process, delta: float) -> AccountantAnswer:
    try:
        bounds = epsilon_bounds(claim, delta=delta, adjacency="add_remove", accountant=name)
    except (UnsupportedProcess, NumericalFailure) as error:
        return AccountantAnswer(name=name, claim=None, refusal=str(error).splitlines()[0])
    if bounds.lower == 0.0 and bounds.upper == math.inf:
        return AccountantAnswer(name=name, claim=None, refusal=f"{name}: it has no bound for this process.")
    return AccountantAnswer(name=name, claim=bounds, refusal="")


def _weigh(
    data: LabelledScores, plan: Plan, claim: Process, delta: float, threat_model: str
) -> tuple[LowerBound, LowerBound | None]:
    """Return the bounds of the primary and, if there is one, of the refuter."""
    primary, *refuter = (
        estimator.lower_bound(data, process=claim, delta=delta, confidence=level, threat_model=threat_model)
        for estimator, level in plan
    )
    return primary, refuter[0] if refuter else None


def _plan(primary: str, refuter: str | None, confidence: float) -> Plan:
    """Return the deciding estimators with their confidences, whose errors add up to 1 − confidence."""
    if refuter is None:
        return ((_named("primary", primary, "frequentist"), confidence),)
    share = REFUTER_SHARE * (1 - confidence)
    return (
        (_named("primary", primary, "frequentist"), confidence + share),
        (_named("refuter", refuter, "parametric"), 1 - share),
    )


def _multiplicity(plan: Plan, confidence: float) -> str:
    """Say in words how the error is shared."""
    shares = " + ".join(f"{1 - level:.4g} ({estimator.name})" for estimator, level in plan)
    return f"error {1 - confidence:.4g} = {shares}, by the union bound"


def _noise_ratio(data: LabelledScores, described: SampledGaussianRun) -> float:
    return float(np.var(data.excluded, ddof=1)) / (described.steps * described.noise_multiplier**2)
