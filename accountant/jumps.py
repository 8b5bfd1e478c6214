"""Rare jumps: few Poisson-sampled Gaussians at a δ that a single far outcome decides, split by the number of jumps.

A step jumps where z > z_i, with P-probability p_i so small that two jumps in a run are as good as impossible. What
happens in a run is split into no jump, one, and more:

    δ_1(ε) <= δ(ε) <= δ_0(ε) + δ_1(ε) + ½ (Σ n_i p_i)²,      δ_1(ε) = Σ n_i E G_i(ε − X_i),

where X_i is the loss of the other steps, without jumps, G_i(u) = ∫_{z > z_i} (P_i − e^u Q_i)₊ dz, which is δ_i(u) of
the whole step where its loss at z_i is below u, and δ_0(ε) <= e^{K(θ) − θε} by Chernoff, K of the steps without jumps.

From below G_i is convex in e^u, and E e^{−X_i} <= 1: by Jensen's inequality E G_i(ε − X) >= m G_i(ε − log m), m = P(no
jump). From above G = Σ n_i G_i falls, so that on a fine partition of all x that matter

    G(ε − x) <= (1 + σ) G(ε) e^{θx} (1 + κ (cosh θx − 1)),      θ about −G'/G,

can be seen to hold for some σ and κ, and then E G(ε − X) <= (1 + σ) G(ε) ((1 − κ)₊ M(θ) + ½ κ (M(2θ) + 1)),
where M(θ) = E e^{θX}. For X the loss of all steps will do, as adding step i to X_i only adds to E G_i, again by Jensen:
E G_i(ε − X_i) <= E G_i(ε + log m − X) / m. Where Σ n_i p_i <= x <= ½, −log m <= 2x and 1/m <= 1 + 2x.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, largest_loss, steps
from accountant.core.curve import Curve
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.loss_sums import LossSum
from accountant.core.profile import Profile
from accountant.core.search import enclosed
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.cut_normals import CutNormals
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.likelihood_ratio import log_mixture
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.process import Adjacency, Process

TWICE, FAR = (12.0, 7.5), 14.0  # nats below δ: tried for two jumps, and of a loss without jumps beyond the partition
FINE, MOST_CELLS = 3e-4, 2**16  # of the partition: θ times the width of a cell
WORTH = 1.5  # how many times the lower end of δ the upper may be for ε to be looked for
SHORT = 1e-3  # of ε, by which what is looked at ends below it
HOPELESS = 100.0  # nats by which no fit is tried
NEAR = 0.3  # θ|x| from which on κ is fitted
SLACK = 1e-9  # for round-off, relative
LEAST = 1e-12  # of an ε that is looked at: powers that suit smaller ones leave the floats
TILTS = 2.0 ** np.arange(-8.0, 8.1, 0.5)  # times θ, to choose from for Chernoff's inequality
SECTIONS, ROUNDS = 2**8, 5  # of the place of an ε, which is known to 2^−40 then


@dataclass(frozen=True, slots=True)
class Jumps(Accountant):
    """Brackets Poisson-sampled Gaussians where one far outcome decides: small sampling probability, few steps, tiny δ.

    By the split into no jump, one, and more, see the module. Use it where δ is far smaller than the probability that
    the record is ever sampled, and `contour` refuses or is wide.

    Assumes Poisson-sampled Gaussians alone. Guarantees: lower <= ε <= upper in exact arithmetic and with a relative
    1e-9 for rounding on top of enclosures of the single steps' δ and of the moments. Lower ends are 0 unless every
    step's pair is attained. Where more than one outcome decides, the bracket is wide: of the case of Abadi et al.
    (σ = 4, q = .01, 10,000 steps, δ = 1e-5) it says nothing, [0, ∞].

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> process = Repeat(Sampled(Gaussian(noise_multiplier=1.15), Poisson(probability=6.4e-4)), 3)
    >>> found = Jumps().profile(process, adjacency=Adjacency.ADD_REMOVE).epsilon(5e-16)
    >>> found.width < 1e-3 * found.upper
    True
    """

    cost: ClassVar[float] = 0.1

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile.

        Raises:
            UnsupportedProcess: if a step is no Poisson-sampled Gaussian.
        """
        directions = steps(process, adjacency).items()
        mixtures = [pair.mixture for _, parts in directions for pair, _ in parts]
        if not all(isinstance(m, NormalMixture) and m.probability < 1.0 for m in mixtures):
            raise UnsupportedProcess("jumps: for Poisson-sampled Gaussians alone. Use accountant='contour' or 'pld'.")
        curves = tuple((d, JumpCurve(steps=parts)) for d, parts in directions if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpCurve(Curve):
    """δ(ε) of one direction's steps; of reversed pairs only that it is 0 beyond the largest loss."""

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        return largest_loss(self.steps)

    @property
    def lost(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, from 0 to 1 where no single jump decides."""
        epsilon = np.asarray(epsilon, dtype=np.float64)
        found = [self._delta(float(x)) for x in epsilon]
        lower, upper = np.array([low for low, _ in found]), np.array([high for _, high in found])
        attained = all(pair.attained for pair, _ in self.steps)
        return Bounds(lower=lower if attained else np.zeros_like(lower), upper=upper)

    def epsilon(self, delta: float) -> Bounds:
        """Enclose ε where a single jump decides; else between 0 and the largest loss."""
        if 0.0 < delta < 1.0:
            ends = self.delta(np.array([self.guess(delta)]))[0]
            if not ends.upper <= WORTH * ends.lower:
                return Bounds(lower=0.0, upper=max(0.0, float(self.supremum.upper)))
        return enclosed(self, delta)

    def guess(self, delta: float) -> float:
        """Solve Σ n_i δ_i(ε) = δ, many points at a time."""
        low, high = 0.0, 1.0
        while high < 1e3 and _singles(self.steps, np.array([high]))[1][0] > delta:
            low, high = high, 2.0 * high
        for _ in range(ROUNDS):
            points = np.linspace(low, high, SECTIONS + 1)
            over = 1 + np.flatnonzero(_singles(self.steps, points[1:-1])[1] > delta)
            last = int(over[-1]) if len(over) else 0
            low, high = float(points[last]), float(points[last + 1])
        return high

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added for runs with no jump and with two, of the split with the smaller upper end."""
        lines: list[tuple[float, Ledger]] = []
        for split in self._splits(epsilon):
            with contextlib.suppress(NumericalFailure):
                if (upper := split.upper()) < 1.0:
                    lines.append((upper, split.ledger()))
        return min(lines, default=(1.0, ()), key=lambda line: line[0])[1]

    def _delta(self, epsilon: float) -> tuple[float, float]:
        if epsilon >= self.supremum.upper:
            return 0.0, 0.0
        lower, upper = 0.0, 1.0
        for split in self._splits(epsilon):
            with contextlib.suppress(NumericalFailure):
                lower, upper = max(lower, split.lower()), min(upper, split.upper())
        return lower, upper

    def _splits(self, epsilon: float) -> Iterator[Split]:
        """Yield the ways to split a run, none where no single jump can decide."""
        mixtures = [pair.mixture for pair, _ in self.steps]
        if epsilon <= LEAST or any(isinstance(m, NormalMixture) and m.reverse for m in mixtures):
            return
        _, single = _singles(self.steps, np.array([epsilon]))
        if 1e-300 < single[0] < 1e-3:
            for nats in TWICE:
                with contextlib.suppress(NumericalFailure):
                    yield Split.at(self.steps, epsilon, math.log(float(single[0])), nats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A run split by its number of jumps, at one ε.

    Args:
        steps: the pairs and how often each runs.
        epsilon: ε.
        log_delta: about log δ.
        rest: the sum of the losses without jumps.
        losses: of a step at z_i, for each kind.
    """

    steps: Steps
    epsilon: float
    log_delta: float
    rest: LossSum
    losses: Array

    @classmethod
    def at(cls, parts: Steps, epsilon: float, log_delta: float, nats: float) -> Split:
        """Choose the z_i beyond which two jumps are so many nats less likely than δ."""
        rest = LossSum.of(parts, 0.5 * (nats - log_delta))
        ((cut, _),) = rest.groups
        assert isinstance(cut, CutNormals)
        mu, q = np.asarray(cut.shift.upper), cut.probability
        losses = log_mixture(mu * cut.last - 0.5 * np.asarray(cut.shift.lower) ** 2, q)
        return cls(steps=parts, epsilon=epsilon, log_delta=log_delta, rest=rest, losses=losses * (1 + SLACK))

    def lower(self) -> float:
        """Return Σ n_i m G_i(ε − log m) over the kinds whose jumps begin below ε."""
        jumping = self.rest.left_out
        if not jumping < 0.5:
            return 0.0
        beyond = (Bounds.exact([self.epsilon]) + 2.0 * jumping).upper
        least, _ = _singles(self.steps, beyond, self.losses < self.epsilon)
        return float(least[0]) * (1.0 - jumping) * (1.0 - SLACK)

    def upper(self) -> float:
        """Return δ_0 + δ_1 + ½ (Σ n_i p_i)² from above."""
        low, theta = float(_singles(self.steps, np.array([self.epsilon]))[0][0]), self._slope()
        if not (low > 0.0 and 0.0 < theta < math.inf):
            return 1.0
        jumping = self.rest.left_out
        if not 2.0 * jumping < min(SHORT * self.epsilon, 1.0):
            return 1.0
        none, beyond, reach = self._tails(theta)
        sigma, kappa = self._fit(theta, reach, low)
        if not sigma < math.inf:
            return 1.0
        once, twice = (math.exp(min(self.rest.log_moment(power), 700.0)) for power in (theta, 2.0 * theta))
        mean = max(1.0 - kappa, 0.0) * once + 0.5 * kappa * (twice + 1.0)
        single = ((1.0 + sigma) * low * mean + beyond) * (1.0 + 2.0 * jumping)
        return (none + single + 0.5 * jumping**2) * (1.0 + SLACK)

    def ledger(self) -> Ledger:
        """Return a line for everything but the one jump itself."""
        none, beyond, _ = self._tails(self._slope())
        lines = (
            ("truncation: runs without a jump", none),
            ("truncation: runs with two jumps and more", 0.5 * self.rest.left_out**2),
            ("truncation: losses beyond what was looked at", beyond),
        )
        return tuple(ErrorLine(source=source, bound=bound, unit="delta", basis="proved") for source, bound in lines)

    def _slope(self) -> float:
        """About −G'/G at ε."""
        _, near = _singles(self.steps, self.epsilon * np.array([1.0 - 1e-4, 1.0 + 1e-4]))
        return (math.log(near[0]) - math.log(near[1])) / (2e-4 * self.epsilon) if near[1] > 0.0 else math.nan

    def _tails(self, theta: float) -> tuple[float, float, float]:
        """Return bounds of δ_0, and of what the loss without jumps adds beyond some reach; and that reach."""
        tilts = theta * TILTS
        plan = self.rest.plan(tilts)[0]
        reaches = (1.0 - SHORT) * self.epsilon * 2.0 ** -np.arange(0.0, 7.0, 0.25)
        wanted = self.log_delta - FAR - math.log(self.rest.left_out)
        with np.errstate(invalid="ignore"):
            heights = np.where(np.isfinite(plan), plan - tilts * reaches[:, None], math.inf)
        best = np.min(heights, axis=1)
        chosen = int(np.max(np.flatnonzero(best <= min(wanted, -FAR)), initial=0))
        bounds = []
        for row in (0, chosen):
            tilt = float(tilts[int(np.argmin(heights[row]))])
            bounds.append(math.exp(min(self.rest.log_moment(tilt) - tilt * float(reaches[row]), 0.0)))
        return bounds[0], bounds[1] * self.rest.left_out, float(reaches[chosen])

    def _fit(self, theta: float, reach: float, single: float) -> tuple[float, float]:
        """Return σ and κ for all x from the least loss without jumps up to the reach."""
        ((cut, times),) = self.rest.groups
        assert isinstance(cut, CutNormals)
        least = float(times @ np.log1p(-cut.probability)) * (1 + SLACK)
        cells = math.ceil(min((reach - least) * theta / FINE, MOST_CELLS)) + 1
        x = np.linspace(least, reach, cells + 1)
        left = self.epsilon - Bounds.exact(x[1:]) - 2.0 * self.rest.left_out  # above 0 up to the reach
        _, above = _singles(self.steps, np.maximum(left.lower, 0.0))
        with np.errstate(divide="ignore"):
            log_ratio = np.log(above) - math.log(single) - theta * x[:-1]
        if np.max(log_ratio) > HOPELESS:
            return math.inf, 0.0
        ratio = np.exp(log_ratio)
        inner = np.where(x[:-1] * x[1:] <= 0, 0.0, np.minimum(np.abs(x[:-1]), np.abs(x[1:])))
        bent = np.cosh(np.minimum(theta * inner, 300.0)) - 1.0
        far = theta * inner >= NEAR
        kappa = max(0.0, float(np.max((ratio[far] - 1.0) / bent[far], initial=0.0)))
        sigma = max(0.0, float(np.max(ratio / (1.0 + kappa * bent))) - 1.0)
        return sigma + SLACK, kappa


def _singles(parts: Steps, epsilon: Array, chosen: Array | None = None) -> tuple[Array, Array]:
    """Enclose Σ n_i δ_i(ε), over the chosen kinds if not over all."""
    lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
    for k, (pair, times) in enumerate(parts):
        if chosen is None or chosen[k]:
            found = pair.delta(Bounds.exact(epsilon))
            lower, upper = lower + times * found.lower, upper + times * found.upper
    return lower * (1 - SLACK), upper * (1 + SLACK)
