"""The sum of rounded steps, read off at ε: their estimate of δ, and both ends of δ that follow from it.

With Y the composed loss given that no step left its cells, W the probability of that, Y~ the sum of the rounded losses
and t what is left of ε_error when what may be off of means and sums is taken away, Hoeffding's inequality says

    P(Y − Y~ >= t), P(Y~ − Y >= t)  <=  H = exp(−2 t² / Σ n_i h²),

so that, as (1 − e^{ε − y})₊ rises with y and lies in [0, 1],

    P(L = ∞) + W δ~(ε + ε_error) − H  <=  δ(ε)  <=  (1 − W) + W δ~(ε − ε_error) + H.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace

import numpy as np

from accountant.core.convolve import Part, Tilted, Window, compose, suffix_sums
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.rounded import Rounded
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF

NOTHING = np.zeros(0)
NEAR = 1e-9  # relative, beyond ends that are to be certified


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RoundedSum:
    """A composition of rounded steps at one tilt θ.

    Args:
        tilt: θ.
        window: the grid of the sums of indices K, which stand for losses mean + h K.
        mean: Σ n_i m_i.
        moved: ε_error.
        chance: H.
        lost: enclosure of P(L = ∞).
        left_out: bound of 1 − W.
        tilted: the masses, unkept.
        sums: their suffix sums A_j = Σ_{i >= j} w_i e^{−θ (x_i − x_j)} and B_j, that with θ + 1.
        rounding: bounds of the relative errors of A and of B.
        relative: bound of that of the masses.
    """

    tilt: float
    window: Window
    mean: float
    moved: float
    chance: float
    lost: Bounds
    left_out: float
    tilted: Tilted
    sums: tuple[Array, Array]
    rounding: tuple[float, float]
    relative: float

    def most(self, moved: Array) -> Array:
        """Return upper ends of δ at every ε, given ε − ε_error."""
        with np.errstate(over="ignore", invalid="ignore"):  # far from the tilt's ε nothing is known: 1
            value, error = self._estimate(moved)
            more = self._noise(moved) + self._beyond(moved) + self._below(moved)
            found = (value + error + more + self.left_out + self.chance) * (1 + 16 * UNIT_ROUNDOFF)
            return np.asarray(np.fmin(1.0, found))

    def least(self, moved: Array) -> Array:
        """Return lower ends of δ at every ε, given ε + ε_error."""
        with np.errstate(over="ignore", invalid="ignore"):  # far from the tilt's ε nothing is known: P(L = ∞)
            value, error = self._estimate(moved)
            less = self._noise(moved) + self._wrapped(moved)
            found = np.fmax((value - error - less - self.chance) * (1 - 16 * UNIT_ROUNDOFF), 0.0)
            return np.asarray(np.minimum(self.lost.lower + found, 1.0))

    def about(self, epsilon: Array) -> Array:
        """Return about δ at every ε."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.lost.upper + self._estimate(epsilon)[0])

    def inverted(self, delta: float) -> float:
        """Return about the ε at which the estimate is delta; it is linear in e^ε between the nodes."""
        h, low = self.window.step, self.window.low

        def value(j: int) -> float:
            scale = math.exp(min(self.tilted.log_scale - self.tilt * h * (j + low), 700.0))
            return scale * float(self.sums[0][j] - self.sums[1][j])

        last = self.window.size - 1
        j = max(bisect.bisect_left(range(last), -delta, key=lambda i: -value(i)) - 1, 0)
        before, after = value(j), value(j + 1)
        share = min(max((before - delta) / max(before - after, 1e-300), 0.0), 1.0)
        return self.mean + h * (j + low) + math.log1p(share * math.expm1(min(h, 700.0)))

    def enclosed(self, delta: float) -> tuple[float, float]:
        """Return about the ends of ε at this δ: where the ends of δ meet it, and a little beyond."""
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.array([self.inverted(delta - self.lost.upper)])
            value, error = self._estimate(x)
            doubt = error + self._noise(x) + NEAR * value
            more, less = float((doubt + self._beyond(x))[0]), float((doubt + self._wrapped(x))[0])
        most = delta - self.left_out - self.chance - more
        lower = self.inverted(delta - self.lost.lower + self.chance + less) - self.moved
        top = self._ends[0] + self.window.step * self.tilted.top  # beyond which there is no mass, and no round-off
        upper = (min(self.inverted(most), top) if most > 0 else top) + self.moved
        return max(lower * (1 - NEAR), 0.0), upper * (1 + NEAR)

    def ledger(self, epsilon: float) -> Ledger:
        """Return one line for each error."""
        x = np.array([epsilon - self.moved])
        return (
            ErrorLine(source="rounded losses, ε_error", bound=self.moved, unit="epsilon", basis="proved"),
            ErrorLine(source="rounded losses, within δ_error", bound=self.chance, unit="delta", basis="proved"),
            ErrorLine(source="truncation: losses left out", bound=self.left_out, unit="delta", basis="validated"),
            ErrorLine(
                source="aliasing: mass outside the window",
                bound=float(self._beyond(x)[0]),
                unit="delta",
                basis="proved",
            ),
            ErrorLine(
                source="round-off of the transforms", bound=float(self._noise(x)[0]), unit="delta", basis="validated"
            ),
            ErrorLine(
                source="rounding of masses and sums",
                bound=self.relative + sum(self.rounding),
                unit="relative",
                basis="validated",
            ),
        )

    @property
    def _ends(self) -> tuple[float, float]:
        """The loss at the first point of the window, and that at the first after it."""
        low = self.window.low
        return self.mean + self.window.step * low, self.mean + self.window.step * (low + self.window.size)

    def _scale(self, epsilon: Array) -> Array:
        with np.errstate(over="ignore"):  # beyond all floats there is nothing
            return np.exp(np.minimum(self.tilted.log_scale - self.tilt * (epsilon - self.mean), 700.0))

    def _estimate(self, epsilon: Array) -> tuple[Array, Array]:
        """Return W δ~(ε) = Σ_{x >= ε} w e^{κ − θx} (1 − e^{ε − x}), and a bound of its error but for that of w."""
        x, h = epsilon - self.mean, self.window.step
        j = np.clip(np.ceil(x / h) - self.window.low, 0, self.window.size - 1).astype(np.int64)
        node = h * (j + self.window.low)
        ahead = np.minimum(x - node, 0.0)  # beyond the last point there is nothing but what the bounds of it say
        scale = np.exp(np.minimum(self.tilted.log_scale - self.tilt * node, 700.0))
        first, second = self.sums[0][j], np.exp(ahead) * self.sums[1][j]
        inside = x <= node
        exponents = 2.0 + abs(self.tilted.log_scale) + (1.0 + self.tilt) * (np.abs(x) + abs(self.mean) + h)
        rounding = 16 * UNIT_ROUNDOFF * exponents
        value = np.where(inside, scale * np.maximum(first - second, 0.0), 0.0)
        error = scale * (first * (self.rounding[0] + rounding) + second * (self.rounding[1] + rounding))
        return value, np.where(inside, error, 0.0) + value * self.relative

    def _noise(self, epsilon: Array) -> Array:
        """Bound what the round-off of w, known by its norm, makes of the estimate, by Cauchy and Schwarz.

        The weight of w at y beyond ε is g(y) = e^{−θy} (1 − e^{−y}), at most e^{−θy} and y; below the window it is at
        most e^{−θy} at y beyond the window's first point. Where there is no mass for certain, there is no round-off.
        """
        h, first = self.window.step, self._ends[0]
        at = np.minimum(np.maximum(epsilon, first), self._ends[1])
        terms = np.maximum(self.tilted.top - np.floor((at - first) / h), 0.0) + 1.0
        terms = np.where(epsilon > first + h * self.tilted.top, 0.0, terms)
        plain = np.minimum(-1.0 / math.expm1(-2 * self.tilt * h), terms)
        bent = np.minimum(square_sum(self.tilt, h), terms * np.minimum(1.0, (terms * h) ** 2))
        square = np.where(epsilon < first, plain, bent)
        return np.asarray(self._scale(at) * self.tilted.noise * np.sqrt(square)) * (1 + self.relative)

    def _wrapped(self, epsilon: Array) -> Array:
        """Bound what tilted mass outside the window, wherever in it it shows, makes of the estimate."""
        return self._scale(np.maximum(epsilon, self._ends[0])) * sum(self.tilted.outside) * (1 + self.relative)

    def _beyond(self, epsilon: Array) -> Array:
        """Bound what tilted mass above the window makes of δ at ε."""
        return self._scale(np.maximum(epsilon, self._ends[1])) * self.tilted.outside[1] * (1 + self.relative)

    def _below(self, epsilon: Array) -> Array:
        """Bound what mass below the window makes of δ at ε: 1 − e^{ε − x} at most, x the window's first point."""
        ahead = -np.expm1(np.minimum(epsilon - self._ends[0], 0.0)) if self.tilted.outside[0] > 0 else 0.0
        return np.asarray(ahead * (1 + 1e-12))


