"""Attribute inference and reconstruction: which of k candidates was in? What guesses show, against what theory allows.

Of k candidates one, drawn uniformly, enters a run with all the known records; an attack scores the candidates, and the
one with the highest score is the guess. Candidates that differ in one attribute make this attribute inference; any
others, reconstruction from a finite prior [HMB23]. A blind guess is right with probability κ = 1/k. With p the
probability that the guess is right, D the known records alone and S_z the outputs for which z is guessed,

    p = mean_z Pr[M(D ∪ {z}) ∈ S_z] <= 1 − f(κ),    as mean_z Pr[M(D) ∈ S_z] = κ and 1 − f is concave,

which for (ε, δ) is p <= e^ε κ + δ and 1 − κ <= e^ε (1 − p) + δ. A run tells up to log k nats, where a coin tells log 2.

[HMB23] J. Hayes, S. Mahloujifar, B. Balle. Bounding Training Data Reconstruction in DP-SGD. NeurIPS 2023.
arXiv:2302.07225.
[CP34] C. J. Clopper, E. S. Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.
Biometrika 26 (1934).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from accountant.core.profile import Profile
from accountant.risk import reconstruction
from audit.core.binomial import upper_limit
from audit.core.streams import reserve_run
from audit.core.watching import scored
from audit.evidence import LowerBound, check_level
from audit.runs import Setup
from audit.scores import GuessExtremes, IndependentRuns, OneRun
from mechanisms import InvalidParameter
from mechanisms.core import validate
from mechanisms.core.exact_uniforms import uniform_integers
from mechanisms.core.process import Adjacency

LIKELIEST = GuessExtremes(included=1, excluded=0)
"""The rule by which the candidate of the highest score is guessed."""
ROUND_OFF = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateGuesses:
    """How often the guess was right in independent runs.

    Args:
        candidates: k >= 2, all equally likely.
        runs: >= 1.
        correct: how many guesses were right.
        adjacency: what a candidate that is out leaves behind.
        threat_model: what the attack was allowed to see, in words.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> guesses = CandidateGuesses(candidates=1000, runs=50, correct=50, adjacency="add_remove", threat_model="")
    >>> round(guesses.lower_bound(delta=1e-5, confidence=0.95).epsilon, 3)  # ln(1000 · .05^(1/50))
    6.848
    """

    candidates: int
    runs: int
    correct: int
    adjacency: Adjacency
    threat_model: str

    def __post_init__(self) -> None:
        for name, least in (("candidates", 2), ("runs", 1), ("correct", 0)):
            object.__setattr__(self, name, validate.count("CandidateGuesses", name, getattr(self, name), least=least))
        if self.correct > self.runs:
            raise InvalidParameter(f"CandidateGuesses: correct must be at most {self.runs} runs, got {self.correct}.")
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))

    def success(self, *, confidence: float) -> float:
        """Return the lower limit of the probability p that the guess is right [CP34], rounded down.

        Raises:
            InvalidParameter: if the confidence lies outside (0, 1).
        """
        check_level("CandidateGuesses", delta=0.0, confidence=confidence)
        return max(0.0, 1.0 - float(upper_limit(self.runs - self.correct, self.runs, 1 - confidence)))

    def lower_bound(self, *, delta: float, confidence: float) -> LowerBound:
        """Return the largest ε that these guesses refute:  max{0, ln((p − δ)/κ), ln((1 − κ − δ)/(1 − p))}.

        Guarantees: frequentist, for any attack, as long as runs are independent and the candidates were drawn so.

        Raises:
            InvalidParameter: if δ or the confidence breaks its rule.
        """
        check_level("CandidateGuesses", delta=delta, confidence=confidence)
        success, blind = self.success(confidence=confidence), 1 / self.candidates
        ratios = ((success - delta) / blind, (1 - blind - delta) / (1 - success) if success < 1 else math.inf)
        shown = math.log(max(1.0, *ratios)) * (1 - ROUND_OFF)
        return LowerBound(
            epsilon=shown,
            delta=delta,
            confidence=confidence,
            adjacency=self.adjacency,
            method="candidate_guesses",
            guarantee="frequentist",
            threat_model=self.threat_model,
            design=IndependentRuns(runs=self.runs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """How well candidates were guessed, against the most that the claim allows anyone.

    Args:
        guesses: what was seen.
        confidence: with which `success` lies below the true probability.
        success: lower limit of the probability that the guess is right.
        allowed: certified upper end of that probability under the claim.
        blind: κ, that without looking.
    """

    guesses: CandidateGuesses
    confidence: float
    success: float
    allowed: float
    blind: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blind", 1 / self.guesses.candidates)

    @property
    def verdict(self) -> Literal["consistent", "violated"]:
        """Whether the claim allows what was seen."""
        return "violated" if self.success > self.allowed else "consistent"


def risk(guesses: CandidateGuesses, profile: Profile, *, confidence: float) -> Risk:
    """Return the guesses' success with the certified bound 1 − f(κ) of the claim: see `accountant.risk`.

    Args:
        guesses: of runs that are claimed to have the profile.
        profile: of the claim, for the adjacency of the guesses.
        confidence: in (0, 1).

    Guarantees: a claim that holds is called violated with probability 1 − confidence at most.

    Raises:
        InvalidParameter: if the adjacencies differ, or the confidence breaks its rule.

    >>> from accountant.gdp import GDP
    >>> from mechanisms import Gaussian
    >>> profile = GDP().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE)
    >>> guesses = CandidateGuesses(candidates=100, runs=200, correct=18, adjacency="add_remove", threat_model="")
    >>> found = risk(guesses, profile, confidence=0.95)
    >>> round(found.success, 4), round(found.allowed, 4), found.verdict
    (0.059, 0.0924, 'consistent')
    """
    if profile.adjacency is not guesses.adjacency:
        raise InvalidParameter(
            f"risk: profile must be for adjacency {guesses.adjacency.value!r}, as the guesses are, "
            f"got {profile.adjacency.value!r}."
        )
    allowed = reconstruction(profile, prior_success=(1 / guesses.candidates) * (1 + ROUND_OFF))
    return Risk(
        guesses=guesses,
        confidence=confidence,
        success=guesses.success(confidence=confidence),
        allowed=float(allowed.upper),
    )


def observe_guesses(setup: Setup, *, runs: int) -> CandidateGuesses:
    """Return how often the attack guesses right which of the candidates was in, over runs with a fresh one each.

    Args:
        setup: its canaries are the candidates, its guessing rule `LIKELIEST`.
        runs: >= 1; the trainer is called once for each.

    Raises:
        InvalidParameter: if there is one candidate only, candidates replace records, or the rule is another.
        TrainerFault: if the trainer does not do what every trainer must.
    """
    runs, candidates = validate.count("guessing", "runs", runs, least=1), len(setup.canaries)
    if candidates < 2 or setup.guessing_rule != LIKELIEST:
        raise InvalidParameter(
            f"guessing: candidates must be 2 or more and guessing_rule LIKELIEST, got {candidates} and "
            f"{setup.guessing_rule!r}."
        )
    if setup.adjacency is Adjacency.REPLACE_ONE:
        raise InvalidParameter(
            "guessing: candidates must replace nothing, or the records that they replace would be in as well."
        )
    secrets = uniform_integers(setup.randomness, "candidates", candidates, runs)
    correct = sum(_guess(setup, int(secret)) == secret for secret in secrets)
    return CandidateGuesses(
        candidates=candidates,
        runs=runs,
        correct=int(correct),
        adjacency=setup.adjacency,
        threat_model=setup.attack.threat_model,
    )


def _guess(setup: Setup, secret: int) -> int:
    """Return the candidate guessed in one run, which only the trainer is told the secret of."""
    candidates = len(setup.canaries)
    observations = setup.observations(np.arange(candidates) == secret, reserve_run(setup.randomness))
    public = setup.public(OneRun(canaries=candidates))
    scores = scored(setup.attack, setup.canaries, public, observations, setup.steps)
    return int(np.argmax(scores.guesses))
