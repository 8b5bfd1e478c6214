"""Moments E[r^t] of the likelihood ratio r = 1 − q + q e^{μz − μ²/2} of a sampled normal, at one real t, as bounds.

[TW14] L. N. Trefethen, J. A. C. Weideman. The Exponentially Convergent Trapezoidal Rule. SIAM Review 56 (2014).
"""

from __future__ import annotations

import math

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, log, log1p
from mechanisms.core.pair import UNIT_ROUNDOFF

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
DIGITS = 40.0  # −log of the relative error allowed to the trapezoidal rule
MOST_NODES = 100_000


def log_moment(mu: float, q: float, power: float) -> Bounds:
    """Enclose log ∫ φ(z) r(z)^t dz, r = 1 − q + q e^{μz − μ²/2}, by the trapezoidal rule [TW14, Thm 5.1].

    The integrand is analytic for |Im z| < π/μ, where r avoids the negative axis. On the line Im z = a it is at most
    e^{a²/2} C times its value on the real axis: C = 1 for t >= 0, as |r(z)| <= r(Re z), and C = cos(μa/2)^t for
    t < 0, as |r(z)| >= r(Re z) cos(μa/2). So the rule with step s errs, relative to the integral, by at most
    2 C e^{a²/2} / (e^{2πa/s} − 1): the bound needs no more than that.
    """
    t = power
    if not math.isfinite(mu * mu * t * t):
        return _crude_log_moment(mu, q, t)
    bend = max(-t, 0.0)
    a = min(0.999 * (math.pi if t >= 0 else 0.5 * math.pi) / mu, math.sqrt(2 * DIGITS / (1 + bend * mu * mu / 4)))
    step = 2 * math.pi * a / (0.5 * a * a - bend * math.log(math.cos(min(mu * a / 2, 1.5)) if bend else 1.0) + DIGITS)
    # Outside [−z, max(t, 1) μ + z] the integrand is below that of a normal tail, e^{−z²/2} of the integral at most.
    excess = min(-t * math.log(q), t * (t - 1) * mu * mu / 2) if t >= 1 else -abs(t) * math.log1p(-q)
    z = math.sqrt(2 * (DIGITS + excess)) + step
    nodes = _nodes(mu, q, t, step, -z, max(t, 1.0) * mu + z)
    if nodes is None:
        return _crude_log_moment(mu, q, t)
    log_r = _log_mixture(mu * nodes - 0.5 * mu * mu, q)
    if np.max(t * log_r) < 1 and mu * float(nodes[-1]) < 600:
        return _summed_small(nodes, mu * nodes - 0.5 * mu * mu, log_r, q, t, step)
    return _summed(nodes, mu * nodes - 0.5 * mu * mu, log_r, t, step)


def _log_mixture(w: Array, q: float) -> Array:
    """log(1 − q + q e^w)."""
    with np.errstate(over="ignore"):
        right = np.logaddexp(math.log(q) + w, math.log1p(-q))
        left = np.log((1 - q) + q * np.exp(np.minimum(w, 0)))  # keeps the digits of 1 − q where q is near 1
    near_one = np.where((w < -0.5) & (q > 0.5), left, np.log1p(q * np.expm1(np.minimum(w, 30))))
    return np.where(w > 30, right, near_one)


def _nodes(mu: float, q: float, t: float, step: float, low: float, high: float) -> Array | None:
    """Return the nodes from low to high where the integrand matters, or None if there are too many to look at.

    For t >= 1, t log r is convex, so on a cell of width Δ log(φ r^t) is at most its larger end + Δ²/8: cells of width
    at most 4 whose ends both lie 62 below the largest add less than e^-58 a node and are left out.
    """
    each = max(1, int(4.0 / step))
    cells = int((high - low) / (each * step)) + 1
    if cells * (1 if t >= 1 else each) > MOST_NODES:
        return None
    ends = low + each * step * np.arange(cells + 1)
    inside = np.ones(cells, dtype=bool)
    if t >= 1:
        exponent = t * _log_mixture(mu * ends - 0.5 * mu * mu, q) - 0.5 * ends * ends
        inside = np.maximum(exponent[:-1], exponent[1:]) > np.max(exponent) - 62
    if np.count_nonzero(inside) * each > MOST_NODES:
        return None
    return (ends[:-1][inside, None] + step * np.arange(each)).ravel()


def _summed(x: Array, w: Array, log_r: Array, t: float, step: float) -> Bounds:
    """log of the trapezoidal sum of φ r^t, its terms kept in logs."""
    exponent = t * log_r - 0.5 * x * x
    largest = float(np.max(exponent))
    value = largest + math.log(float(np.sum(np.exp(exponent - largest))) * step) - LOG_ROOT_TWO_PI
    near = exponent > largest - 60
    size = float(np.max(np.abs(t) * (np.abs(w[near]) + np.abs(log_r[near])) + x[near] ** 2))
    error = 3 * math.exp(-DIGITS) + UNIT_ROUNDOFF * (64 + 8 * size + 4 * abs(t))
    return Bounds(lower=value - error, upper=value + error)


def _summed_small(x: Array, w: Array, log_r: Array, q: float, t: float, step: float) -> Bounds:
    """log(1 + Σ φ [r^t − 1 − t (r − 1)]) for r^t near 1: as E(r − 1) = 0, only second-order terms are left to add."""
    weight = step * np.exp(-0.5 * x * x - LOG_ROOT_TWO_PI)
    first = t * q * np.expm1(w)
    terms = np.expm1(t * log_r) - first
    size = float(np.sum(weight * (np.abs(first) + np.abs(terms)) * (4 + x * x + abs(t) * np.abs(w))))
    error = 3 * math.exp(-DIGITS) * (1 + abs(t) * q) + 16 * UNIT_ROUNDOFF * size
    return log1p(Bounds.exact(float(np.sum(weight * terms))) + Bounds(lower=-error, upper=error))


def _crude_log_moment(mu: float, q: float, t: float) -> Bounds:
    """Enclose the same without quadrature: r^t <= 1 − q + q e^{t(μz − μ²/2)} by convexity, and at least 1 by Jensen."""
    ceiling = (1.0 - Bounds.exact(q)) + q * exp(Bounds.exact(t) * (t - 1.0) * Bounds.exact(mu) * mu / 2.0)
    if 0 < t < 1:
        return Bounds(lower=float(t * math.log1p(-q)) - 1e-9, upper=0.0)
    return Bounds(lower=0.0, upper=log(ceiling).upper)
