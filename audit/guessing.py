"""Attribute inference and reconstruction: which of some candidates was in? Guesses, against what theory allows.

Of k candidates one, drawn by known weights, enters a run with all the known records; an attack scores the candidates,
and the one with the highest score is the guess. Candidates that differ in one attribute make this attribute inference;
any others, reconstruction from a finite prior, in whose theory [BCH22, HMB23] an attack that knows the prior is the
strongest there is. `audit.candidates` says what right guesses show. A run tells up to log k nats, where a coin tells
log 2.

[BCH22] B. Balle, G. Cherubin, J. Hayes. Reconstructing Training Data with Informed Adversaries. IEEE S&P 2022.
arXiv:2201.04845.
[HMB23] J. Hayes, S. Mahloujifar, B. Balle. Bounding Training Data Reconstruction in DP-SGD. NeurIPS 2023.
arXiv:2302.07225.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from accountant import Claim
from accountant.core.profile import Profile
from accountant.tightest import Tightest
from audit.attack import Attack, Trainer
from audit.canaries import Canaries
from audit.candidates import CandidateGuesses, Risk, checked_weights, risk
from audit.core.candidate_family import family_bound
from audit.core.claims import accountant_answers, claimed_bounds
from audit.core.faults import TrainerFault
from audit.core.picturing import certified, whatever_succeeds
from audit.core.plan import chosen_attack
from audit.core.streams import reserve_run
from audit.core.watching import scored
from audit.evidence import check_level
from audit.harness import claimed_process
from audit.pictures import Pictures, RiskCurve
from audit.report import AuditReport, verdict
from audit.runs import Setup
from audit.scores import GuessExtremes, OneRun
from mechanisms import InvalidParameter, Process, Source
from mechanisms.core import validate
from mechanisms.core.exact_uniforms import uniform_integers
from mechanisms.core.process import Adjacency

__all__ = ["LIKELIEST", "CandidateGuesses", "Risk", "audit_guesses", "observe_guesses", "risk"]

LIKELIEST = GuessExtremes(included=1, excluded=0)
"""The rule by which the candidate of the highest score is guessed."""


def audit_guesses(
    trainer: Trainer,
    *,
    claim: Process | None = None,
    delta: float,
    candidates: Canaries,
    attack: str | Attack,
    runs: int,
    randomness: Source,
    weights: Sequence[int] = (),
    adjacency: Adjacency | str = Adjacency.ADD_REMOVE,
    confidence: float = 0.95,
) -> AuditReport:
    """Return the report of attribute inference or reconstruction: how often guesses are right, and what that shows.

    Args:
        trainer: runs the computation, see `audit.attack.Trainer`; it is called once for each run.
        claim: the process that it is said to be; None for the trainer's own `process`.
        delta: δ in (0, 1) at which claim and evidence are compared.
        candidates: of which one is in every run; `audit.input_canaries.with_attribute` makes those of one attribute.
        attack: what scores them, by name or itself.
        runs: >= 1.
        randomness: of the candidates drawn, and of what every run is handed for samples and noise.
        weights: see `CandidateGuesses`.
        adjacency: see `CandidateGuesses`.
        confidence: of everything that decides, in (0, 1).

    Guarantees: if the claimed process ran, P(verdict "violated" or "description refuted") <= 1 − confidence; if only
    its (ε, δ) holds, that bounds P("violated") still. One limit of the success decides both, so no error is shared. A
    trainer that does what none may gets a report that names it under `faults`, and the verdict "none".

    Raises:
        InvalidParameter: before the runs, if a value breaks its rule.
        UnsupportedProcess: before the runs, if no accountant can treat the claim.
    """
    check_level("audit", delta=delta, confidence=confidence)
    setup = Setup(
        trainer=trainer,
        canaries=candidates,
        attack=chosen_attack(attack),
        guessing_rule=LIKELIEST,
        randomness=randomness,
        process=claimed_process(trainer, claim),
    )
    neighbours = Adjacency.parse(adjacency)
    assert setup.process is not None
    guesses = _unguessed(setup, *_checked(setup, runs, weights), neighbours)
    claimed = claimed_bounds(setup.process, delta=delta, adjacency=neighbours)
    profile = Tightest().profile(setup.process, adjacency=neighbours)
    risk(guesses, profile, confidence=confidence)  # whether it can be had is found out now, not after the last run
    faults: tuple[str, ...] = ()
    try:
        guesses = observe_guesses(setup, runs=runs, weights=weights, adjacency=neighbours)
    except TrainerFault as fault:
        faults = (str(fault),)
    return _report(setup, claimed, profile, guesses, delta=delta, confidence=confidence, faults=faults)


def observe_guesses(
    setup: Setup, *, runs: int, weights: Sequence[int] = (), adjacency: Adjacency | str | None = None
) -> CandidateGuesses:
    """Return how often the attack guesses right which of the candidates was in, over runs with a fresh one each.

    Args:
        setup: its canaries are the candidates, its guessing rule `LIKELIEST`; they replace nothing, and exactly one is
            in every run, so that two runs differ in one record whatever `adjacency` is.
        runs: >= 1; the trainer is called once for each.
        weights: see `CandidateGuesses`; the candidates are drawn exactly by these, and the attack knows them.
        adjacency: see `CandidateGuesses`; None for that of the setup.

    Raises:
        InvalidParameter: if there is one candidate only, candidates replace records, or the rule is another.
        TrainerFault: if the trainer does not do what every trainer must.
    """
    candidates = len(setup.canaries)
    runs, shares = _checked(setup, runs, weights)
    secrets = drawn(setup.randomness, candidates, shares, runs)
    correct = sum(_guess(setup, int(secret), shares) == secret for secret in secrets)
    return CandidateGuesses(
        candidates=candidates,
        runs=runs,
        correct=int(correct),
        adjacency=setup.adjacency if adjacency is None else Adjacency.parse(adjacency),
        threat_model=setup.attack.threat_model,
        weights=shares,
    )


def _checked(setup: Setup, runs: int, weights: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Return runs and weights, if a guess can be made.

    Raises:
        InvalidParameter: see `observe_guesses`.
    """
    if len(setup.canaries) < 2:
        raise InvalidParameter(
            f"audit: candidates must be 2 or more, got {len(setup.canaries)}: of one there is nothing to guess."
        )
    if setup.guessing_rule != LIKELIEST:
        raise InvalidParameter(f"audit: guessing_rule must be LIKELIEST, got {setup.guessing_rule!r}.")
    if setup.adjacency is Adjacency.REPLACE_ONE:
        raise InvalidParameter(
            "audit: candidates must replace nothing, or the records that they replace would be in as well.\n"
            "For a claim under replace_one give candidates as records of their own, and adjacency='replace_one' here."
        )
    return validate.count("audit", "runs", runs, least=1), checked_weights("audit", weights, len(setup.canaries))


