"""Where to tilt, and how wide a window then is: plans for compositions on a grid, no guarantees.

Tilts are entries of the ladder of K(θ) = log E_P[e^{θL}; L < ∞] of the sum. At the θ with K'(θ) = ε the tilted loss
centres on ε, where K(θ) − θε is least; by as many nats as it is above its least, so much larger is the round-off of the
transforms. A rung serves all ε from its own K' on for which these are few, up to the largest loss for the last one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accountant.core.base import Steps, largest_loss
from accountant.core.ladder import BLOCK, DEEPEST, RATIO, Ladder
from accountant.core.plans import Plan, cumulant, farthest, log_deltas, moved_end, tail_ends
from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.pair import UNIT_ROUNDOFF

LOG_OUTSIDE = 32.0  # the window leaves out about e^-32 of the tilted mass on either side, less where rungs are wide
NOISE = 1e-10  # of δ, that the round-off of the transforms may about be where a rung serves last
LEAST_LOST, MOST_LOST, ULPS = 1.0, 8.0, 100.0  # nats within one rung; about the round-off of one step, in units of u
WIDEST = 4.0  # how many times the θ of one rung the next may be: windows are about as wide as 1/θ near the largest loss
SERVED = 80.0  # nats that δ may fall by within one rung
TAIL = 1e-10  # of δ, that all steps' tails together may add to it
MOST_HALVINGS = 12  # of a gap of the ladder
FARTHEST = 1e100  # ε beyond which plans are the same
ROUGH = 1e-2  # how far K is believed to be off at most, relative
CUT = 45.0  # nats: what tilting leaves less than e^-45 of a step's mass below may be moved up
MOST_BLOCKS, SETTLED = 12, 0.01  # more of the ladder, until K − θK' changes by less than this many nats a block


@dataclass(frozen=True, slots=True, kw_only=True)
class Tilt:
    """A tilt and the losses that matter under it.

    Args:
        theta: θ > 0.
        served: some ε from the first to the last that it serves.
        below: the lower end of the sums.
        above: the upper end of the sums.
        span: how wide the window is, where all steps' losses together do not reach its ends.
        probes: further tilts (below, above) at which the mass outside the window is bounded.
        ranges: the ends of the losses of each step that matter.
    """

    theta: float
    served: tuple[float, ...]
    below: float
    above: float
    span: float
    probes: tuple[float, float]
    ranges: tuple[tuple[float, float], ...]

    @property
    def reach(self) -> float:
        """The largest range of losses of a single step."""
        return max(high - low for low, high in self.ranges)

    @property
    def usable(self) -> bool:
        """Whether its ends are proper floats."""
        return all(math.isfinite(end) for end in (self.below, self.above, self.reach, self.theta, *self.served))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saddle:
    """The tilts for one direction's steps.

    Args:
        steps: the pairs and how often each runs.
        plan: about their cumulant.
        theta: the ladder, shape (n,).
        value: about K there.
        slope: about K', made to rise.
        bend: about K''.
        spread: about the standard deviation of the loss.
        chosen: the entries that are rungs.
        depth: in nats, how rare the outcomes of a run are that K leaves out.
    """

    steps: Steps
    plan: Plan
    theta: Array
    value: Array
    slope: Array
    bend: Array
    spread: float
    chosen: tuple[int, ...]
    depth: float

    def rungs(self, epsilon: Array) -> NDArray[np.int64]:
        """Return the highest rung whose tilted loss centres at ε or below: above it rare large losses may reign."""
        starts = self.slope[list(self.chosen[1:])]
        return np.searchsorted(starts, epsilon, side="right").astype(np.int64)

    def for_delta(self, delta: float) -> int:
        """Return about the rung that serves the ε with δ(ε) = delta."""
        levels = log_deltas(self.theta, self.value, self.slope, self.bend)
        return int(np.count_nonzero(levels[list(self.chosen[1:])] > math.log(delta)))

    def log_delta_at(self, epsilon: Array) -> Array:
        """Return about log δ at every ε."""
        levels = log_deltas(self.theta, self.value, self.slope, self.bend)
        entry = np.searchsorted(self.slope, epsilon)
        before, after = np.maximum(entry - 1, 0), np.minimum(entry, len(self.theta) - 1)
        fallen = np.minimum(np.maximum(epsilon - self.slope[before], 0.0), DEEPEST / self.theta[after])
        return np.asarray(levels[before] - self.theta[after] * fallen)

    def height(self, epsilon: float) -> float:
        """Return K(θ) − θε at the rung that serves ε."""
        entry = self.chosen[int(self.rungs(np.array([epsilon]))[0])]
        return float(self.value[entry] - self.theta[entry] * min(epsilon, FARTHEST))

    def tilt(self, rung: int) -> Tilt:
        """Return the tilt of a rung."""
        entry = self.chosen[rung]
        after = self.chosen[rung + 1] if rung + 1 < len(self.chosen) else len(self.theta) - 1
        theta = float(self.theta[entry])
        outside = LOG_OUTSIDE + 0.5 * _nats(self.steps)
        deviation = max(math.sqrt(max(float(self.bend[entry]), 0.0)), 1e-3 * self.spread)
        (below, low_probe), (above, high_probe) = tail_ends(self.plan, theta, deviation, outside)
        ranges = self._ranges(theta, self._tail(entry, after))
        totals = [sum(n * ends[side] for (_, n), ends in zip(self.steps, ranges, strict=True)) for side in (0, 1)]
        farther = totals[1] - totals[0]  # than all losses: for tilts that hardly leave any but the largest
        below = below if math.isfinite(below) else totals[0] - farther
        above = above if math.isfinite(above) else totals[1] + farther
        return Tilt(
            theta=theta,
            served=tuple(np.maximum(self.slope[entry : after + 1], 0.0).tolist()),
            below=below,
            above=above,
            span=max(min(above, totals[1]) - max(below, totals[0]), 1e-6 * max(map(abs, totals)) or 1.0),
            probes=(low_probe, high_probe),
            ranges=ranges,
        )

    def _tail(self, entry: int, after: int) -> float:
        """Return the mass of a single step that may be left out above, for a rung from one entry to another."""
        if self.depth < math.inf:
            return math.exp(-min(self.depth + math.log(_repeats(self.steps)), 690.0))
        first, last = log_deltas(*(part[[entry, after]] for part in (self.theta, self.value, self.slope, self.bend)))
        last = last if after < len(self.theta) - 1 else -DEEPEST  # the last rung serves whatever follows
        log_tail = min(float(max(last, first - SERVED)), 0.0) + math.log(TAIL / _repeats(self.steps))
        return math.exp(max(min(log_tail, -40.0), -690.0)) if math.isfinite(log_tail) else math.exp(-690.0)

    def _ranges(self, theta: float, tail: float) -> tuple[tuple[float, float], ...]:
        """Return every step's range of losses, less what its tilted law hardly has below."""
        ranges, cut = [], CUT + math.log(_repeats(self.steps))
        for (pair, times), last in zip(self.steps, farthest(self.steps, self.depth), strict=True):
            low, high = pair.loss_range(tail)
            high = max(low, min(high, float(last)))
            if theta * (high - low) > cut:
                low = max(low, min(moved_end(cumulant(((pair, 1),), self.depth + math.log(times)), theta, cut), high))
            ranges.append((float(low), float(high)))
        return tuple(ranges)


