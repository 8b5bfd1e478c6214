"""Moments of the privacy loss of Lap(0, 1) against Lap(s, 1), sampled or not: in closed form and by quadrature.

The law of the loss is in `mechanisms.laplace`. Given that it lies between its atoms at ±s, it is the one of
`mechanisms.core.range_pair`, whose moments come from the same rules, without the atoms and with a larger density.

[Tre19] L. N. Trefethen. Approximation Theory and Approximation Practice, extended edition. SIAM 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p
from mechanisms.core.gauss_legendre import NODES, WEIGHTS
from mechanisms.core.pair import UNIT_ROUNDOFF

ELLIPSE = 4.0  # ρ; its half axes are 2.125 and 1.875 half widths of a panel
QUADRATURE = (
    64 / 15 * ELLIPSE**-40 / (1 - ELLIPSE**-2)
)  # times max |f| on the ellipse, per half width [Tre19, Thm 19.3]
MOST_PANELS = 20_000
NEGLIGIBLE = 64.0  # −log of what a panel may be below the largest one to be left out


def log_moment(s: Bounds, t: float) -> Bounds:
    """log M, M = e^{−s/2} (cosh(a s) + sinh(a s)/(2a)), a = t − 1/2.

    Where a s is small, M − 1 is a sum of terms of the sign of t (t − 1), so that it keeps its digits:
    M − 1 = e^{−s/2} (2 sinh(t s/2) sinh((t − 1) s/2) + s/2 (g(a s) − g(s/2))), g(x) = sinh(x)/x, with
    g(x) − g(y) = (x² − y²) Σ_k Σ_j x^{2j} y^{2(k − 1 − j)} / (2k + 1)! and x² − y² = t (t − 1) s².
    Elsewhere M = e^{max(t − 1, −t) s} (1 + e^{−2z} + s (1 − e^{−2z})/(2z))/2 with z = |a| s.
    """
    power = Bounds.exact(t)
    z = Bounds.exact(0.0) if t == 0.5 else (power - 0.5) * s if t > 0.5 else (0.5 - power) * s
    if z.upper <= 1.0 and s.upper <= 2.0:
        growth = (power * s) * ((power - 1.0) * s) * _difference_quotient(z * z, s * s / 4.0) * s / 2.0
        bend = 2.0 * _sinh(power * s / 2.0) * _sinh((power - 1.0) * s / 2.0)
        return log1p(exp(-s / 2.0) * (bend + growth))
    slope = (-expm1(-2.0 * z) / (2.0 * z)).clip(0.0, 1.0) if z.lower > 1e-300 else Bounds(lower=1.0 - 1e-16, upper=1.0)
    return (power - 1.0 if t > 0.5 else -power) * s + log((1.0 + exp(-2.0 * z) + s * slope) / 2.0)


def _sinh(x: Bounds) -> Bounds:
    return (expm1(x) - expm1(-x)) / 2.0


def _difference_quotient(x: Bounds, y: Bounds) -> Bounds:
    """Enclose Σ_{k >= 1} Σ_{j < k} x^j y^{k − 1 − j} / (2k + 1)! for x, y in [0, 1]; k > 12 adds below 1e-25."""

    def value(x: float, y: float) -> float:
        total, inner, power, factorial = 0.0, 0.0, 1.0, 1.0
        for k in range(1, 13):
            inner, power, factorial = x * inner + power, power * y, factorial * (2 * k) * (2 * k + 1)
            total += inner / factorial
        return total

    return Bounds(lower=value(x.lower, y.lower), upper=value(x.upper, y.upper)).inflate(1e-14)


def log_mean_growth(s: Bounds, t: float) -> Bounds:
    """log (g(a s)/g(s/2)), g(x) = sinh(x)/x, a = t − 1/2: the moment of the losses between the atoms.

    Where a s is small, from g(x) − g(y) as in `log_moment`; elsewhere g(z) = e^z (1 − e^{−2z})/(2z).
    """
    power = Bounds.exact(t)
    z = Bounds.exact(0.0) if t == 0.5 else (power - 0.5) * s if t > 0.5 else (0.5 - power) * s
    if z.upper <= 1.0 and s.upper <= 2.0:
        growth = (power * s) * ((power - 1.0) * s) * _difference_quotient(z * z, s * s / 4.0)
        half = s / 2.0
        return log1p(growth / (_sinh(half) / half).clip(1.0, np.inf) if half.lower > 1e-290 else growth)
    return (power - 1.0 if t > 0.5 else -power) * s + log(_share(2.0 * z)) - log(_share(s))


def _share(x: Bounds) -> Bounds:
    """(1 − e^{−x})/x for x >= 0, which falls from 1."""
    return (-expm1(-x) / x).clip(0.0, 1.0) if x.lower > 1e-300 else Bounds(lower=1.0 - 1e-16, upper=1.0)


def log_mixture_moment(s: float, p: float, t: float, *, atoms: bool = True) -> Bounds:
    """Enclose log E_Q[r(L)^t] for p < 1 by Gauss–Legendre rules on panels of half width w.

    Where |Im l| <= π/2, e^l has a real part >= 0, so that |d log r/dl| <= min(1, p e^{Re l}/(1 − p)) there, and the
    integrand changes by at most e^{Λ|Δl|} with Λ = 1/2 + |t| min(1, p e^{s + 1}/(1 − p)). As w <= 1/2 and Λ w <= 2,
    each panel's ellipse stays in that strip, and the rule errs there by less than 1e-20 of the panel's integral.

    Args:
        s: the largest loss.
        p: the sampling probability.
        t: the power.
        atoms: whether L has its atoms at ±s; if not, it is the loss given that it lies between them.
    """
    with np.errstate(over="ignore"):
        steepness = 0.5 + abs(t) * min(1.0, float(p / (1.0 - p) * np.exp(s + 1.0)))
    panels = math.ceil(min(max(2.0 * s, steepness * s / 2.0), 1e9))
    if not math.isfinite(s * t) or panels > MOST_PANELS or (not atoms and s < 1e-290):
        return _crude_log_moment(log_moment if atoms else log_mean_growth, s, p, t)
    half = s / panels
    centres = half * (2.0 * np.arange(panels) + 1.0) - s
    farthest = np.array([s, -s])
    if s < 600.0 and (p <= 0.5 or s <= 1.0) and np.max(np.abs(t * _log_mixture(farthest, p))) <= 1.0:
        return _summed_excess(s, p, t, centres, half, atoms)
    ends, density = (farthest, 0.25) if atoms else (np.zeros(0), _density(s))
    heights = t * _log_mixture(centres, p) - (s + centres) / 2.0
    l = (centres[heights > np.max(heights) - NEGLIGIBLE, None] + half * NODES).ravel()  # noqa: E741
    weights = np.resize(density * half * WEIGHTS, l.shape)
    log_r = _log_mixture(np.append(l, ends), p)
    of_ends = [-s - math.log(2), -math.log(2)] if atoms else []
    exponents = t * log_r + np.append(np.log(weights) - (s + l) / 2.0, of_ends)
    largest = float(np.max(exponents))
    value = largest + math.log(float(np.sum(np.exp(exponents - largest))))
    near, reach = exponents > largest - 40.0, np.abs(np.append(l, ends))
    cancelled = np.where(reach > 700.0, reach - math.log1p(-p) - math.log(p), 0.0)
    size = s * (1.0 + steepness) + float(np.max(abs(t) * (2.0 * np.abs(log_r) + cancelled)[near]))
    error = 1e-18 + UNIT_ROUNDOFF * (32.0 + 4.0 * size)
    return _by_jensen(Bounds(lower=value - error, upper=value + error), t)


def _density(s: float) -> float:
    """The factor of e^{−(s + l)/2} in the density of the losses between the atoms."""
    return 0.5 / -math.expm1(-s)


def _log_mixture(l: Array, p: float) -> Array:  # noqa: E741
    """log(1 − p + p e^l)."""
    with np.errstate(over="ignore"):
        z = p * np.expm1(l)
    near, far = np.log((1.0 - p) + p * np.exp(np.minimum(l, 700.0))), np.logaddexp(math.log1p(-p), math.log(p) + l)
    return np.where(np.abs(z) < 0.5, np.log1p(np.clip(z, -0.5, 0.5)), np.where(l < 700.0, near, far))


def _summed_excess(s: float, p: float, t: float, centres: Array, half: float, atoms: bool) -> Bounds:
    """log(1 + E_Q k(L)), k = r^t − 1 − t (r − 1), for r^t near 1: E(r − 1) = 0, and k has one sign, that of t (t − 1).

    On an ellipse |k| <= |t (t − 1)| |r − 1|²/2 max |1 + x (r − 1)|^{t − 2}, 0 <= x <= 1, by Taylor's remainder, where
    Re e^l >= e^{Re l} cos(1.875 w) >= e^{Re l} (1 − 1.76 w²).
    """
    l = (centres[:, None] + half * NODES).ravel()  # noqa: E741
    ends, masses, density = ([s, -s], [math.exp(-s) / 2.0, 0.5], 0.25) if atoms else ([], [], _density(s))
    weights = np.append(np.resize(half * WEIGHTS, l.shape) * np.exp(-(s + l) / 2.0) * density, masses)
    k, error = _excess(np.append(l, ends), p, t)
    top, bottom = centres + 2.125 * half, centres - 2.125 * half
    reach = p * np.expm1(np.maximum(np.abs(top), np.abs(bottom)))
    largest = np.log1p(p * np.maximum(np.expm1(top), 0.0))
    least = np.log1p(p * np.minimum(np.expm1(bottom) - 1.76 * half * half * np.exp(bottom), 0.0))
    factors = np.abs(t * reach * ((t - 1.0) * reach)) / 2.0 * np.exp(np.maximum((t - 2.0) * largest, (t - 2.0) * least))
    missed = QUADRATURE * half * float(np.sum(np.exp(-(s + bottom) / 2.0) * density * factors))
    slack = float(np.sum(weights * error)) + missed
    total = Bounds.exact(float(np.sum(weights * k))) + Bounds(lower=-slack, upper=slack)
    return _by_jensen(log1p(total.clip(-1.0, np.inf)), t)


def _excess(l: Array, p: float, t: float) -> tuple[Array, Array]:  # noqa: E741
    """(1 + z)^t − 1 − t z and its error, z = p (e^l − 1); by 16 terms of its series where |z| and |t z| are small."""
    z = p * np.expm1(l)
    small = max(1.0, abs(t)) * np.abs(z) <= 1 / 16
    y = np.where(small, z, 0.0)
    series = np.zeros_like(z)
    for j in range(17, 2, -1):  # each term is at most 1/16 of the one before
        series = (t - j + 1.0) / j * y * (1.0 + series)
    series = t * y * ((t - 1.0) * y) / 2.0 * (1.0 + series)
    power = np.expm1(t * _log_mixture(l, p))
    direct = power - t * z
    size = np.where(small, 4.0 * np.abs(series), np.abs(power) * 2.0 + 4.0 * np.abs(t * z))
    return np.where(small, series, direct), 16.0 * UNIT_ROUNDOFF * size


def _by_jensen(found: Bounds, t: float) -> Bounds:
    """Cut off what the convexity of r^t excludes: the moment is at least 1, and at most 1 for powers in (0, 1)."""
    return found.clip(-np.inf, 0.0) if 0 < t < 1 else found.clip(0.0, np.inf)


def _crude_log_moment(unsampled: Callable[[Bounds, float], Bounds], s: float, p: float, t: float) -> Bounds:
    """Enclose the same without quadrature: by convexity r^t <= 1 − p + p e^{t L}; a sample tells less than all."""
    whole = unsampled(Bounds.exact(s), t)
    if 0 < t < 1:
        return Bounds(lower=max(whole.lower, t * math.log1p(-p) * (1 + 1e-15)), upper=0.0)
    mixed = log(1.0 - Bounds.exact(p) + p * exp(whole))
    return Bounds(lower=0.0, upper=min(whole.upper, mixed.upper))


def cumulants(s: float, powers: Array) -> tuple[Array, Array, Array]:
    """Return about log E_Q[e^{tL}] at many t and its first two derivatives: for plans, not for bounds.

    With a = t − 1/2 and z = |a| s, tilting by a picks out L = s or, mirrored, −s. Counted from there, of the distances
    v, two atoms and a density are left: of masses 1/2, e^{−2z}/2 and e^{−|a| v}/4 dv on (0, 2s), times e^{z − s/2}.
    Where z < 1, powers of x = a s: e^{s/2} M = cosh x + s/2 g(x), g(x) = sinh(x)/x = Σ x^{2k} / (2k + 1)!.
    """
    a, s = powers - 0.5, np.float64(s)  # whose powers may be infinite
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        near = np.abs(a) * s < 1.0
        value, slope, bend = _outer(s, np.maximum(np.abs(a), 1.0 / s))
        found = value, np.copysign(slope, a), bend
        value, slope, bend = (np.where(near, *both) for both in zip(_central(s, a), found, strict=True))
        lost = ~np.isfinite(value + slope + bend)
    ends = value, slope, np.maximum(bend, 0.0)
    return np.where(lost, np.inf, ends[0]), np.where(lost, np.inf, ends[1]), np.where(lost, np.inf, ends[2])


def _outer(s: float, a: Array) -> tuple[Array, Array, Array]:
    z, rare = a * s, np.exp(-2.0 * a * s)
    mass = 0.5 * (1.0 + rare) + 0.25 * (1.0 - rare) / a
    first = (rare * s + 0.25 * (1.0 - rare * (1.0 + 2.0 * z)) / a**2) / mass
    second = (2.0 * rare * s**2 + 0.5 * (1.0 - rare * (1.0 + 2.0 * z + 2.0 * z * z)) / a**3) / mass
    return (a - 0.5) * s + np.log(mass), s - first, second - first**2


def _central(s: float, a: Array) -> tuple[Array, Array, Array]:
    x, g, slope, bend = np.clip(a * s, -1.0, 1.0), np.ones_like(a), np.zeros_like(a), np.zeros_like(a)
    quotient, inner = np.zeros_like(a), np.zeros_like(a)  # of g(x) − g(s/2) by x² − s²/4, where s <= 2
    for k in range(1, 10):
        factor = 1.0 / math.factorial(2 * k + 1)
        g, slope, bend = (
            g + factor * x ** (2 * k),
            slope + factor * 2 * k * x ** (2 * k - 1),
            bend + factor * 2 * k * (2 * k - 1) * x ** (2 * k - 2),
        )
        inner = x * x * inner + min(0.25 * s * s, 1.0) ** (k - 1)
        quotient = quotient + factor * inner
    whole = np.cosh(x) + 0.5 * s * g
    first = s * (np.sinh(x) + 0.5 * s * slope) / whole
    square = s * s * (np.cosh(x) + 0.5 * s * bend) / whole
    t, u = 0.5 * s + x, x - 0.5 * s
    excess = 2.0 * np.sinh(0.5 * t) * np.sinh(0.5 * u) + 0.5 * s * t * u * quotient
    value = np.log1p(math.exp(-0.5 * s) * excess) if s <= 2.0 else np.log(whole) - 0.5 * s
    return value, first, square - first**2
