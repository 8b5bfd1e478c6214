"""Trials of an auditor under a law: how often it refutes what is true, and how much of the truth its bounds show.

Where an auditor reads counts alone and their law is known, the rate is a sum over counts (`audit.core.exact_rates`), or
counts are drawn. Elsewhere it is a share of simulated audits: all auditors meet the same scores, drawn from
`numpy.random.default_rng` with the numbers that `entropy` gives.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.core.auditors import Auditor, OurAuditor, Question
from audit.core.exact_rates import exact_rate
from audit.core.law import DELTA, Batch, Law, gaussian_of
from audit.core.routes import reads_counts, refuted, refuted_by_counts, scales_noise
from audit.laws.two_worlds import TwoWorlds
from audit.noise_families import NoiseFamily
from mechanisms import UnsupportedProcess
from mechanisms.core.process import Adjacency

MOST_OUTSIDE = 1000  # audits under a law that the guarantee is not about: their rate decides nothing
NUMBERS_AT_ONCE = 1 << 20
STANDARD_ERRORS = 4.0
TIMES = 3  # that the same is timed
LARGEST_LOG_FACTOR, HALVINGS = 6.0, 48  # of the noise of another ε


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One auditor under one law at one size.

    Args:
        auditor: its name.
        guarantee: that it claims.
        law: the law's name.
        n: runs in either world, canaries, or looks.
        epsilon: the law's true ε.
        delta: at which it was asked.
        inside: whether the law is one that the guarantee is about.
        rate: of false claims; None where the auditor refuses what is described.
        simulations: audits, 0 where the rate is a sum over counts.
        mean_bound: mean of so many bounds as `bounds` says, None if there are none.
        bounds: their number.
        entropy: of the simulations.
        spread: standard deviation of those bounds, None if there are fewer than two.
    """

    auditor: str
    guarantee: str
    law: str
    n: int
    epsilon: float
    delta: float
    inside: bool
    rate: float | None
    simulations: int
    mean_bound: float | None
    bounds: int
    entropy: tuple[int, ...]
    spread: float | None = None

    def allowed(self, level: float) -> float:
        """Return the largest rate that does not speak against the level."""
        spread = np.sqrt(level * (1 - level) / self.simulations) if self.simulations else 0.0
        return float(level + STANDARD_ERRORS * spread)

    def fails(self, level: float) -> bool:
        """Tell whether a guarantee that is to hold under every law that it is about was broken."""
        decides = self.inside and self.guarantee in ("frequentist", "parametric")
        return decides and self.rate is not None and self.rate > self.allowed(level)


def audits_for(simulations: int, *, inside: bool) -> int:
    """Return how many audits to simulate of as many as were asked for."""
    return simulations if inside else min(simulations, MOST_OUTSIDE)


def question(auditor: Auditor, law: Law, confidence: float) -> Question:
    """Return what is true of the law, in the words that the auditor's guarantee is about.

    Where nothing is, the Gaussian mechanism with the law's (ε, δ) is described: it did not run.
    """
    if auditor.null in law.holds:
        return Question(epsilon=law.epsilon, delta=law.delta, confidence=confidence, process=law.process)
    delta = max(law.delta, DELTA)
    return Question(epsilon=law.epsilon, delta=delta, confidence=confidence, process=gaussian_of(law.epsilon, delta))


def asked_instead(auditor: Auditor, tried: Law, asked: Question) -> Question:
    """Return the question about a law of another ε.

    A test that is tuned to a description is asked about the same description with more or less noise: tuned to another
    one it is another test, which need not agree.
    """
    if not scales_noise(auditor):
        return question(auditor, tried, asked.confidence)
    family = NoiseFamily(process=asked.process, adjacency=Adjacency.ADD_REMOVE)
    low, high = -LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        louder = family.epsilon(float(np.exp(middle)), delta=asked.delta) > tried.epsilon
        low, high = (middle, high) if louder else (low, middle)
    return dataclasses.replace(asked, epsilon=tried.epsilon, factor=float(np.exp(high)))


def entropy(seed: int, law: Law, n: int) -> tuple[int, ...]:
    """Return the numbers that the simulations of a law at a size start from."""
    return seed, zlib.crc32(type(law).__name__.encode()), n, round(1000 * law.epsilon)


def trial(auditor: Auditor, law: Law, n: int, *, simulations: int, bounds: int, confidence: float, seed: int) -> Trial:
    """Return how one auditor fares; arguments are those of `trials`."""
    return trials([auditor], law, n, simulations=simulations, bounds=bounds, confidence=confidence, seed=seed)[0]


def trials(
    auditors: Sequence[Auditor], law: Law, n: int, *, simulations: int, bounds: int, confidence: float, seed: int
) -> list[Trial]:
    """Return how auditors fare with the same simulated audits, which are drawn once for all of them.

    Args:
        auditors: each takes the law's design.
        law: of the scores.
        n: runs in either world, canaries, or looks.
        simulations: audits, where the rate is no sum over counts; `MOST_OUTSIDE` are enough outside the null.
        bounds: how many bounds to average; none at ε = 0.
        confidence: at which is asked.
        seed: of the simulations.
    """
    numbers = entropy(seed, law, n)
    rivals = [Rival(auditor=one, law=law, n=n, question=question(one, law, confidence)) for one in auditors]
    for rival in rivals:
        rival.try_exactly(simulations, numbers)
    _simulate([rival for rival in rivals if rival.left], law, n, simulations, numbers)
    return [rival.trial(bounds if law.epsilon > 0 else 0, numbers) for rival in rivals]