@lru_cache(maxsize=64)
def saddle(parts: Steps, depth: float = math.inf) -> Saddle | None:
    """Return the tilts for these steps, None where losses are too small or too large for any.

    Args:
        parts: the pairs and how often each runs.
        depth: in nats, how rare the outcomes of a run are that K leaves out.
    """
    try:
        plan = cumulant(parts, depth)
        ladder = Ladder.of(plan)
    except NumericalFailure:
        return None
    most = float(largest_loss(parts).upper)
    theta, value, slope, bend = _extended(plan, ladder)
    return Saddle(
        steps=parts,
        plan=plan,
        theta=theta,
        value=value,
        slope=slope,
        bend=bend,
        spread=ladder.spread,
        chosen=_chosen(theta, value, slope, most, _nats(parts)),
        depth=depth,
    )


def _extended(plan: Plan, ladder: Ladder) -> tuple[Array, ...]:
    """Return θ, K, K', K'', as far as they are finite and δ is a float, or until tilting further picks out one loss."""
    parts: tuple[Array, ...] = ladder.theta, ladder.value, ladder.slope, ladder.bend
    for _ in range(MOST_BLOCKS):
        theta, value, slope, _ = parts
        with np.errstate(invalid="ignore", over="ignore"):
            before, last = (value - theta * slope)[[-BLOCK, -1]]
        if not last >= -DEEPEST or not abs(before - last) >= SETTLED:
            break
        further = theta[-1] * RATIO ** np.arange(1.0, BLOCK + 1)
        parts = tuple(np.concatenate(pair) for pair in zip(parts, (further, *plan(further)), strict=True))
    theta, value, slope, bend = parts
    with np.errstate(invalid="ignore", over="ignore"):
        tangent = value[:-1] + slope[:-1] * np.diff(theta)
        convex = np.append(True, value[1:] >= tangent - ROUGH * np.abs(tangent))  # as K is, where it is known
    fine = np.isfinite(value + slope + bend) & convex
    with np.errstate(invalid="ignore", over="ignore"):
        deep = np.append(False, (value - theta * slope < -DEEPEST)[:-1])
    count = max(1, int(np.argmin(np.append(fine & ~deep, False))))
    return _refined(plan, tuple(part[:count] for part in parts))


