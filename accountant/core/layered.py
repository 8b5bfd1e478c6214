"""Compositions whose runs are split into layers, see `accountant.core.layers`: one composition for each, and their sum.

δ(ε) = ∫ (dP − e^ε dQ)₊ is the sum of the integrals over layers, each of which is bracketed apart, on a grid as fine as
its share in the width of the whole is worth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from accountant.core import bands
from accountant.core.banded_step import BandedStep, banded, unbanded
from accountant.core.base import Steps
from accountant.core.bins import gridded
from accountant.core.composed import Composed, any_of, certain_loss, laid_out, mean_offset, shifted
from accountant.core.convolve import Part, Tilted, Window, compose, fast_size
from accountant.core.grids import FILLED, LEAST_STEP, MOST, Atoms, step_for
from accountant.core.layers import Layer
from accountant.core.ledger import ErrorLine, Ledger
from mechanisms.core.bounds import Array, Bounds

CELL = 1.1  # neighbouring ε for which layers are laid out
SERVED = np.array([1 / 1.04, 1.0, 1.04])  # of ε, where brackets are looked at
SECTIONS, ROUNDS = 32, 8  # of the inversion
MOST_FINER = 8.0  # times as many points of the next grid
HELPED = 0.6  # of the width before, that a finer grid must do better than to be made finer still


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layered:
    """The sum of what layers have of δ(ε), near one ε.

    Args:
        epsilon: that ε.
        layers: of each the compositions on two grids, for its upper and its lower end; what is lost is in the first.
        whole: a composition of all runs that may be as tight, or None.
    """

    epsilon: float
    layers: tuple[tuple[Composed, Composed], ...]
    whole: Composed | None = None

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ at every ε."""
        count = len(self.layers)
        upper = np.minimum(sum(above.delta(epsilon).upper for above, _ in self.layers) * (1 + 1e-15 * count), 1.0)
        lower = sum(below.delta(epsilon).lower for _, below in self.layers) * (1 - 1e-15 * count)
        if self.whole:
            other = self.whole.delta(epsilon)
            lower, upper = np.maximum(lower, other.lower), np.minimum(upper, other.upper)
        return Bounds(lower=np.minimum(lower, upper), upper=upper)

    def inverted(self, delta: float) -> float:
        """Return about the ε at which the upper end is delta, of those that are served."""
        low, high = self.epsilon / CELL, self.epsilon * CELL
        for _ in range(ROUNDS):
            points = np.linspace(low, high, SECTIONS + 1)
            upper = self.delta(points).upper
            k = int(np.clip(np.count_nonzero(upper > delta), 1, SECTIONS))
            low, high = float(points[k - 1]), float(points[k])
        return 0.5 * (low + high)

    def ledger(self, epsilon: float) -> Ledger:
        """Return one line for each error, of all layers together, or of whole runs where their upper end is used."""
        if self.whole and self.whole.delta(np.array([epsilon])).upper[0] <= self.delta(np.array([epsilon])).upper[0]:
            return self.whole.ledger(epsilon)
        known: dict[str, list[ErrorLine]] = defaultdict(list)
        for above, _ in self.layers:
            for line in above.ledger(epsilon):
                known[line.source].append(line)
        return tuple(
            ErrorLine(source=source, bound=_joined(lines), unit=lines[0].unit, basis=lines[0].basis)
            for source, lines in known.items()
        )


def _joined(lines: list[ErrorLine]) -> float:
    bounds = [line.bound for line in lines]
    return math.fsum(bounds) if lines[0].unit == "delta" else max(bounds)


def cell(epsilon: Array) -> Array:
    """Return the ε that layers are laid out for, for every ε > 0."""
    return np.asarray(CELL ** np.round(np.log(epsilon) / math.log(CELL)))


def layered(
    parts: Steps,
    plan: tuple[Layer, ...],
    epsilon: float,
    *,
    aim: float,
    points: tuple[int, int],
    whole: Composed | None = None,
) -> Layered:
    """Compose every layer on ever finer grids, until the bracket of ε is as narrow as aimed at or it does not help.

    Args:
        parts: the pairs and how often each runs.
        plan: the layers.
        epsilon: the ε that they were laid out for.
        aim: relative width of ε.
        points: of the first grids, and of the last.
        whole: see `Layered`.
    """
    found = [layer_on(parts, layer, points[0]) for layer in plan]
    served = epsilon * SERVED
    first = Layered(epsilon=epsilon, layers=tuple(zip(found, found, strict=True)))
    beside = first.delta(np.append(served / 1.002, served * 1.002)).upper
    slope = np.maximum(beside[: len(served)] - beside[len(served) :], 1e-300) / (0.004 * served)
    allowed = aim * served * slope / len(plan)
    refined = tuple(
        _refined(partial(layer_on, parts, layer), one, served, allowed, points)
        for layer, one in zip(plan, found, strict=True)
    )
    return Layered(epsilon=epsilon, layers=refined, whole=whole)


