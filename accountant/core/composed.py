"""One composition on a grid at one tilt, read off from above and from below.

δ(ε) <= P(L = ∞) + Σ_S P(S) (1 − e^{ε − x_S})₊          δ(ε) >= P(S >= t) − e^ε Q(S >= t)  for any t
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accountant.core.base import Steps
from accountant.core.bins import Grid, GriddedStep
from accountant.core.convolve import Part, Tilted, Window, compose, suffix_sums
from accountant.core.ledger import ErrorLine, Ledger
from mechanisms.core.bounds import Array, Bounds, up
from mechanisms.core.pair import UNIT_ROUNDOFF

NOTHING = np.zeros(0)
MOST_ULPS = 2000.0  # more than two suffix sums of few terms are off by


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Composed:
    """A composition at one tilt θ, ready to be read off at any ε near it.

    Args:
        tilt: θ.
        origin: Σ n_i o_i of the grids' origins: sums of indices K stand for losses origin + h K.
        turned: Σ n_i |o_i|.
        window: the grid of the sums from above.
        under: the grid of the sums of indices from below.
        lost: bound of P(L = ∞), truncated tails included.
        shift: the losses are at most this much above the grid's.
        above: tilted dominating P-masses, unkept; `excess` their Σ_S P(S)(1 − e^{x_j − x_S})₊ e^{θ x_j − κ} at x_j.
        below: tilted (P, Q) masses of the sums of indices, unkept; `tails` their suffix sums.
        infinite: lower bound of P(L = ∞).
        offset: by how much the loss exceeds the grid's on average where the sums are near ε.
        rounding: relative error of the sums.
    """

    tilt: float
    origin: float
    turned: float
    window: Window
    under: Window
    lost: float
    shift: float
    above: Tilted
    excess: Array
    below: tuple[Tilted, Tilted]
    tails: tuple[Array, Array]
    infinite: float
    offset: float
    rounding: float

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ at every ε."""
        with np.errstate(over="ignore", invalid="ignore"):  # far from the tilt's ε nothing is known: [0, 1]
            upper = np.fmin(1.0, self._upper(epsilon))
            lower = np.clip(self._lower(epsilon), 0.0, 1.0)
        return Bounds(lower=np.minimum(lower, upper), upper=upper)

    def relative_width(self, epsilon: Array) -> float:
        """Return about the largest relative width of the brackets of ε that those of δ give."""
        bounds = self.delta(epsilon)
        j = self._index(epsilon - self.origin)
        drop = self.excess[j] - math.exp(-self.tilt * self.window.step) * self.excess[j + 1]
        slope = drop * self._scale(self.above, self.window.step * (j + self.window.low)) / self.window.step
        slope = np.maximum(slope, self.tilt * np.maximum(bounds.upper, 1e-300))
        least = 1e-3 * bounds.upper / slope
        with np.errstate(over="ignore"):
            return float(np.max((bounds.upper - bounds.lower) / slope / np.maximum(epsilon, least)))

    def inverted(self, delta: float) -> float:
        """Return about the ε at which the upper end is delta: it is linear in e^ε between the nodes."""
        h, nodes = self.window.step, self.window.step * self.window.low + self.window.step * np.arange(len(self.excess))
        values = self._scale(self.above, nodes) * self.excess
        j = int(np.clip(np.searchsorted(-values, -(delta - self.lost), side="right") - 1, 0, len(values) - 2))
        share = np.clip((values[j] - delta + self.lost) / max(values[j] - values[j + 1], 1e-300), 0.0, 1.0)
        return float(self.origin + nodes[j] + math.log1p(share * math.expm1(min(h, 700.0))))

    def ledger(self, epsilon: float) -> Ledger:
        """Return one line for each error."""
        scale = self._scale(self.above, epsilon - self.origin)
        spread = self.above.noise * math.sqrt(_square_sum(self.tilt, self.window.step)) * scale
        last = self.window.step * (self.window.low + self.window.size)
        alias = self._scale(self.above, last) * self.above.outside[1]
        return (
            ErrorLine(source="truncation: loss taken as infinite", bound=self.lost, unit="delta", basis="proved"),
            ErrorLine(source="aliasing: mass outside the window", bound=alias, unit="delta", basis="proved"),
            ErrorLine(source="round-off of the transforms", bound=spread, unit="delta", basis="validated"),
            ErrorLine(
                source="rounding of masses and sums",
                bound=self.above.relative + self.rounding,
                unit="relative",
                basis="validated",
            ),
            ErrorLine(source="rounding of bin edges", bound=self.shift, unit="epsilon", basis="validated"),
        )

    def _slack(self, tilted: Tilted, epsilon: Array, terms: Array) -> Array:
        """The relative error of a sum of so many terms read off at ε: of masses, summation and exponents."""
        summed = np.minimum(self.rounding, UNIT_ROUNDOFF * (4.0 * np.maximum(terms, 0) + MOST_ULPS))
        reach = np.abs(epsilon) + self.turned + abs(self.offset) + 4.0 * self.window.step
        exponents = 2.0 + abs(tilted.log_scale) + (1.0 + self.tilt) * reach
        return np.asarray(2 * (tilted.relative + summed) + 16 * UNIT_ROUNDOFF * exponents)

    def _scale(self, tilted: Tilted, x: Any) -> Any:
        return np.exp(np.minimum(tilted.log_scale - self.tilt * x, 700.0))

    def _index(self, x: Array) -> NDArray[np.int64]:
        j = np.floor(x / self.window.step) - self.window.low
        return np.asarray(np.clip(j, 0, self.window.size - 2), dtype=np.int64)

    def _upper(self, epsilon: Array) -> Array:
        h, low = self.window.step, self.window.low
        x = (epsilon - self.origin) - self.shift
        x = x - 4 * UNIT_ROUNDOFF * (np.abs(x) + self.shift)
        before, x = np.minimum(x - h * low, 0.0), np.maximum(x, h * low)
        j = self._index(x)
        nodes = h * (j + low)
        share = np.expm1(np.minimum(x - nodes, h)) / np.expm1(h)  # δ is linear in e^ε between nodes
        share = np.minimum(np.fmax(share, 0.0), 1.0)  # and falls, should e^h be no float
        masses = (1 - share) * self.excess[j] + share * math.exp(-self.tilt * h) * self.excess[j + 1]
        last = h * (low + self.window.size)
        inside = self._scale(self.above, nodes) * masses
        terms = np.maximum(self.above.top - j, 0)
        square = np.minimum(_square_sum(self.tilt, h), terms * np.minimum(1.0, (terms * h) ** 2))  # as 1 − e^{−y} <= y
        noise = self._scale(self.above, x) * self.above.noise * np.sqrt(square)
        alias = self._scale(self.above, last) * self.above.outside[1]
        total = self.lost + (inside + noise + alias) * (1 + self._slack(self.above, x, terms))
        # Before the window by the chord of δ, convex in e^ε, from the 1 that it is at most to the first node.
        chord = up(1.0 - (1.0 - np.minimum(total, 1.0)) * np.exp(before) * (1.0 - 8 * UNIT_ROUNDOFF))
        return np.asarray(np.where(before < 0.0, chord, total))

    def _lower(self, epsilon: Array) -> Array:
        """The best of a few thresholds t near the Neyman–Pearson one, where x_t + offset = ε."""
        best, x = np.full_like(epsilon, self.infinite), epsilon - self.origin
        start = np.ceil((x - self.offset) / self.under.step) - self.under.low
        for nudge in (-1, 0, 1):
            t = np.clip(start + nudge, 0, self.under.size - 1).astype(np.int64)
            best = np.fmax(best, self.infinite + self._test(x, t))
        return best * (1 - 8 * UNIT_ROUNDOFF)

    def _test(self, ahead: Array, t: Array) -> Array:
        """P(S >= t) − e^ε Q(S >= t) for ε that lie `ahead` of the origin, every error subtracted."""
        p, q = self.below
        x, h = self.under.step * (t + self.under.low), self.under.step
        terms = np.maximum(p.top - t, 0)  # as many for q
        noise_p = p.noise * np.sqrt(np.minimum(1 + 1 / (2 * self.tilt * h), terms)) + sum(p.outside)
        noise_q = q.noise * np.sqrt(np.minimum(1 + 1 / (2 * (self.tilt + 1) * h), terms)) + sum(q.outside)
        seen_p = np.maximum(self.tails[0][t] - noise_p, 0.0) * (1 - self._slack(p, ahead, terms))
        seen_q = (self.tails[1][t] + noise_q) * (1 + self._slack(q, ahead, terms))
        gap = np.minimum(ahead - x + (q.log_scale - p.log_scale), 700.0)
        return np.asarray(self._scale(p, x) * (seen_p - np.exp(gap) * seen_q))


