"""Fourier transforms of privacy losses that are functions of a likelihood ratio r, with a bound for every error.

With E[r] = 1 under the law that r is integrated over, and f = r^s − 1 − s (r − 1) of second order in r − 1,

    E[r^s] = 1 + E[f],    E_Q[e^{tL}] = E[r^t] where L = log r, and E[r^{1 − t}] where L = −log r.

Subclasses say on which nodes E[f] is summed, and with what error: `mechanisms.core.normal_mixture` and
`mechanisms.core.bounded_losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.likelihood_ratio import SecondOrder, second_order
from mechanisms.core.mixture_grid import Grid
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.turned_sums import turned_sums

LOG_UNKNOWN = 1.6095  # log 5, rounded up
STAIRS = 64
MOST_KEPT = 2**20  # nodes of grids, 48 bytes each
MOST_TERMS, MOST_TOGETHER = 2**26, 2**28  # nodes × frequencies of one pair and of all: about half a second and two
TINY = 1e-5  # |w| (|s| + 2) below which plans take the leading terms of r^s − 1 − s w and r^s log r − w


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transform:
    """Logarithms of E_Q[e^{(c + iy) L}], one row a pair, one column a frequency y.

    Args:
        log_modulus: their real parts, shape (k, m).
        angle: their imaginary parts, of the principal branch.
        error: bound of the distance of log E_Q[e^{(c + iy) L}], on some branch, from what the two say.
    """

    log_modulus: Array
    angle: Array
    error: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses(ABC):
    """The losses log r of k pairs, or −log r of k reversed ones.

    Args:
        reverse: whether they are reversed.
    """

    reverse: bool
    _grids: dict[float, Grid] = field(default_factory=dict)
    _layers: dict[float, tuple[Array, Array]] = field(default_factory=dict)

    @abstractmethod
    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}] at many real t and its first two derivatives, shape (len(powers), k) each.

        For plans, not for bounds: three digits are aimed at. Where powers leave the floats, all three are infinite.
        """

    @abstractmethod
    def steps_apart(self, power: float) -> tuple[Array, Array, Array]:
        """Return weights w, and the least and the largest that distances D between atoms may be, shape (k,) each.

        With them and for all y,

            |E_Q[e^{(power + iy) L}]| / E_Q[e^{power L}] <= envelope(y) (1 − w sin²(yD/2)).

        Two atoms of weights a and b, D apart, turn to |a + b e^{iyD}| <= a + b − 2ab/(a + b) sin²(yD/2); none: w = 0.
        """

    @abstractmethod
    def _nodes(self, exponent: float, frequency: float) -> Grid:
        """Return nodes on which E[f] is right to within their `error` for Re s = exponent, |Im s| <= frequency."""

    @abstractmethod
    def _uniform_layers(self, exponent: float) -> tuple[Array, Array]:
        """Return the weights and the widths of uniform laws that the law of log r tilted by r^s contains, (k, m) each.

        A layer loses 1e-9 of its height for round-off, that of the moment included, and its ends' errors in width.
        """

    def prepare(self, *powers: float) -> None:
        """Lay out the nodes of several real moments.

        Raises:
            NumericalFailure: as `transform`.
        """
        for power in powers:
            self._real_nodes(self._exponent(power))

    def transform(self, power: float, frequencies: Array) -> Transform:
        """Return log E_Q[e^{(power + iy) L}] for every frequency y >= 0, shape (m,).

        Raises:
            NumericalFailure: if the powers leave the floats, or the quadrature its budget of nodes or of terms.
        """
        exponent = self._exponent(power)
        nodes = self._nodes(exponent, float(np.max(frequencies, initial=0.0)))
        terms = nodes.z.shape[1] * len(frequencies)
        if terms > MOST_TERMS or terms * len(nodes.z) > MOST_TOGETHER:
            raise NumericalFailure("contour: the transform has more terms than its budget. Use accountant='pld'.")
        parts, growth = second_order(nodes.w, nodes.loss, exponent), np.exp(exponent * nodes.loss)
        heavy = nodes.weight * growth
        sums = turned_sums(heavy, nodes.loss, frequencies)
        real = np.sum(nodes.weight * parts.f0, axis=1)[:, None] - 2.0 * sums[0]
        imaginary = frequencies * np.sum(nodes.weight * parts.g0, axis=1)[:, None] + sums[1]
        error = _round_off(nodes, exponent, parts, growth, frequencies) + nodes.error[:, None]
        found = _logarithm(real, imaginary, error)
        return (
            Transform(log_modulus=found.log_modulus, angle=-found.angle, error=found.error) if self.reverse else found
        )

    def log_moment(self, power: float) -> tuple[Array, Array]:
        """Return log E_Q[e^{tL}] at t = power, shape (k,), and a bound of its error.

        Raises:
            NumericalFailure: as `transform`.
        """
        exponent = self._exponent(power)
        nodes, parts, growth, excess = self._tilted(exponent)
        error = _round_off(nodes, exponent, parts, growth, np.zeros(1))[:, 0] + nodes.error
        moment = 1.0 + excess
        if not np.all(error < 0.5 * moment):
            raise NumericalFailure("contour: round-off swamps a moment. Use accountant='pld'.")
        value = np.log1p(excess)
        return value, 2.0 * error / moment + 8 * UNIT_ROUNDOFF * np.abs(value)

    def envelope(self, power: float, frequency: float) -> Array:
        """Bound |E_Q[e^{(power + iy) L}]| / E_Q[e^{power L}] for all y >= frequency at once, shape (k,).

        The tilted law of the loss is the mixture of something and of uniform laws: of every layer, wide W_j and of
        weight w_j, under a staircase below its density. The transform of a uniform law is sin(yW/2) / (yW/2).
        """
        if power not in self._layers:
            self._layers[power] = self._uniform_layers(self._exponent(power))
        weight, width = self._layers[power]
        remaining = 1.0 - np.sum(weight * (1.0 - sinc_bound(0.5 * frequency * width)), axis=1)
        return np.asarray(np.clip(remaining + 1e-13, 0.0, 1.0))

    def _tilted(self, exponent: float) -> tuple[Grid, SecondOrder, Array, Array]:
        """Return the grid of a real exponent, f0 and g0 on it, r^s, and E[r^s] − 1."""
        nodes = self._real_nodes(exponent)
        parts = second_order(nodes.w, nodes.loss, exponent)
        return nodes, parts, np.exp(exponent * nodes.loss), np.sum(nodes.weight * parts.f0, axis=1)

    def _real_nodes(self, exponent: float) -> Grid:
        """Return the grid of a real exponent, made once."""
        if exponent not in self._grids:
            self._keep({exponent: self._nodes(exponent, 0.0)})
        return self._grids[exponent]

    def _keep(self, grids: dict[float, Grid]) -> None:
        if sum(grid.z.size for grid in self._grids.values()) > MOST_KEPT:
            self._grids.clear()
        self._grids.update(grids)

    def _largest_moment(self, exponent: float) -> Array:
        """Return a bound of E[r^s] from above, shape (k,)."""
        nodes, parts, growth, excess = self._tilted(exponent)
        return np.asarray(1.0 + excess + nodes.error + _round_off(nodes, exponent, parts, growth, np.zeros(1))[:, 0])

    def _exponent(self, power: Any) -> Any:
        return 1.0 - power if self.reverse else power


