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
from accountant.core.plans import depth, depths
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.mixtures import NONE
from mechanisms.core.process import Adjacency, Process

WIDE = 1e-8  # relative width of δ at which rare outcomes are left out
RESERVES = (16.0, 8.0, 12.0, 3.0)  # nats from δ to what is left out: the less, the milder are the moments
NEGLIGIBLE, FAR = 1e-306, 1e100  # width of δ, and ε beyond which it is as wide as may be
CLOSE, UNKNOWN, TINY = 1e-3, 20.0, 1e-320  # of log δ at a guess, of an unknown lower end, and of δ


@dataclass(frozen=True, slots=True)
class Contour(Accountant):
    """Brackets Gaussian, Laplace and discrete steps, Poisson-sampled or not, however many, in a few milliseconds.

    By δ(ε) = P(L = ∞) + (1/2πi) ∫ e^{K(t) + ε(1 − t)} / (t(t − 1)) dt on a line Re t = c > 1, K(t) = log E_Q[e^{tL}]
    composed, see the module. Use it first for DP-SGD and whatever else runs many times.

    Assumes steps whose K it knows on the line, without infinite losses. Guarantees: lower <= ε <= upper with the
    trapezoidal rule's aliases, the truncated line, the quadrature of the moments and round-off counted, see the
    ledger; round-off rests on the `validated` error of the special functions. Lower ends are 0 unless every step's
    pair is attained. Same input, same bits.

    Raises `NumericalFailure` where losses hardly vary from step to step but for rare jumps, or steps are few: then the
    transform does not decay within the budget of nodes, and `pld` has the better route.

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> process = Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.01)), 1500)
    >>> Contour().profile(process, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-15).contains(1.65535347172411)
    True

    The case of Abadi et al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5) it brackets to 2e-12:

    >>> abadi = Repeat(Sampled(Gaussian(noise_multiplier=4.0), Poisson(probability=0.01)), 10_000)
    >>> found = Contour().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> found.contains(0.94686680076438046), found.width < 1e-11
    (True, True)
    """

    cost: ClassVar[float] = 0.01

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile.

        Raises:
            UnsupportedProcess: if a step is of another kind or may have an infinite loss.
        """
        directions = steps(process, adjacency).items()
        curves = tuple((d, LineCurve(steps=parts)) for d, parts in directions if parts and lines(parts, math.inf))
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
        found = self._whole.loss.lost
        return found if self._whole.attained else Bounds(lower=0.0, upper=found.upper)

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
        """Solve the integral for ε, on lines of the whole or of a part: the first root that is one, or the nearest."""
        lost, offset = (float(0.5 * (end.lower + end.upper)) for end in (self.lost, self._whole.loss.offset))
        if lost >= delta:
            return math.inf
        rest = (delta - lost) / (1.0 - lost)
        failure, nearest = NumericalFailure(""), (math.inf, math.inf)
        for cut in (math.inf, *(float(depth(math.log(rest), reserve)) for reserve in RESERVES)):
            try:
                found = max(lines(self.steps, cut).epsilon(rest) - offset, 0.0)
                ends = self.delta(np.array([found]))[0]
                upper, lower = (math.log(max(float(end), TINY)) for end in (ends.upper, ends.lower))
                off = abs(upper - math.log(delta)) + min(upper - lower, UNKNOWN)
            except NumericalFailure as error:
                failure = error
            else:
                nearest = min(nearest, (off, found))
            if nearest[0] < CLOSE or not self._whole.loss.cuttable:
                break
        if nearest[0] == math.inf:
            raise failure
        return nearest[1]

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added on the line used for this ε."""
        point = np.array([epsilon])
        if epsilon >= self.supremum.upper:
            return ()
        best, ledger = Bounds(lower=np.zeros(1), upper=np.ones(1)), ()  # type: tuple[Bounds, Ledger]
        for reserve in (math.inf, *self._reserves):
            cut = math.inf if reserve == math.inf else float(self._cuts(point, best.upper, reserve)[0])
            with contextlib.suppress(NumericalFailure):  # nothing was read off a line for a δ of 0 or 1
                found = _read(lines(self.steps, cut), point)
                if found.upper[0] - found.lower[0] < best.upper[0] - best.lower[0]:
                    best, ledger = found, _ledger(lines(self.steps, cut), epsilon)
                if not self._wide(point, found)[0]:
                    break
        return ledger

    @property
    def _whole(self) -> Lines:
        return lines(self.steps, math.inf)

    def _delta(self, epsilon: Array) -> Bounds:
        """Enclose δ below the largest loss: by the lines of the whole and, where these do not, by those of a part."""
        best, failure = Bounds(lower=np.zeros_like(epsilon), upper=np.ones_like(epsilon)), None
        try:
            best = _read(self._whole, epsilon)
        except NumericalFailure as error:
            failure = error
        for reserve in self._reserves:
            wide = self._wide(epsilon, best)
            if not np.any(wide):
                break
            cuts = self._cuts(epsilon, best.upper, reserve)
            for cut in np.unique(cuts[wide]):
                chosen = wide & (cuts == cut)
                with contextlib.suppress(NumericalFailure):
                    found = _read(lines(self.steps, float(cut)), epsilon[chosen])
                    best.lower[chosen] = np.maximum(best.lower[chosen], found.lower)
                    best.upper[chosen] = np.minimum(best.upper[chosen], found.upper)
        if failure is not None and np.all(best.upper == 1.0):
            raise failure
        return best

    def _wide(self, epsilon: Array, delta: Bounds) -> NDArray[np.bool_]:
        """Tell where the bracket of δ, and that of ε that it stands for as log δ falls by about θ, are both wide."""
        ladder, width = self._whole.ladder, delta.upper - delta.lower
        theta = ladder.theta[np.minimum(np.searchsorted(ladder.slope, epsilon), len(ladder.theta) - 1)]
        return np.asarray(
            width > WIDE * delta.upper * np.maximum(1.0, 1e-2 * theta * np.minimum(epsilon, FAR)) + NEGLIGIBLE
        )

    @property
    def _reserves(self) -> tuple[float, ...]:
        return RESERVES if self._whole.loss.cuttable else ()

    def _cuts(self, epsilon: Array, upper: Array, reserve: float) -> Array:
        """Return, in nats, how rare outcomes must be to be left out at every ε.

        For the δ that ladders expect, but no deeper than an upper end of δ that is known asks for.
        """
        expected = depths(lambda cut, x: lines(self.steps, cut).ladder.log_delta_at(x), epsilon, reserve)
        with np.errstate(divide="ignore"):
            known = depth(np.log(upper), reserve)
        return np.where(upper < 1.0, np.minimum(expected, known), expected)


def _read(used: Lines, epsilon: Array) -> Bounds:
    """Enclose δ of the steps by the lines of what `LossSum` composes of them."""
    loss = used.loss
    if loss.offset == NONE:
        found = used.delta(epsilon)
    else:
        moved = Bounds.exact(epsilon) + loss.offset
        ends = used.delta(moved.upper), used.delta(moved.lower)
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
