"""The grid of rounded losses and its tilt, for the δ that is asked for          [GLW21, see `accountant.prv`].

h = ε_error / √((n/2) log(12/δ_error)),    each step's losses within its tails of δ_error / (8n) on either side
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from accountant.core.base import Steps, lost_mass
from accountant.core.bins import coarsened
from accountant.core.convolve import Window
from accountant.core.plans import tail_ends
from accountant.core.rounded import ends, rounded
from accountant.core.rounded_sum import RoundedSum, summed
from accountant.core.saddle import Saddle, saddle
from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure

LEVEL, DEEPEST = 4.0, 168  # nats of δ that one composition serves, and the number of the last one
SHARE = 1e-3  # of δ, that δ_error is
OUTSIDE = 20.0  # the window leaves out about e^-20 of the tilted mass on either side, less where 1 − e^{ε − x} is small
SIZES = (8, 9, 10, 12, 15)  # times powers of two, for which transforms and suffix sums are quick
LONGEST = 4  # a single step may have this part of the budget's points: its cells take more time and memory than sums
KEPT = 0.25  # of the memory of a point of a transform, that a point of a step takes while steps are composed
FEW = 2**22  # points, about 16 bytes each, of compositions that are remembered
LEAST_STEP = 1e-290
COARSEST = 300.0  # step from which on exponentials of cells leave the floats
STEEPEST = 0.25  # tilt from point to point, in nats: beyond it rounding errors, not losses, make the tilted law


def levels(log_delta: Array) -> Array:
    """Return the number of the composition that serves about this δ."""
    return np.clip(np.floor(-log_delta / LEVEL), 0, DEEPEST)


def plan(parts: Steps, cut: float) -> Saddle:
    """Return the tilts for these steps.

    Raises:
        NumericalFailure: if there are none.
    """
    found = saddle(parts, cut)
    if found is None:
        raise NumericalFailure("prv: losses are too small or too large for any grid. Use accountant='rdp'.")
    return found


@dataclass(slots=True)
class Recent:
    """The last few compositions, together of at most `FEW` points or else one alone.

    What has to go goes before the next one is made: it takes several times the memory that it leaves behind.
    """

    kept: dict[Hashable, RoundedSum] = field(default_factory=dict)

    def found(self, key: Hashable, points: int, make: Callable[[], RoundedSum]) -> RoundedSum:
        """Return the composition of this key and so many points, made anew if it is not here."""
        if key not in self.kept:
            while self.kept and points + sum(one.window.size for one in self.kept.values()) > FEW:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = make()
        self.kept[key] = self.kept.pop(key)
        return self.kept[key]


RECENT = Recent()


def composed(
    parts: Steps, cut: float, level: int, *, eps_error: float, delta_error: float | None, most_points: int
) -> RoundedSum:
    """Compose on the grid of [GLW21] for δ of e^{−4 (level + 1)} to e^{−4 level}, tilted to where δ is about that.

    Raises:
        NumericalFailure: if the grid would have too many points, or too few.
    """
    grid = _planned(parts, cut, level, eps_error=eps_error, delta_error=delta_error, most_points=most_points)
    key = (parts, cut, level, eps_error, delta_error)
    return RECENT.found(key, grid.points, lambda: _composed(parts, grid, eps_error, most_points))


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """What a composition will be made of.

    Args:
        step: h.
        theta: the tilt.
        ends: the losses between which sums are wanted, (below, above).
        probes: see `accountant.core.convolve.compose`.
        ranges: the losses between which each step's are kept.
        points: about the number of points of the window.
    """

    step: float
    theta: float
    ends: tuple[float, float]
    probes: tuple[float, float]
    ranges: tuple[tuple[float, float], ...]
    points: int


@lru_cache(maxsize=16)
def _planned(
    parts: Steps, cut: float, level: int, *, eps_error: float, delta_error: float | None, most_points: int
) -> GridPlan:
    found, repeats = plan(parts, cut), float(sum(n for _, n in parts))
    error = delta_error or SHARE * math.exp(-LEVEL * (level + 1))
    step = coarsened(max(eps_error / math.sqrt(0.5 * repeats * math.log(12.0 / error)), LEAST_STEP))
    if not step < COARSEST:
        raise NumericalFailure(f"prv: a grid for eps_error={eps_error!r} is too coarse. Lower eps_error.")
    away = np.abs(found.log_delta_at(found.slope) + LEVEL * (level + 0.5))
    entry = int(np.argmin(np.where(found.theta * step <= STEEPEST, away, np.inf)))
    theta, spread = float(found.theta[entry]), math.sqrt(max(float(found.bend[entry]), 0.0))
    deviation = max(spread, 1e-3 * found.spread)
    nats = OUTSIDE + math.log1p(theta * (1.0 + theta) * deviation)
    (below, low_probe), (above, high_probe) = tail_ends(found.plan, theta, deviation, nats)
    ranges = tuple(ends(pair, step, error / (8.0 * repeats)) for pair, _ in parts)
    lengths, points = [(high - low) / step for low, high in ranges], (above - below) / step
    _affordable(max(points + KEPT * sum(lengths), LONGEST * max(lengths)), eps_error, most_points)
    return GridPlan(
        step=step,
        theta=theta,
        ends=(below, above),
        probes=(low_probe, high_probe),
        ranges=ranges,
        points=math.ceil(points),
    )


def _composed(parts: Steps, grid: GridPlan, eps_error: float, most_points: int) -> RoundedSum:
    step, (below, above) = grid.step, grid.ends
    steps = [(rounded(pair, step, *limits), n) for (pair, n), limits in zip(parts, grid.ranges, strict=True)]
    mean = sum(n * one.mean for one, n in steps)
    low = max(math.floor((below - mean) / step), sum(n * one.low for one, n in steps))
    high = min(math.ceil((above - mean) / step), sum(n * (one.low + len(one.masses) - 1) for one, n in steps))
    _affordable(high - low + 1, eps_error, most_points)
    window = Window(step=step, low=low, size=_size(max(high - low, 0) + 1))
    return summed(steps, lost=lost_mass(parts), moved=eps_error, window=window, tilt=grid.theta, probes=grid.probes)


def _size(least: int) -> int:
    """Return the least quick size that is at least `least`, and 1024."""
    power = 1 << max(7, (least - 1).bit_length() - 4)
    return min(size for size in (m * power * two for m in SIZES for two in (1, 2)) if size >= least)


def _affordable(points: float, eps_error: float, most_points: int) -> None:
    """Refuse grids of more points than the budget.

    Raises:
        NumericalFailure: if there are more.
    """
    if not points <= most_points:
        raise NumericalFailure(
            f"prv: a grid for eps_error={eps_error!r} needs {points:.3g} points, most_points is "
            f"{most_points}. Raise eps_error or most_points, or use accountant='pld'."
        )
