"""Certified masses of the discrete Gaussian N_Z(0, σ²), P(k) = e^{−k²/2σ²}/Z: of one integer, of runs, of tails.

Z = Σ e^{−k²/2σ²} is σ√(2π) (1 + 2 Σ_{n>=1} e^{−2π²σ²n²}), by Poisson summation.

Up to σ = 4096 integers are added one by one. Beyond, the law is a rounded normal, with Sheppard's correction: for
τ² ≈ σ² − 1/12, defined by 1/σ² = 1/τ² − 1/(12τ⁴), and with y = k/τ²,

    ∫_{k−1/2}^{k+1/2} e^{−x²/2τ²} dx = e^{−k²/2τ²} C E[cosh(yu)],    C = ∫_{−1/2}^{1/2} e^{−u²/2τ²} du,

u with the density e^{−u²/2τ²}/C. Such a u is nearer to 0 than a uniform one, so that E[cosh(yu)] <= e^{y²/24}; and
E[u²] >= e^{−1/8τ²}/12, so that log E[cosh(yu)] >= y²/24 − D(k), with D(k) = y²/(192τ²) + y⁴/1152. Therefore

    P(k) = (τ√(2π)/(CZ)) N(0, τ²)[k − 1/2, k + 1/2] e^{d},    0 <= d <= D(k),

where D at τ = 4096 is 3e-14 ten standard deviations out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, log, log1p, log_ndtr, sqrt, up, where
from mechanisms.core.normal_masses import interval_masses
from mechanisms.core.pair import UNIT_ROUNDOFF

MOST_ADDED = 4096.0  # σ, up to which integers are added one by one
REACH = 39.0  # standard deviations, beyond which masses are below 1e-330
WIDE = 2.0  # σ, from which Z is σ√(2π) to 1e-34
TWO_PI = Bounds(lower=6.283185307179586, upper=6.283185307179587)
FEW = np.arange(1.0, 81.0)  # beyond, e^{−(k² − k)/2σ²} <= e^{−800} where σ <= 2
FAR = 1000.0  # standard deviations, beyond which only upper ends of masses are given


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeNormal:
    """The law N_Z(0, σ²).

    Args:
        sigma: enclosure of σ, in (0, 2^45).

    >>> law = LatticeNormal(sigma=Bounds.exact(1.0))
    >>> bool(abs(np.exp(law.log_tail(np.array([1.0])).lower[0]) - 0.30052886) < 1e-8)
    True
    """

    sigma: Bounds

    def log_mass(self, k: Array) -> Bounds:
        """Enclose log P(k), k integers as floats, shape (n,)."""
        scaled = Bounds.exact(k) / self.sigma
        return -((scaled * scaled).clip(0.0, np.inf) / 2.0) - _log_total(self.sigma)

    def log_tail(self, k: Array) -> Bounds:
        """Enclose log P(K >= k), k integers as floats, may be infinite; shape (n,)."""
        outer = self._log_outer_tail(np.where(k >= 1, k, 1.0 - k))
        inner = log1p(-exp(outer).clip(0.0, 0.5))  # P(K >= k) = 1 − P(K <= k − 1) = 1 − P(K >= 1 − k)
        return where(np.asarray(k >= 1), outer, inner).clip(-np.inf, 0.0)

    def runs(self, cuts: Array, centre: float, scale: Array, near: float) -> Bounds:
        """Enclose e^scale times the masses of the runs of integers (cuts_i, cuts_{i+1}] under N_Z(centre, σ²).

        Args:
            cuts: integers as floats, ascending, may be infinite, shape (n + 1,).
            centre: an integer.
            scale: shape (n,).
            near: another integer around which masses are added with their digits, however small they are.
        """
        some = cuts[1:] > cuts[:-1]  # of very many bins there may be few that hold an integer
        if not np.any(some):
            return Bounds.exact(np.zeros_like(scale))
        held = np.append(cuts[:-1][some], cuts[1:][some][-1]) - centre
        if self.sigma.upper > MOST_ADDED:
            found = self._rounded(held, scale[some])
        else:
            found = self._added(held, scale[some], near - centre)
        lower, upper = np.zeros_like(scale), np.zeros_like(scale)
        lower[some], upper[some] = found.lower, found.upper
        return Bounds(lower=lower, upper=upper)

    def log_theta(self, x: Array) -> Bounds:
        """Enclose log(Σ e^{−(k − x)²/2σ²} / Σ e^{−k²/2σ²}) at 0 <= x <= 1/2, shape (n,)."""
        if self.sigma.lower >= WIDE:
            slack = exp(-0.5 * TWO_PI * TWO_PI * self.sigma * self.sigma).upper
            return Bounds(lower=np.full_like(x, -5.0 * slack), upper=np.zeros_like(x))
        return (_log_sum(self.sigma, x) - _log_sum(self.sigma, np.zeros(1))).clip(-np.inf, 0.0)

    def _log_outer_tail(self, k: Array) -> Bounds:
        """Enclose log P(K >= k) for k >= 1; beyond what is added one by one, by the geometric series."""
        if self.sigma.upper > MOST_ADDED:
            return self._log_rounded_tail(k)
        tails = _tails(self.sigma)
        held = k < len(tails.lower)
        found = log(tails[np.where(held, k, 0.0).astype(np.int64)])
        return where(held, found, self._log_far_tail(k))

    def _log_far_tail(self, k: Array) -> Bounds:
        """Enclose the same between the first mass and the geometric series with the ratio of the first two."""
        mass = self.log_mass(k)
        ratio = exp(-(2.0 * Bounds.exact(k) + 1.0) / (2.0 * self.sigma * self.sigma))
        return Bounds(lower=mass.lower, upper=(mass - log1p(-ratio.clip(0.0, 1.0))).upper)

    def _added(self, cuts: Array, scale: Array, near: float) -> Bounds:
        """Add the masses around 0 and `near` one by one; what lies elsewhere is less than twice the outer tail."""
        reach, size = _reach(self.sigma), len(scale)
        lower, upper, seen = np.zeros(size), np.zeros(size), np.zeros(size)
        for least, most in ((-reach, reach), (max(reach + 1.0, near - reach), near + reach)):
            first, last = np.maximum(cuts[:-1] + 1.0, least), np.minimum(cuts[1:], most)
            count = np.maximum(last - first + 1.0, 0.0).astype(np.int64)
            owner = np.repeat(np.arange(size), count)
            k = first[owner] + (np.arange(len(owner)) - (np.cumsum(count) - count)[owner])
            terms = exp(self.log_mass(k) + scale[owner])
            lower += np.bincount(owner, terms.lower, minlength=size)
            upper += np.bincount(owner, terms.upper, minlength=size)
            seen += count
        total = Bounds(lower=lower, upper=upper).inflate((2.0 * seen + 4.0) * UNIT_ROUNDOFF)
        outside = exp(Bounds.exact(scale) + math.log(2.0) + self._log_outer_tail(np.array([reach + 1.0]))).upper
        cut = cuts[1:] - cuts[:-1] > seen
        return Bounds(lower=np.maximum(total.lower, 0.0), upper=up(total.upper + np.where(cut, outside, 0.0)))

    def _rounded(self, cuts: Array, scale: Array) -> Bounds:
        """Take the masses of the rounded normal.

        An edge z is off by a few u |z|. On a bin of width w whose end nearer to 0 is a, the density is at most
        5 max(1/w, 1 + |a|) times the bin's mass; what lies beyond the larger of 2 |a| and 64 is no part to speak of.
        """
        tau = self._tau
        z = (cuts + 0.5) / tau.lower
        ends = np.abs(np.stack([z[:-1], z[1:]]))
        near = np.where(z[:-1] * z[1:] > 0, np.min(ends, axis=0), 0.0)
        far = np.minimum(np.max(ends, axis=0), np.maximum(2.0 * near, 64.0))
        steep = np.maximum(1.0 / np.diff(z), 1.0 + near)
        slip = 20.0 * UNIT_ROUNDOFF * far * steep + 2.0 * tau.width / tau.lower * (1.0 + far * far)
        known = near <= FAR
        masses = self._share * interval_masses(z, 0.0, scale, 0.0).inflate(np.where(known, np.minimum(slip, 0.5), 0.0))
        most = (masses * exp(self._bend(np.where(known, far, 0.0)))).upper
        least = exp(Bounds.exact(scale) - 0.49 * np.minimum(near, 1e100) ** 2).upper  # 0.01 near² pays for the rest
        return Bounds(
            lower=np.where(known, np.maximum(masses.lower, 0.0), 0.0),
            upper=np.where(known, most, np.maximum(least, 0.0)),
        )

    def _log_rounded_tail(self, k: Array) -> Bounds:
        """log Φ(−(k − 1/2)/τ) and what rounding adds; beyond twice that distance there is nothing to speak of."""
        z = (Bounds.exact(np.minimum(k, 1e100)) - 0.5) / self._tau
        bend = self._bend(np.maximum(2.0 * z.upper, 64.0))
        found = log(self._share) + log_ndtr(-z) + Bounds(lower=np.zeros_like(k), upper=bend.upper)
        away = np.asarray(z.upper > FAR)
        least = np.where(np.isinf(k), -np.inf, -0.49 * z.lower * z.lower)
        return Bounds(lower=np.where(away, -np.inf, found.lower), upper=np.where(away, least, found.upper))

    def _bend(self, z: Array) -> Bounds:
        """Enclose D up to zτ, and what there is of larger integers, as an increase of the logarithm of the mass."""
        y = Bounds.exact(z) / self._tau
        square, tau = (y * y).clip(0.0, np.inf), self._tau
        return square / (192.0 * tau * tau) + square * square / 1152.0 + 1e-300

    @property
    def _share(self) -> Bounds:
        """τ√(2π)/(CZ), where C = 1 − 1/24τ² + 1/640τ⁴ − … alternates."""
        tau = self._tau
        part = 1.0 / (tau * tau)
        series = 1.0 - part / 24.0 + part * part / 640.0
        inside = Bounds(lower=(series - part * part * part / 21504.0).lower, upper=series.upper)
        return tau * sqrt(TWO_PI) * exp(-_log_total(self.sigma)) / inside

    @property
    def _tau(self) -> Bounds:
        """τ, from 1/τ² = (2/σ²)/(1 + √(1 − 1/(3σ²)))."""
        square = self.sigma * self.sigma
        return sqrt(square * (1.0 + sqrt(1.0 - 1.0 / (3.0 * square))) / 2.0)


def _reach(sigma: Bounds) -> float:
    return math.ceil(REACH * float(sigma.upper)) + 1.0


def _log_sum(sigma: Bounds, x: Array) -> Bounds:
    """Enclose log Σ e^{−(k − x)²/2σ²} for σ <= 2 and 0 <= x <= 1/2, k = 0 taken out: the others are not larger."""
    share, at = 1.0 / (2.0 * sigma * sigma), Bounds.exact(x)
    ends = [np.zeros_like(x), np.zeros_like(x)]
    for sign in (1.0, -1.0):
        gaps = Bounds.exact(FEW * FEW) - 2.0 * sign * Bounds.exact(FEW) * Bounds.exact(x[:, None])
        terms = exp(-(gaps.clip(0.0, np.inf) * share))
        ends = [total + np.sum(end, axis=-1) for total, end in zip(ends, (terms.lower, terms.upper), strict=True)]
    others = Bounds(lower=ends[0], upper=ends[1]).inflate(400.0 * UNIT_ROUNDOFF) + Bounds(lower=0.0, upper=1e-300)
    return log1p(others) - at * at * share


@lru_cache(maxsize=16)
def _log_total(sigma: Bounds) -> Bounds:
    """Enclose log Z."""
    if sigma.lower < WIDE:
        return _log_sum(sigma, np.zeros(1))[0].clip(0.0, np.inf)
    return log(sigma * sqrt(TWO_PI) * Bounds(lower=1.0, upper=1.0 + 2.0**-52))


@lru_cache(maxsize=16)
def _tails(sigma: Bounds) -> Bounds:
    """Return P(K >= k) for k = 0, …, added from the far end in rows, so that no sum has many terms."""
    law, reach = LatticeNormal(sigma=sigma), _reach(sigma)
    size = math.isqrt(int(reach)) + 1
    masses = exp(law.log_mass(np.arange(float(size * size))))
    far = exp(law._log_far_tail(np.array([float(size * size)]))).upper
    ends = []
    for end, beyond in ((masses.lower, 0.0), (masses.upper, float(far[0]))):
        rows = np.cumsum(end[::-1].reshape(size, size), axis=1)
        before = np.concatenate([[beyond], beyond + np.cumsum(rows[:, -1])[:-1]])
        ends.append((rows + before[:, None]).reshape(-1)[::-1])
    return Bounds(lower=ends[0], upper=ends[1]).inflate(4.0 * (size + 2) * UNIT_ROUNDOFF)
