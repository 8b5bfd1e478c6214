"""Pure differential privacy: the largest losses of the steps add up, and that is all there is to say at small δ.

[DR14] C. Dwork, A. Roth. The Algorithmic Foundations of Differential Privacy. 2014, §3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, largest_loss, steps
from accountant.core.curve import Curve
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Process


@dataclass(frozen=True, slots=True)
class Pure(Accountant):
    """Brackets ε by the largest loss s = Σ n_i s_i and the probability p = Π p_i^{n_i} of the outcome that has it.

        p (1 − e^{ε − s}) <= δ(ε) <= 1 − e^{ε − s},    so that    s + log(1 − δ/p) <= ε(δ) <= s + log(1 − δ)

    as δ(ε) = E_P (1 − e^{ε − L})₊. From above it is basic composition [DR14, Thm 3.14]; the bracket is narrow where δ
    is much smaller than p.

    Use it at δ far below p, where it is the truth, as for few steps of large pure guarantees.

    Assumes steps whose losses are bounded, so that it refuses the case of Abadi et al., which is Gaussian. Guarantees:
    lower <= ε <= upper, every rounding counted. Lower ends are 0 unless every step's pair is attained.

    >>> from mechanisms import Laplace, Repeat
    >>> three = Repeat(Laplace(noise_multiplier=1.0), 3)
    >>> Pure().profile(three, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-20).width < 1e-13
    True
    """

    cost: ClassVar[float] = 0.001

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile.

        Raises:
            UnsupportedProcess: if a step's loss is unbounded.
        """
        directions = steps(process, adjacency).items()
        if any(
            pair.infinite_mass.upper > 0 or pair.supremum.upper == math.inf
            for _, part in directions
            for pair, _ in part
        ):
            raise UnsupportedProcess("pure: a step's loss is unbounded, so that no ε has δ = 0. Use accountant='pld'.")
        curves = tuple((d, PureCurve(steps=parts)) for d, parts in directions if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PureCurve(Curve):
    """What s and p say about δ(ε)."""

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """s."""
        return largest_loss(self.steps)

    @property
    def lost(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ between p (1 − e^{ε − s}) and 1 − e^{ε − s}."""
        gap = -expm1((Bounds.exact(epsilon) - self.supremum).clip(-np.inf, 0.0))
        least = _likely(self.steps) * gap
        upper = np.where(epsilon >= self.supremum.upper, 0.0, np.clip(gap.upper, 0.0, 1.0))
        return Bounds(lower=np.clip(least.lower, 0.0, upper), upper=upper)

    def epsilon(self, delta: float) -> Bounds:
        """Enclose ε between s + log(1 − δ/p) and s + log(1 − δ)."""
        if delta >= 1.0:
            return Bounds.exact(0.0)
        upper = self.supremum + log1p(-Bounds.exact(delta))
        likely = float(_likely(self.steps).lower)
        share = float((delta / Bounds.exact(likely)).upper) if likely > 0 else math.inf
        lower = self.supremum + log1p(Bounds.exact(-share)) if share < 1.0 else Bounds.exact(0.0)
        return Bounds(lower=max(0.0, min(lower.lower, upper.upper)), upper=max(0.0, upper.upper))

    def ledger(self, epsilon: float) -> Ledger:
        """Return the distance of the two ends of δ, which outcomes of smaller losses decide."""
        found = self.delta(np.array([epsilon]))[0]
        source = "outcomes whose loss is not the largest"
        return (ErrorLine(source=source, bound=float(found.width), unit="delta", basis="proved"),)


@lru_cache(maxsize=32)
def _likely(parts: Steps) -> Bounds:
    """Enclose p; its lower end is 0 unless every pair is attained."""
    total = Bounds.exact(0.0)
    for pair, times in parts:
        total = total + float(times) * log(pair.supremum_mass)
    found = exp(total.clip(-np.inf, 0.0))
    attained = all(pair.attained for pair, _ in parts)
    return Bounds(lower=found.lower if attained else 0.0, upper=found.upper)
