"""Where to tilt, and how wide a window then is: plans for compositions on a grid, no guarantees.

Tilts are the entries of the ladder of K(θ) = log E_P[e^{θL}; L < ∞] of the sum; at the θ with K'(θ) = ε the tilted loss
centres on ε, and one composition serves all ε near it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accountant.core.base import Steps
from accountant.core.ladder import Ladder
from accountant.core.plans import Plan, cumulant, tail_ends
from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure

LOG_OUTSIDE = 32.0  # the window leaves out about e^-32 of the tilted mass on either side
SERVED = 80.0  # nats that δ may fall by within one rung
TAIL = 1e-10  # of δ, that all steps' tails together may add to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tilt:
    """A tilt and the losses that matter under it.

    Args:
        theta: θ > 0.
        mean: about K'(θ), the ε that it suits.
        below: the lower end of the sums.
        above: the upper end of the sums.
        span: how wide the window is, where all steps' losses together do not reach its ends.
        probes: further tilts (below, above) at which the mass outside the window is bounded.
        tail: the mass of a single step that may be left out on either side.
        reach: the largest range of losses of a single step.
    """

    theta: float
    mean: float
    below: float
    above: float
    span: float
    probes: tuple[float, float]
    tail: float
    reach: float

    @property
    def usable(self) -> bool:
        """Whether its ends are proper floats."""
        return all(math.isfinite(end) for end in (self.below, self.above, self.reach, self.theta, self.mean))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saddle:
    """The tilts for one direction's steps.

    Args:
        steps: the pairs and how often each runs.
        plan: about their cumulant.
        ladder: the tilts.
    """

    steps: Steps
    plan: Plan
    ladder: Ladder

    def rungs(self, epsilon: Array) -> NDArray[np.int64]:
        """Return the highest rung whose tilted loss centres at ε or below: above it rare large losses may reign."""
        finite = np.isfinite(self.ladder.value + self.ladder.slope + self.ladder.bend)
        count = int(np.argmin(np.append(finite, False)))
        slopes = np.maximum.accumulate(self.ladder.slope[1 : max(count, 1)])
        return np.searchsorted(slopes, epsilon, side="right").astype(np.int64)

    def epsilon(self, delta: float) -> float:
        """About the ε with δ(ε) = delta."""
        below = np.flatnonzero(self.ladder.log_delta <= math.log(delta))
        entry = int(below[0]) if len(below) else len(self.ladder.theta) - 1
        slopes, levels = self.ladder.slope[: entry + 1], self.ladder.log_delta[: entry + 1]
        seen = np.isfinite(slopes) & np.isfinite(levels)
        if np.count_nonzero(seen) < 2:
            return 1.0
        found = np.interp(-math.log(delta), np.maximum.accumulate(-levels[seen]), slopes[seen])
        return max(float(found), 1e-9)

    def tilt(self, rung: int) -> Tilt:
        """Return the tilt of a rung."""
        theta, mean = float(self.ladder.theta[rung]), float(self.ladder.slope[rung])
        deviation = max(math.sqrt(max(float(self.ladder.bend[rung]), 0.0)), 1e-3 * self.ladder.spread)
        (below, low_probe), (above, high_probe) = tail_ends(self.plan, theta, deviation, LOG_OUTSIDE)
        repeats = sum(times for _, times in self.steps)
        smallest = self.ladder.log_delta[rung : rung + 2]  # the rung serves every ε up to the next one's
        log_tail = min(float(max(smallest[-1], smallest[0] - SERVED)), 0.0) + math.log(TAIL / repeats)
        tail = math.exp(max(min(log_tail, -40.0), -690.0)) if math.isfinite(log_tail) else math.exp(-690.0)
        ranges = [pair.loss_range(tail) for pair, _ in self.steps]
        totals = [sum(n * ends[side] for (_, n), ends in zip(self.steps, ranges, strict=True)) for side in (0, 1)]
        return Tilt(
            theta=theta,
            mean=mean,
            below=below,
            above=above,
            span=max(min(above, totals[1]) - max(below, totals[0]), 1e-6 * max(map(abs, totals)) or 1.0),
            probes=(low_probe, high_probe),
            tail=tail,
            reach=max(high - low for low, high in ranges),
        )


@lru_cache(maxsize=64)
def saddle(parts: Steps) -> Saddle | None:
    """Return the tilts for these steps, None where losses are too small or too large for any."""
    try:
        plan = cumulant(parts)
        return Saddle(steps=parts, plan=plan, ladder=Ladder.of(plan))
    except NumericalFailure:
        return None
