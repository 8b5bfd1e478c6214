"""Compositions in which some step's loss lies in a band, and none beyond it: masses on a grid, tilted and transformed.

With c the masses of a step whose loss is at most a, the base, and j those of a loss in (a, b], the band, the measure of
runs that stay at b or below but not all at a or below is, of P and of Q alike,

    F = Π (c_i + j_i)^{n_i} − Π c_i^{n_i}.

Round-off is relative to what such runs weigh, not to all runs. In tilted masses with Σ c_i + Σ j_i = 1 it is
E = 1 − Π (1 − Σ j_i)^{n_i}; F has coefficients >= 0, so that errors Δc_i and Δj_i of the transforms move it by at most

    Σ n_i (E |Δc_i| + |Δj_i|),

and e^{Σ n log ĉ} expm1(Σ n log1p(ĵ/ĉ)), or the plain difference where some |ĵ| > ½ |ĉ|, is off by a few units of
roundoff of Σ n_i |ĵ_i|, besides those of powers that are relative to F.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accountant.core.convolve import FFT_ULPS, Tilted, Window
from mechanisms.core.bounds import Array
from mechanisms.core.pair import UNIT_ROUNDOFF


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


def compose(parts: list[Part], window: Window, tilt: float, probes: tuple[float, float]) -> Tilted:
    """Return the tilted masses of F, over E; arguments as of `accountant.core.convolve.compose`."""
    n, unit, total = window.size, FFT_ULPS * UNIT_ROUNDOFF * math.log2(window.size), _Total.start(window.size)
    nothing = Tilted(weights=np.zeros(n), log_scale=0.0, noise=0.0, relative=0.0, outside=(0.0, 0.0), top=0)
    if not all(np.any(part.base) or np.any(part.band) for part in parts):
        return nothing
    tilted = [_tilted(part, window.step, tilt, probes) for part in parts]
    weight = -math.expm1(sum(part.times * math.log1p(-min(one.share, 1.0)) if one.share < 1 else -math.inf
                             for part, one in zip(parts, tilted, strict=True)))  # fmt: skip
    log_scale = sum(part.times * one.kappa for part, one in zip(parts, tilted, strict=True))
    if not weight > 0:
        return nothing
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
