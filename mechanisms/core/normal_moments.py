"""Moments E[r^t] of the likelihood ratio r = 1 − q + q e^x, x = μz − μ²/2, of a sampled normal, at many real t.

As E[r] = 1, with w = r − 1,

    E[r^t] = 1 + ∫ φ(z) f(z) dz,    f = r^t − 1 − t w,

where f has one sign, so that nothing cancels where q is small. Where r^t leaves the floats, log r^t is summed instead.

The trapezoidal rule: the integrand is analytic for |Im z| < π/μ, where r avoids the negative axis. On the line
Im z = a, φ r^t is at most e^{a²/2} C times its value on the real axis: C = 1 for t >= 0, as |r(z)| <= r(Re z), and
C = cos(μa/2)^t for t < 0, as |r(z)| >= r(Re z) cos(μa/2). There ∫ |φ (1 + t w)| is at most e^{a²/2} (1 + 2 |t| q). So
the rule with step s errs by at most 2 C e^{a²/2} / (e^{2πa/s} − 1) (E[r^t] + 1 + 2 |t| q)           [TW14, Thm 5.1].

[TW14] L. N. Trefethen, J. A. C. Weideman. The Exponentially Convergent Trapezoidal Rule. SIAM Review 56 (2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, log, log1p, where
from mechanisms.core.likelihood_ratio import log_mixture
from mechanisms.core.pair import UNIT_ROUNDOFF

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
DIGITS = 52.0  # −log of the relative error allowed to the trapezoidal rule
MISSED = 4.0 * math.exp(-DIGITS)  # by the rule, and by the nodes left out
MOST_CELLS = MOST_NODES = 100_000
MOST_FOR_NEGATIVE = 2**13  # nodes, for t < 0: where more are asked for, r^t <= (1 − q)^t says nearly all there is
LARGEST_CELL = 32  # nodes, for t < 0
MOST_TERMS = 2**20  # looked at in one pass over arrays
NEGLIGIBLE = 70.0  # −log of what a cell may be below the largest one to be left out
LARGEST_EXPONENT = 600.0
LARGEST_DOUBT = 0.01  # of t x: up to here errors of first order are all there is


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Terms:
    """Nodes for the moments at several powers, in cells: shape (cells, n), or (1, n) where all powers share them.

    Args:
        z: the nodes.
        row: of each cell, the index of its power, ascending; every power has one.
        step: the distance of two nodes.
    """

    z: Array
    row: Array
    step: float


def log_moments(shift: Bounds, q: float, powers: Array) -> Bounds:
    """Enclose log E[r^t] at every t of `powers`, shape (n,).

    Args:
        shift: enclosure of μ > 0; every μ in it is counted, as an error of x.
        q: in (0, 1).
        powers: any finite t.

    Guarantees: never a moment too small at the upper end: what the quadrature and rounding may have lost is added.

    >>> found = log_moments(Bounds.exact(1.0), 0.5, np.array([2.0]))
    >>> expected = np.log1p(0.25 * np.expm1(1.0))  # E[r²] = 1 + q² (e^{μ²} − 1)
    >>> bool(found.contains(expected)[0]) and bool(found.width[0] < 1e-13)
    True
    """
    powers = np.asarray(powers, dtype=np.float64)
    crude = _crude_log_moments(shift, q, powers)
    lower, upper = np.array(crude.lower), np.array(crude.upper)
    size = np.ceil(np.log2(np.maximum(np.abs(powers), 8.0) / 8.0) / 3.0)
    kind = 3.0 * size + np.where(powers >= 1, 2.0, np.where(powers > 0, 1.0, 0.0))
    for key in np.unique(kind):  # powers of about the same size, on one side of 1, share their nodes
        rows = np.flatnonzero(kind == key)
        found = _by_quadrature(shift, q, powers[rows])
        lower[rows], upper[rows] = np.maximum(lower[rows], found.lower), np.minimum(upper[rows], found.upper)
    return Bounds(lower=lower, upper=upper)


def _by_quadrature(shift: Bounds, q: float, t: Array) -> Bounds:
    """Enclose the same by the trapezoidal rule, in as many passes as memory asks for; in vain where nodes are many."""
    terms = _nodes(float(0.5 * (shift.lower + shift.upper)), q, t)
    if terms is not None:
        return _summed(terms, shift, q, t)
    if len(t) == 1:
        return Bounds(lower=np.full(1, -math.inf), upper=np.full(1, math.inf))
    parts = [_by_quadrature(shift, q, part) for part in np.array_split(t, 2)]
    lower, upper = (np.concatenate([getattr(part, end) for part in parts]) for end in ("lower", "upper"))
    return Bounds(lower=lower, upper=upper)


def _nodes(mu: float, q: float, t: Array) -> _Terms | None:
    """Return the nodes where the integrands matter, or None if there are too many to look at.

    For t >= 1, t log r is convex, so on a cell of width Δ log(φ r^t) is at most its larger end + Δ²/8. For t < 0,
    φ r^t is log-concave, so that on a cell it is at most its larger end unless that is the largest of all. So cells of
    width at most 4 both of whose ends lie 70 below the largest add less than e^-68 a node and are left out. Beside r^t
    stand 1 + |t| q and |t| q e^x, as f is left out there too. Outside [−z, max(t, 1) μ + z] the integrand is below that
    of a normal tail, e^{−z²/2} of the integral at most.
    """
    step, low, high = _layout(mu, q, t)
    concave = 0.0 < t[0] < 1.0
    each = 1 if concave or not 0 < step < 4 else int(4.0 / step) if t[0] >= 1 else min(int(4.0 / step), LARGEST_CELL)
    if not (step > 0 and (high - low) / step / each < MOST_CELLS):
        return None
    cells = int((high - low) / step / each) + 2
    if concave:
        nodes = _Terms(z=(low + step * np.arange(cells))[None, :], row=np.arange(len(t)), step=step)
        return nodes if len(t) == 1 or len(t) * cells < MOST_TERMS else None
    if len(t) > 1 and len(t) * cells > MOST_TERMS:
        return None
    ends = low + each * step * np.arange(cells + 1)
    x, share = mu * ends - 0.5 * mu * mu, np.abs(t)[:, None] * q
    beside = (
        np.log1p(share)
        if t[0] >= 1
        else np.maximum(np.log1p(share), np.log(np.maximum(np.abs(t), 1e-300))[:, None] + math.log(q) + x)
    )
    exponent = np.maximum(t[:, None] * log_mixture(x, np.array(q)), beside) - 0.5 * ends * ends
    kept = np.maximum(exponent[:, :-1], exponent[:, 1:]) > np.max(exponent, axis=1)[:, None] - NEGLIGIBLE
    row, cell = np.nonzero(kept)
    most = len(t) * (MOST_FOR_NEGATIVE if t[0] < 0 else MOST_NODES)
    if len(row) * each > (min(most, MOST_TERMS) if len(t) > 1 else most):
        return None
    return _Terms(z=ends[cell][:, None] + step * np.arange(each), row=row, step=step)


def _layout(mu: float, q: float, t: Array) -> tuple[float, float, float]:
    """Return the distance of the nodes, the first and the last one: those of the power that asks for most."""
    bend, turn = np.maximum(-t, 0.0), 0.999 * math.pi * (0.5 if t[0] < 0 else 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        a = np.minimum(turn / mu, np.sqrt(2 * DIGITS / (1 + bend * mu * mu / 4)))
        turned = -bend * np.log(np.cos(np.minimum(mu * a / 2, 1.5)))
        step = float(np.min(2 * math.pi * a / (0.5 * a * a + turned + DIGITS)))
        growth = np.minimum(-t * math.log(q), t * (t - 1) * mu * mu / 2) if t[0] >= 1 else bend * -math.log1p(-q)
        z = float(np.max(np.sqrt(2 * (DIGITS + np.maximum(growth, 0.0))))) + step
        return step, -z, float(np.max(np.maximum(t, 1.0))) * mu + z


def _summed(terms: _Terms, shift: Bounds, q: float, t: Array) -> Bounds:
    """Sum f, or r^t in logs where it or r is large, with what rounding may do to the sum."""
    mu, power = 0.5 * (shift.lower + shift.upper), t[terms.row][:, None]
    spread = float((shift.upper - shift.lower) / mu) + 4 * UNIT_ROUNDOFF
    x, doubt = mu * terms.z - 0.5 * mu * mu, (np.abs(terms.z) * mu + mu * mu) * spread
    loss = log_mixture(x, np.array(q))
    exponent, unsure = power * loss, np.abs(power) * doubt
    starts = np.searchsorted(terms.row, np.arange(len(t)))
    highest = np.maximum.reduceat(np.max(np.maximum(exponent, x), axis=1), starts)
    plain, found = highest < LARGEST_EXPONENT, Bounds(lower=np.full_like(t, -math.inf), upper=np.full_like(t, math.inf))
    if np.any(plain):
        kept = plain[terms.row][:, None]
        parts = np.where(kept, x, 0.0), np.where(kept, exponent, 0.0), doubt
        found = where(plain, _excess(terms, q, power, parts, starts), found)
    if not np.all(plain):
        error = unsure + 12 * UNIT_ROUNDOFF * np.abs(exponent)
        found = where(plain, found, _in_logs(terms, exponent, error, starts))
    certain = np.maximum.reduceat(np.max(unsure, axis=1), starts) < LARGEST_DOUBT
    return where(certain, found, Bounds(lower=np.full_like(t, -math.inf), upper=np.full_like(t, math.inf)))


def _excess(terms: _Terms, q: float, power: Array, parts: tuple[Array, Array, Array], starts: Array) -> Bounds:
    """log(1 + Σ φ f), rounding counted: of w and log r, of x by ∂f/∂x = t (r^{t−1} − 1) q e^x, and of φ."""
    x, exponent, doubt = parts
    weight = terms.step * np.exp(-0.5 * terms.z * terms.z - LOG_ROOT_TWO_PI)
    w, raised = q * np.expm1(x), np.expm1(exponent)
    first = power * w
    f = raised - first
    error = 8 * (np.abs(first) + np.abs(raised)) + 12 * np.abs(exponent) * (1 + raised) + 2 * np.abs(f) * terms.z**2
    moved = 2 * np.abs(power) * (w + q) * (1 + (1 + raised) / (1 + w)) * doubt
    total = np.add.reduceat(np.sum(weight * f, axis=1), starts)
    slack = np.add.reduceat(np.sum(weight * (UNIT_ROUNDOFF * error + moved), axis=1), starts)
    slack += 2 * sum(f.shape) * UNIT_ROUNDOFF * np.abs(total)
    slack += MISSED * (2 + np.abs(total) + 2 * np.abs(power[starts, 0]) * q)
    return log1p(Bounds(lower=total - slack, upper=total + slack))


def _in_logs(terms: _Terms, exponent: Array, error: Array, starts: Array) -> Bounds:
    """log Σ φ r^t, its terms kept in logs."""
    square = 0.5 * terms.z * terms.z
    height = exponent - square
    largest = np.maximum.reduceat(np.max(height, axis=1), starts)
    shown = np.exp(height - largest[terms.row][:, None])
    total = np.add.reduceat(np.sum(shown, axis=1), starts)
    value = largest + np.log(total * terms.step) - LOG_ROOT_TWO_PI
    error = error + 4 * UNIT_ROUNDOFF * (np.abs(exponent) + square + np.abs(largest[terms.row][:, None]))
    off = np.add.reduceat(np.sum(shown * error, axis=1), starts) / total
    slack = 2 * off + MISSED + UNIT_ROUNDOFF * (64 + 2 * sum(height.shape) + 4 * np.abs(value))
    return Bounds(lower=value - slack, upper=value + slack)


def _crude_log_moments(shift: Bounds, q: float, t: Array) -> Bounds:
    """Enclose the same without quadrature: r^t <= 1 − q + q e^{tx} by convexity; the moment is 1 at least by Jensen.

    For 0 < t < 1 it is 1 at most, and (1 − q)^t at least; for t < 0 it is (1 − q)^t at most.
    """
    square = Bounds.exact(t) * (Bounds.exact(t) - 1.0) * shift * shift / 2.0
    ceiling = log((1.0 - Bounds.exact(q)) + q * exp(square)).clip(0.0, np.inf)
    least = Bounds.exact(t) * log1p(Bounds.exact(-q))
    inside, upper = (t > 0) & (t < 1), np.where(t < 0, np.minimum(ceiling.upper, least.upper), ceiling.upper)
    return Bounds(lower=np.where(inside, least.lower, 0.0), upper=np.where(inside, 0.0, upper))
