"""Where to tilt: the cumulant of the composed loss, its saddle points, and a grid to match. Plans, no guarantees.

K(θ) = log E_P[e^{θL}; L < ∞] = Σ n_i log E_{Q_i}[e^{(θ+1) L_i}] is convex; at the θ with K'(θ) = ε the tilted loss
centres on ε, and the tilted law's divergence from P is λ(θ) = θ K'(θ) − K(θ), about log 1/δ(ε). Tilts come from a
ladder of such λ, so that nearby ε share one composition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from accountant.core.base import Steps

FIRST_RUNG, RATIO, LAST_RUNG = 0.25, 1.15, 60  # λ from .25 to 1,100: beyond the smallest δ that a float holds
LOG_OUTSIDE = 32.0  # the window leaves out about e^-32 of the tilted mass on either side
HALVINGS = 12
LEAST_TILT = 1e-9
LARGEST_TILT = 1e3  # in units of 1 / spread; beyond it a bounded loss sits at its largest value anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A grid for one tilt.

    Args:
        tilt: θ > 0.
        step: the grid step that the width asked for needs.
        below: the window's lower end.
        above: the window's upper end.
        probes: further tilts (below, above) at which the mass outside the window is bounded.
        tail: the mass of a single step that may be left out on either side.
        reach: the largest range of losses of a single step.
    """

    tilt: float
    step: float
    below: float
    above: float
    probes: tuple[float, float]
    tail: float
    reach: float

    @property
    def usable(self) -> bool:
        """Whether there is such a grid: its ends and its step are proper floats."""
        ends = (self.below, self.above, self.reach, self.tilt)
        return all(math.isfinite(end) for end in ends) and 1e-290 < self.step < 1e290


@dataclass(slots=True)
class Saddle:
    """The cumulant of a composition, with what was computed of it kept.

    Args:
        steps: the pairs and how often each runs.
    """

    steps: Steps
    _cumulants: dict[float, float] = field(default_factory=dict)
    _tilts: dict[float, float] = field(default_factory=dict)
    _spread: float = 1.0

    def __post_init__(self) -> None:
        self._spread = math.sqrt(max(-8 * self.cumulant(-0.5), 1e-200))  # μ for a Gaussian

    @property
    def flat(self) -> bool:
        """Whether there is no loss to speak of, and so nothing to tilt."""
        return self._spread < 1e-90

    def cumulant(self, theta: float) -> float:
        """K(θ)."""
        if theta not in self._cumulants:
            moments = [(pair.log_mixture_moment(1.0, theta + 1.0), times) for pair, times in self.steps]
            self._cumulants[theta] = sum(n * 0.5 * (m.lower + m.upper) for m, n in moments)
        return self._cumulants[theta]

    def moments(self, theta: float) -> tuple[float, float]:
        """K'(θ) and K''(θ) by differences."""
        step = 0.02 * theta
        left, here, right = (self.cumulant(theta + k * step) for k in (-1, 0, 1))
        return (right - left) / (2 * step), max((right - 2 * here + left) / step**2, (1e-3 * self._spread) ** 2)

    def tilt(self, rung: float) -> float:
        """The θ whose tilted law diverges from P by λ = FIRST_RUNG · RATIO^rung."""
        if rung not in self._tilts:
            wanted = FIRST_RUNG * RATIO**rung
            self._tilts[rung] = self._solve(lambda t: t * self.moments(t)[0] - self.cumulant(t) < wanted)
        return self._tilts[rung]

    def rung(self, epsilon: float) -> int:
        """The rung whose tilted loss centres nearest to `epsilon`, as λ goes."""
        low, high = 0, LAST_RUNG
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.moments(self.tilt(middle + 0.5))[0] < epsilon else (low, middle)
        return low

    def log_delta(self, theta: float) -> float:
        """log δ at ε = K'(θ), by the leading term of the saddle-point expansion."""
        mean, variance = self.moments(theta)
        leading = self.cumulant(theta) - theta * mean
        return leading - math.log(theta * (theta + 1)) - 0.5 * math.log(2 * math.pi * variance)

    def epsilon(self, delta: float) -> float:
        """About the ε with δ(ε) = delta."""
        theta = self._solve(lambda t: self.log_delta(t) > math.log(delta))
        return max(self.moments(theta)[0], 1e-9)

    def plan(self, rung: int, relative_width: float) -> Plan:
        """Lay out a grid for a rung.

        A grid of step h widens the bracket by about (θ + 1) n h² / 8: each step's loss gains a variance of up to h²/4,
        and with it half as much in the mean.
        """
        theta = self.tilt(rung)
        mean, variance = self.moments(theta)
        repeats = sum(times for _, times in self.steps)
        step = math.sqrt(8 * relative_width * max(abs(mean), 1e-9) / (repeats * (theta + 1)))
        log_tail = min(self.log_delta(theta), 0.0) + math.log(1e-6 * relative_width / repeats)
        tail = math.exp(max(min(log_tail, -50.0), -690.0))
        ranges = [pair.loss_range(tail) for pair, _ in self.steps]
        above, probe_above = self._reach(theta, math.sqrt(variance), +1)
        below, probe_below = self._reach(theta, math.sqrt(variance), -1)
        return Plan(
            tilt=theta,
            step=step,
            below=below,
            above=above,
            probes=(probe_below, probe_above),
            tail=tail,
            reach=max(high - low for low, high in ranges),
        )

    def _solve(self, too_small: Callable[[float], bool]) -> float:
        """Return about the largest θ that is too small, by doubling from the scale of the loss, then halving."""
        theta = 1.0 / self._spread if self._spread < 1 else 1.0
        grow = too_small(theta)
        while LEAST_TILT < theta < LARGEST_TILT / self._spread and too_small(theta) == grow:
            theta = 4 * theta if grow else theta / 4
        low, high = (theta / 4, theta) if grow else (theta, 4 * theta)
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if too_small(middle) else (low, middle)
        return low

    def _reach(self, theta: float, deviation: float, side: int) -> tuple[float, float]:
        """How far the tilted loss goes on one side but for e^-32 of its mass, and the Chernoff tilt that shows it."""
        best = (side * math.inf, 1.0)
        for units in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.6, 12.0):
            probe = units / deviation
            gain = self.cumulant(theta + side * probe) - self.cumulant(theta)
            end = side * (gain + LOG_OUTSIDE) / probe
            if math.isfinite(end) and side * end < side * best[0]:
                best = (end, probe)
        return best
