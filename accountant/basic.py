"""Basic composition: the ε of the steps add up, and so do their δ.

[DR14] C. Dwork, A. Roth. The Algorithmic Foundations of Differential Privacy. 2014, §3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, dominating, largest_loss
from accountant.core.curve import Curve
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.process import Adjacency, Process

LARGEST = 1e308
SLACK = 1e-12  # for the rounding of the split: the shares may sum to less than ε, never to more


@dataclass(frozen=True, slots=True)
class Basic(Accountant):
    """δ(Σ ε_i) <= Σ δ_i(ε_i), with the budget ε split over the steps                                      [DR14, §3.5].

    Steps whose loss is bounded (pure differential privacy) get their whole bound where the budget allows it, and cost
    no δ then; the rest is split in proportion to each step's scale of loss. Any split is valid, this one not optimal.

    Use it for a handful of steps of pure guarantees, where it is the truth at δ = 0, and to reproduce what was summed
    by hand; for everything else any other accountant is better.

    Assumes nothing but that every step has a dominating pair. Guarantees: an upper bound. Far from tight for many
    steps: on the case of Abadi et al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5) it is 236 times the truth, .946867:

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> round(Basic().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).upper, 2)
    223.49

    >>> from mechanisms import RandomizedResponse, Repeat
    >>> process = Repeat(RandomizedResponse(epsilon=0.5), 4)
    >>> round(Basic().profile(process, adjacency=Adjacency.REPLACE_ONE).epsilon(0.0).upper, 9)
    2.0
    """

    cost: ClassVar[float] = 2.0

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0."""
        curves = tuple((d, BasicCurve(steps=parts)) for d, parts in dominating(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicCurve(Curve):
    """Σ n_i δ_i(share_i ε) over the steps of one direction."""

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i), where no step has an infinite loss."""
        return Bounds(lower=0.0, upper=largest_loss(self.steps).upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Return the sum of the steps' δ as the upper end, 0 as the lower."""
        total = Bounds.exact(np.zeros_like(epsilon))
        for (pair, times), budget in zip(self.steps, self._split(epsilon), strict=True):
            total = total + float(times) * pair.delta(Bounds.exact(budget))
        upper = np.where(epsilon >= self.supremum.upper, 0.0, np.minimum(total.upper, 1.0))
        return Bounds(lower=np.zeros_like(epsilon), upper=upper)

    def guess(self, delta: float) -> float:
        """Σ n_i weight_i √(2 log 1/δ)."""
        _, weights, times = self._weights()
        with np.errstate(over="ignore"):
            return float(np.dot(weights, times)) * math.sqrt(2 * math.log(1 / delta))

    def _weights(self) -> tuple[Array, Array, Array]:
        """Return, for every step, whether its loss is bounded, its weight in the split, and how often it runs.

        The weight is the bound, or else a standard deviation of the loss or so, from −8 log E_Q[e^{L/2}] = μ² for a
        Gaussian.
        """
        ceilings = np.array([p.supremum.upper if p.infinite_mass.upper == 0 else math.inf for p, _ in self.steps])
        variances = np.array([-8 * p.log_mixture_moment(1.0, 0.5).lower for p, _ in self.steps])
        pure = np.isfinite(ceilings)
        weights = np.where(pure, np.maximum(ceilings, 0.0), np.sqrt(np.clip(variances, 1e-300, 1e300)))
        return pure, weights, np.array([float(n) for _, n in self.steps])

    def _split(self, epsilon: Array) -> Array:
        """Return each step's share of every ε, shape (steps, n); times the repeats they sum to ε, rounded down."""
        pure, weights, times = self._weights()
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a sum that leaves the floats is inf: nothing is spared, and no budget given
            bounded, rest = float(np.dot(weights * times, pure)), float(np.dot(weights * times, np.logical_not(pure)))
            enough = epsilon >= bounded * (1 + SLACK)
            spared = np.where(enough, epsilon - bounded * (1 + SLACK), 0.0)
            of_rest = weights[:, None] / (rest or math.inf) * (1 - SLACK)
            of_all = weights[:, None] / ((bounded + rest) or math.inf) * (1 - SLACK)
            shares = np.where(pure[:, None], weights[:, None], spared * of_rest)
            return np.where(enough, shares, np.nan_to_num(epsilon * of_all, nan=0.0, posinf=LARGEST))