def drawn(
    randomness: Source, candidates: int, weights: tuple[int, ...], runs: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return independent candidates, each with exactly its share of the weights, shape (runs,)."""
    shares = np.array(weights or (1,) * candidates, dtype=object)
    ends = np.cumsum(shares)
    places = uniform_integers(randomness, "candidates", int(ends[-1]), runs)
    return np.searchsorted(ends, places, side="right").astype(np.int64)


def _guess(setup: Setup, secret: int, weights: tuple[int, ...]) -> int:
    """Return the candidate guessed in one run, which only the trainer is told the secret of."""
    candidates = len(setup.canaries)
    observations = setup.observations(np.arange(candidates) == secret, reserve_run(setup.randomness))
    public = replace(setup.public(OneRun(canaries=candidates)), weights=weights or (1,) * candidates)
    course = scored(setup.attack, setup.canaries, public, observations, setup.steps, stopwatch=setup.stopwatch)
    return int(np.argmax(course.scores.guesses))


def _unguessed(setup: Setup, runs: int, weights: tuple[int, ...], adjacency: Adjacency) -> CandidateGuesses:
    """Return guesses that show nothing: those before the runs, and where the trainer was at fault."""
    return CandidateGuesses(
        candidates=len(setup.canaries),
        runs=runs,
        correct=0,
        adjacency=adjacency,
        threat_model=setup.attack.threat_model,
        weights=weights,
    )


def _report(
    setup: Setup,
    claimed: Claim,
    profile: Profile,
    guesses: CandidateGuesses,
    *,
    delta: float,
    confidence: float,
    faults: tuple[str, ...],
) -> AuditReport:
    assert setup.process is not None
    evidence = guesses.lower_bound(delta=delta, confidence=confidence)
    refutation = family_bound(guesses, setup.process, delta=delta, confidence=confidence)
    seen = None if faults else risk(guesses, profile, confidence=confidence)
    all_right = replace(guesses, correct=guesses.runs).lower_bound(delta=delta, confidence=confidence)
    return AuditReport(
        process=setup.process,
        claim=claimed,
        accountants=accountant_answers(setup.process, delta=delta, adjacency=guesses.adjacency),
        evidence=evidence,
        refutation=refutation,
        exploratory=(),
        verdict="none" if faults else verdict(claimed, evidence, refutation, seen),
        multiplicity=f"error {1 - confidence:.4g} = that of one limit of the success, from which all else follows",
        ceiling=all_right.epsilon,
        guesses=0 if faults else guesses.runs,
        correct=guesses.correct,
        noise_ratio=None,
        reproducible=setup.randomness.reproducible,
        faults=faults,
        risk=seen,
        pictures=None if seen is None else whatever_succeeds(risk=partial(_pictures, setup.process, claimed, seen)),
        cost=setup.stopwatch.cost,
    )


def _pictures(process: Process, claimed: Claim, seen: Risk) -> Pictures:
    blind, most = certified(process, seen.guesses.adjacency, claimed.method)
    curve = RiskCurve(
        blind=blind,
        allowed=most,
        at=seen.blind,
        limit=seen.allowed,
        success=seen.success,
        share=seen.guesses.correct / seen.guesses.runs,
        most=seen.most,
    )
    return Pictures(risk=curve)
