"""The contour: δ(ε) as an integral over a vertical line, at a cost that does not depend on the number of steps.

The mathematics is in `accountant.core.vertical_line` (the integral and its errors), `accountant.core.loss_sums` (the
transform of the sum of all losses), `mechanisms.core.mixture_grid` (that of a step of normals) and
`mechanisms.core.bounded_losses` (that of a Laplace or a discrete step).

[ZDW22] Y. Zhu, J. Dong, Y.-X. Wang. Optimal Accounting of Differential Privacy via Characteristic Function.
AISTATS 2022. arXiv:2106.08567.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from accountant.core.base import Accountant, Steps, steps
from accountant.core.curve import Curve
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.lines import Lines, lines
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.mixtures import NONE
from mechanisms.core.process import Adjacency, Process

WIDE = 1e-6  # relative width of δ at which rare outcomes are left out
STEP, RESERVE, DEEPEST = 32.0, 24.0, 740.0  # nats: of the depths, from δ to a depth, of the least δ
MOST_DEEPENED = 4


@dataclass(frozen=True, slots=True)
class Contour(Accountant):
    """Brackets Gaussian, Laplace and discrete steps, Poisson-sampled or not, however many, in a few milliseconds.

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
            UnsupportedProcess: if a step is of another kind or may have an infinite loss.
        """
        directions = steps(process, adjacency).items()
        curves = tuple((d, LineCurve(steps=parts)) for d, parts in directions if parts and lines(parts))
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCurve(Curve):
    """δ(ε) of the composition of one direction's steps.

    Where the lines of the whole have no narrow answer, as rare outcomes reign over the moments, those outcomes are left
    out at a depth that suits δ, see `mechanisms.core.cut_normals`.

    Args:
        steps: the pairs and how often each runs.
    """

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        return self._whole.supremum

    @property
    def lost(self) -> Bounds:
        """Enclose P(L = ∞)."""
        return self._whole.loss.lost

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, each ε on the line that suits it, from 0 to 1 where that can't be had within its budget.

        Raises:
            NumericalFailure: if none of the lines can.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
        inside = epsilon < self.supremum.upper  # beyond the largest loss δ is exactly 0
        if np.any(inside):
            found = self._delta(epsilon[inside])
            lower[inside], upper[inside] = found.lower, found.upper
        return Bounds(lower=lower if self._whole.attained else np.zeros_like(lower), upper=upper)

    def guess(self, delta: float) -> float:
        """Solve the integral for ε."""
        lost, offset = (float(0.5 * (end.lower + end.upper)) for end in (self.lost, self._whole.loss.offset))
        if lost >= delta:
            return math.inf
        rest = (delta - lost) / (1.0 - lost)
        try:
            return max(self._whole.epsilon(rest) - offset, 0.0)
        except NumericalFailure:
            if not self._whole.loss.cuttable:
                raise
            return max(lines(self.steps, float(_deep_enough(math.log(rest)))).epsilon(rest) - offset, 0.0)

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added on the line used for this ε."""
        point = np.array([epsilon])
        if epsilon >= self.supremum.upper:
            return ()
        for used in self._routes(point):
            with contextlib.suppress(NumericalFailure):  # nothing was read off a line for a δ of 0 or 1
                if not _wide(_read(used, point))[0] or used is not self._whole:
                    return _ledger(used, epsilon)
        return ()

    @property
    def _whole(self) -> Lines:
        return lines(self.steps)

    def _delta(self, epsilon: Array) -> Bounds:
        """Enclose δ below the largest loss: by the lines of the whole and, where these do not, by those of a part."""
        best, failure = Bounds(lower=np.zeros_like(epsilon), upper=np.ones_like(epsilon)), None
        try:
            best = _read(self._whole, epsilon)
        except NumericalFailure as error:
            failure = error
        wide = _wide(best)
        if self._whole.loss.cuttable and np.any(wide):
            depths = self._depths(epsilon)
            for depth in np.unique(depths[wide]):
                chosen = wide & (depths == depth)
                with contextlib.suppress(NumericalFailure):
                    found = _read(lines(self.steps, float(depth)), epsilon[chosen])
                    best.lower[chosen] = np.maximum(best.lower[chosen], found.lower)
                    best.upper[chosen] = np.minimum(best.upper[chosen], found.upper)
        if failure is not None and np.all(best.upper == 1.0):
            raise failure
        return best

    def _routes(self, epsilon: Array) -> list[Lines]:
        if not self._whole.loss.cuttable:
            return [self._whole]
        return [self._whole, lines(self.steps, float(self._depths(epsilon)[0]))]

    def _depths(self, epsilon: Array) -> Array:
        """Return, in nats, how rare outcomes must be to be left out, for the δ that ladders expect at every ε."""
        depths = np.full(epsilon.shape, STEP * 2)
        for _ in range(MOST_DEEPENED):
            needed = depths.copy()
            for depth in np.unique(depths):
                chosen = depths == depth
                expected = lines(self.steps, float(depth)).ladder.log_delta_at(epsilon[chosen])
                needed[chosen] = np.maximum(depth, _deep_enough(expected))
            if np.array_equal(needed, depths):
                break
            depths = needed
        return depths


def _deep_enough(log_delta: Array | float) -> Array:
    """Return a multiple of `STEP` by which what is left out lies far below δ."""
    return np.asarray(STEP * np.ceil((RESERVE + np.clip(-np.asarray(log_delta), 0.0, DEEPEST)) / STEP))


def _wide(bounds: Bounds) -> NDArray[np.bool_]:
    return np.asarray(bounds.upper - bounds.lower > WIDE * bounds.upper)


def _read(used: Lines, epsilon: Array) -> Bounds:
    """Enclose δ of the steps by the lines of what `LossSum` composes of them."""
    loss = used.loss
    if loss.offset == NONE:
        found = used.delta(epsilon)
    else:
        ends = used.delta(epsilon + loss.offset.upper), used.delta(epsilon + loss.offset.lower)
        found = Bounds(lower=ends[0].lower, upper=ends[1].upper)
    if loss.lost != NONE:
        found = loss.lost + (1.0 - loss.lost) * found
    upper = np.minimum(found.upper + loss.left_out * (1 + 1e-9), 1.0) if loss.left_out else found.upper
    return Bounds(lower=np.clip(found.lower, 0.0, upper), upper=np.minimum(upper, 1.0))


def _ledger(used: Lines, epsilon: float) -> Ledger:
    point = np.array([epsilon + used.loss.offset.upper])
    ledger = used.line(*used.ladder.for_epsilon(point)[0], point).ledger(float(point[0]))
    if not used.loss.left_out:
        return ledger
    left_out = ErrorLine(
        source="truncation: rare outcomes left out", bound=used.loss.left_out, unit="delta", basis="proved"
    )
    return (*ledger, left_out)
