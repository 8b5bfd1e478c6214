"""Fourier transforms of the privacy loss of normals, Poisson-sampled or not, with a bound for every error.

With r = 1 − q + q e^{μz − μ²/2} and z standard normal, the loss of ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)) is log r, and
that of the reversed pair −log r; the moments E_Q[e^{tL}] are E[r^s] with s = t and s = 1 − t. How E[r^s] is integrated
and bounded is said in `mechanisms.core.mixture_grid`; here it is summed at many complex s at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.mixture_grid import LOG_ROOT_TWO_PI, Grid, SecondOrder, grid, log_mixture, second_order
from mechanisms.core.pair import UNIT_ROUNDOFF

CHUNK = 2**15  # elements of an array that still fits a processor's cache
SINE = (1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6)  # of sin v − v, highest power first
STAIRS = 64
MOST_TERMS = 2**22  # nodes × frequencies × pairs: about a tenth of a second
ROUGH_REACH, MOST_ROUGH = 8.0, 512
TINY = 1e-5  # |w| (|s| + 2) below which plans take the leading terms of r^s − 1 − s w and r^s log r − w
APART, LARGEST_APART = 12.0, 3e3  # shifts from which on r is 1 − q or q e^x, for plans, and the last planned for
LOG_UNKNOWN = 1.6095  # log 5, rounded up
TAIL = 0.004  # of the tilted law that the stairs leave out on either side


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
class SampledNormals:
    """k pairs ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)), or all of them reversed.

    Args:
        shift: enclosure of μ > 0, shape (k,).
        probability: q in (0, 1), shape (k,).
        reverse: whether the pairs are (N(0, 1), (1 − q) N(0, 1) + q N(μ, 1)).

    >>> pairs = SampledNormals(shift=Bounds.exact([1.0]), probability=np.array([0.5]), reverse=False)
    >>> expected = np.log1p(0.25 * np.expm1(1.0))  # E[r²] = 1 + q² (e^{μ²} − 1)
    >>> bool(abs(pairs.transform(2.0, np.array([0.0])).log_modulus[0, 0] - expected) < 1e-14)
    True
    """

    shift: Bounds
    probability: Array
    reverse: bool
    _grids: dict[float, Grid] = field(default_factory=dict)
    _layers: dict[float, tuple[Array, Array]] = field(default_factory=dict)

    def transform(self, power: float, frequencies: Array) -> Transform:
        """Return log E_Q[e^{(power + iy) L}] for every frequency y >= 0, shape (m,).

        Raises:
            NumericalFailure: if the powers leave the floats, or the quadrature its budget of nodes or of terms.
        """
        exponent = self._exponent(power)
        nodes = grid(self.shift, self.probability, exponent, float(np.max(frequencies, initial=0.0)))
        if nodes.z.size * len(frequencies) > MOST_TERMS:
            raise NumericalFailure("contour: the transform has more terms than its budget. Use accountant='pld'.")
        parts, growth = second_order(nodes.w, nodes.loss, exponent), np.exp(exponent * nodes.loss)
        heavy = nodes.weight * growth
        sums = _sums(heavy, nodes.loss, frequencies)
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

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}] at many real t and its first two derivatives, shape (len(powers), k) each.

        For plans, not for bounds: three digits are aimed at. Where powers leave the floats, all three are infinite.
        """
        if np.max(self._middle) > APART:
            return self._apart(self._exponent(powers)[:, None])
        exponent = self._exponent(powers)[:, None, None]
        mu, q = self._middle[None, :, None], self.probability[None, :, None]
        least = -ROUGH_REACH - np.maximum(2.0 - exponent, 0.0) * mu * np.minimum(1.0, q / (1.0 - q))
        span = ROUGH_REACH + np.maximum(exponent, 2.0) * mu - least
        count = int(np.clip(np.max(span / np.minimum(0.4, 0.8 / mu)), 48, MOST_ROUGH))
        z = least + span * np.linspace(0.0, 1.0, count)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            x = mu * z - 0.5 * mu * mu
            w, loss = q * np.expm1(x), log_mixture(x, q)
            log_weight = np.log(span / (count - 1)) - LOG_ROOT_TWO_PI - 0.5 * z * z
            weight, tilted, near = np.exp(log_weight), np.exp(log_weight + exponent * loss), exponent * loss < 1.0
            tiny = np.abs(w) * (np.abs(exponent) + 2.0) < TINY
            moved = weight * (np.expm1(exponent * loss) - exponent * w)
            first = np.where(near, moved, tilted - weight - weight * exponent * w)
            first = np.where(tiny, 0.5 * exponent * (exponent - 1.0) * weight * w * w, first)
            second = np.where(tiny, (exponent - 0.5) * weight * w * w, tilted * loss - weight * w)
            moment = 1.0 + np.sum(first, axis=2)
            slope = np.sum(second, axis=2) / moment
            bend = np.sum(tilted * loss * loss, axis=2) / moment - slope**2
            found = np.log1p(np.sum(first, axis=2)), -slope if self.reverse else slope, np.maximum(bend, 0.0)
        lost = ~np.isfinite(found[0] + found[1] + found[2]) | (span / (count - 1) > 1.0)[:, :, 0]
        return tuple(np.where(lost, np.inf, part) for part in found)  # type: ignore[return-value]

    def _apart(self, exponent: Array) -> tuple[Array, Array, Array]:
        """E[r^s] = (1 − q)^s + q^s e^{s (s − 1) μ²/2} or so, where μ is large; the first term alone where s < 0."""
        mu, q = self._middle, self.probability
        with np.errstate(over="ignore", invalid="ignore"):
            near = exponent * np.log1p(-q)
            far = np.where(exponent > 0, exponent * np.log(q) + 0.5 * exponent * (exponent - 1.0) * mu**2, -np.inf)
            value = np.logaddexp(near, far)
            share = np.exp(far - value)
            ends = np.log1p(-q), np.log(q) + (exponent - 0.5) * mu**2
            slope = (1.0 - share) * ends[0] + np.where(share > 0, share * ends[1], 0.0)
            bend = np.where(share > 0, share * ((1.0 - share) * (ends[1] - ends[0]) ** 2 + mu**2), 0.0)
        lost = ~np.isfinite(value + slope + bend) | (mu > LARGEST_APART)
        found = value, -slope if self.reverse else slope, bend
        return tuple(np.where(lost, np.inf, part) for part in found)  # type: ignore[return-value]

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

    def _uniform_layers(self, exponent: float) -> tuple[Array, Array]:
        """Return the weights and the widths of uniform laws that the tilted law of the loss contains, (k, STAIRS) each.

        Made unimodal by running minima from its peak, the staircase is a pile of layers, the highest stairs first. A
        layer loses 1e-9 of its height, and of its width, for round-off, that of the moment included, and a few ulps of
        the losses at its ends, which may be all of its width.
        """
        loss, density = self._staircase(exponent)
        rows, steps, peak = np.arange(len(loss))[:, None], np.arange(STAIRS), np.argmax(density, axis=1)[:, None]
        rising = np.minimum.accumulate(np.where(steps <= peak, density, np.inf)[:, ::-1], axis=1)[:, ::-1]
        falling = np.minimum.accumulate(np.where(steps >= peak, density, np.inf), axis=1)
        stairs = np.where(steps <= peak, rising, falling)
        order = np.argsort(-stairs, axis=1, kind="stable")
        first, last = np.minimum.accumulate(order, axis=1), np.maximum.accumulate(order, axis=1)
        begin, end = loss[rows, first], loss[rows, last + 1]
        ulps = 64 * UNIT_ROUNDOFF * (np.abs(begin) + np.abs(end))
        width = np.maximum((end - begin) * (1 - 1e-9) - ulps, 0.0)
        height = stairs[rows, order]
        return (height - np.append(height[:, 1:], np.zeros_like(peak), axis=1)) * width * (1 - 1e-9), width

    def _staircase(self, exponent: float) -> tuple[Array, Array]:
        """Return the losses at the ends of `STAIRS` stairs, increasing, and bounds of their density from below.

        The loss log r has the density φ(z) r^{s+1} / (μ q e^x E[r^s]); that of the reversed pair is its mirror image.
        """
        nodes, parts, growth, excess = self._tilted(exponent)
        rounding = _round_off(nodes, exponent, parts, growth, np.zeros(1))[:, 0]
        moment = (1.0 + excess + nodes.error + rounding)[:, None]
        mass = np.cumsum(nodes.weight * growth, axis=1) / moment
        rows, most = np.arange(len(mass)), mass.shape[1] - 1
        low, high = (nodes.z[rows, np.minimum(np.sum(mass < level, axis=1), most)] for level in (TAIL, 1 - TAIL))
        z = np.linspace(low - 1e-9, high + 1e-9, STAIRS + 1, axis=1)
        mu, q = self._middle[:, None], self.probability[:, None]
        x = mu * z - 0.5 * mu * mu
        loss = log_mixture(x, q)
        farthest = np.maximum(np.abs(z[:, :-1]), np.abs(z[:, 1:]))
        lower_power = (exponent + 1.0) * (loss[:, :-1] if exponent > -1 else loss[:, 1:])
        log_density = lower_power - x[:, 1:] - 0.5 * farthest**2 - LOG_ROOT_TWO_PI
        return loss, np.exp(np.minimum(log_density - np.log(mu) - np.log(q) - np.log(moment), 700.0))

    def _tilted(self, exponent: float) -> tuple[Grid, SecondOrder, Array, Array]:
        """Return the grid of a real exponent, f0 and g0 on it, r^s, and E[r^s] − 1."""
        if exponent not in self._grids:
            self._grids[exponent] = grid(self.shift, self.probability, exponent, 0.0)
        nodes = self._grids[exponent]
        parts = second_order(nodes.w, nodes.loss, exponent)
        return nodes, parts, np.exp(exponent * nodes.loss), np.sum(nodes.weight * parts.f0, axis=1)

    def _exponent(self, power: Any) -> Any:
        return 1.0 - power if self.reverse else power

    @property
    def _middle(self) -> Array:
        return np.asarray(0.5 * (self.shift.lower + self.shift.upper))


