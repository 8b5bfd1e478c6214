"""One composition on a grid at one tilt, read off from above and from below.

δ(ε) <= P(L = ∞) + Σ_S P(S) (1 − e^{ε − x_S})₊          δ(ε) >= P(S >= t) − e^ε Q(S >= t)  for any t
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from accountant.core.base import Steps
from accountant.core.bins import GriddedStep
from accountant.core.convolve import Part, Tilted, Window, compose, suffix_sums
from accountant.core.ledger import ErrorLine, Ledger
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Composed:
    """A composition at one tilt θ, ready to be read off at any ε near it.

    Args:
        tilt: θ.
        mean: about the ε that θ suits.
        window: the grid of the sums from above.
        under: the grid of the sums of indices from below.
        lost: bound of P(L = ∞), truncated tails included.
        shift: the losses are at most this much above the grid's.
        above: tilted dominating P-masses; `excess` their Σ_S P(S)(1 − e^{x_j − x_S})₊ e^{θ x_j − κ} at each x_j.
        below: tilted (P, Q) masses of the sums of indices; `tails` their suffix sums.
        infinite: lower bound of P(L = ∞).
        offset: by how much the loss exceeds the grid's on average where the sums are near ε.
        rounding: relative error of the sums.
    """

    tilt: float
    mean: float
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

    def relative_width(self) -> float:
        """Return about the relative width of the bracket of ε where the tilt suits it: δ falls by e^{−θ} a unit."""
        bounds = self.delta(np.array([max(self.mean, 0.0)]))
        scale = self.tilt * max(self.mean, 1e-3 / self.tilt)
        return float((bounds.upper[0] - bounds.lower[0]) / max(bounds.upper[0], 1e-300)) / scale

    def ledger(self, epsilon: float) -> Ledger:
        """Return one line for each error."""
        scale = self._scale(self.above, epsilon)
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

    def _slack(self, tilted: Tilted, epsilon: Array) -> Array:
        """The relative error of a sum read off at ε: of the masses, the summation, and the exponents."""
        reach = np.abs(epsilon) + abs(self.offset) + 4.0 * self.window.step
        exponents = 2.0 + abs(tilted.log_scale) + (1.0 + self.tilt) * reach
        return np.asarray(2 * (tilted.relative + self.rounding) + 16 * UNIT_ROUNDOFF * exponents)

    def _scale(self, tilted: Tilted, x: Any) -> Any:
        return np.exp(np.minimum(tilted.log_scale - self.tilt * x, 700.0))

    def _upper(self, epsilon: Array) -> Array:
        h, low = self.window.step, self.window.low
        x = np.maximum(epsilon - self.shift, 0.0) * (1 - 4 * UNIT_ROUNDOFF)
        j = np.clip(np.floor(x / h).astype(np.int64) - low, 0, self.window.size - 2)
        nodes = h * (j + low)
        share = np.clip(np.expm1(np.minimum(x - nodes, h)) / np.expm1(h), 0.0, 1.0)  # δ is linear in e^ε between nodes
        masses = (1 - share) * self.excess[j] + share * math.exp(-self.tilt * h) * self.excess[j + 1]
        last = h * (low + self.window.size)
        inside = self._scale(self.above, nodes) * masses
        noise = self._scale(self.above, x) * self.above.noise * math.sqrt(_square_sum(self.tilt, h))
        alias = self._scale(self.above, last) * self.above.outside[1]
        total = self.lost + (inside + noise + alias) * (1 + self._slack(self.above, x))
        return np.where(x < h * low, 1.0, total)

    def _lower(self, epsilon: Array) -> Array:
        """The best of a few thresholds t near the Neyman–Pearson one, where x_t + offset = ε."""
        best = np.full_like(epsilon, self.infinite)
        start = np.ceil((epsilon - self.offset) / self.under.step).astype(np.int64) - self.under.low
        for nudge in (-1, 0, 1):
            t = np.clip(start + nudge, 0, self.under.size - 1)
            best = np.fmax(best, self.infinite + self._test(epsilon, t))
        return best * (1 - 8 * UNIT_ROUNDOFF)

    def _test(self, epsilon: Array, t: Array) -> Array:
        """P(S >= t) − e^ε Q(S >= t), every error subtracted."""
        p, q = self.below
        x, h = self.under.step * (t + self.under.low), self.under.step
        noise_p = p.noise * math.sqrt(1 + 1 / (2 * self.tilt * h)) + sum(p.outside)
        noise_q = q.noise * math.sqrt(1 + 1 / (2 * (self.tilt + 1) * h)) + sum(q.outside)
        seen_p = np.maximum(self.tails[0][t] - noise_p, 0.0) * (1 - self._slack(p, epsilon))
        seen_q = (self.tails[1][t] + noise_q) * (1 + self._slack(q, epsilon))
        gap = np.minimum(epsilon - x + (q.log_scale - p.log_scale), 700.0)
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
    mean: float,
    parts: Steps,
) -> Composed:
    """Compose steps on one grid at one tilt.

    Args:
        grids: the gridded steps and how often each runs.
        tilt: θ.
        window: where the sums from above are wanted.
        probes: see `accountant.core.convolve.compose`.
        mean: about the ε that θ suits.
        parts: the steps themselves.
    """
    above = compose(
        [Part(masses=g.above, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], window, tilt, probes
    )
    plain, error = suffix_sums(above.weights, (tilt + 1) * window.step)
    shifted = np.append(plain[1:], 0.0) * -math.expm1(-window.step) * math.exp(-tilt * window.step)
    excess, more = suffix_sums(shifted, tilt * window.step)
    offset = sum(n * _mean_offset(g, tilt) for g, n in grids)
    under = Window(step=window.step, low=window.low - round(offset / window.step), size=window.size)
    p = compose([Part(masses=g.p, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], under, tilt, probes)
    q = compose([Part(masses=g.q, low=g.grid.low, times=n, slip=g.grid.slip) for g, n in grids], under, tilt, probes)
    kept = sum(n * math.log1p(-min(pair.infinite_mass.lower, 1 - 1e-16)) for pair, n in parts)
    return Composed(
        tilt=tilt,
        mean=mean,
        window=window,
        under=under,
        lost=_any_of([(g.lost, n) for g, n in grids]),
        shift=sum(n * g.shift for g, n in grids) * (1 + 1e-14),
        above=above,
        excess=excess,
        below=(p, q),
        tails=(suffix_sums(p.weights, tilt * window.step)[0], suffix_sums(q.weights, (tilt + 1) * window.step)[0]),
        infinite=max(0.0, -math.expm1(kept) * (1 - 1e-14)),
        offset=offset,
        rounding=error + more,
    )


def _any_of(chances: list[tuple[float, int]]) -> float:
    """Bound 1 − Π (1 − p)^n, the chance that something of small chance p happens in n tries, rounded up."""
    if any(p >= 1 for p, _ in chances):
        return 1.0
    return min(1.0, -math.expm1(sum(n * math.log1p(-p) for p, n in chances)) * (1 + 1e-12))


def _mean_offset(step: GriddedStep, tilt: float) -> float:
    """The average of log(p/q) − x_k over the bins, tilted: how far the bins' losses lie above their lower edges."""
    seen = (step.p > 0) & (step.q > 0)
    if not seen.any():
        return 0.0
    log_weight = np.log(step.p[seen]) + tilt * step.grid.points[seen]
    inside = np.clip(np.log(step.p[seen]) - np.log(step.q[seen]), 0.0, step.grid.step)
    return float(np.average(inside, weights=np.exp(log_weight - np.max(log_weight))))
