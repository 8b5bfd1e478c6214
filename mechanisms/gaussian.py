"""The Gaussian mechanism: add normal noise to a query of bounded Euclidean sensitivity.

[BW18] B. Balle, Y.-X. Wang. Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and
Optimal Denoising. ICML 2018. arXiv:1805.06530.
[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[Mir12], [CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, log_ndtr, log_sub_exp, sqrt
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.exact_noise import HalfNormal, noisy, numbers
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.normal_masses import interval_masses
from mechanisms.core.normal_moments import log_moments
from mechanisms.core.pair import NO_CLOSED_PAIR, UNIT_ROUNDOFF, DominatingPair, LossBins
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source, normals


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian(Mechanism):
    """Add N(0, (noise_multiplier · sensitivity)²) to every coordinate of a query.

    The sensitivity is the largest Euclidean norm that one record contributes. Under add/remove and zero-out
    neighbours the query moves by at most that; under replace-one by at most twice that, as the old and the new
    contribution may point in opposite directions.

    Args:
        noise_multiplier: standard deviation ÷ sensitivity, >= 0; 0 adds nothing and protects nothing.

    Raises:
        InvalidParameter: if the noise multiplier is negative, infinite, NaN or not a number.

    >>> Gaussian(noise_multiplier=2.0).pairs(Adjacency.ADD_REMOVE)["remove"].shift.contains(0.5)
    True
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        checked = validate.non_negative("Gaussian", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N(μ, 1) against N(0, 1), μ = (movement ÷ sensitivity) ÷ noise multiplier, in every direction."""
        movement = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
        shift = movement / Bounds.exact(self.noise_multiplier)
        one = Bounds.exact(1.0)
        pair: DominatingPair = GaussianPair(shift=shift, attained=True)
        if math.isinf(shift.upper):
            pair = DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=True)
        if shift.lower > 0 and math.isinf(shift.upper):
            pair = DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=False)
        return dict.fromkeys(adjacency.directions, pair)

    def release(self, value: Any, *, sensitivity: float, randomness: Source, granularity: float | None = None) -> Any:
        """Return `value` plus noise, rounded to a multiple of the granularity: a float, or float64 of the same shape.

        Guarantees: the result is a fixed function, a rounding, of value + noise for an ideal real-valued noise, so that
        the pair prices it as it is, floating-point attacks included [Mir12] (see `mechanisms.core.exact_noise`). How
        long it takes is no part of the guarantee. That one record moves the floats in `value` by at most the
        sensitivity is for the caller to see to; sums of floats may be off by more than one thinks [CSVW22]. Clamping
        the result to a public range is post-processing and costs nothing.

        Args:
            value: finite number or array, taken exactly; the caller has bounded every record's contribution to it.
            sensitivity: > 0, in the Euclidean norm.
            randomness: a `SystemSource` for real releases.
            granularity: a power of two, public; by default noise_multiplier · sensitivity / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is not finite, the sensitivity not above 0, or the granularity no power of 2.

        >>> from mechanisms import KeyedSource
        >>> round(Gaussian(noise_multiplier=1.0).release(10.0, sensitivity=1.0, randomness=KeyedSource(0)), 3)
        8.922
        """
        return noisy(
            "Gaussian",
            value,
            noise_multiplier=self.noise_multiplier,
            sensitivity=sensitivity,
            granularity=granularity,
            law=HalfNormal(),
            randomness=randomness,
        )

    def release_continuous(self, value: Any, *, sensitivity: float, randomness: Source) -> Any:
        """Return `value` plus float64 noise, in less time: for simulations.

        Lacks what `release` guarantees: the noise is Box–Muller in float64, so that floats come back which only one of
        two neighbours can give, and who sees them may tell the two apart [Mir12]. The accountants price the ideal
        mechanism, not this one.

        Args:
            value: finite number or array.
            sensitivity: > 0, in the Euclidean norm.
            randomness: a `SystemSource`, or a `KeyedSource` to have the same again.

        Raises:
            InvalidParameter: as `release`.

        >>> from mechanisms import KeyedSource
        >>> gaussian = Gaussian(noise_multiplier=1.0)
        >>> round(gaussian.release_continuous(10.0, sensitivity=1.0, randomness=KeyedSource(0)), 3)
        8.966
        """
        scale = self.noise_multiplier * validate.positive("Gaussian", "sensitivity", sensitivity)
        data = numbers("Gaussian", value).astype(np.float64)
        start = randomness.reserve("gaussian_continuous", 4 * (data.size + data.size % 2)) // 2
        noise = normals(randomness, "gaussian_continuous", start, data.size).reshape(data.shape)
        noisy_data = data + scale * noise
        return float(noisy_data) if noisy_data.ndim == 0 else noisy_data


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianPair(DominatingPair):
    """N(μ, 1) against N(0, 1): with z ~ either, the loss is L = μ z − μ²/2.

    Args:
        shift: enclosure of μ > 0.
        attained: whether named neighbours have this pair.

    >>> GaussianPair(shift=Bounds.exact(1.0), attained=True).delta(Bounds.exact(1.0)).contains(0.1269367375066439458)
    True
    """

    shift: Bounds
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """Infinite: the loss is unbounded."""
        return Bounds.exact(math.inf)

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    @property
    def mixture(self) -> NormalMixture:
        """The pair itself, q = 1."""
        return NormalMixture(shift=self.shift, probability=1.0, reverse=False)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)            [BW18, Thm 8]."""
        half, slope = self.shift / 2.0, epsilon / self.shift
        log_p = log_ndtr(half - slope)
        log_q = epsilon + log_ndtr(-half - slope)
        return exp(log_sub_exp(log_p, log_q)).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses of the normals between z_k = x_k/μ + μ/2, whose floats define the bins."""
        mu = self._middle
        z = edges / mu + mu / 2.0
        p = interval_masses(z, mu, np.zeros_like(scale), self._spread)
        q = interval_masses(z, 0.0, scale, 0.0)
        finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
        return LossBins(p=p, q=q, edge_error=(8.0 * UNIT_ROUNDOFF + 2.0 * self._spread) * (finite + mu * mu))

    def loss_range(self, tail: float) -> tuple[float, float]:
        """±(μ²/2 + μ z) with Φ(−z) = tail."""
        reach = self._middle * self._middle / 2 - self._middle * float(scipy.special.ndtri_exp(math.log(tail)))
        return -reach, reach

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log ∫ φ(z) (1 − p + p e^{μz − μ²/2})^power dz; for p = 1 it is power (power − 1) μ²/2."""
        return self.log_mixture_moments(probability, np.array([power], dtype=np.float64))[0]

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """Enclose them all in one pass over arrays."""
        if probability < 1.0:
            return log_moments(self.shift, probability, powers)
        power = Bounds.exact(powers)
        return power * (power - 1.0) * self.shift * self.shift / 2.0

    def reverse(self) -> GaussianPair:
        """Return the pair itself: mirrored at μ/2, N(0, 1) against N(μ, 1) is N(μ, 1) against N(0, 1)."""
        return self

    def power(self, times: int) -> GaussianPair:
        """Return the Gaussian pair of shift √times μ             [DRS22]."""
        return GaussianPair(shift=sqrt(Bounds.exact(float(times))) * self.shift, attained=self.attained)

    def group(self, size: int) -> GaussianPair:
        """Return the Gaussian pair of shift size · μ: so far do that many records move a query, if they all agree."""
        return GaussianPair(shift=float(size) * self.shift, attained=self.attained)

    def times(self, other: DominatingPair) -> GaussianPair:
        """Return the Gaussian pair of shift √(μ² + ν²)           [DRS22].

        Raises:
            UnsupportedProcess: if `other` is not Gaussian.
        """
        if not isinstance(other, GaussianPair):
            raise UnsupportedProcess(NO_CLOSED_PAIR.format(type(self).__name__, type(other).__name__))
        shift = sqrt(self.shift * self.shift + other.shift * other.shift)
        return GaussianPair(shift=shift, attained=self.attained and other.attained)

    @property
    def _middle(self) -> float:
        return float(0.5 * (self.shift.lower + self.shift.upper))

    @property
    def _spread(self) -> float:
        """How far μ may lie from `_middle`, relative to it."""
        return float(self.shift.width / self._middle)
