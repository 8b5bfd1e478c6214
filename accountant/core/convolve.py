"""Composition on a grid by exponentially tilted Fourier transforms, with a bound for every error.

A plain transform's round-off is relative to the largest mass and destroys the tails that δ lives on. So each step's
masses a_k are first tilted to a_k e^{θ x_k − κ} (κ such that they sum to about 1), composed as powers of transforms,
and read off as  mass(S) = w(S) e^{κ_total − θ x_S},  with θ near the saddle point of the ε asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array
from mechanisms.core.pair import UNIT_ROUNDOFF

FFT_ULPS = 8.0
"""‖error‖₂ <= FFT_ULPS · u · log₂N · ‖transform‖₂. Higham (Accuracy and Stability of Numerical Algorithms, ch. 24)
proves about 7 a stage for radix 2 with twiddle factors right to u; numpy's mixed-radix transform is `validated` against
one in long double by tests/accountant/core/test_convolve.py, which sees less than 1."""

NEGLIGIBLE = 60.0
STEEP, LEAST_EXPONENT = 0.5, 746.0  # e^-746 is no float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Window:
    """The indices low, …, low + size − 1 on which sums are kept; what falls outside wraps around and is bounded.

    Args:
        step: h.
        low: the least index.
        size: a number that transforms are quick for.
    """

    step: float
    low: int
    size: int

    @property
    def points(self) -> Array:
        """The losses at the window's indices."""
        return self.step * (self.low + np.arange(self.size, dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tilted:
    """Masses w(S) of a composition: the true ones are w(S) e^{log_scale − θ x_S}.

    Args:
        weights: w on the window, shape (size,), at least 0.
        log_scale: Σ n_i κ_i.
        noise: bound of ‖w − exact tilted masses, wrapped around‖₂, round-off of the transforms.
        relative: bound of the relative error of the tilted masses that went in.
        outside: bound of the exact tilted mass outside the window, (below, above).
        top: the first position of the window from which on there is no mass for certain, and no error.
    """

    weights: Array
    log_scale: float
    noise: float
    relative: float
    outside: tuple[float, float]
    top: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Part:
    """One kind of step: masses at the indices low, low + 1, …, run `times` times; points are off by `slip` at most."""

    masses: Array
    low: int
    times: int
    slip: float = 0.0


def compose(parts: list[Part], window: Window, tilt: float, probes: tuple[float, float]) -> Tilted:
    """Return the tilted masses of the sum of all steps' indices.

    Args:
        parts: the kinds of steps, all on the window's grid.
        window: where the sum is wanted.
        tilt: θ >= 0.
        probes: (below, above) > 0, the further tilts at which the mass outside is bounded by Chernoff's inequality.
    """
    log_transform = np.zeros(window.size // 2 + 1, dtype=np.complex128)
    log_scale, noise, relative, repeats, least, most = 0.0, 0.0, 0.0, 0, 0, 0
    log_below, log_above = -probes[0] * -window.step * window.low, -probes[1] * window.step * (window.low + window.size)
    unit = FFT_ULPS * UNIT_ROUNDOFF * math.log2(window.size)
    for part in parts:
        tilted, kappa, error, cumulants = _tilted(part, window.step, tilt, probes)
        _transform(tilted, part, window, log_transform)
        log_scale += part.times * kappa
        noise += part.times * unit * _norm(tilted)
        relative += part.times * (error + part.slip * (2.0 + tilt + max(probes)))
        repeats += part.times
        log_below += part.times * cumulants[0]
        log_above += part.times * cumulants[1]
        least += part.times * part.low
        most += part.times * (part.low + len(tilted) - 1)
    weights, dropped = _inverted(log_transform, window)
    del log_transform  # long, as is what follows
    size = _norm(weights)
    noise = 2 * noise + 2 * (12 * repeats * UNIT_ROUNDOFF + unit) * size + dropped
    relative += UNIT_ROUNDOFF * 8 * (1 + abs(log_scale))
    below = 0.0 if least >= window.low else math.exp(min(0.0, log_below + relative))
    above = 0.0 if most < window.low + window.size else math.exp(min(0.0, log_above + relative))
    top = min(max(most - window.low + 1, 0), window.size)
    weights[top:] = 0.0
    return Tilted(
        weights=np.maximum(weights, 0.0, out=weights),
        top=top,
        log_scale=log_scale,
        noise=noise,
        relative=relative,
        outside=(below, above),
    )


def fast_size(least: int) -> int:
    """Return the least 2^k or 3 · 2^k that is at least `least`, and 1024."""
    power = 1 << max(10, (least - 1).bit_length())
    return 3 * power // 4 if 3 * power // 4 >= max(least, 1024) else power


def suffix_sums(values: Array, decay: float) -> tuple[Array, float]:
    """Return A_j = Σ_{i >= j} values_i e^{−decay (i − j)}, and a bound of its relative error, for values >= 0.

    In blocks short enough that e^{decay·length} stays small; the carries of the blocks run backwards. Where blocks
    would be very short, by doubling the number of terms; a term at distance m is then off by decay·m units of roundoff
    for the exponents, and by four a doubling.
    """
    size = len(values)
    if decay > STEEP:
        sums, reach = values.copy(), 1
        while reach < size and decay * reach < LEAST_EXPONENT:
            sums[:-reach] += math.exp(-decay * reach) * sums[reach:]
            reach *= 2
        return sums, UNIT_ROUNDOFF * (LEAST_EXPONENT + 4.0 * size.bit_length())
    block = size if decay * size <= 30 else min(size & -size, 2 ** int(math.log2(max(30 / decay, 1.0))))
    growth = np.exp(-decay * np.arange(block))
    inside = values.reshape(-1, block) * growth
    backwards = inside[:, ::-1]
    np.cumsum(backwards, axis=1, out=backwards)
    inside /= growth
    carry, fade = 0.0, np.exp(-decay * np.arange(block, 0, -1))
    for row in range(len(inside) - 1, -1, -1):
        inside[row] += carry * fade
        carry = inside[row, 0]
    return inside.ravel(), UNIT_ROUNDOFF * (block + len(inside) + 200.0)


def _tilted(
    part: Part, step: float, tilt: float, probes: tuple[float, float]
) -> tuple[Array, float, float, tuple[float, float]]:
    """Return (masses e^{θx − κ}, κ, bound of their relative error, log Σ masses e^{θx − κ} e^{∓probe x})."""
    if not np.any(part.masses > 0):
        return part.masses, 0.0, 0.0, (-math.inf, -math.inf)
    x = step * (part.low + np.arange(len(part.masses), dtype=np.float64))
    with np.errstate(divide="ignore"):
        log_tilted = np.log(part.masses) + tilt * x
    largest = float(np.max(log_tilted))
    kappa = largest + math.log(float(np.sum(np.exp(log_tilted - largest))))
    tilted = np.exp(log_tilted - kappa)
    seen = tilted > 0
    reach = float(np.max(np.abs(tilt * x[seen]) + np.abs(np.log(part.masses[seen])))) + abs(kappa)
    cumulants = [
        _log_sum_exp(log_tilted - kappa + sign * probe * x) for sign, probe in zip((-1, 1), probes, strict=True)
    ]
    return tilted, kappa, UNIT_ROUNDOFF * 8 * (4 + reach), (cumulants[0] + 1e-12, cumulants[1] + 1e-12)


def _transform(tilted: Array, part: Part, window: Window, log_transform: Array) -> None:
    """Add, in place, the logarithm of the transform of the part: of its modulus, and its phase."""
    transform = np.fft.rfft(np.bincount(np.arange(part.low, part.low + len(tilted)) % window.size, tilted, window.size))
    one = np.abs(transform)
    with np.errstate(divide="ignore"):
        np.log(one, out=one)
    one *= part.times
    log_transform.real += one
    np.arctan2(transform.imag, transform.real, out=one)
    one *= part.times
    log_transform.imag += one


def _inverted(log_transform: Array, window: Window) -> tuple[Array, float]:
    """Return the inverse of the transform with this logarithm, rolled to the window, and a bound of what was dropped.

    The logarithm is overwritten by the transform: of long ones there is no room for both.
    """
    kept = log_transform.real > -NEGLIGIBLE
    size = np.exp(log_transform.real, where=kept, out=np.zeros(len(log_transform)))
    np.multiply(np.cos(log_transform.imag), size, out=log_transform.real)
    np.multiply(np.sin(log_transform.imag), size, out=log_transform.imag)
    del size, kept
    return np.roll(np.fft.irfft(log_transform, window.size), -window.low), math.exp(-NEGLIGIBLE)


def _norm(values: Array) -> float:
    return math.sqrt(float(np.sum(np.square(values))))


def _log_sum_exp(exponents: Array) -> float:
    largest = float(np.max(exponents))
    return largest + math.log(float(np.sum(np.exp(exponents - largest))))
