"""Detectors: what is run on a specimen, and whether it was caught at a level.

Replay is deterministic. The others are tests of what is claimed, each of which rejects it wrongly with probability at
most the level, exactly: a twin may be caught so often, a bug is caught if it shows.

- *participations*: noise is configured to almost nothing and 32 records are told apart in every sum. Records' numbers
  of steps, and steps' numbers of records, must scatter as independent coins of probability q make them.
- *noise*: two runs without records, from one source. Their sums are noise alone, whose squares are σ² χ², and in which
  no float of 52 random bits comes twice.
- *inversion*: one run with 200 canaries, each in by a fair coin, see `audit.estimators.accountant_inversion`.
- *anytime*: up to 200 runs of one step on all records, one canary in each by a fair coin; the claim is μ-GDP with
  μ = 1/σ, see `audit.estimators.anytime_gdp`.
- *black_box*: a mechanism's answers on two inputs, see `audit.black_box`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.black_box import mechanism_lower_bound
from audit.core import e_processes, gdp_ladder
from audit.core.extremes import array_neighbours
from audit.core.findings import ReplayReport
from audit.core.noise_tests import Samples
from audit.core.specimens import Mechanism, MechanismSpecimen
from audit.core.toy_training import Mask, Plan, Rows, Train
from audit.estimators import accountant_inversion, anytime_gdp
from audit.replay import Additive, Steps, replay_mechanism, replay_training
from mechanisms.core.command_line import at_least, at_most
from mechanisms.core.randomness import KeyedSource, Source, coins

Array = NDArray[np.float64]
DELTA = 1e-5
CANARIES = 200
ADDED = Additive(sensitivity=1.0, per_record=("coins",))
EQUAL_FLOATS = 2.0**-40  # more than the probability that two noises are equal, which have 52 random bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a detector says of a computation.

    Args:
        detector: its name.
        caught: whether it refutes what is claimed.
        runs: of the computation, as many as it took.
        evidence: what was seen, in words.
    """

    detector: str
    caught: bool
    runs: int
    evidence: str


def by_replay(train: Train, level: float, seed: int) -> Detection:
    """Replay 4 steps on 6 ordinary records and extreme ones, one more or less."""
    plan = Plan(noise_multiplier=1.0, probability=0.75, steps=4, expected_batch_size=4.5)
    return replayed(train, plan, records=6, adjacency="add_remove", description=ADDED, seed=seed)


def replayed(train: Train, plan: Plan, *, records: int, adjacency: str, description: Additive, seed: int) -> Detection:
    """Replay a plan on neighbours made of ordinary records and of extreme ones."""

    def training(rows: Rows, source: Source) -> Steps:
        weights = np.zeros(rows.shape[1])
        return Steps(releases=train(rows, plan, source, weights), force=lambda given: np.copyto(weights, given))

    ordinary = 2.0 * np.random.default_rng(seed).normal(size=(records, 8))
    pairs = array_neighbours(ordinary, adjacency=adjacency)
    return _of_report(replay_training(training, pairs, description=description, keys=3, seed=seed))


def by_participations(train: Train, level: float, seed: int) -> Detection:
    """Test how numbers of steps and of records scatter."""
    plan = Plan(noise_multiplier=1e-3, probability=0.25, steps=16, expected_batch_size=8.0)
    took_part = sums(train, np.eye(32), plan, KeyedSource(seed)) > 0.5
    p_values = [
        _dispersion_p_value(took_part.sum(axis=axis), trials=took_part.shape[axis], probability=plan.probability)
        for axis in (0, 1)
    ]
    p_value = min(1.0, 2 * min(p_values))
    return Detection(
        detector="participations", caught=p_value <= level, runs=1, evidence=f"numbers scatter with p = {p_value:.1e}"
    )


def by_noise(train: Train, level: float, seed: int) -> Detection:
    """Test the noise of two runs without records: enough of it, and none of it twice."""
    plan = Plan(noise_multiplier=2.0, probability=0.5, steps=10, expected_batch_size=1.0)
    return noise_seen(train, plan, np.zeros((0, 16)), level, seed)


def noise_seen(train: Train, plan: Plan, nothing: Rows, level: float, seed: int) -> Detection:
    """Test the noise of two runs on records that contribute nothing."""
    source = KeyedSource(seed)
    noise = np.concatenate([sums(train, nothing, plan, source).ravel() for _ in range(2)])
    scaled, again = noise / plan.noise_multiplier, len(noise) - len(np.unique(noise))
    little = float(special.gammainc(0.5 * len(scaled), 0.5 * float(scaled @ scaled)))
    twice = 0.5 * len(noise) ** 2 * EQUAL_FLOATS / again if again else 1.0  # Markov's inequality
    p_value = min(1.0, 2 * min(little, twice))
    seen = (
        f"{again} of {len(noise)} noises come again" if twice < little else f"squares are small with p = {little:.1e}"
    )
    return Detection(detector="noise", caught=p_value <= level, runs=2, evidence=seen)


