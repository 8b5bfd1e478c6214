"""Trials of an auditor under a law: how often it refutes what is true, and how much of the truth its bounds show.

Where an auditor reads counts alone and their law is known, the rate is a sum over counts, no simulation: those left out
have probability `LEFT_OUT` in all at most, which is added. Elsewhere it is a share of simulated audits. All auditors
meet the same simulated scores, drawn from `numpy.random.default_rng` with the numbers that `entropy` gives.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from dataclasses import dataclass

import numpy as np
from scipy import stats

from audit.core.auditors import Auditor, OurAuditor, Question
from audit.core.law import DELTA, Array, Batch, Law, gaussian_of
from audit.core.routes import reads_counts, reads_guesses, refuted, refuted_by_counts, scales_noise
from audit.laws.one_run import ManyCanaries
from audit.laws.two_worlds import TwoWorlds
from audit.noise_families import NoiseFamily
from audit.scores import LabelledScores
from mechanisms import UnsupportedProcess
from mechanisms.core.process import Adjacency

LEFT_OUT = 4e-10
MOST_EXACT = 1000  # runs: beyond, counts of two kinds of errors are simulated
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
    """Return how the auditor fares.

    Args:
        auditor: takes the law's design.
        law: of the scores.
        n: runs in either world, canaries, or looks.
        simulations: audits, where the rate is no sum over counts; `MOST_OUTSIDE` are enough outside the null.
        bounds: how many bounds to average; none at ε = 0.
        confidence: at which is asked.
        seed: of the simulations.
    """
    asked, numbers = question(auditor, law, confidence), entropy(seed, law, n)
    rate, mean_bound, simulated, inside = None, None, 0, auditor.null in law.holds
    simulations = audits_for(simulations, inside=inside)
    bounds = bounds if law.epsilon > 0 else 0
    try:
        rate = _exact_rate(auditor, law, n, asked)
        if rate is None:
            rate, simulated = _simulated_rate(auditor, law, n, asked, simulations, numbers), simulations
        if bounds:
            batch = law.sample(np.random.default_rng((*numbers, 1)), n, bounds)
            mean_bound = float(np.mean([auditor.epsilon(batch.audit(number), asked) for number in range(bounds)]))
    except UnsupportedProcess:
        bounds = 0
    return Trial(
        auditor=auditor.name,
        guarantee=auditor.guarantee,
        law=type(law).__name__,
        n=n,
        epsilon=law.epsilon,
        delta=asked.delta,
        inside=inside,
        rate=rate,
        simulations=simulated,
        mean_bound=mean_bound,
        bounds=bounds,
        entropy=numbers,
    )


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


def _simulated_rate(
    auditor: Auditor, law: Law, n: int, asked: Question, simulations: int, numbers: tuple[int, ...]
) -> float:
    rng = np.random.default_rng(numbers)
    if isinstance(law, TwoWorlds) and isinstance(auditor, OurAuditor) and reads_counts(auditor):
        missed, alarms = (rng.binomial(n, rate, simulations) for rate in law.error_rates(n))
        return float(np.mean(refuted_by_counts(auditor, missed, alarms, (n, n), asked)))
    at_once, claims, left = max(1, min(simulations, NUMBERS_AT_ONCE // (2 * n))), 0, simulations
    while left:
        batch = law.sample(rng, n, min(at_once, left))
        claims += int(np.count_nonzero(refuted(auditor, batch, asked)))
        left -= len(batch)
    return claims / simulations


def _exact_rate(auditor: Auditor, law: Law, n: int, asked: Question) -> float | None:
    if not isinstance(auditor, OurAuditor):
        return None
    if isinstance(law, TwoWorlds) and reads_counts(auditor) and n <= MOST_EXACT:
        return _sum_over_errors(auditor, law, n, asked)
    if isinstance(law, ManyCanaries) and reads_guesses(auditor):
        right = law.right(n)
        return None if right is None else _sum_over_right_guesses(auditor, law, n, right, asked)
    return None


def _sum_over_errors(auditor: OurAuditor, law: TwoWorlds, n: int, asked: Question) -> float:
    windows = [_window(n, rate) for rate in law.error_rates(n)]
    (missed, chance_missed), (alarms, chance_alarms) = windows
    found = refuted_by_counts(auditor, missed[:, None], alarms[None, :], (n, n), asked)
    return float(chance_missed @ np.where(found, 1.0, 0.0) @ chance_alarms) + LEFT_OUT


def _window(trials: int, rate: float) -> tuple[np.ndarray, Array]:
    """Return the counts of a binomial but for tails of a quarter of `LEFT_OUT`, and their probabilities."""
    low, high = stats.binom.ppf(LEFT_OUT / 4, trials, rate), stats.binom.isf(LEFT_OUT / 4, trials, rate)
    counts = np.arange(int(low), int(high) + 1)
    return counts, stats.binom.pmf(counts, trials, rate)


def _sum_over_right_guesses(auditor: OurAuditor, law: ManyCanaries, n: int, right: Array, asked: Question) -> float:
    """Ask about one audit for every number of right guesses that is not out of the question."""
    likely = np.flatnonzero(right > LEFT_OUT / len(right))
    found = [auditor.rejects(_with_right_guesses(law, n, int(count)), asked) for count in likely]
    return float(right[likely][found].sum()) + LEFT_OUT


def _with_right_guesses(law: ManyCanaries, n: int, right: int) -> LabelledScores:
    """Return an audit in which so many guesses are right."""
    sample = law.sample(np.random.default_rng(0), n, 1)
    values = np.arange(float(n))[None, :]
    guesses = sample.guessing_rule.guess(values[0])
    membership = guesses > 0
    made = np.flatnonzero(guesses)
    membership[made[right:]] ^= True
    batch = Batch(
        values=values, membership=membership[None, :], design=sample.design, guessing_rule=sample.guessing_rule
    )
    return batch.audit(0)