def _refined(plan: Plan, parts: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the ladder with entries between those that lie far apart, as where rare large losses begin to reign."""
    for _ in range(MOST_HALVINGS):
        theta, value, slope, bend = parts
        with np.errstate(invalid="ignore", over="ignore"):
            lost = value[:-1] - value[1:] - (theta[:-1] - theta[1:]) * slope[1:]
            wide = np.flatnonzero((lost > MOST_LOST) & (value[:-1] - theta[:-1] * slope[:-1] > -DEEPEST))
        if not len(wide):
            break
        between = np.sqrt(theta[wide] * theta[wide + 1])
        found = (between, *plan(between))
        fine = np.isfinite(sum(found))
        parts = tuple(np.insert(old, wide[fine] + 1, new[fine]) for old, new in zip(parts, found, strict=True))
    theta, value, slope, bend = parts
    return theta, value, np.maximum.accumulate(slope), bend


def _chosen(theta: Array, value: Array, slope: Array, most: float, nats: float) -> tuple[int, ...]:
    """Return entries of the ladder, each the last that costs at most so many nats where the one before it serves."""
    chosen = [0]
    for entry in range(1, len(theta)):
        last, best = entry == len(theta) - 1, min(entry + 1, len(theta) - 1)
        epsilon = most if last and math.isfinite(most) else float(slope[best])
        with np.errstate(invalid="ignore", over="ignore"):
            lost = value[chosen[-1]] - value[best] - (theta[chosen[-1]] - theta[best]) * epsilon
        if not (lost <= nats and theta[entry] < WIDEST * theta[chosen[-1]]):
            chosen.append(entry)
    return tuple(chosen)


def _nats(parts: Steps) -> float:
    """Return how many nats may be lost within one rung."""
    return min(max(LEAST_LOST, math.log(NOISE / (ULPS * UNIT_ROUNDOFF * _repeats(parts)))), MOST_LOST)


def _repeats(parts: Steps) -> int:
    return sum(times for _, times in parts)
