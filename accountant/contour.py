"""The contour: δ(ε) as an integral over a vertical line, at a cost that does not depend on the number of steps.

The mathematics is in `accountant.core.vertical_line` (the integral and its errors), `accountant.core.normal_sums` (the
transform of the sum of all losses) and `mechanisms.core.mixture_grid` (that of one step's).

[ZDW22] Y. Zhu, J. Dong, Y.-X. Wang. Optimal Accounting of Differential Privacy via Characteristic Function.
AISTATS 2022. arXiv:2106.08567.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, steps
from accountant.core.ladder import NATS, Ladder
from accountant.core.ledger import Ledger
from accountant.core.normal_sums import NormalSum
from accountant.core.profile import Curve, Profile
from accountant.core.vertical_line import Line, line
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

ALIASED = 1e-8  # relative to δ: where they count
MOST_REFINED = 4


@dataclass(frozen=True, slots=True)
class Contour(Accountant):
    """Brackets compositions of Gaussians, Poisson-sampled or not, in a few milliseconds for any number of steps.

    Guarantees: lower <= ε <= upper with the trapezoidal rule's aliases, the truncated line, the quadrature of the
    moments and round-off counted, see the ledger; round-off rests on the `validated` error of the special functions.
    Lower ends are 0 unless every step's pair is attained. Same input, same bits.

    Raises `NumericalFailure` where losses hardly vary from step to step but for rare jumps, or steps are few: then the
    transform does not decay within the budget of nodes, and `pld` has the better route.

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> process = Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.01)), 1500)
    >>> Contour().profile(process, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-15).contains(1.65535347172411)
    True
    """

    cost: ClassVar[float] = 0.01

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile.

        Raises:
            UnsupportedProcess: if a step is neither a Gaussian nor a Poisson-sampled one.
        """
        curves = tuple((d, LineCurve(steps=parts)) for d, parts in steps(process, adjacency).items() if parts)
        for _, curve in curves:
            curve.check()
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCurve(Curve):
    """δ(ε) of the composition of one direction's steps.

    Args:
        steps: the pairs and how often each runs.
    """

    steps: Steps

    def check(self) -> None:
        """Refuse steps that are no normals.

        Raises:
            UnsupportedProcess: naming the kind of step.
        """
        for pair, _ in self.steps:
            if pair.normal_mixture is None:
                raise UnsupportedProcess(
                    f"contour: it integrates the transforms of Gaussians, Poisson-sampled or not, got "
                    f"{type(pair).__name__}. Use accountant='pld', which brackets any pair."
                )

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        total = Bounds.exact(0.0)
        for pair, times in self.steps:
            total = total + float(times) * pair.supremum
        return Bounds(lower=float(total.lower) if self._attained else 0.0, upper=float(total.upper))

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, each ε on the line that suits it.

        Raises:
            NumericalFailure: if the line can't be had within its budget.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
        inside = epsilon < self.supremum.upper  # beyond the largest loss δ is exactly 0
        plans = _ladder(self.steps).for_epsilon(epsilon)
        for plan in sorted({plan for plan, here in zip(plans, inside, strict=True) if here}):
            chosen = inside & np.array([other == plan for other in plans])
            bounds = self._fine_line(*plan, epsilon[chosen]).delta(epsilon[chosen])
            lower[chosen], upper[chosen] = bounds.lower, bounds.upper
        return Bounds(lower=lower if self._attained else np.zeros_like(lower), upper=upper)

    def guess(self, delta: float) -> float:
        """Solve the integral for ε, on the line that suits δ and then on the one that suits that ε."""
        ladder = _ladder(self.steps)
        plan, start = ladder.for_delta(delta)
        epsilon = self._fine_line(*plan, np.zeros(0)).epsilon(delta, start)
        better = ladder.for_epsilon(np.array([epsilon]))[0]
        if epsilon >= self.supremum.upper or better == plan:
            return epsilon
        return self._fine_line(*better, np.array([epsilon])).epsilon(delta, epsilon)

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added on the line used for this ε."""
        if epsilon >= self.supremum.upper:
            return ()
        point = np.array([epsilon])
        return self._fine_line(*_ladder(self.steps).for_epsilon(point)[0], point).ledger(epsilon)

    @property
    def _attained(self) -> bool:
        return all(pair.attained for pair, _ in self.steps)

    def _fine_line(self, rung: int, level: int, epsilon: Array) -> Line:
        """Return a line of this rung whose aliases do not count at these ε; of a lower one where it has none."""
        found = self._lowered(rung, level)
        for _ in range(MOST_REFINED):
            missing = found.missing(epsilon, ALIASED)
            if missing <= 0:
                break
            level += math.ceil(min(missing, 700.0) / NATS)
            found = self._lowered(rung, level)
        return found

    def _lowered(self, rung: int, level: int) -> Line:
        """Return the line of this rung or, where it leaves the floats, of the next one below."""
        for lower in range(rung, 0, -1):
            with contextlib.suppress(NumericalFailure):
                return _line(self.steps, lower, level)
        return _line(self.steps, 0, level)


@lru_cache(maxsize=64)
def _ladder(parts: Steps) -> Ladder:
    return Ladder.of(_sum(parts))


@lru_cache(maxsize=64)
def _sum(parts: Steps) -> NormalSum:
    return NormalSum.of(parts)


@lru_cache(maxsize=64)
def _line(parts: Steps, rung: int, level: int) -> Line:
    return line(_sum(parts), _ladder(parts).layout(rung, level))
