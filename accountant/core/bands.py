"""Compositions in which some step's loss lies in a band, and none beyond it: masses on a grid, tilted and transformed.

With c the masses of a step whose loss is at most a, the base, and j those of a loss in (a, b], the band, the measure of
runs that stay at b or below but not all at a or below is, of P and of Q alike,

    F = Π (c_i + j_i)^{n_i} − Π c_i^{n_i}.

Round-off is relative to what such runs weigh, not to all runs. In tilted masses with Σ c_i + Σ j_i = 1 it is
E = 1 − Π (1 − Σ j_i)^{n_i}; F has coefficients >= 0, so that errors Δc_i and Δj_i of the transforms move it by at most

    Σ n_i (E |Δc_i| + |Δj_i|),

and e^{Σ n log ĉ} expm1(Σ n log1p(ĵ/ĉ)), or the plain difference where some |ĵ| > ½ |ĉ|, is off by a few units of
roundoff of Σ n_i |ĵ_i|, besides those of powers that are relative to F.

On a grid of points x_k the bin of a or b is divided there. Each part of it is connected to the bin's own two points,
which lie at either side of it, so that it is dominated as in `accountant.core.bins`. Edges of bins are off by a
little: from above the band begins so much lower that no outcome is in neither part, from below so much higher that none
is in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accountant.core.bins import DUST, LARGEST_SCALE, Grid, GriddedStep
from accountant.core.convolve import FFT_ULPS, Tilted, Window
from mechanisms.core.bounds import Array, up
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

GAP = 64.0 * UNIT_ROUNDOFF  # of 1 − log q and the like, see below, by which bands begin lower or higher


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Part:
    """One kind of step: masses of base and band at the indices low, low + 1, …, run `times` times.

    Points are off by `slip` at most.
    """

    base: Array
    band: Array
    low: int
    times: int
    slip: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Spread:
    """Masses of a step on a grid between two losses: see `GriddedStep`, whose q are e^{x_k} Q."""

    above: Array
    p: Array
    q: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BandedStep:
    """A step's base and band on one grid, and its shift as of a `GriddedStep`.

    Args:
        lost: P-mass beyond b.
        dust: P-mass at or below b that was left out.
    """

    grid: Grid
    base: Spread
    band: Spread
    lost: float
    dust: float
    shift: float


def unbanded(step: GriddedStep) -> BandedStep:
    """Return a step as one that is all base."""
    none = np.zeros_like(step.p)
    base, band = Spread(above=step.above, p=step.p, q=step.q), Spread(above=none, p=none, q=none)
    return BandedStep(grid=step.grid, base=base, band=band, lost=step.lost, dust=0.0, shift=step.shift)


def banded(pair: DominatingPair, step: float, low: float, band: tuple[float, float]) -> BandedStep:
    """Return the step's base and band on a grid of this step; base that lies below `low` is moved up to it or so.

    Raises:
        NumericalFailure: if losses are too large, or edges of bins are not known well.
    """
    a, b = band
    if not -LARGEST_SCALE < low <= a <= b < LARGEST_SCALE:
        raise NumericalFailure("pld: losses are too large to be split. Use accountant='rdp'.")
    grid = Grid(step=step, low=math.floor(low / step) - 2, high=math.ceil(b / step) + 1)
    probe = pair.loss_bins(np.array([a, b, np.inf]), np.zeros(2))
    gap = 4.0 * float(np.max(probe.edge_error)) + GAP
    base, slip = _between(pair, grid, (-math.inf, a), gap)
    above, more = _between(pair, grid, (a - gap, b), gap)
    (base_p, base_q), further = _tested(pair, grid, (-math.inf, a))
    (band_p, band_q), least = _tested(pair, grid, (a + gap, b))
    slip = max(slip, more, further, least)
    if not 2.0 * slip < gap:
        raise NumericalFailure("pld: edges of bins are not known well. Use accountant='rdp'.")
    lost = float(probe.p.upper[1] + pair.infinite_mass.upper) * (1 + 8 * UNIT_ROUNDOFF)
    (of_base, dust), (of_band, finer) = _dusted(base), _dusted(above)
    return BandedStep(
        grid=grid,
        base=Spread(above=of_base, p=base_p, q=base_q),
        band=Spread(above=of_band, p=band_p, q=band_q),
        lost=lost,
        dust=(dust + finer) * (1 + 1e-9),
        shift=slip + gap + grid.slip,
    )


def _dusted(masses: Array) -> tuple[Array, float]:
    """Return the masses without what is rounding's, see `accountant.core.bins`, and the sum of that."""
    dust = masses < DUST
    return np.where(dust, 0.0, masses), float(np.sum(masses[dust]))