def square_sum(tilt: float, step: float) -> float:
    """Bound Σ g(y)² over points y >= 0 that are `step` apart, for g(y) = e^{−θy} (1 − e^{−y}).

    g² rises and then falls, so that it is at most ∫ g² / h = 1 / (2θ (2θ + 1) (θ + 1) h) and the largest g² more.
    """
    return 1.0 / (2 * tilt * (2 * tilt + 1) * (tilt + 1)) / step + 1.0 / (1 + tilt) ** 2


def summed(
    steps: list[tuple[Rounded, int]],
    *,
    lost: Bounds,
    moved: float,
    window: Window,
    tilt: float,
    probes: tuple[float, float],
) -> RoundedSum:
    """Compose rounded steps at one tilt.

    Args:
        steps: what is run and how often, all with the window's step h.
        lost: enclosure of P(L = ∞).
        moved: ε_error.
        window: where sums of indices are wanted.
        tilt: θ > 0.
        probes: see `accountant.core.convolve.compose`.
    """
    tilted = compose([Part(masses=one.masses, low=one.low, times=n) for one, n in steps], window, tilt, probes)
    mean = math.fsum(n * one.mean for one, n in steps)
    size = sum(n * abs(one.mean) for one, n in steps)
    doubt = sum(n * one.doubt for one, n in steps) + 8 * UNIT_ROUNDOFF * (size + moved) * (1 + len(steps))
    spread = sum(n * (window.step + 2 * one.edge) ** 2 for one, n in steps) * (1 + 1e-12)
    rest = max(moved - doubt * (1 + 1e-12), 0.0)
    off = sum(n * one.relative for one, n in steps) * (1 + 1e-12)
    above, above_error = suffix_sums(tilted.weights, tilt * window.step)
    below, below_error = suffix_sums(tilted.weights, (tilt + 1) * window.step)
    left_out = lost.upper + sum(n * one.left_out for one, n in steps) * (1 + 1e-12)
    return RoundedSum(
        tilt=tilt,
        window=window,
        mean=mean,
        moved=moved,
        chance=math.exp(-2 * rest * rest / spread * (1 - 1e-12)) * (1 + 1e-12),
        lost=lost,
        left_out=left_out,
        tilted=replace(tilted, weights=NOTHING),
        sums=(above, below),
        rounding=(above_error, below_error),
        relative=2 * tilted.relative + (math.expm1(off) if off < 1.0 else math.inf),
    )