def milliseconds(auditor: Auditor, law: Law, n: int, *, audits: int, confidence: float, seed: int) -> float:
    """Return the processor time that the auditor takes for each of so many audits asked at once, after a first time."""
    batch = law.sample(np.random.default_rng(entropy(seed, law, n)), n, audits)
    asked, taken = question(auditor, law, confidence), []
    for _ in range(1 + TIMES):
        started = time.process_time()
        refuted(auditor, batch, asked)
        taken.append(time.process_time() - started)
    return float(1000 * np.median(taken[1:]) / audits)


def largest_disagreement(
    auditor: Auditor, kinds: list[type[Law]], n: int, *, cases: int, confidence: float, seed: int
) -> float:
    """Return the largest relative distance to its bound at which the auditor's test says other than the bound does.

    Each case is an audit of one of these laws and an ε above or below the bound, by a share between 1e-6 and 1 that is
    drawn evenly on the logarithmic scale; one above 0 where the bound is 0.
    """
    rng, worst = np.random.default_rng((seed, n, cases)), 0.0
    for _ in range(cases):
        kind = kinds[int(rng.integers(len(kinds)))]
        law = kind(epsilon=float(rng.choice([one for one in kind.epsilons if one > 0])))
        batch = law.sample(rng, n, 1)
        asked = question(auditor, law, confidence)
        bound = auditor.epsilon(batch.audit(0), asked)
        share = float(10 ** rng.uniform(-6, 0)) * float(rng.choice([-1, 1]))
        tried = kind(epsilon=bound * (1 + share) if bound > 0 else abs(share))
        if not 0 < tried.epsilon < 30:  # nothing, or all, is refuted
            continue
        said = bool(refuted(auditor, batch, asked_instead(auditor, tried, asked))[0])
        if said != (tried.epsilon <= bound):
            worst = max(worst, abs(share) if bound > 0 else 1.0)
    return worst


@dataclass(slots=True, kw_only=True)
class Rival:
    """One auditor while audits are being simulated.

    Args:
        auditor: it.
        law: of the scores.
        n: runs in either world, canaries, or looks.
        question: what it is asked.
    """

    auditor: Auditor
    law: Law
    n: int
    question: Question
    rate: float | None = None
    simulations: int = 0
    claims: int = 0
    left: int = 0
    refuses: bool = False

    @property
    def inside(self) -> bool:
        """Whether the law is one that the guarantee is about."""
        return self.auditor.null in self.law.holds

    def try_exactly(self, simulations: int, numbers: tuple[int, ...]) -> None:
        """Find the rate where it needs no scores, else say how many audits are to be simulated."""
        simulations = audits_for(simulations, inside=self.inside)
        auditor, law = self.auditor, self.law
        try:
            self.rate = exact_rate(auditor, law, self.n, self.question)
            if self.rate is None:
                self.left = self.simulations = simulations
            if self.left and isinstance(law, TwoWorlds) and isinstance(auditor, OurAuditor) and reads_counts(auditor):
                rng, rates = np.random.default_rng(numbers), law.error_rates(self.n)
                missed, alarms = (rng.binomial(self.n, rate, simulations) for rate in rates)
                found = refuted_by_counts(auditor, missed, alarms, (self.n, self.n), self.question)
                self.rate, self.left = float(np.mean(found)), 0
        except UnsupportedProcess:
            self.refuse()

    def meet(self, batch: Batch) -> None:
        """Count what it refutes among the audits of a batch that are left to it."""
        try:
            found = refuted(self.auditor, batch.first(self.left), self.question)
        except UnsupportedProcess:
            self.refuse()
            return
        self.claims += int(np.count_nonzero(found))
        self.left -= len(found)
        self.rate = self.claims / self.simulations if not self.left else None

    def refuse(self) -> None:
        """Note that the auditor does not answer what is asked."""
        self.rate, self.simulations, self.left, self.refuses = None, 0, 0, True

    def trial(self, bounds: int, numbers: tuple[int, ...]) -> Trial:
        """Return what was found, and the mean of so many bounds."""
        mean_bound, spread = None, None
        if bounds and not self.refuses:
            batch = self.law.sample(np.random.default_rng((*numbers, 1)), self.n, bounds)
            try:
                found = [self.auditor.epsilon(batch.audit(number), self.question) for number in range(bounds)]
                mean_bound = float(np.mean(found))
                spread = float(np.std(found, ddof=1)) if bounds > 1 and np.isfinite(mean_bound) else None
            except UnsupportedProcess:
                self.refuse()
        return Trial(
            auditor=self.auditor.name,
            guarantee=self.auditor.guarantee,
            law=type(self.law).__name__,
            n=self.n,
            epsilon=self.law.epsilon,
            delta=self.question.delta,
            inside=self.inside,
            rate=self.rate,
            simulations=self.simulations,
            mean_bound=mean_bound,
            bounds=bounds if mean_bound is not None else 0,
            entropy=numbers,
            spread=spread,
        )


def _simulate(rivals: Sequence[Rival], law: Law, n: int, simulations: int, numbers: tuple[int, ...]) -> None:
    at_once = max(1, min(simulations, NUMBERS_AT_ONCE // (2 * n)))
    rng, left = np.random.default_rng(numbers), simulations
    while any(rival.left for rival in rivals):
        batch = law.sample(rng, n, min(at_once, left))
        for rival in rivals:
            if rival.left:
                rival.meet(batch)
        left -= len(batch)
