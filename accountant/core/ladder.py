"""Where to put the vertical line: a ladder of exponents θ, and the rung that suits an ε or a δ. Plans, no guarantees.

K is convex; at the θ with K'(θ) = ε the terms on the line are smallest, and log δ(ε) is about what it would be if the
loss tilted by θ were normal.

Any other θ is as valid. One below the saddle costs the digits that K(θ) − θε has risen by; one where rare large losses
make K explode just above needs a narrow spacing, and so many nodes, to keep the aliases of the line small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accountant.core.plans import Plan, log_deltas
from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure

LEAST_SPREAD = 0.08  # the first θ, in units of 1 / (standard deviation of the loss)
BLOCK, MOST_BLOCKS, LOWERING, LOWEST = 24, 3, 24, -4000
RATIO, QUADRUPLE = 2.0**0.25, 8  # of neighbouring rungs, where K' does not leap; RATIO**QUADRUPLE is 4
STRAIGHT, STEEP, FINEST = 4.0, 4.0, 1e-3  # factors: of K' at the first rung, and of K' and θ between neighbours
ADDED, MOST_REFINED, MOST_LOWERED = 5, 3, 5
FURTHER = (1, 2, 4)  # entries on at which K bounds the aliases
RESERVE = 30.0  # nats by which the aliases of a line stay below the δ at its ε
LARGEST, LARGEST_TILT = 1e100, 1e18  # of an ε that is planned for, and of a θ
NATS = 16.0  # a level: by how much lines of one rung differ in the aliases that they allow
REACH = 8.0  # deviations of the transform that nodes have to span
DEEPEST = 750.0  # −log of the smallest δ that a float holds, and more
WORTH = 4.0  # nats lost that e times fewer nodes are worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A line: its θ, its spacing h, the θ' > θ whose moment bounds the aliases, and about K''(θ).

    1 + θ and 1 + θ' are exact: K may change by much more than a few ulps where they do.
    """

    theta: float
    spacing: float
    further: float
    bend: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ladder:
    """K and its derivatives at growing θ_j of one sum of losses; infinite from where powers leave the floats on.

    Args:
        theta: the θ_j, shape (n,).
        value: about K there.
        slope: about K'.
        bend: about K''.
        log_delta: about log δ at ε = K'.
        spread: about the standard deviation of the loss.
    """

    theta: Array
    value: Array
    slope: Array
    bend: Array
    log_delta: Array
    spread: float
    _known: dict[int, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, plan: Plan, block: int = BLOCK) -> Ladder:
        """Lay out the ladder of a cumulant, from where its tilt begins to matter to where δ leaves the floats.

        Args:
            plan: the cumulant.
            block: entries that are asked for together: the more, the fewer questions and the more entries.

        Raises:
            NumericalFailure: if the losses are too small or too large for floats.
        """
        square = -8.0 * float(plan(np.array([-0.5]))[0][0])  # μ² for a Gaussian
        if not 1e-180 < square < 1e290:
            raise NumericalFailure("contour, pld: losses are too small or too large for floats. Use accountant='rdp'.")
        powers = np.arange(block, dtype=np.float64)
        first, lowered, lowest = _lowest(plan, math.sqrt(square), powers)
        blocks = [lowest]
        while blocks[-1][-1][-1] >= -DEEPEST and len(blocks) < MOST_BLOCKS + lowered:
            blocks.append(_entries(plan, RATIO ** (first + block * len(blocks) + powers)))
        entries = tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))
        for _ in range(MOST_REFINED):
            between = _steep(*entries)
            if not len(between):
                break
            added = _entries(plan, between)
            order = np.argsort(np.concatenate([entries[0], between]))
            entries = tuple(np.concatenate(both)[order] for both in zip(entries, added, strict=True))
        theta, value, slope, bend, log_delta = entries
        return cls(theta=theta, value=value, slope=slope, bend=bend, log_delta=log_delta, spread=math.sqrt(square))

    def for_epsilon(self, epsilon: Array) -> list[tuple[int, int]]:
        """Return the rung and the level of the line that suits each ε, shape (n,)."""
        return self._chosen(np.minimum(epsilon, LARGEST), self.log_delta_at(epsilon))

    def log_delta_at(self, epsilon: Array) -> Array:
        """Return about log δ at every ε; it falls by about θ, taken to grow in a straight line between entries."""
        epsilon = np.minimum(epsilon, LARGEST)
        entry = np.searchsorted(np.maximum.accumulate(self.slope), epsilon)
        before, after = np.maximum(entry - 1, 0), np.minimum(entry, len(self.theta) - 1)
        excess = np.minimum(np.maximum(epsilon - self.slope[before], 0.0), DEEPEST / self.theta[after])
        plain = self.log_delta[before] - self.theta[after] * excess
        with np.errstate(invalid="ignore", divide="ignore"):
            share = excess / (self.slope[after] - self.slope[before])
            low, high = self.theta[before], self.theta[after]
            fallen = (low * share + 0.5 * (high - low) * share**2) / (0.5 * (low + high))
            between = self.log_delta[before] + fallen * (self.log_delta[after] - self.log_delta[before])
        return np.asarray(np.where((share >= 0) & (share <= 1) & np.isfinite(between), between, plain))

    def for_delta(self, delta: float) -> tuple[tuple[int, int], float]:
        """Return the rung and the level of the line that suits δ, and about the ε to expect."""
        target = math.log(delta)
        entry = int(np.argmax(np.append(self.log_delta <= target, True)))
        before, after = max(entry - 1, 0), min(entry, len(self.theta) - 1)
        low, high = float(self.theta[before]), float(self.theta[after])
        drop, whole = self.log_delta[before] - target, self.log_delta[before] - self.log_delta[after]
        if 0.0 < drop < whole < math.inf:
            share = (math.sqrt(low * low + (high * high - low * low) * drop / whole) - low) / (high - low)
            epsilon = float(self.slope[before] + share * (self.slope[after] - self.slope[before]))
        else:
            epsilon = min(float(self.slope[before] + max(0.0, drop) / low), float(self.slope[after]))
        epsilon = max(0.0, epsilon)
        return self._chosen(np.array([epsilon]), np.array([target]))[0], epsilon

    def layout(self, rung: int, level: int) -> Layout:
        """Return the line of a rung whose aliases are about e^{−16 level}.

        Raises:
            NumericalFailure: if no moment beyond the rung's is finite, or θ is too small to be told from 0 in 1 + θ.
        """
        j = rung
        spacing, further = (float(part[j]) for part in self._spacings(NATS * level))
        if not spacing > 0:
            raise NumericalFailure("contour: no moment beyond the line is finite. Use accountant='pld'.")
        theta, beyond = ((1.0 + float(self.theta[k])) - 1.0 for k in (j, int(further)))
        if not 0.0 < theta < beyond < LARGEST_TILT:
            raise NumericalFailure("contour: losses are too small or too large for floats. Use accountant='pld'.")
        return Layout(theta=theta, spacing=spacing, further=beyond, bend=float(self.bend[j]))

    def _chosen(self, epsilon: Array, log_delta: Array) -> list[tuple[int, int]]:
        """Return the rung that is cheapest at each ε, in nodes and in nats lost, and the level for its δ."""
        levels = np.ceil((RESERVE + np.clip(-log_delta, 0.0, DEEPEST)) / NATS).astype(np.int64)
        rungs = np.zeros_like(levels)
        for level in set(levels.tolist()):
            chosen = levels == level
            cost = self._log_nodes(level)
            with np.errstate(invalid="ignore", over="ignore"):
                costs = cost + (self.value - self.theta * epsilon[chosen, None]) / WORTH
            beyond = np.append(-math.inf, self.slope[:-1]) > epsilon[chosen, None]  # whose spacing is for larger ε
            rungs[chosen] = np.argmin(np.where(np.isnan(costs) | beyond, math.inf, costs), axis=1)
        return list(zip(rungs.tolist(), levels.tolist(), strict=True))

    def _log_nodes(self, level: int) -> Array:
        """Return about the logarithm of the nodes on each rung's line at this level."""
        if level not in self._known:
            spacing, _ = self._spacings(NATS * level)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                nodes = REACH / (np.sqrt(np.minimum.accumulate(self.bend)) * spacing)  # rare losses narrow no transform
                self._known[level] = np.log(nodes + 16.0)
        return self._known[level]

    def _spacings(self, goal: float) -> tuple[Array, NDArray[np.int64]]:
        """Return the widest spacing at every θ_j whose aliases are e^{−goal} at most, 0 if none, and what shows it."""
        entries = np.arange(len(self.theta))
        finite = np.isfinite(self.value) & (self.bend > 0)
        epsilon = np.append(self.slope[:1], self.slope[:-1])
        best, shown = np.zeros(len(entries)), entries
        for step in FURTHER:
            further = np.minimum(entries + step, len(entries) - 1)
            with np.errstate(invalid="ignore"):
                height = self.value[further] - self.theta[further] * epsilon + goal
                spacing = 2 * math.pi * (self.theta[further] - self.theta) / np.maximum(height, 1.0)
            better = finite & finite[further] & (spacing > best)
            best, shown = np.where(better, spacing, best), np.where(better, further, shown)
        return np.minimum(best, 2 * math.pi * self.theta / goal), shown


