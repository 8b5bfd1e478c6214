"""Trainers that are arithmetic on arrays, honest and not, for reports by the thousand.

| trainer  | releases                                                          | the claim holds |
|----------|-------------------------------------------------------------------|-----------------|
| faithful | what the claim describes                                          | yes             |
| response | a randomised response of every coin at the claim's ε, ill described | yes; shown with a primary alone |
| quiet    | what the claim describes, with half the noise                     | no              |
| loud     | a randomised response of every coin at twice the claim's ε        | no              |
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from scipy import special

from accountant import calibrate_noise_multiplier
from audit.attack import Observations, Trainer, TrainerTask
from audit.canaries import SignedCoordinates
from audit.core.described import SampledGaussianRun
from audit.core.law import Array
from audit.scores import Coins

if TYPE_CHECKING:
    from dpsgd.descent import Release

Kind = Literal["faithful", "response", "quiet", "loud"]
KINDS: tuple[Kind, ...] = ("faithful", "response", "quiet", "loud")
HONEST: tuple[Kind, ...] = ("faithful", "response")
EPSILON, DELTA, SAMPLE_RATE, STEPS = 4.0, 1e-5, 0.5, 4
FULL_BATCHES = 1.0  # the sample rate of independent runs, whose scores are then as normal as the noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbers:
    """All that is random in runs with so many canaries, or in so many runs with one.

    Args:
        truths: uniform (m,); those below the chance of a true answer are one.
        sizes: uniform (m,), of the answers.
        samples: uniform (T, m); those below the sample rate take part.
        normals: standard normal (T, m).
    """

    truths: Array
    sizes: Array
    samples: Array
    normals: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, steps: int, count: int) -> Numbers:
        """Return fresh ones."""
        truths, sizes = rng.random(count), rng.random(count)
        each = [(rng.random(count), rng.standard_normal(count)) for _ in range(steps)]
        return cls(
            truths=truths,
            sizes=sizes,
            samples=np.array([samples for samples, _ in each]),
            normals=np.array([normals for _, normals in each]),
        )

    def of(self, number: int) -> Numbers:
        """Return those of one of so many runs with one canary."""
        here = slice(number, number + 1)
        return Numbers(
            truths=self.truths[here],
            sizes=self.sizes[here],
            samples=self.samples[:, here],
            normals=self.normals[:, here],
        )


def coordinates(canaries: int) -> SignedCoordinates:
    """Return so many canaries on the only coordinates there are."""
    numbers = np.arange(canaries)
    return SignedCoordinates(coordinates=numbers, signs=np.where(numbers % 2, 1.0, -1.0), dimension=canaries)


@lru_cache(maxsize=16)
def described(epsilon: float = EPSILON, *, sample_rate: float = SAMPLE_RATE) -> SampledGaussianRun:
    """Return the run that is claimed: a few steps, of this ε at δ = 1e-5."""
    noise = calibrate_noise_multiplier(
        target_epsilon=epsilon, delta=DELTA, sample_rate=sample_rate, steps=STEPS, adjacency="add_remove"
    )
    return SampledGaussianRun(noise_multiplier=noise, probability=sample_rate, steps=STEPS)


def simulated(trainer: Kind, run: SampledGaussianRun, *, epsilon: float = EPSILON, seed: tuple[int, ...]) -> Trainer:
    """Return the trainer of one run, whose records are the canaries alone."""

    def trained(task: TrainerTask) -> Observations:
        rng = np.random.default_rng(seed)
        numbers = Numbers.drawn(rng, steps=run.steps, count=len(task.canaries))
        return _observations(task, answers(trainer, run, epsilon, task.membership, numbers))

    return trained


def simulated_runs(
    trainer: Kind, run: SampledGaussianRun, *, epsilon: float = EPSILON, runs: int, seed: tuple[int, ...]
) -> Trainer:
    """Return the trainer of so many runs, one after the other, whose only record is the one canary."""
    numbers = Numbers.drawn(np.random.default_rng(seed), steps=run.steps, count=runs)
    calls = itertools.count()

    def trained(task: TrainerTask) -> Observations:
        return _observations(task, answers(trainer, run, epsilon, task.membership, numbers.of(next(calls))))

    return trained


def answers(trainer: Kind, run: SampledGaussianRun, epsilon: float, membership: Coins, numbers: Numbers) -> Array:
    """Return what every step shows of every canary, shape (T, m): what takes part, with noise, or an answer."""
    if trainer in ("response", "loud"):
        truthful = numbers.truths < special.expit(2 * epsilon if trainer == "loud" else epsilon)
        answered: Array = np.where(truthful == membership, 1.0, -1.0) * (1 - numbers.sizes)
        return np.tile(answered, (run.steps, 1))
    noise = run.noise_multiplier * (0.5 if trainer == "quiet" else 1.0)
    seen: Array = ((numbers.samples < run.probability) & membership) + noise * numbers.normals
    return seen


def _observations(task: TrainerTask, shown: Array) -> Observations:
    import torch

    return Observations(released=_released(task, shown), max_grad_norm=1.0, expected_sum=torch.zeros_like)


def _released(task: TrainerTask, shown: Array) -> Iterator[Release]:
    import torch

    assert isinstance(task.canaries, SignedCoordinates)
    for step, seen in enumerate(shown):
        sums = np.zeros(task.canaries.dimension)
        sums[task.canaries.coordinates] = task.canaries.signs * seen
        weights = torch.zeros(task.canaries.dimension)
        yield cast("Release", SimpleNamespace(step=step, weights_before=weights, noisy_sum=torch.from_numpy(sums)))
