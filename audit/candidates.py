"""Guesses of which of k candidates was in, and what they show: of ε at a δ, and of the risk that a claim allows.

One candidate, drawn by known weights, enters a run. A blind guess is right with probability κ, the largest share of
one candidate. With p the probability that an attack's guess is right, S_z the outputs for which z is guessed, π_z the
share of z, P_z the law of the outputs with z in, and Q that of some dataset which neighbours all of these,

    p = Σ_z π_z P_z(S_z) <= 1 − f(Σ_z π_z Q(S_z)) <= 1 − f(κ),    as 1 − f is concave and the S_z are disjoint,      (1)

which is the blow-up bound of [HMB23] and for (ε, δ) says p <= e^ε κ + δ and 1 − κ <= e^ε (1 − p) + δ. Under add_remove
and zero_out Q is that of the known records alone. Under replace_one any two candidates are neighbours. With equal
shares, summing P_z(S_z) <= e^ε P_y(S_z) + δ over z ≠ y and then over y gives

    (k − 1) p <= e^ε (1 − p) + (k − 1) δ,                                                                          (2)

which randomised response attains; with two candidates of any shares, P_z(S_z) <= e^ε (1 − P_y(S_y)) + δ both ways has
p <= κ + (1 − κ) δ or p <= e^ε (1 − p) + δ.

[HMB23] J. Hayes, S. Mahloujifar, B. Balle. Bounding Training Data Reconstruction in DP-SGD. NeurIPS 2023.
arXiv:2302.07225.
[CP34] C. J. Clopper, E. S. Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.
Biometrika 26 (1934).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from accountant.core.profile import Profile
from accountant.risk import attribute_inference, reconstruction
from audit.core.binomial import upper_limit
from audit.evidence import About, LowerBound, check_level
from audit.scores import IndependentRuns
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency

METHOD = "candidate_guesses"
ROUND_OFF = 1e-12
Outcome = Literal["consistent", "description refuted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateGuesses:
    """How often the guess was right in independent runs, each with a candidate of its own.

    Args:
        candidates: k >= 2.
        runs: >= 1.
        correct: how many guesses were right.
        adjacency: what the claim's neighbours are. Under add_remove and zero_out those with and without a candidate,
            under replace_one those with one and with another.
        threat_model: what the attack was allowed to see, in words.
        weights: k whole numbers >= 1, to which the candidates' shares are proportional; () where all are equal.

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
    weights: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("candidates", 2), ("runs", 1), ("correct", 0)):
            object.__setattr__(self, name, validate.count("CandidateGuesses", name, getattr(self, name), least=least))
        if self.correct > self.runs:
            raise InvalidParameter(f"CandidateGuesses: correct must be at most {self.runs} runs, got {self.correct}.")
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        object.__setattr__(self, "weights", checked_weights("CandidateGuesses", self.weights, self.candidates))

    @property
    def share(self) -> Fraction:
        """κ, with which a blind guess of the likeliest candidate is right."""
        return Fraction(max(self.weights), sum(self.weights)) if self.weights else Fraction(1, self.candidates)

    def success(self, *, confidence: float) -> float:
        """Return the lower limit of the probability p that the guess is right [CP34], rounded down.

        Raises:
            InvalidParameter: if the confidence lies outside (0, 1).
        """
        check_level("CandidateGuesses", delta=0.0, confidence=confidence)
        return max(0.0, 1.0 - float(upper_limit(self.runs - self.correct, self.runs, 1 - confidence)))

    def most(self, *, confidence: float) -> float:
        """Return the upper limit of p, likewise; both limits hold together with confidence 2 · confidence − 1."""
        check_level("CandidateGuesses", delta=0.0, confidence=confidence)
        return float(upper_limit(self.correct, self.runs, 1 - confidence))

    def lower_bound(self, *, delta: float, confidence: float) -> LowerBound:
        """Return the largest ε that the lower limit of p refutes, by the inequalities after (1) and by (2).

        Guarantees: frequentist, for any attack, as long as runs are independent and the candidates were drawn so.

        Raises:
            InvalidParameter: if δ or the confidence breaks its rule.
        """
        check_level("CandidateGuesses", delta=delta, confidence=confidence)
        ratio = max(_ratios(self, self.success(confidence=confidence), delta)) * (1 - ROUND_OFF)
        return self.evidence(math.log(max(1.0, ratio)), delta=delta, confidence=confidence)

    def evidence(
        self, epsilon: float, *, delta: float, confidence: float, about: About = "any computation"
    ) -> LowerBound:
        """Return an ε that these guesses show, with all that it rests on."""
        return LowerBound(
            epsilon=epsilon,
            delta=delta,
            confidence=confidence,
            adjacency=self.adjacency,
            method=METHOD,
            guarantee="frequentist",
            threat_model=self.threat_model,
            design=IndependentRuns(runs=self.runs),
            about=about,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """How well candidates were guessed, against the most that the claim allows anyone.

    Args:
        guesses: what was seen.
        confidence: of `success`, and of `most`, each by itself.
        success: lower limit of the probability that the guess is right.
        most: its upper limit.
        allowed: certified upper end of that probability under the claim.

    Raises:
        InvalidParameter: if a number is no probability.
    """

    guesses: CandidateGuesses
    confidence: float
    success: float
    most: float
    allowed: float

    def __post_init__(self) -> None:
        for name in ("confidence", "success", "most", "allowed"):
            object.__setattr__(self, name, validate.probability("Risk", name, getattr(self, name)))

    @property
    def blind(self) -> float:
        """κ, the probability of the best guess without looking."""
        return float(self.guesses.share)

    @property
    def verdict(self) -> Outcome:
        """Whether the claim's trade-off curve allows what was seen; its ε at one δ may hold even if not."""
        return "description refuted" if self.success > self.allowed else "consistent"


def risk(guesses: CandidateGuesses, profile: Profile, *, confidence: float) -> Risk:
    """Return the guesses' success with the certified bound of the claim: see `allowed`.

    Args:
        guesses: of runs that are claimed to have the profile.
        profile: of the claim, for the adjacency of the guesses.
        confidence: in (0, 1).

    Guarantees: a description that holds is called refuted with probability 1 − confidence at most.

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
    return Risk(
        guesses=guesses,
        confidence=confidence,
        success=guesses.success(confidence=confidence),
        most=guesses.most(confidence=confidence),
        allowed=allowed(guesses, profile),
    )


def allowed(guesses: CandidateGuesses, profile: Profile) -> float:
    """Return the certified most that a process of this profile lets anyone guess such candidates right: (1).

    Two candidates under replace_one are neighbours themselves: then it is the success of the best test between them.

    Raises:
        InvalidParameter: if the profile is for another adjacency.
    """
    if profile.adjacency is not guesses.adjacency:
        raise InvalidParameter(
            f"risk: profile must be for adjacency {guesses.adjacency.value!r}, as the guesses are, "
            f"got {profile.adjacency.value!r}."
        )
    blind = min(1.0, float(guesses.share) * (1 + ROUND_OFF))
    if guesses.candidates == 2 and guesses.adjacency is Adjacency.REPLACE_ONE:
        return float(attribute_inference(profile, prior=[blind, 1.0 - blind]).upper)
    return float(reconstruction(profile, prior_success=blind).upper)


def checked_weights(owner: str, weights: Any, candidates: int) -> tuple[int, ...]:
    """Return weights as whole numbers, or () where all are equal.

    Raises:
        InvalidParameter: if one is below 1, or they are not one for each candidate.
    """
    given = tuple(
        validate.count(owner, "weights", one, least=1) for one in validate.sequence(owner, "weights", weights)
    )
    if given and len(given) != candidates:
        raise InvalidParameter(
            f"{owner}: weights must be one whole number for each of {candidates} candidates, got {len(given)}."
        )
    return () if len(set(given)) < 2 else given


def _ratios(guesses: CandidateGuesses, success: float, delta: float) -> tuple[float, ...]:
    """Return what e^ε is at least, by every inequality that holds here."""
    blind, wrong = float(guesses.share), 1.0 - success
    odds = (success - delta) / wrong if wrong > 0 else math.inf
    either = ((success - delta) / blind, (1 - blind - delta) / wrong if wrong > 0 else math.inf)
    if guesses.adjacency is not Adjacency.REPLACE_ONE:
        return either
    if guesses.candidates == 2:
        return (*either, odds if success > blind + (1 - blind) * delta else 0.0)
    return either if guesses.weights else (*either, (guesses.candidates - 1) * odds)