def _square_sum(tilt: float, step: float) -> float:
    """Bound Σ_i g(y_i)² for g(y) = e^{−θy}(1 − e^{−y}) over points step apart: the integral and the largest value."""
    integral = 1 / (2 * tilt * (2 * tilt + 1) * (tilt + 1))
    return integral / step + 1 / (1 + tilt) ** 2


def read(
    grids: list[tuple[GriddedStep, int]],
    tilt: float,
    window: Window,
    probes: tuple[float, float],
    parts: Steps,
) -> Composed:
    """Compose steps on one grid at one tilt.

    Args:
        grids: the gridded steps and how often each runs.
        tilt: θ.
        window: where the sums from above are wanted.
        probes: see `accountant.core.convolve.compose`.
        parts: the steps themselves.
    """
    above = compose(
        [Part(masses=g.above, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], window, tilt, probes
    )
    offset = sum(n * mean_offset(g.p, g.q, g.grid, tilt) for g, n in grids)
    under = shifted(window, offset, [(g.grid, n) for g, n in grids])
    p = compose([Part(masses=g.p, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], under, tilt, probes)
    q = compose([Part(masses=g.q, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], under, tilt, probes)
    return laid_out(
        [(g.grid, g.shift, n) for g, n in grids],
        tilt,
        (window, under),
        (above, p, q),
        offset,
        lost=any_of([(g.lost, n) for g, n in grids]),
        infinite=certain_loss(parts),
    )


def laid_out(
    grids: list[tuple[Grid, float, int]],
    tilt: float,
    windows: tuple[Window, Window],
    masses: tuple[Tilted, Tilted, Tilted],
    offset: float,
    *,
    lost: float,
    infinite: float,
) -> Composed:
    """Sum up composed masses so that they can be read off at any ε.

    Args:
        grids: of every step its grid, by how much its losses may exceed the grid's, and how often it runs.
        tilt: θ.
        windows: of the sums from above and from below.
        masses: the tilted sums from above and, from below, of P and of Q.
        offset: see `Composed`.
        lost: see `Composed`.
        infinite: see `Composed`.
    """
    (window, under), (above, p, q) = windows, masses
    plain, error = suffix_sums(above.weights, (tilt + 1) * window.step)
    beyond = np.append(plain[1:], 0.0) * -math.expm1(-window.step) * math.exp(-tilt * window.step)
    excess, more = suffix_sums(beyond, tilt * window.step)
    turned = sum(n * abs(grid.origin) for grid, _, n in grids) * (1 + 1e-14)
    return Composed(
        tilt=tilt,
        origin=math.fsum(n * grid.origin for grid, _, n in grids),
        turned=turned,
        window=window,
        under=under,
        lost=lost,
        shift=sum(n * shift for _, shift, n in grids) * (1 + 1e-14) + 4 * UNIT_ROUNDOFF * turned,
        above=replace(above, weights=NOTHING),
        excess=excess,
        below=(replace(p, weights=NOTHING), replace(q, weights=NOTHING)),
        tails=(suffix_sums(p.weights, tilt * window.step)[0], suffix_sums(q.weights, (tilt + 1) * window.step)[0]),
        infinite=infinite,
        offset=offset,
        rounding=error + more,
    )


def shifted(window: Window, offset: float, grids: list[tuple[Grid, int]]) -> Window:
    """Return the window of sums of indices, whose losses lie by the offset above their points.

    Where no sum lies beyond an end of the window none lies beyond that end of the other.
    """
    least, most = (sum(n * getattr(grid, end) for grid, n in grids) for end in ("low", "high"))
    low = window.low - round(offset / window.step)
    low = min(low, least) if window.low <= least else low
    low = max(low, most - window.size + 1) if window.low + window.size > most else low
    return Window(step=window.step, low=low, size=window.size)


def any_of(chances: list[tuple[float, int]]) -> float:
    """Bound 1 − Π (1 − p)^n, the chance that something of small chance p happens in n tries, rounded up."""
    if any(p >= 1 for p, _ in chances):
        return 1.0
    return min(1.0, -math.expm1(sum(n * math.log1p(-p) for p, n in chances)) * (1 + 1e-12))


def certain_loss(parts: Steps) -> float:
    """Bound P(L = ∞) from below."""
    kept = sum(n * math.log1p(-min(pair.infinite_mass.lower, 1 - 1e-16)) for pair, n in parts)
    return max(0.0, -math.expm1(kept) * (1 - 1e-14))


def mean_offset(p: Array, q: Array, grid: Grid, tilt: float) -> float:
    """The average of log(p/q) − x_k over the bins, tilted: how far the bins' losses lie above their points."""
    seen = (p > 0) & (q > 0)
    if not seen.any():
        return 0.0
    log_weight = np.log(p[seen]) + tilt * grid.points[seen]
    inside = np.clip(np.log(p[seen]) - np.log(q[seen]), -grid.step, grid.step)
    return float(np.average(inside, weights=np.exp(log_weight - np.max(log_weight))))
