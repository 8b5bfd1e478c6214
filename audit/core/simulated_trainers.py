"""Trainers that are arithmetic on arrays, honest and not, for reports by the thousand.

| trainer  | releases                                                          | the claim holds |
|----------|-------------------------------------------------------------------|-----------------|
| faithful | what the claim describes                                          | yes             |
| response | a randomised response of every coin at the claim's ε, ill described | yes; shown with a primary alone |
| quiet    | what the claim describes, with half the noise                     | no              |
| loud     | a randomised response of every coin at twice the claim's ε        | no              |
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from scipy import special

from accountant import calibrate_noise_multiplier
from audit.attack import Observations, Trainer, TrainerTask
from audit.canaries import SignedCoordinates
from audit.core.described import SampledGaussianRun

if TYPE_CHECKING:
    from dpsgd.descent import Release

Kind = Literal["faithful", "response", "quiet", "loud"]
KINDS: tuple[Kind, ...] = ("faithful", "response", "quiet", "loud")
HONEST: tuple[Kind, ...] = ("faithful", "response")
EPSILON, DELTA, SAMPLE_RATE, STEPS = 4.0, 1e-5, 0.5, 4


def coordinates(canaries: int) -> SignedCoordinates:
    """Return so many canaries on the only coordinates there are."""
    numbers = np.arange(canaries)
    return SignedCoordinates(coordinates=numbers, signs=np.where(numbers % 2, 1.0, -1.0), dimension=canaries)


@lru_cache(maxsize=16)
def described(epsilon: float = EPSILON) -> SampledGaussianRun:
    """Return the run that is claimed: a few steps, of this ε at δ = 1e-5."""
    noise = calibrate_noise_multiplier(
        target_epsilon=epsilon, delta=DELTA, sample_rate=SAMPLE_RATE, steps=STEPS, adjacency="add_remove"
    )
    return SampledGaussianRun(noise_multiplier=noise, probability=SAMPLE_RATE, steps=STEPS)


def simulated(trainer: Kind, run: SampledGaussianRun, *, epsilon: float = EPSILON, seed: tuple[int, ...]) -> Trainer:
    """Return the trainer, whose records are the canaries alone."""

    def trained(task: TrainerTask) -> Observations:
        import torch

        return Observations(
            released=_released(trainer, task, run, epsilon, np.random.default_rng(seed)),
            max_grad_norm=1.0,
            expected_sum=torch.zeros_like,
        )

    return trained


def _released(
    trainer: Kind, task: TrainerTask, run: SampledGaussianRun, epsilon: float, rng: np.random.Generator
) -> Iterator[Release]:
    import torch

    assert isinstance(task.canaries, SignedCoordinates)
    noise = run.noise_multiplier * (0.5 if trainer == "quiet" else 1.0)
    ratio = special.expit(2 * epsilon if trainer == "loud" else epsilon)
    truthful = rng.random(len(task.canaries)) < ratio
    answers = np.where(truthful == task.membership, 1.0, -1.0) * (1 - rng.random(len(task.canaries)))
    for step in range(run.steps):
        taking_part = (rng.random(len(task.canaries)) < run.probability) & task.membership
        seen = taking_part + rng.normal(0.0, noise, len(task.canaries))
        sums = np.zeros(task.canaries.dimension)
        sums[task.canaries.coordinates] = task.canaries.signs * (answers if trainer in ("response", "loud") else seen)
        weights = torch.zeros(task.canaries.dimension)
        yield cast("Release", SimpleNamespace(step=step, weights_before=weights, noisy_sum=torch.from_numpy(sums)))