def piled(density: Array, ends: Array) -> tuple[Array, Array]:
    """Return the weights and the widths of the layers under staircases, shape (k, n) each.

    Made unimodal by running minima from its peak, a staircase is a pile of layers, the highest stairs first.

    Args:
        density: heights of the stairs, below a density, shape (k, n).
        ends: increasing, where they lie, a few ulps off, shape (k, n + 1).
    """
    steps, rows = np.arange(density.shape[1]), np.arange(len(density))[:, None]
    peak = np.argmax(density, axis=1)[:, None]
    rising = np.minimum.accumulate(np.where(steps <= peak, density, np.inf)[:, ::-1], axis=1)[:, ::-1]
    falling = np.minimum.accumulate(np.where(steps >= peak, density, np.inf), axis=1)
    stairs = np.where(steps <= peak, rising, falling)
    order = np.argsort(-stairs, axis=1, kind="stable")
    first, last = np.minimum.accumulate(order, axis=1), np.maximum.accumulate(order, axis=1)
    ends_size = np.abs(ends[rows, last + 1]) + np.abs(ends[rows, first])
    width = (ends[rows, last + 1] - ends[rows, first]) * (1 - 1e-9)
    width = np.maximum(width - 64 * UNIT_ROUNDOFF * ends_size, 0.0)
    height = stairs[rows, order]
    return (height - np.append(height[:, 1:], np.zeros_like(peak), axis=1)) * width * (1 - 1e-9), width


