"""Nodes and error bounds for the moments E[r^s] of the likelihood ratio of a Poisson-sampled normal.

With r(z) = 1 − q + q e^x, x = μz − μ²/2 and z standard normal, E[r] = 1 and so

    E[r^s] = 1 + ∫ φ(z) f(z) dz,    f = r^s − 1 − s w,    w = r − 1,

where f is of second order in w: nothing cancels where q is small. The trapezoidal rule with step h errs by at most
2 M / (e^{2πa/h} − 1), if ∫ |φ f| is at most M on every line |Im z| <= a                         [TW14, Thm 5.1].
M is an upper sum over cells, from |φ(u + ib)| = e^{b²/2} φ(u), |w| <= q (e^x + 1) and the smaller one of

    |f| <= |s (s − 1)| / 2 · |w|² · max over τ of |1 + τw|^{Re s − 2} e^{|Im s| arg (1 + τw)}     (Taylor)
    |f| <= |r|^{Re s} e^{|Im s| arg r} + 1 + |s w|

with, at u + ib and 0 <= τ <= 1,  κ min(1, r(u)) <= |1 + τw| <= max(1, r(u))  and  arg (1 + τw) <= arg r,
because 1 + τw = A + g e^{iμb}, A = 1 − τq, g = τq e^x: its square modulus is (A + g)² (1 − 4ρ/(1 + ρ)² sin²(μb/2)) with
ρ = g/A, which is at least (A + g)² κ² with κ taken at the largest ρ, as 4ρ/(1 + ρ)² rises up to ρ = 1; A + g lies
between 1 and r(u), and arg (A + g e^{iμb}) rises with ρ. It does not rise with b where cos μb < −ρ, so that the largest
over all |b| <= a is at μb = min(μa, arccos(−min(ρ, 1))).

[TW14] L. N. Trefethen, J. A. C. Weideman. The Exponentially Convergent Trapezoidal Rule. SIAM Review 56 (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.likelihood_ratio import log_mixture, second_order
from mechanisms.core.pair import UNIT_ROUNDOFF

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
REACH = 14.0  # where the cells end, the majorant falls by e^-14 a unit
CELLS, ROUGH_CELLS = 192, 48
STRIPS = (1.0, 0.6, 0.35, 0.2, 0.12, 0.07)  # heights a that are tried, in parts of the largest
REAL_STRIPS = 2  # so many of them are enough for real powers
LARGEST_STRIP, LARGEST_TURN = 12.0, 0.8 * math.pi  # of a, and of μa
LOG_TOLERANCE = math.log(1e-17)  # of the quadrature, relative to E[r^s] − 1
LARGEST_EXPONENT = 650.0
LARGEST_SPREAD = 2.0**20  # of an enclosure of μ, in units of the unit roundoff: errors of first order are counted
FLUSHED, LEAST = 1300.0, 1e-322  # z² from where φ(z) may be no normal float, and twice the error that it has then
LEAST_FREQUENCY = 1e-9  # at s = 0 and 1 themselves f vanishes, and with it its majorant
MOST_NODES = 2**14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Nodes of the trapezoidal rule for k mixtures, shape (k, n): exact x, weights, and r there.

    Args:
        z: the nodes.
        weight: the rule's, φ(z) included.
        w: r − 1.
        loss: log r.
        doubt: bound of the relative error of the weights, in units of the unit roundoff.
        error: bound of the error of the rule and of its truncation, shape (k,).
    """

    z: Array
    weight: Array
    w: Array
    loss: Array
    doubt: Array
    error: Array

    def rows(self, rows: slice, count: int) -> Grid:
        """Return the first so many nodes of some of the mixtures."""
        parts = (self.z, self.weight, self.w, self.loss, self.doubt)
        z, weight, w, loss, doubt = (np.ascontiguousarray(part[rows, :count]) for part in parts)
        return Grid(z=z, weight=weight, w=w, loss=loss, doubt=doubt, error=self.error[rows])


def grid(shift: Bounds, probability: Array, exponent: float, frequency: float) -> Grid:
    """Return nodes on which E[r^s] − 1 is right to 1e-17 or so of itself at s = exponent, and at |Im s| <= frequency.

    Args:
        shift: enclosure of μ > 0, shape (k,).
        probability: q in (0, 1), shape (k,).
        exponent: Re s.
        frequency: the largest |Im s|.

    Raises:
        NumericalFailure: if r^s leaves the floats, there would be more than `MOST_NODES` nodes, or μ is not known well.
    """
    return grids(shift, probability, (exponent,), frequency)[0]