def _refined(
    at: Callable[[int], Composed], composed: Composed, served: Array, allowed: Array, limits: tuple[int, int]
) -> tuple[Composed, Composed]:
    """Return the compositions of a layer with the least upper and the largest lower end, on ever finer grids.

    They may be two: as its grid is finer an upper end falls, until round-off reigns, while fewer of the steps without a
    jump have the index of 0, which lower ends rise with.
    """
    points, bounds, above, below, before = limits[0], composed.delta(served), composed, composed, math.inf
    upper, lower = bounds.upper, bounds.lower
    while True:
        wide = float(np.max((upper - lower) / allowed))
        if points >= limits[1] or wide <= 1.0 or wide > HELPED * before:
            return above, below
        points, before = math.ceil(points * min(max(1.2 * math.sqrt(wide), 1.5), MOST_FINER)), wide
        composed = at(min(points, limits[1]))
        bounds = composed.delta(served)
        if np.sum(bounds.upper / allowed) < np.sum(upper / allowed):
            above, upper = composed, bounds.upper
        if np.sum(bounds.lower / allowed) > np.sum(lower / allowed):
            below, lower = composed, bounds.lower


def layer_on(parts: Steps, layer: Layer, points: int) -> Composed:
    """Compose a layer on a grid whose window has about so many points."""
    atoms = [Atoms.of(pair) for pair, _ in parts]
    kinds = sorted(((n, one.apart) for (_, n), one in zip(parts, atoms, strict=True)), reverse=True)
    points = fast_size(points)
    reach = max(high - low for (_, high), low in zip(layer.band, layer.low, strict=True))
    least = max((layer.ends[1] - layer.ends[0]) / (FILLED * points), reach / (MOST * points), LEAST_STEP)
    step, _ = step_for(least, [apart for _, apart in kinds if apart > 0])
    grids = []
    for (pair, n), one, (a, b), low in zip(parts, atoms, layer.band, layer.low, strict=True):
        if a == math.inf:
            gridding = gridded(pair, step, (low, b), origin=one.origin(step), centred=one.among)
            grids.append((unbanded(gridding), n))
        else:
            grids.append((banded(pair, step, low, (b if a == -math.inf else a, b)), n))
    origin = math.fsum(n * g.grid.origin for g, n in grids)
    low = max(math.floor((layer.ends[0] - origin) / step), sum(n * g.grid.low for g, n in grids))
    high = max(low, min(math.ceil((layer.ends[1] - origin) / step), sum(n * g.grid.high for g, n in grids)))
    window = Window(step=step, low=low, size=fast_size(high - low + 1))
    return _read(grids, layer, window, parts)


def _read(grids: list[tuple[BandedStep, int]], layer: Layer, window: Window, parts: Steps) -> Composed:
    lowest = any(a == -math.inf for a, _ in layer.band)
    above = _composed(grids, layer, window, "above", lowest)
    offset = _offset(grids, layer.theta)
    under = shifted(window, offset, [(g.grid, n) for g, n in grids])
    p, q = (_composed(grids, layer, under, side, lowest) for side in ("p", "q"))
    return laid_out(
        [(g.grid, g.shift, n) for g, n in grids],
        layer.theta,
        (window, under),
        (above, p, q),
        offset,
        lost=any_of([(g.lost + g.dust if layer.top else g.dust, n) for g, n in grids]),
        infinite=certain_loss(parts) if layer.top else 0.0,
    )


def _composed(grids: list[tuple[BandedStep, int]], layer: Layer, window: Window, side: str, lowest: bool) -> Tilted:
    if lowest:
        plain = [Part(masses=getattr(g.base, side), low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids]
        return compose(plain, window, layer.theta, layer.probes)
    parts = [
        bands.Part(base=getattr(g.base, side), band=getattr(g.band, side), low=g.grid.low, times=n, slip=g.grid.slip)
        for g, n in grids
    ]
    return bands.compose(parts, window, layer.theta, layer.probes)


def _offset(grids: list[tuple[BandedStep, int]], tilt: float) -> float:
    """Return about by how much losses exceed the grid's: of bases, and of as many bands as a run has on average."""
    shares = []
    for g, n in grids:
        points = g.grid.points
        masses = [float(np.sum(one.p * np.exp(np.minimum(tilt * points, 700.0)))) for one in (g.base, g.band)]
        shares.append((n, masses[1] / max(sum(masses), 1e-300)))
    weight = -math.expm1(sum(n * math.log1p(-min(share, 1 - 1e-16)) for n, share in shares))
    total = 0.0
    for (g, n), (_, share) in zip(grids, shares, strict=True):
        jumps = min(n * share / weight, n) if share > 0 else 0.0
        ends = [mean_offset(one.p, one.q, g.grid, tilt) for one in (g.base, g.band)]
        total += (n - jumps) * ends[0] + jumps * ends[1]
    return total