def rough_cumulants(w: Array, loss: Array, log_weight: Array, exponent: Array) -> tuple[Array, Array, Array]:
    """Return about log E[r^s] and its first two derivatives by s; the last axis of w, loss and log_weight are nodes."""
    weight, tilted, near = np.exp(log_weight), np.exp(log_weight + exponent * loss), exponent * loss < 1.0
    tiny = np.abs(w) * (np.abs(exponent) + 2.0) < TINY
    first = np.where(near, weight * (np.expm1(exponent * loss) - exponent * w), tilted - weight - weight * exponent * w)
    first = np.where(tiny, 0.5 * exponent * (exponent - 1.0) * weight * w * w, first)
    second = np.where(tiny, (exponent - 0.5) * weight * w * w, tilted * loss - weight * w)
    moment = 1.0 + np.sum(first, axis=2)
    slope = np.sum(second, axis=2) / moment
    bend = np.sum(tilted * loss * loss, axis=2) / moment - slope**2
    return np.log1p(np.sum(first, axis=2)), slope, np.maximum(bend, 0.0)


def known(value: Array, slope: Array, bend: Array, unknown: Array) -> tuple[Array, Array, Array]:
    """Return cumulants that are infinite where they are unknown."""
    return np.where(unknown, np.inf, value), np.where(unknown, np.inf, slope), np.where(unknown, np.inf, bend)


def sinc_bound(u: Array) -> Array:
    """Bound |sin v / v| for all v >= u >= 0; the bound falls as u rises.

    sin v / v falls to .2394 at 2.5; beyond, its side lobes stay below .2173 and below 1/v.
    """
    u = np.maximum(u, 1e-8)
    return np.where(u <= 2.5, np.sin(np.minimum(u, 2.5)) / np.minimum(u, 2.5) + 1e-15, np.minimum(0.2394, 1.0 / u))


def _logarithm(real: Array, imaginary: Array, error: Array) -> Transform:
    """Return log ζ, ζ = 1 + real + i imaginary being off by at most `error`.

    With e = error, |log ζ' − log ζ| <= e / (|ζ| − e). Where |ζ| <= 2e it is unknown, and the modulus is given as
    max(|ζ|, e), so that ζ'/ζ is below 3: said to be off by log 5 a step, n steps and all others, off by x in all,
    are within e^{n log 5 + x} − 1 >= 3^n e^x + 1 of what is said, as they are where ζ is well known.
    """
    modulus = np.hypot(1.0 + real, imaginary)
    known, counted = modulus > 2.0 * error, np.maximum(modulus, error)
    near = (modulus > 0.5) & (modulus < 2.0)
    x, y = np.where(near, real, 0.0), np.where(near, imaginary, 0.0)
    log_modulus = np.where(near & known, 0.5 * np.log1p(2.0 * x + x * x + y * y), np.log(counted))
    spread = np.where(known, error / np.where(known, modulus - error, 1.0), LOG_UNKNOWN)
    rounding = UNIT_ROUNDOFF * np.where(near, 64.0 * (np.abs(x) + np.abs(y)), 16.0 + 16.0 * np.abs(log_modulus))
    return Transform(log_modulus=log_modulus, angle=np.arctan2(imaginary, 1.0 + real), error=spread + rounding)


def _round_off(nodes: Grid, s: float, parts: SecondOrder, growth: Array, y: Array) -> Array:
    """Bound the round-off of the sums, shape (k, m).

    Each term errs by a few ulps times 1 + |s ℓ|, of the larger of its parts where it is a difference, and the sums by
    an ulp a term. With v = yℓ, both 2 sin²(v/2) and |sin v − v|, and what a few ulps of v do to them, are below
    min(v², 2|v|). As they err in the real part and in the imaginary part, theirs counts 3/2 times, for √2.
    """
    ulps = (64.0 + nodes.z.shape[1] + nodes.doubt + 16.0 * np.abs(s * nodes.loss)) * UNIT_ROUNDOFF * nodes.weight
    still = np.sum(ulps * parts.f_size, axis=1)[:, None]
    turning = np.sum(ulps * parts.g_size, axis=1)[:, None]
    first = np.sum(ulps * growth * np.abs(nodes.loss), axis=1)[:, None]
    second = np.sum(ulps * growth * nodes.loss**2, axis=1)[:, None]
    return np.asarray(still + y * turning + 1.5 * np.minimum(2.0 * y * first, y * y * second))
