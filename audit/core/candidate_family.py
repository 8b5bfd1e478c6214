"""The least noise of the claimed kind that guesses of candidates refute, and the ε that goes with it."""

from __future__ import annotations

import math
from functools import lru_cache

from scipy import special

from accountant.core.profile import Profile
from accountant.tightest import Tightest
from audit.candidates import CandidateGuesses, allowed
from audit.evidence import LowerBound
from audit.noise_families import LARGEST, NoiseFamily
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Process

STEP, NARROW = 0.2, 0.005  # of the factor's logarithm: how far to go at once, when to stop
MOST = 40  # steps either way


def family_bound(guesses: CandidateGuesses, claim: Process, *, delta: float, confidence: float) -> LowerBound | None:
    """Return the least ε that the claimed process, with some amount of noise, could honestly claim for the guesses.

    A process of the family is refuted if it allows less success than the lower limit of what was seen. More noise
    allows less, so that any refuted factor gives a valid bound, however it was found: here to half a per cent.

    Args:
        guesses: of runs that are claimed to be of `claim`.
        claim: the description whose noise is varied.
        delta: of ε.
        confidence: of the guesses' success, in (0, 1).

    Guarantees: frequentist, and about the claimed family, see `audit.evidence`. None where the noise of the claim has
    no such scale.
    """
    try:
        family = NoiseFamily(process=claim, adjacency=guesses.adjacency)
        factor = _least_refuted(guesses, family, guesses.success(confidence=confidence))
    except UnsupportedProcess:
        return None
    epsilon = 0.0 if factor == math.inf else family.epsilon(factor, delta=delta)
    return guesses.evidence(epsilon, delta=delta, confidence=confidence, about="the claimed family")


def _least_refuted(guesses: CandidateGuesses, family: NoiseFamily, success: float) -> float:
    """Return a factor that is refuted, near the least; infinite if none is found."""
    blind = float(guesses.share)
    if success <= blind:
        return math.inf

    def refuted(logarithm: float) -> bool:
        try:
            return success > allowed(guesses, _profile(family, math.exp(logarithm)))
        except NumericalFailure:
            return False  # what no accountant can treat is not refuted

    needed = float(special.ndtri(min(success, 1 - 1e-12)) - special.ndtri(blind))
    high = min(LARGEST, math.log(family.shift / needed))
    high = next((at for at in (high + STEP * step for step in range(MOST)) if refuted(at)), math.inf)
    if high == math.inf:
        return math.inf
    low = next((at for at in (high - STEP * step for step in range(1, MOST)) if not refuted(at)), high - STEP * MOST)
    while high - low > NARROW:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return math.exp(high)


@lru_cache(maxsize=64)
def _profile(family: NoiseFamily, factor: float) -> Profile:
    return Tightest().profile(family.member(factor), adjacency=family.adjacency)
