"""Panels of Gauss–Legendre rules for moments of a likelihood ratio r = 1 − q + q e^l whose l has a density.

On a panel of half width b the rule of 20 nodes errs by less than (64/15) ρ^{−40} / (1 − ρ^{−2}) b times the largest
|f × density| on the ellipse of ρ = 4, whose half axes are 2.125 b and 1.875 b                    [Tre19, Thm 19.3];
there, with c the centre, Re l in c ± 2.125 b and |Im l| <= 1.875 b < π/2,

    |r − 1| <= q min(e^{|l|} − 1, e^{Re l} + 1),    κ r(Re l) <= |r| <= r(Re l),
    arg r <= arctan(q e^{Re l} sin(Im l) / (1 − q + q e^{Re l} cos(Im l))),

with κ of `mechanisms.core.mixture_grid`, where f = r^s − 1 − s (r − 1) is bounded likewise, a mixture of 1 and r having
a modulus of κ min(1, r(Re l)) or more, and an angle between theirs.

[Tre19] L. N. Trefethen. Approximation Theory and Approximation Practice, extended edition. SIAM 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array
from mechanisms.core.gauss_legendre import NODES, WEIGHTS
from mechanisms.core.likelihood_ratio import log_mixture
from mechanisms.core.mixture_grid import Grid, log_shrink

ELLIPSE, AXES = 4.0, (2.125, 1.875)
QUADRATURE = 64 / 15 * ELLIPSE**-40 / (1 - ELLIPSE**-2)
WIDEST, STEEPEST = 0.5, 4.0  # half widths of a panel, in l and in log |f|
LEAST = 1e-290  # sizes below which relative errors mean nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panels:
    """Panels side by side.

    Args:
        half: half their widths, at most `WIDEST`, shape (n,).
        centres: shape (n,).
    """

    half: Array
    centres: Array

    @property
    def bottom(self) -> Array:
        """The least Re l on every ellipse."""
        return self.centres - AXES[0] * self.half

    @property
    def top(self) -> Array:
        """The largest."""
        return self.centres + AXES[0] * self.half

    @property
    def turn(self) -> Array:
        """The largest |Im l|."""
        return AXES[1] * self.half

    def nodes(self) -> tuple[Array, Array]:
        """Return the nodes and their weights, without the density."""
        nodes = (self.centres[:, None] + self.half[:, None] * NODES).ravel()
        return nodes, (self.half[:, None] * WEIGHTS).ravel()

    def rounded(self, nodes: Array) -> Array:
        """Bound by how many units of the unit roundoff, relative, the nodes may be off."""
        ends = np.repeat(np.abs(self.centres) + self.half, len(NODES))
        return 8.0 * (1.0 + ends / np.maximum(np.abs(nodes), LEAST))

    def missed(self, log_density: Array, q: float, exponent: float, frequency: float) -> float:
        """Bound the error of the rules for E[f] at Re s = exponent, |Im s| <= frequency.

        Args:
            log_density: bound of log |density| on every ellipse, shape (n,).
            q: in (0, 1].
            exponent: Re s.
            frequency: the largest |Im s|.
        """
        bottom, top, turn = self.bottom, self.top, self.turn
        farthest = np.hypot(np.maximum(np.abs(bottom), np.abs(top)), turn)
        size = math.log(q) + np.minimum(np.log(np.expm1(np.minimum(farthest, 700.0))), np.logaddexp(top, 0.0))
        growth = q * np.exp(top)
        angle = frequency * np.arctan2(growth * np.sin(turn), 1.0 - q + growth * np.cos(turn))
        shrink = log_shrink(growth / (1.0 - q) if q < 1.0 else np.ones_like(growth), turn)
        least, most = log_ratio(bottom, q) + shrink, log_ratio(top, q)
        mixed = np.minimum(least - shrink, 0.0) + shrink
        bend = (exponent - 2.0) * (np.maximum(most, 0.0) if exponent >= 2 else mixed)
        second = 0.5 * (abs(exponent) + frequency) * (abs(exponent - 1.0) + frequency)
        taylor = (math.log(second) if second > 0 else -math.inf) + 2.0 * size + bend + angle
        powers = exponent * (most if exponent >= 0 else least) + angle
        plain = np.logaddexp(powers, np.logaddexp(0.0, np.log(abs(exponent) + frequency + LEAST) + size))
        terms = np.minimum(taylor, plain) + log_density
        return float(np.sum(np.exp(np.minimum(terms, 700.0)) * self.half)) * QUADRATURE * (1 + 1e-6)


def log_ratio(l: Array, q: float) -> Array:  # noqa: E741
    """log(1 − q + q e^l)."""
    return l if q == 1.0 else log_mixture(l, np.array(q))


def node_doubt(l: Array, loss: Array, moved: Array, heavier: Array, exponent: float) -> Array:  # noqa: E741
    """Bound the relative error of terms, in units of the unit roundoff, at nodes that are off.

    An error of ε |l| in l moves log r and, where it is small, r − 1 by ε' = (1 + |l|) ε of themselves at most, f and
    its slope by 2.4 ε' of their size where they are summed by series, else by 2 (1 + |s|) |log r| ε' of the larger of
    their parts.

    Args:
        l: the nodes.
        loss: log r there.
        moved: by how many units, relative, they are off.
        heavier: by how many units, relative, their weights are.
        exponent: s.
    """
    return np.asarray(16.0 + heavier + 4.0 * moved * (1.0 + np.abs(l)) * (1.0 + (1.0 + abs(exponent)) * np.abs(loss)))


def row(l: Array, weight: Array, doubt: Array, error: float, q: float) -> Grid:  # noqa: E741
    """Return the grid of one mixture."""
    z, weight, w, loss, doubt = (part[None, :] for part in (l, weight, q * np.expm1(l), log_ratio(l, q), doubt))
    return Grid(z=z, weight=weight, w=w, loss=loss, doubt=doubt, error=np.array([error]))


def stacked(rows: list[Grid]) -> Grid:
    """Return one grid of all rows, filled up with weightless nodes at l = 0."""
    most = max(one.z.shape[1] for one in rows)

    def together(name: str) -> Array:
        parts = [getattr(one, name)[0] for one in rows]
        return np.array([np.pad(part, (0, most - len(part))) for part in parts])

    columns = {name: together(name) for name in ("z", "weight", "w", "loss", "doubt")}
    return Grid(**columns, error=np.concatenate([one.error for one in rows]))