def _lowest(plan: Plan, spread: float, powers: Array) -> tuple[int, int, tuple[Array, ...]]:
    """Return the first power of `RATIO`, how often it was lowered from that of a normal, and the first entries.

    Below it K' is about K'(0) + θ K''(0): rare large losses may have a say at tilts at which the others hardly have.
    """
    still = 1e-3 * LEAST_SPREAD / spread
    first, lowered, widest = _rung(spread), 0, math.nan
    while True:
        found = _entries(plan, np.append(RATIO ** (first + powers), still))
        block = tuple(part[:-1] for part in found)
        theta, value, slope = block[:3]
        if math.isnan(widest):
            slope_there, bend_there = float(found[2][-1]), float(found[3][-1])
            widest = max(spread, math.sqrt(bend_there)) if math.isfinite(bend_there) else spread
            if _rung(widest) < first:
                first = _rung(widest)
                continue
        bent = slope_there > 0 and bend_there > 0 and slope[0] > STRAIGHT * (slope_there + theta[0] * bend_there)
        if (math.isfinite(value[QUADRUPLE]) and (lowered >= MOST_LOWERED or not bent)) or first <= LOWEST:
            return first, lowered, block
        first, lowered = first - LOWERING, lowered + 1


def _rung(spread: float) -> int:
    """Return the power of `RATIO` at which a tilt begins to matter to a loss of this deviation."""
    return math.ceil(math.log(LEAST_SPREAD / spread) / math.log(RATIO))


def _entries(plan: Plan, theta: Array) -> tuple[Array, ...]:
    found = plan(theta)
    return theta, *found, log_deltas(theta, *found)


def _steep(theta: Array, value: Array, slope: Array, bend: Array, log_delta: Array) -> Array:
    """Return θ to add between neighbours where K' grows by more than `STEEP` and δ is still a float."""
    with np.errstate(invalid="ignore"):
        leaps = (slope[1:] > STEEP * np.maximum(slope[:-1], 0.0)) & np.isfinite(slope[1:]) & (log_delta[:-1] > -DEEPEST)
    leaps &= theta[1:] > theta[:-1] * (1 + FINEST)
    shares = np.arange(1, ADDED + 1) / (ADDED + 1)
    return np.asarray(theta[:-1][leaps, None] * (theta[1:] / theta[:-1])[leaps, None] ** shares).ravel()
