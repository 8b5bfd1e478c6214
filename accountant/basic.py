"""Basic composition: the ε of the steps add up, and so do their δ.

[DR14] C. Dwork, A. Roth. The Algorithmic Foundations of Differential Privacy. 2014, §3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.base import Accountant, Steps, steps
from accountant.core.profile import Curve, Profile
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.process import Adjacency, Process


@dataclass(frozen=True, slots=True)
class Basic(Accountant):
    """δ(Σ ε_i) <= Σ δ_i(ε_i), with the budget ε split over the steps.

    Steps whose loss is bounded (pure differential privacy) get their whole bound where the budget allows it, and cost
    no δ then; the rest is split in proportion to each step's scale of loss. Any split is valid; this one is not optimal.

    Guarantees: an upper bound, for any process whose steps have a dominating pair. Far from tight for many steps.

    >>> from mechanisms import RandomizedResponse, Repeat
    >>> process = Repeat(RandomizedResponse(epsilon=0.5), 4)
    >>> round(Basic().profile(process, adjacency=Adjacency.REPLACE_ONE).epsilon(0.0).upper, 9)
    2.0
    """

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0."""
        curves = tuple((d, BasicCurve(steps=parts)) for d, parts in steps(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicCurve(Curve):
    """Σ n_i δ_i(share_i ε) over the steps of one direction."""

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i), where no step has an infinite loss."""
        total = Bounds.exact(0.0)
        for pair, times in self.steps:
            lost = math.inf if pair.infinite_mass.upper > 0 else 0.0
            total = total + float(times) * pair.supremum.clip(0.0, math.inf) + lost
        return Bounds(lower=0.0, upper=total.upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Return the sum of the steps' δ as the upper end, 0 as the lower."""
        total = Bounds.exact(np.zeros_like(epsilon))
        for (pair, times), budget in zip(self.steps, self._split(epsilon), strict=True):
            total = total + float(times) * pair.delta(Bounds.exact(budget))
        upper = np.where(epsilon >= self.supremum.upper, 0.0, np.minimum(total.upper, 1.0))
        return Bounds(lower=np.zeros_like(epsilon), upper=upper)

    def guess(self, delta: float) -> float:
        """Σ n_i scale_i √(2 log(1/δ))."""
        return float(sum(n * s for (_, n), s in zip(self.steps, self._scales(), strict=True)) * math.sqrt(2 * math.log(1 / delta)) + 1e-6)

    def _scales(self) -> list[float]:
        """A standard deviation of each step's loss or so, from −8 log E_Q[e^{L/2}] = μ² for a Gaussian."""
        return [math.sqrt(max(-8 * pair.log_mixture_moment(1.0, 0.5).lower, 1e-300)) for pair, _ in self.steps]

    def _split(self, epsilon: Array) -> list[Array]:
        """Return each step's share of the budget; n times the shares sum to ε, rounded down."""
        ceilings = [pair.supremum.upper if pair.infinite_mass.upper == 0 else math.inf for pair, _ in self.steps]
        pure = sum(n * c for (_, n), c in zip(self.steps, ceilings, strict=True) if math.isfinite(c))
        scales = self._scales()
        rest = sum(n * s for (_, n), s, c in zip(self.steps, scales, ceilings, strict=True) if math.isinf(c))
        spared = np.maximum(epsilon - pure * (1 + 1e-12), 0.0) * (1 - 1e-12)
        enough = epsilon >= pure * (1 + 1e-12)
        whole = sum(n * (s if math.isinf(c) else c) for (_, n), s, c in zip(self.steps, scales, ceilings, strict=True))
        small = epsilon * (1 - 1e-12) / whole if whole > 0 else np.zeros_like(epsilon)
        return [
            np.where(enough, spared * scale / rest if rest > 0 else 0.0, small * scale) if math.isinf(ceiling)
            else np.where(enough, ceiling, small * ceiling)
            for scale, ceiling in zip(scales, ceilings, strict=True)
        ]
