"""The masses of normals, Poisson-sampled or not, in many narrow cells of their loss, by differences of Φ.

With z = (log(1 + (e^x − 1)/q))/μ + μ/2 at the edges x, a cell has N(0, 1)- and N(μ, 1)-masses Φ(z') − Φ(z) and
Φ(z' − μ) − Φ(z − μ), taken on the side of the smaller tail. Differences of narrow cells lose digits; but as each edge's
value serves both of its cells, what is off is the edge: an error r Φ(−|z|) of Φ is one of r Φ(−|z|)/φ(z) in z, where
Φ(−|z|)/φ(z) <= min(√(π/2), 1/|z|), for the mixture no less than for its parts.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from mechanisms.core.bounds import Array
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.poisson_pairs import unsampled

FARTHEST = 36.0  # Φ(−36) is a float
BEYOND = 40.0  # Φ(−40) is none
DENSEST = 0.4  # > φ(0)

Cells = tuple[Array, Array, float, float, float, float]


def normal_cells(mixture: NormalMixture, edges: Array, points: Array) -> Cells | None:
    """Return the masses of the cells between increasing `edges`, or None where they leave the floats.

    Returns:
        p, e^{x_k} q with x the `points`, how far edges of p may be off, a bound of the error of Σ (p − e^x q), P's mass
        outside all cells, and the relative error of p.
    """
    mu, q = 0.5 * (mixture.shift.lower + mixture.shift.upper), mixture.probability
    spread = float(mixture.shift.width / mu)
    inner = -edges[::-1] if mixture.reverse else edges
    loss, slope, error = unsampled(inner, q) if q < 1.0 else (inner, np.ones_like(inner), np.zeros_like(inner))
    with np.errstate(over="ignore"):
        z = np.clip(loss / mu + 0.5 * mu, -BEYOND, mu + BEYOND)
    if not (mu < FARTHEST and z[-1] <= FARTHEST):
        return None
    plain, outside = _between(z)
    moved, moved_outside = _between(z - mu)
    mixed = (1.0 - q) * plain + q * moved
    # 16 + 4 z² ulps of Φ, times its ratio to φ
    farthest = max(-float(z[0]), float(z[-1])) + mu
    in_z = 2 * UNIT_ROUNDOFF * (22.0 + 5.0 * farthest) + mu * spread
    finite = np.where(np.isfinite(loss), np.abs(loss), 0.0)
    in_x = error + slope * ((8 * UNIT_ROUNDOFF + 2 * spread) * (finite + mu * mu) + mu * in_z)
    edge = float(np.max(np.where(np.isfinite(loss), in_x, 0.0)))
    middle = float(np.min(np.where((z[:-1] <= 0) & (z[1:] > 0), plain, 1.0)))
    middle = min(middle, float(np.min(np.where((z[:-1] <= mu) & (z[1:] > mu), moved, 1.0))))
    relative = 16 * UNIT_ROUNDOFF + 4 * UNIT_ROUNDOFF / max(middle, 1e-300)  # 1 − Φ(z) − Φ(−z') in one cell of each
    step = float(edges[1] - edges[0])
    # Σ e^{x_k} (e_{k+1} − e_k) in parts, e the errors of Q's distribution function, at most 2 in_z times its density
    summed = 2 * DENSEST * in_z * math.exp(step) * (len(edges) * step + 2.0) + 64 * UNIT_ROUNDOFF
    p, other = (plain, mixed) if mixture.reverse else (mixed, plain)
    p_outside = outside if mixture.reverse else (1.0 - q) * outside + q * moved_outside
    if mixture.reverse:
        p, other = p[::-1], other[::-1]
    return p, np.exp(points) * other, edge, summed, p_outside * (1 + 1e-10) + 1e-300, relative


def _between(z: Array) -> tuple[Array, float]:
    """Return Φ(z_{k+1}) − Φ(z_k) of increasing z, and what lies outside them all."""
    tail = scipy.special.ndtr(-np.abs(z))
    signed = np.where(z > 0, -tail, tail)
    inside = np.diff(signed) + ((z[:-1] <= 0) & (z[1:] > 0))
    below = float(tail[0]) if z[0] <= 0 else 1.0 - float(tail[0])
    above = float(tail[-1]) if z[-1] > 0 else 1.0 - float(tail[-1])
    return np.maximum(inside, 0.0), below + above