def _between(pair: DominatingPair, grid: Grid, ends: tuple[float, float], shift: float) -> tuple[Array, float]:
    """Return the dominating masses of losses between two ends, and how far edges of bins are off."""
    found = np.zeros(grid.high - grid.low + 1)
    if not ends[0] < ends[1]:
        return found, 0.0
    edges, first, last = _edges(grid.points, ends)
    bins = pair.loss_bins(edges, grid.points[first:last])
    p, q = np.maximum(bins.p.upper, 0.0), np.maximum(bins.q.lower, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (1.0 - q / p) / -math.expm1(-grid.step) + (4.0 * (shift + grid.slip) + 16.0 * UNIT_ROUNDOFF) / grid.step
    share = np.where(p > 0, np.clip(share, 0.0, 1.0), 1.0)
    share[0] = 1.0 if ends[0] == -math.inf else share[0]
    found[first:last] += up(p * (1.0 - share) * (1 + 4 * UNIT_ROUNDOFF))
    found[first + 1 : last + 1] += up(p * share * (1 + 4 * UNIT_ROUNDOFF))
    return np.asarray(up(found)), float(np.max(bins.edge_error))


def _tested(pair: DominatingPair, grid: Grid, ends: tuple[float, float]) -> tuple[tuple[Array, Array], float]:
    """Return the masses (p, q) of losses between two ends by index, and how far edges of bins are off.

    Bin k is (x_k − h/2, x_k + h/2]: a step without a jump has a loss of next to 0, of either sign, and is then in one.
    """
    p, q = np.zeros(grid.high - grid.low + 1), np.zeros(grid.high - grid.low + 1)
    if not ends[0] < ends[1]:
        return (p, q), 0.0
    edges, first, last = _edges(grid.points - 0.5 * grid.step, ends)
    bins = pair.loss_bins(edges, grid.points[first:last])
    p[first:last], q[first:last] = np.maximum(bins.p.lower, 0.0), bins.q.upper
    if ends[0] == -math.inf:
        p[0] = 0.0
    q[p == 0.0] = 0.0  # of such bins the index is −∞, so that no threshold is reached
    return (p, q), float(np.max(bins.edge_error))


def _edges(points: Array, ends: tuple[float, float]) -> tuple[Array, int, int]:
    """Return the ends and the points between them, the last at or below the lower end, the first not below the upper.

    Bins reach from one edge to the next; −∞ is taken to lie in the first.
    """
    first = 0 if ends[0] == -math.inf else int(np.searchsorted(points, ends[0], side="right")) - 1
    last = int(np.searchsorted(points, ends[1], side="left"))
    return np.concatenate([[ends[0]], points[first + 1 : last], [ends[1]]]), first, last


def compose(parts: list[Part], window: Window, tilt: float, probes: tuple[float, float]) -> Tilted:
    """Return the tilted masses of F, over E; arguments as of `accountant.core.convolve.compose`."""
    n, unit, total = window.size, FFT_ULPS * UNIT_ROUNDOFF * math.log2(window.size), _Total.start(window.size)
    tilted = [_tilted(part, window.step, tilt, probes) for part in parts]
    weight = -math.expm1(sum(part.times * math.log1p(-min(one.share, 1.0)) if one.share < 1 else -math.inf
                             for part, one in zip(parts, tilted, strict=True)))  # fmt: skip
    log_scale = sum(part.times * one.kappa for part, one in zip(parts, tilted, strict=True))
    if not weight > 0:
        return Tilted(weights=np.zeros(n), log_scale=0.0, noise=0.0, relative=0.0, outside=(0.0, 0.0), top=0)
    noise, relative, repeats = 0.0, 0.0, sum(part.times for part in parts)
    for part, one in zip(parts, tilted, strict=True):
        total.add(_transform(one.base, part.low, n), _transform(one.band, part.low, n) if one.share > 0 else None,
                  part.times)  # fmt: skip
        size = _norm(one.band)
        noise += part.times * (unit * weight * _norm(one.base) + (unit + 40.0 * UNIT_ROUNDOFF) * size)
        noise += 48.0 * repeats * UNIT_ROUNDOFF * size
        relative += part.times * (one.error + part.slip * (2.0 + tilt + max(probes)))
    weights = np.roll(np.fft.irfft(total.product() / weight, n), -window.low)
    size = _norm(weights)
    relative += UNIT_ROUNDOFF * 8 * (1 + abs(log_scale) + abs(math.log(weight)))
    ends = [np.flatnonzero((part.base > 0) | (part.band > 0))[[0, -1]] + part.low for part in parts]
    least, most = (sum(part.times * int(end[k]) for part, end in zip(parts, ends, strict=True)) for k in (0, 1))
    inside = least >= window.low, most < window.low + n
    edges = probes[0] * window.step * window.low, -probes[1] * window.step * (window.low + n)
    outside = tuple(
        0.0 if none else math.exp(min(0.0, end + edge + relative + 1e-12 * abs(edge) - math.log(weight)))
        for none, end, edge in zip(inside, _beyond(parts, tilted), edges, strict=True)
    )
    return Tilted(
        weights=np.maximum(weights, 0.0),
        log_scale=log_scale + math.log(weight),
        noise=(2.0 * noise / weight) * (1 + 1e-9) + 2.0 * (12.0 * repeats * UNIT_ROUNDOFF + unit) * size,
        relative=relative,
        outside=(outside[0], outside[1]),
        top=n,
    )


@dataclass(slots=True, eq=False, kw_only=True)
class _Total:
    """Σ n log ĉ, Σ n log1p(ĵ/ĉ) and Σ n log(ĉ + ĵ), real and imaginary parts, and where the second is of use."""

    base: Array
    more: Array
    whole: Array
    near: NDArray[np.bool_]

    @classmethod
    def start(cls, size: int) -> _Total:
        base, more, whole = (np.zeros((2, size // 2 + 1)) for _ in range(3))
        return cls(base=base, more=more, whole=whole, near=np.ones(size // 2 + 1, dtype=bool))

    def add(self, base: Array, band: Array | None, times: int) -> None:
        with np.errstate(all="ignore"):  # logs of 0, of which no use is made but to say that there is nothing
            of_base = times * _log(base)
            self.base += of_base
            if band is None:
                self.whole += of_base
                return
            ratio = band / base
            self.near &= np.abs(ratio) <= 0.5
            real, imaginary = ratio.real, ratio.imag
            self.more[0] += times * 0.5 * np.log1p(2.0 * real + (real * real + imaginary * imaginary))
            self.more[1] += times * np.arctan2(imaginary, 1.0 + real)
            self.whole += times * _log(base + band)

    def product(self) -> Array:
        with np.errstate(all="ignore"):
            base, (a, b) = _exp(self.base), self.more
            near = base * ((np.expm1(a) * np.cos(b) - 2.0 * np.sin(0.5 * b) ** 2) + 1j * (np.exp(a) * np.sin(b)))
            return np.asarray(np.where(self.near, near, _exp(self.whole) - base))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _TiltedPart:
    """Base and band times e^{θx − κ}; the band's share of them; their relative error; logs of them at both probes."""

    base: Array
    band: Array
    share: float
    kappa: float
    error: float
    cumulants: tuple[tuple[float, float], tuple[float, float]]


def _tilted(part: Part, step: float, tilt: float, probes: tuple[float, float]) -> _TiltedPart:
    x = step * (part.low + np.arange(len(part.base), dtype=np.float64))
    with np.errstate(divide="ignore"):
        logs = [np.log(masses) + tilt * x for masses in (part.base, part.band)]
    largest = max(float(np.max(one)) for one in logs)
    kappa = largest + math.log(sum(float(np.sum(np.exp(one - largest))) for one in logs))
    base, band = (np.exp(one - kappa) for one in logs)
    heights = [
        np.where(one > 0, 2.0 * np.abs(tilt * x) + np.abs(log), 0.0)
        for one, log in zip((base, band), logs, strict=True)
    ]
    reach = float(max(np.max(one) for one in heights)) + 2.0 * abs(kappa)
    cumulants = tuple(
        (_log_sum_exp(logs[0] - kappa + sign * probe * x), _log_sum_exp(logs[1] - kappa + sign * probe * x))
        for sign, probe in zip((-1, 1), probes, strict=True)
    )
    return _TiltedPart(
        base=base,
        band=band,
        share=float(np.sum(band)),
        kappa=kappa,
        error=UNIT_ROUNDOFF * 8 * (4 + reach),
        cumulants=(cumulants[0], cumulants[1]),
    )


def _beyond(parts: list[Part], tilted: list[_TiltedPart]) -> list[float]:
    """Return the logs of Σ F e^{∓probe x}."""
    found = []
    for side in (0, 1):
        base = sum(part.times * (one.cumulants[side][0] + 1e-12) for part, one in zip(parts, tilted, strict=True))
        more = sum(
            part.times * float(np.logaddexp(0.0, one.cumulants[side][1] - one.cumulants[side][0] + 1e-12))
            for part, one in zip(parts, tilted, strict=True)
        )
        found.append(base + (more + math.log(-math.expm1(-more)) if more > 0 else -math.inf) + 1e-12 * abs(base))
    return found


def _transform(masses: Array, low: int, size: int) -> Array:
    return np.fft.rfft(np.bincount(np.arange(low, low + len(masses)) % size, masses, size))


def _log(values: Array) -> Array:
    return np.stack([np.log(np.abs(values)), np.angle(values)])


def _exp(logs: Array) -> Array:
    return np.asarray(np.exp(logs[0]) * np.cos(logs[1]) + 1j * (np.exp(logs[0]) * np.sin(logs[1])))


def _norm(values: Array) -> float:
    return math.sqrt(float(np.sum(np.square(values))))


def _log_sum_exp(exponents: Array) -> float:
    largest = float(np.max(exponents))
    return largest + math.log(float(np.sum(np.exp(exponents - largest)))) if largest > -math.inf else -math.inf