def sinc_bound(u: Array) -> Array:
    """Bound |sin v / v| for all v >= u >= 0; the bound falls as u rises.

    sin v / v falls to .2394 at 2.5; beyond, its side lobes stay below .2173 and below 1/v.
    """
    u = np.maximum(u, 1e-8)
    return np.where(u <= 2.5, np.sin(np.minimum(u, 2.5)) / np.minimum(u, 2.5) + 1e-15, np.minimum(0.2394, 1.0 / u))


def _sums(heavy: Array, loss: Array, frequencies: Array) -> tuple[Array, Array]:
    """Sum heavy · sin²(v/2) and heavy · (sin v − v), v = yℓ, over the nodes, shape (k, m) each.

    With f0 and g0 of real s, f at s + iy is  f0 − 2 r^s sin²(v/2) + i [r^s (sin v − v) + y g0]:  nothing cancels.
    """
    squares, skews = (np.empty((len(heavy), len(frequencies))) for _ in range(2))
    columns = max(1, CHUNK // heavy.shape[1])
    rows = max(1, columns // len(frequencies))
    for k in range(0, len(heavy), rows):
        for j in range(0, len(frequencies), columns):
            v = frequencies[None, j : j + columns, None] * loss[k : k + rows, None, :]
            sine = np.sin(0.5 * v)
            weights = heavy[k : k + rows, :, None]
            skews[k : k + rows, j : j + columns] = (_sine_less_argument(v, sine) @ weights)[:, :, 0]
            squares[k : k + rows, j : j + columns] = (np.square(sine, out=sine) @ weights)[:, :, 0]
    return squares, skews


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


def _sine_less_argument(v: Array, half_sine: Array) -> Array:
    """sin v − v, by its series where |v| < 1."""
    square = np.square(v)
    small = square < 1.0
    if not np.any(small):
        return 2.0 * half_sine * np.cos(0.5 * v) - v
    np.minimum(square, 1.0, out=square)
    series = square * (-1.0 / 1307674368000.0)
    for coefficient in SINE:
        series += coefficient
        series *= square
    series *= v
    return series if np.all(small) else np.where(small, series, 2.0 * half_sine * np.cos(0.5 * v) - v)


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
