"""Fourier transforms of the losses of Poisson-sampled normals with their farthest outcomes left out.

For P = (1 − q) N(0, 1) + q N(μ, 1) against Q = N(0, 1), r = dP/dQ = 1 − q + q e^{μz − μ²/2}. Where jumps are rare,
E[r^s] is the work of outcomes z that never happen, at the exponents s that suit a small δ. With outcomes z > Z left out
of every step, P and Q are measures below the pair's, of which

    δ_cut(ε) <= δ(ε) <= δ_cut(ε) + P(any z > Z)

as δ(ε) = sup_S P(S) − e^ε Q(S): from below for S without them, from above as S and what is left out add. So

    E[r^s; z <= Z] = 1 + E[f; z <= Z] − E[1 + s (r − 1); z > Z],    f = r^s − 1 − s (r − 1),

the last of which is counted as an error. The moments of the reversed pair, Re s <= 0, are meant whole: there
|f| <= 1 + |1 + s (r − 1)| where z > Z >= μ. With l = μz − μ²/2 the panels of `mechanisms.core.panels` begin at a z
below which |f| <= ½ |s (s − 1)| q² (1 − q)^{min(Re s − 2, 0)} is as good as nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.likelihood_ratio import log_mixture
from mechanisms.core.loss_transform import Losses, known, rough_cumulants
from mechanisms.core.mixture_grid import LARGEST_EXPONENT, LARGEST_SPREAD, LOG_ROOT_TWO_PI, Grid
from mechanisms.core.normal_mixture import SampledNormals
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.panels import STEEPEST, WIDEST, Panels, node_doubt, row, stacked

FIRST = -10.0
PLACES = 2**10  # where the width of panels is looked at
MOST_PANELS = 2**12
ROUGH_STEP, MOST_ROUGH = 0.3, 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutNormals(SampledNormals):
    """k pairs ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)) without outcomes beyond Z; or all of them reversed, and whole.

    Args:
        last: Z >= μ, shape (k,).

    >>> from mechanisms.core.bounds import Bounds
    >>> pairs = CutNormals(shift=Bounds.exact([1.0]), probability=np.array([0.5]), last=np.array([30.0]), reverse=False)
    >>> expected = np.log1p(0.25 * np.expm1(1.0))  # E[r²] = 1 + q² (e^{μ²} − 1) of the whole
    >>> bool(abs(pairs.transform(2.0, np.array([0.0])).log_modulus[0, 0] - expected) < 1e-14)
    True
    """

    last: Array

    def log_lost(self) -> Array:
        """Bound the log of P(z > Z) of what one step leaves out, Φ(−x) <= e^{−x²/2}; −inf of reversed pairs."""
        if self.reverse:
            return np.full_like(self.last, -np.inf)
        beyond = np.maximum(self.last - np.asarray(self.shift.upper), 0.0)
        far = np.log(self.probability) - 0.5 * beyond**2
        return np.asarray(np.logaddexp(-0.5 * self.last**2, far) + 1e-9 * (1.0 + self.last**2))

    def last_losses(self) -> Array:
        """Return about the losses at Z."""
        return log_mixture(self._middle * self.last - 0.5 * self._middle**2, self.probability)

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}; z <= Z] at many real t and its first two derivatives, shape (len(powers), k).

        For plans, not for bounds: three digits are aimed at. Where powers leave the floats, all three are infinite.
        """
        if self.reverse:
            return SampledNormals.cumulants(self, powers)
        mu, q, last = (part[None, :, None] for part in (self._middle, self.probability, self.last))
        count = int(np.clip((np.max(self.last) - FIRST) / ROUGH_STEP, 48, MOST_ROUGH))
        z = FIRST + (last - FIRST) * np.linspace(0.0, 1.0, count)
        x = mu * z - 0.5 * mu * mu
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            w, loss = q * np.expm1(x), log_mixture(x, q)
            log_weight = np.log((last - FIRST) / (count - 1)) - LOG_ROOT_TWO_PI - 0.5 * z * z
            value, slope, bend = rough_cumulants(w, loss, log_weight, powers[:, None, None])
            lost = ~np.isfinite(value + slope + bend)
        return known(value, slope, bend, lost)

    def prepare(self, *powers: float) -> None:
        """Lay out the panels of several real moments, one after the other."""
        Losses.prepare(self, *powers)

    def _nodes(self, exponent: float, frequency: float) -> Grid:
        parts = zip(self._middle, np.asarray(self.shift.width), self.probability, self.last, strict=True)
        return stacked([_row(float(m), float(d), float(q), float(z), exponent, frequency) for m, d, q, z in parts])

    def _on_axis(self, nodes: Grid) -> Array:
        return np.asarray(nodes.z / self._middle[:, None] + 0.5 * self._middle[:, None])