def grids(shift: Bounds, probability: Array, exponents: Sequence[float], frequency: float) -> list[Grid]:
    """Return the `grid` of each exponent, the same bits as alone, in one pass over arrays that hold all.

    Raises:
        NumericalFailure: as `grid`, for any of the exponents.
    """
    each, kinds = len(exponents), len(probability)
    tiled = (np.tile(part, each) for part in (shift.lower + shift.upper, shift.upper - shift.lower, probability))
    total, width, q, exponent = (part[:, None] for part in (*tiled, np.repeat(exponents, kinds)))
    mu, spread = 0.5 * total, width / (0.5 * total) / UNIT_ROUNDOFF
    if not np.max(spread) <= LARGEST_SPREAD:
        raise NumericalFailure("contour: the shift of a normal is not known to 1e-10. Use accountant='pld'.")
    cells = Cells.around(mu, q, exponent, max(frequency, LEAST_FREQUENCY))
    step, first, last, error = cells.layout()
    counts = np.max(np.ceil((last - first) / step).reshape(each, kinds), axis=1).astype(np.int64) + 1
    spacing = _rounded_up(mu[:, 0] * (last - first) / np.repeat(np.maximum(counts - 1, 1), kinds))
    start = np.floor((mu[:, 0] * first - 0.5 * mu[:, 0] ** 2) / spacing)
    number = np.minimum(np.arange(np.max(counts) + 1), np.repeat(counts, kinds)[:, None])  # beyond its last, that again
    found = _on_nodes(cells, (start[:, None] + number) * spacing[:, None], spacing[:, None], spread)
    error = error + np.repeat(counts + 1, kinds) * found.error
    return [
        replace(found, error=error).rows(slice(i * kinds, (i + 1) * kinds), int(count) + 1)
        for i, count in enumerate(counts)
    ]


