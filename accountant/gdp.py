"""Exact accounting of Gaussian mechanisms: a composition of Gaussians is one Gaussian.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, steps
from accountant.core.profile import Curve, Profile
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Process
from mechanisms.gaussian import GaussianPair


@dataclass(frozen=True, slots=True)
class GDP(Accountant):
    """Gaussian differential privacy: μ = (Σ μ_i²)^½, then δ(ε) of one Gaussian             [DRS22, Cor 3.3].

    Guarantees: exact up to the rounding of floats, for unsampled Gaussian mechanisms with any noise multipliers.

    >>> from mechanisms import Gaussian, Repeat
    >>> profile = GDP().profile(Repeat(Gaussian(noise_multiplier=10.0), 100), adjacency=Adjacency.ADD_REMOVE)
    >>> profile.epsilon(1e-5).contains(4.3771780956812246)
    True
    """

    exact: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the exact profile.

        Raises:
            UnsupportedProcess: if a step is anything but an unsampled Gaussian.
        """
        curves = tuple((d, _curve(parts)) for d, parts in steps(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True)
class GaussianCurve(Curve):
    """δ(ε) of one Gaussian pair."""

    pair: GaussianPair

    @property
    def supremum(self) -> Bounds:
        """Infinite."""
        return self.pair.supremum

    def delta(self, epsilon: Array) -> Bounds:
        """δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
        return self.pair.delta(Bounds.exact(epsilon))

    def guess(self, delta: float) -> float:
        """μ²/2 + μ √(2 log 1/δ), the order of magnitude."""
        mu = min(float(self.pair.shift.upper), 1e150)
        return mu * mu / 2 + mu * float(np.sqrt(2 * np.log(1 / delta)))


def _curve(parts: Steps) -> Curve:
    powers = []
    for pair, times in parts:
        if not isinstance(pair, GaussianPair):
            raise UnsupportedProcess(
                f"gdp: exact only for Gaussian mechanisms without sampling, got {type(pair).__name__}. "
                "Use accountant='pld', which brackets any pair."
            )
        powers.append(pair.power(times))
    return GaussianCurve(pair=reduce(GaussianPair.times, powers))