def _row(mu: float, width: float, q: float, last: float, exponent: float, frequency: float) -> Grid:
    """Return the nodes of one pair.

    An error of l moves the density by |z| / μ times as much, and one of μ by z² + 1 + |z| μ times as much, relatively.

    Raises:
        NumericalFailure: if r^s leaves the floats, or there are too many panels, or μ is not known well.
    """
    spread = width / mu / UNIT_ROUNDOFF
    if not spread <= LARGEST_SPREAD:
        raise NumericalFailure("contour: the shift of a normal is not known to 1e-10. Use accountant='pld'.")
    first = FIRST - max(1.0 - exponent, 0.0) * mu * min(1.0, q / (1.0 - q))
    panels = _panels(mu, q, (first, last), exponent, frequency)
    ends = log_mixture(np.array([panels.bottom[0], panels.top[-1]]), np.array(q))
    if not max(np.max(exponent * ends), np.max((exponent - 1.0) * ends)) <= LARGEST_EXPONENT:
        raise NumericalFailure("contour: powers of the likelihood ratio leave the floats. Use accountant='pld'.")
    l, weight = panels.nodes()  # noqa: E741
    z = l / mu + 0.5 * mu
    moved = panels.rounded(l)
    heavier = spread * (z * z + 1.0 + np.abs(z) * mu) + 8.0 + z * z + np.abs(z) * ((4.0 + moved) * np.abs(l) / mu + mu)
    doubt = node_doubt(l, log_mixture(l, np.array(q)), moved, heavier, exponent)
    error = panels.missed(_log_density(panels, mu), q, exponent, frequency)
    error += _left_out(mu, q, (first, last), exponent, abs(exponent) + frequency)
    return row(l, weight / mu * np.exp(-0.5 * z * z - LOG_ROOT_TWO_PI), doubt, error, q)


def _left_out(mu: float, q: float, ends: tuple[float, float], exponent: float, size: float) -> float:
    """Bound what is left out for |s| <= size, where |r − 1| <= q (e^l + 1)."""
    first, last = ends
    below = 2.0 * math.log((size + 1.0) * q) + min(exponent - 2.0, 0.0) * math.log1p(-q) - 0.5 * first * first
    beyond = -0.5 * last * last, math.log(size * q) - 0.5 * max(last - mu * (1 + 1e-9), 0.0) ** 2
    slack = 1e-9 * (1.0 + last * last + first * first)
    parts = below, math.log(2.0 + size * q) + beyond[0], beyond[1]
    return sum(math.exp(min(part + slack, 700.0)) for part in parts)


def _panels(mu: float, q: float, ends: tuple[float, float], exponent: float, frequency: float) -> Panels:
    """Return panels on whose ellipses the logarithm of the integrand changes by a few nats only."""
    bottom, top = (mu * end - 0.5 * mu * mu for end in ends)
    if not top <= LARGEST_EXPONENT:
        raise NumericalFailure("contour: the likelihood ratio leaves the floats. Use accountant='pld'.")
    l = np.linspace(bottom, top, PLACES)  # noqa: E741
    jump = q * np.exp(l)
    steepness = (abs(exponent) + frequency) * jump / (1.0 - q + jump) + (np.abs(l / mu + 0.5 * mu) + 1.0) / mu
    number = 0.5 * (1.0 / WIDEST + steepness / STEEPEST + 1.0 / mu)  # of panels a unit of l
    counted = np.append(0.0, np.cumsum(0.5 * (number[1:] + number[:-1]) * np.diff(l)))
    if not counted[-1] < MOST_PANELS:
        raise NumericalFailure("contour: moments need more nodes than the budget allows. Use accountant='pld'.")
    count = math.ceil(counted[-1])
    edges = np.interp(np.linspace(0.0, counted[-1], count + 1), counted, l)
    return Panels(half=0.5 * np.diff(edges), centres=0.5 * (edges[1:] + edges[:-1]))


def _log_density(panels: Panels, mu: float) -> Array:
    """Bound the log of the density of l, φ(z)/μ, on every ellipse."""
    low, high = panels.bottom / mu + 0.5 * mu, panels.top / mu + 0.5 * mu
    nearest = np.where(low * high <= 0, 0.0, np.minimum(np.abs(low), np.abs(high)))
    return np.asarray(0.5 * (panels.turn / mu) ** 2 - 0.5 * nearest**2 - LOG_ROOT_TWO_PI - math.log(mu) + 1e-6)