def by_inversion(train: Train, level: float, seed: int) -> Detection:
    """Bound the noise of one run with canaries from above."""
    plan = Plan(noise_multiplier=2.0, probability=0.5, steps=20, expected_batch_size=100.0)
    source = KeyedSource(seed)
    included = coins(source, "membership", 0, CANARIES, probability=0.5)
    seen = sums(train, np.eye(CANARIES)[included], plan, source)
    return inverted(seen, included, plan, level, samples="poisson")


def inverted(seen: Rows, included: Mask, plan: Plan, level: float, *, samples: Samples) -> Detection:
    """Bound the noise in the sums (T, m) of a run with canaries along the coordinates from above."""
    scores, squares = seen.sum(axis=0), np.square(seen).sum(axis=0)[~included]
    bound = accountant_inversion.noise_multiplier_upper_bound(
        gap=float(scores[included].mean() - scores[~included].mean()),
        deviation=float(scores[~included].std(ddof=1)),
        included=int(included.sum()),
        excluded=int((~included).sum()),
        probability=plan.probability,
        steps=plan.steps,
        confidence=1 - level,
        squares=float(squares.sum()),
        degrees=plan.steps * len(squares),
        samples=samples,
    )
    return Detection(
        detector="inversion",
        caught=bound < plan.noise_multiplier,
        runs=1,
        evidence=f"the noise multiplier is below {at_most(bound, 3)}, claimed are {plan.noise_multiplier:g}",
    )


def by_anytime(train: Train, level: float, seed: int) -> Detection:
    """Bet against the claim, a canary a run, until it is refuted or the runs are used up."""
    plan = Plan(noise_multiplier=0.6, probability=1.0, steps=1, expected_batch_size=1.0)
    source, looks = KeyedSource(seed), 200
    included = coins(source, "membership", 0, looks, probability=0.5)
    canary, none = np.array([[1.0, 0.0]]), np.zeros((0, 2))
    scores = np.array([sums(train, canary if coin else none, plan, source)[0, 0] for coin in included])
    claimed = 1 / plan.noise_multiplier
    positions = (np.nan_to_num(scores) - anytime_gdp.CENTRE) / anytime_gdp.GAP
    refuted = gdp_ladder.log_wealth(positions, included, mu=claimed) >= e_processes.log_required(1 - level)
    taken = int(np.argmax(refuted)) + 1 if refuted.any() else looks
    epsilon = e_processes.epsilon_of(claimed, DELTA)
    return Detection(
        detector="anytime",
        caught=bool(refuted.any()),
        runs=taken,
        evidence=f"ε = {at_most(epsilon, 3)} at δ = 1e-5 is {'not ' * (not refuted.any())}refuted after {taken} runs",
    )


TRAINING: dict[str, Callable[[Train, float, int], Detection]] = {
    "replay": by_replay,
    "participations": by_participations,
    "noise": by_noise,
    "inversion": by_inversion,
    "anytime": by_anytime,
}


def mechanism_replay(specimen: MechanismSpecimen, mechanism: Mechanism, level: float, seed: int) -> Detection:
    """Replay on the neighbours given."""
    return _of_report(replay_mechanism(mechanism, specimen.neighbours, description=specimen.description, seed=seed))


def black_box(specimen: MechanismSpecimen, mechanism: Mechanism, level: float, seed: int) -> Detection:
    """Bound ε from below by the answers on the first pair of neighbours."""
    assert specimen.epsilon is not None
    source, pair = KeyedSource(seed), specimen.neighbours[0]
    bound = mechanism_lower_bound(
        lambda data: specimen.coded(mechanism(data, source)),
        pair.one,
        pair.other,
        runs=specimen.runs,
        adjacency=specimen.adjacency,
        delta=0.0,
        confidence=1 - level,
        tester="histogram",
    )
    return Detection(
        detector="black_box",
        caught=bound.epsilon > specimen.epsilon,
        runs=2 * specimen.runs,
        evidence=f"ε is at least {at_least(bound.epsilon, 3)}, claimed are {specimen.epsilon:g}",
    )


def _of_report(report: ReplayReport) -> Detection:
    evidence = str(report.findings[0]) if report.found else "nothing"
    return Detection(detector="replay", caught=report.found, runs=report.runs, evidence=evidence)


def sums(train: Train, rows: Rows, plan: Plan, source: Source) -> Rows:
    """Return the noisy sums of a run, shape (T, d)."""
    with np.errstate(all="ignore"):
        return np.array([step.noisy_sum for step in train(rows, plan, source, np.zeros(rows.shape[1]))])


def _dispersion_p_value(counts: NDArray[np.int64], *, trials: int, probability: float) -> float:
    """Return the two-sided p-value of Σ (K − np)² for independent K ~ Bin(n, p), exactly; np must be whole.

    >>> round(_dispersion_p_value(np.array([0, 2]), trials=4, probability=0.5), 6)  # twice P[Σ >= 4] = 60/256
    0.46875
    """
    mean, k = round(trials * probability), np.arange(trials + 1)
    masses = special.binom(trials, k) * probability**k * (1 - probability) ** (trials - k)
    one = np.bincount((k - mean) ** 2, weights=masses)
    law = np.ones(1)
    for _ in counts:
        law = np.convolve(law, one)
    seen = int(np.square(counts - mean).sum())
    return float(min(1.0, 2 * min(law[: seen + 1].sum(), law[seen:].sum())))