def _on_nodes(cells: Cells, x: Array, spacing: Array, spread: Array) -> Grid:
    """Return the grid of these nodes, and as its error what floats below the normal ones may do to a term."""
    mu, q, exponent = cells.mu, cells.q, cells.exponent
    z, loss, used = x / mu + 0.5 * mu, log_mixture(x, q), spacing / mu
    if not max(np.max(exponent * loss), np.max((exponent - 1.0) * loss)) <= LARGEST_EXPONENT:
        raise NumericalFailure("contour: powers of the likelihood ratio leave the floats. Use accountant='pld'.")
    w = q * np.expm1(x)
    size = np.exp(exponent * loss) + 1.0 + (np.abs(exponent) + cells.frequency) * np.abs(w)  # of f
    return Grid(
        z=z,
        weight=np.exp(-0.5 * z * z - LOG_ROOT_TWO_PI) * used,
        w=w,
        loss=loss,
        doubt=8.0 + spread + (4.0 + 2.0 * spread) * np.abs(z) * (np.abs(x) / mu + 0.5 * mu),
        error=np.max(np.where(z * z > FLUSHED, LEAST * (1.0 + used) * size, 0.0), axis=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Bounds of |φ f| on cells of u = Re z, shape (k, CELLS), for powers s with Re s = exponent, |Im s| <= frequency.

    Args:
        mu: μ, shape (k, 1).
        q: shape (k, 1).
        edges: ends of the cells, shape (k, CELLS + 1).
        x: μu − μ²/2 there.
        loss: log r there.
        exponent: Re s, shape (k, 1).
        frequency: the largest |Im s|.
    """

    mu: Array
    q: Array
    edges: Array
    x: Array
    loss: Array
    exponent: Array
    frequency: float

    @classmethod
    def around(cls, mu: Array, q: Array, exponent: float | Array, frequency: float, count: int = CELLS) -> Cells:
        """Lay out so many cells to where the majorant falls by e^-14 a unit of u on either side."""
        exponent = np.broadcast_to(np.asarray(exponent, dtype=np.float64), mu.shape)
        bend = exponent - 2.0
        low = -REACH - np.maximum(-bend, 0.0) * mu * np.minimum(1.0, q / (1.0 - q))
        high = REACH + (2.0 + np.maximum(bend, 0.0)) * mu
        edges = low + (high - low) * np.linspace(0.0, 1.0, count + 1)
        x = mu * edges - 0.5 * mu**2
        if not np.max(x) <= LARGEST_EXPONENT:
            raise NumericalFailure("contour: the likelihood ratio leaves the floats. Use accountant='pld'.")
        loss = log_mixture(x, q)
        return cls(mu=mu, q=q, edges=edges, x=x, loss=loss, exponent=exponent, frequency=frequency)

    @property
    def width(self) -> Array:
        """The width of a cell, shape (k,)."""
        return np.asarray((self.edges[:, -1] - self.edges[:, 0]) / (self.edges.shape[1] - 1))

    def layout(self) -> tuple[Array, Array, Array, Array]:
        """Return, for each mixture, the step, the first and the last node, and a bound of the error."""
        goal = LOG_TOLERANCE + self._log_size()
        largest = np.minimum(LARGEST_TURN / self.mu, LARGEST_STRIP)
        strips = STRIPS if self.frequency > LEAST_FREQUENCY else STRIPS[:REAL_STRIPS]
        each = len(strips)
        mu, q, exponent = (np.repeat(part, each, axis=0) for part in (self.mu, self.q, self.exponent))
        rough = Cells.around(mu, q, exponent, self.frequency, ROUGH_CELLS)
        tried = np.tile(strips, len(self.mu))[:, None] * np.repeat(largest, each, axis=0)
        sizes = rough._log_majorant(tried).reshape(len(self.mu), each).T
        steps = np.array(strips)[:, None] / np.maximum(sizes + math.log(2.0) - goal, 1.0)
        height = np.array(strips)[np.argmax(steps, axis=0)][:, None] * largest
        size = self._log_majorant(height)
        step = 2 * math.pi * height[:, 0] / np.maximum(size + math.log(2.0) - goal, 1.0)
        first, last, lost = self._kept(step, 0.25 * np.exp(goal))
        if not np.max((last - first) / step) < MOST_NODES:
            raise NumericalFailure("contour: moments need more nodes than the budget allows. Use accountant='pld'.")
        decay = 0.999 * 2 * math.pi * height[:, 0] / step
        aliased = 2.0 * np.exp(size - decay) / -np.expm1(-decay)
        return step, first, last, (aliased + lost) * (1 + 1e-9)

    def _log_size(self) -> Array:
        """About log |E[r^s] − 1| at s = exponent, kept from 0 where s is 0 or 1."""
        z = 0.5 * (self.edges[:, :-1] + self.edges[:, 1:])
        x = self.mu * z - 0.5 * self.mu**2
        w = self.q * np.expm1(x)
        largest = LARGEST_EXPONENT / (1.0 + np.abs(self.exponent))
        loss = np.clip(log_mixture(x, self.q), -largest, largest)
        f0 = second_order(w, loss, self.exponent).f0 + 1e-12 * np.abs(w) * np.minimum(np.abs(w), 1.0)
        total = np.abs(np.sum(np.exp(-0.5 * z * z - LOG_ROOT_TWO_PI) * f0, axis=1)) * self.width
        return np.asarray(np.log(np.maximum(total, 1e-280)))

    def _log_majorant(self, height: Array) -> Array:
        """Bound log ∫ |φ f| over every line |Im z| <= height, shape (k,)."""
        terms, right = self._log_terms(height), self._log_beyond(height)
        largest = np.maximum(np.max(terms, axis=1), right)
        inside = np.sum(np.exp(terms - largest[:, None]), axis=1) * self.width
        beyond = (np.exp(terms[:, 0] - largest) + np.exp(right - largest)) / REACH
        return np.asarray(largest + np.log(inside + beyond))

    def _kept(self, step: Array, share: Array) -> tuple[Array, Array, Array]:
        """Return the first and last u that matter, and a bound of the rule's terms beyond them, at most 2 shares each.

        A cell holds at most width / step + 1 nodes; beyond the cells a further width / step + 2 bound them all.
        """
        terms = np.exp(np.minimum(self._log_terms(np.zeros_like(self.mu)), 700.0)) * (self.width + step)[:, None]
        terms[:, [0, -1]] *= 3.0 + 1.0 / (REACH * self.width)[:, None]
        count = terms.shape[1]
        from_left, from_right = np.cumsum(terms, axis=1), np.cumsum(terms[:, ::-1], axis=1)
        left = np.minimum(np.sum(from_left < share[:, None], axis=1), count - 1)
        right = np.sum(from_right < share[:, None], axis=1)
        rows, none = np.arange(len(step)), np.zeros((len(step), 1))
        lost = np.hstack([none, from_left])[rows, left] + np.hstack([none, from_right])[rows, right]
        lost += np.where(left == 0, terms[:, 0], 0.0) + np.where(right == 0, terms[:, -1], 0.0)
        return self.edges[rows, left], self.edges[rows, np.maximum(count - right, left + 1)], lost

    def _log_terms(self, height: Array) -> Array:
        """Bound log |φ f| on each cell for |Im z| <= height."""
        turn, left, right = self.mu * height, self.edges[:, :-1], self.edges[:, 1:]
        nearest = np.where(left * right <= 0, 0.0, np.minimum(np.abs(left), np.abs(right)))
        growth = self.q * np.exp(self.x[:, 1:])
        turned = np.minimum(turn, np.arccos(-np.minimum(growth / (1.0 - self.q), 1.0)))  # where arg r is largest
        angle = np.arctan2(growth * np.sin(turned), 1.0 - self.q + growth * np.cos(turned))
        shrink, least, most = log_shrink(growth / (1.0 - self.q), turn), self.loss[:, :-1], self.loss[:, 1:]
        log_f = self._log_f(self.x[:, 1:], (np.minimum(least, 0.0) + shrink, least + shrink, most), angle)
        return np.asarray(0.5 * height**2 - 0.5 * nearest**2 - LOG_ROOT_TWO_PI + log_f + 1e-6)

    def _log_beyond(self, height: Array) -> Array:
        """Bound log |φ f| at the last edge for |Im z| <= height by what falls by e^-14 a unit to its right, shape (k,).

        With τ = μ height, |r| is (1 − q) |1 + ρ e^{iτ}| at least, which as ρ rises falls to (1 − q) sin τ at −cos τ.
        """
        turn, loss, x = self.mu * height, self.loss[:, -1:], self.x[:, -1:]
        ratio = self.q * np.exp(x) / (1.0 - self.q)
        lowest = np.log1p(-self.q) + np.log(np.maximum(np.sin(turn), 1e-300)) - 1e-14
        least = np.where(ratio < -np.cos(turn), lowest, loss + log_shrink(ratio, turn))
        mixed = np.minimum(loss, 0.0) + log_shrink(np.ones_like(turn), turn)
        log_f = self._log_f(x, (mixed, least, loss), turn)
        return np.asarray(0.5 * height**2 - 0.5 * self.edges[:, -1:] ** 2 - LOG_ROOT_TWO_PI + log_f + 1e-6)[:, 0]

    def _log_f(self, x: Array, logs: tuple[Array, Array, Array], turned: Array) -> Array:
        """Bound log |f| from Re x, the least log |1 + τw| and log |r|, the largest log |r|, and the largest arg r."""
        s, y, (mixed, least, most) = self.exponent, self.frequency, logs
        log_w, angle = np.log(self.q) + np.logaddexp(x, 0.0), y * turned
        bend = (s - 2.0) * np.where(s >= 2, np.maximum(most, 0.0), mixed)
        taylor = np.log(0.5 * (np.abs(s) + y) * (np.abs(s - 1.0) + y)) + 2.0 * log_w + bend + angle
        powers = s * np.where(s >= 0, most, least) + angle
        plain = np.logaddexp(powers, np.logaddexp(0.0, np.log(np.abs(s) + y) + log_w))
        return np.asarray(np.minimum(taylor, plain))


def log_shrink(ratio: Array, turn: Array) -> Array:
    """Bound log κ from below, κ² = 1 − 4ρ/(1 + ρ)² sin²(τ/2) for all ρ <= ratio and τ <= turn <= .8 π."""
    most = np.minimum(ratio, 1.0)
    return np.asarray(0.5 * np.log1p(-4.0 * most / (1.0 + most) ** 2 * np.sin(0.5 * turn) ** 2) - 1e-14)


def _rounded_up(spacing: Array) -> Array:
    """Return `spacing` with 20 binary digits, rounded up, so that its multiples are exact."""
    mantissa, exponent = np.frexp(spacing)
    return np.asarray(np.ldexp(np.ceil(mantissa * 2**20), exponent - 20))
