"""Where to put the vertical line: a ladder of exponents θ, and the rung that suits an ε or a δ. Plans, no guarantees.

K is convex; at the θ with K'(θ) = ε the terms on the line are smallest, and log δ(ε) is about

    K(θ) − θ K'(θ) − log(θ (1 + θ)) − ½ log(2π K''(θ)).

Any other θ is as valid. One below the saddle costs the digits that K(θ) − θε has risen by; one where rare large losses
make K explode just above needs a narrow spacing, and so many nodes, to keep the aliases of the line small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.normal_sums import NormalSum
from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure

LEAST_SPREAD = 0.7  # the first θ, in units of 1 / (standard deviation of the loss)
BLOCK, MOST_BLOCKS = 24, 5
RATIO = 2.0**0.25  # of neighbouring entries; every other entry is a rung
FURTHER = (1, 2, 4)  # entries on at which K bounds the aliases
RESERVE = 30.0  # nats by which the aliases of a line stay below the δ at its ε
NATS = 16.0  # a level: by how much lines of one rung differ in the aliases that they allow
REACH = 8.0  # deviations of the transform that nodes have to span
WORTH = 6.0  # nats lost that e times fewer nodes are worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A line: its θ, its spacing h, the θ' > θ whose moment bounds the aliases, and about K''(θ)."""

    theta: float
    spacing: float
    further: float
    bend: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ladder:
    """K and its derivatives at θ_j = θ_0 2^(j/4), of one sum of losses; infinite from where powers leave the floats on.

    Args:
        theta: the θ_j, shape (n,).
        value: about K there.
        slope: about K'.
        bend: about K''.
        log_delta: about log δ at ε = K'.
    """

    theta: Array
    value: Array
    slope: Array
    bend: Array
    log_delta: Array

    @classmethod
    def of(cls, loss: NormalSum) -> Ladder:
        """Lay out the ladder of a sum, from where its tilt begins to matter to where δ leaves the floats.

        Raises:
            NumericalFailure: if the losses are too small or too large for floats.
        """
        bend = float(loss.plan(np.zeros(1))[2][0])
        if not 1e-290 < bend < 1e290:
            raise NumericalFailure("contour: losses are too small or too large for floats. Use accountant='pld'.")
        first = math.ceil(4 * math.log2(LEAST_SPREAD / math.sqrt(bend)))
        while first > -4000 and not math.isfinite(loss.plan(np.array([4.0 * RATIO**first]))[0][0]):
            first -= BLOCK
        blocks: list[tuple[Array, ...]] = []
        for block in range(MOST_BLOCKS):
            theta = RATIO ** (first + BLOCK * block + np.arange(BLOCK, dtype=np.float64))
            plan = loss.plan(theta)
            blocks.append((theta, *plan, _log_deltas(theta, *plan)))
            if blocks[-1][-1][-1] < -750.0:
                break
        theta, value, slope, bends, log_delta = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return cls(theta=theta, value=value, slope=slope, bend=bends, log_delta=log_delta)

    def for_epsilon(self, epsilon: float) -> tuple[int, int]:
        """Return the rung and the level of the line that suits ε."""
        entry = int(np.argmax(np.append(self.slope >= epsilon, True)))
        before = max(entry - 1, 0)
        log_delta = self.log_delta[before]
        if epsilon > self.slope[before]:  # the slope of log δ is about −θ
            log_delta = log_delta - self.theta[min(entry, len(self.theta) - 1)] * (epsilon - self.slope[before])
        return self._chosen(entry, epsilon, float(log_delta))

    def for_delta(self, delta: float) -> tuple[int, int, float]:
        """Return the rung and the level of the line that suits δ, and about the ε to expect."""
        entry = int(np.argmax(np.append(self.log_delta <= math.log(delta), True)))
        seen = np.flatnonzero(np.isfinite(self.slope[: entry + 1]))
        epsilon = float(self.slope[seen[-1]]) if len(seen) else 0.0
        return *self._chosen(entry, epsilon, math.log(delta)), max(epsilon, 0.0)

    def layout(self, rung: int, level: int) -> Layout:
        """Return the line of a rung whose aliases are about e^{−16 level}.

        Raises:
            NumericalFailure: if no moment beyond the rung's is finite.
        """
        j = 2 * rung
        spacing, further = self._spacing(j, NATS * level)
        if not spacing > 0:
            raise NumericalFailure("contour: no moment beyond the line is finite. Use accountant='pld'.")
        theta, beyond = float(self.theta[j]), float(self.theta[further])
        return Layout(theta=theta, spacing=spacing, further=beyond, bend=float(self.bend[j]))

    def _chosen(self, entry: int, epsilon: float, log_delta: float) -> tuple[int, int]:
        """Return the rung up to an entry that is cheapest, in nodes and in nats lost, and the level for this δ."""
        level = math.ceil((RESERVE + max(0.0, -log_delta)) / NATS)
        costs = []
        for j in range(0, min(entry + 2, len(self.theta)), 2):
            spacing, _ = self._spacing(j, NATS * level)
            nodes = REACH / (math.sqrt(self.bend[j]) * spacing) if spacing > 0 else math.inf
            costs.append(math.log(nodes + 16.0) + (self.value[j] - self.theta[j] * epsilon) / WORTH)
        best = int(np.argmin(np.where(np.isnan(costs), math.inf, costs)))
        return best, level

    def _spacing(self, j: int, goal: float) -> tuple[float, int]:
        """Return the widest spacing at θ_j whose aliases are e^{−goal} at most, and the entry that shows it; 0 if none."""
        if not (math.isfinite(self.value[j]) and self.bend[j] > 0):
            return 0.0, j
        theta, best, entry = self.theta[j], 0.0, j
        epsilon = self.slope[max(j - 1, 0)]
        for k in (j + step for step in FURTHER if j + step < len(self.theta)):
            height = self.value[k] - self.theta[k] * epsilon + goal
            spacing = 2 * math.pi * (self.theta[k] - theta) / max(height, 1.0)
            if spacing > best:
                best, entry = float(spacing), k
        return min(best, 2 * math.pi * float(theta) / goal), entry


def _log_deltas(theta: Array, value: Array, slope: Array, bend: Array) -> Array:
    """About log δ at ε = K'(θ), −inf where K leaves the floats."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = value - theta * slope - np.log(theta * (1 + theta)) - 0.5 * np.log(2 * np.pi * bend)
    return np.where(np.isfinite(value) & (bend > 0), found, -np.inf)
