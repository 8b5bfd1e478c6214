"""The Laplace mechanism: add double-exponential noise to a query of bounded L1 sensitivity.

[DMNS06] C. Dwork, F. McSherry, K. Nissim, A. Smith. Calibrating Noise to Sensitivity in Private Data Analysis.
TCC 2006.
[Mir12], [CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, concatenated, exp, expm1
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.exact_noise import Exponential, noisy, numbers
from mechanisms.core.laplace_moments import cumulants, log_mixture_moment, log_moment
from mechanisms.core.mixtures import BoundedMixture
from mechanisms.core.opposed_records import opposed_laplace
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source, uniforms

BLOCK = 2**15  # bins whose masses are found at once, by some forty arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Laplace(Mechanism):
    """Add Lap(noise_multiplier · sensitivity) to every coordinate of a query     [DMNS06].

    The sensitivity is the largest L1 norm that one record contributes. Under add/remove and zero-out neighbours the
    query moves by at most that; under replace-one by at most twice that, as the old and the new contribution may point
    in opposite directions. A movement of one coordinate is the worst: with s₁ <= s₂ and ε >= 0, δ of movements s₁
    and s₂ of two coordinates is E (1 − e^{(ε − L₁ − s₂)/2})₊ <= (1 − e^{(ε − s₁ − s₂)/2})₊, as L₁ <= s₁.

    Args:
        noise_multiplier: scale of the noise ÷ sensitivity, >= 0; 0 adds nothing and protects nothing.

    Raises:
        InvalidParameter: if the noise multiplier is negative, infinite, NaN or not a number.

    >>> Laplace(noise_multiplier=2.0).pairs(Adjacency.ADD_REMOVE)["remove"].supremum.contains(0.5)
    True
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        checked = validate.non_negative("Laplace", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return Lap(0, 1) against Lap(s, 1), s = (movement ÷ sensitivity) ÷ noise multiplier, in every direction."""
        movement = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
        shift = movement / Bounds.exact(self.noise_multiplier)
        pair: DominatingPair = LaplacePair(shift=shift, attained=True)
        if math.isinf(shift.upper):
            one, no_noise = Bounds.exact(1.0), self.noise_multiplier == 0.0
            pair = DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=no_noise)
        return dict.fromkeys(adjacency.directions, pair)

    def opposed(self, probability: float) -> DominatingPair | None:
        """Return the pair of `mechanisms.core.opposed_records`."""
        return opposed_laplace(self.noise_multiplier, probability)

    def release(self, value: Any, *, sensitivity: float, randomness: Source, granularity: float | None = None) -> Any:
        """Return `value` plus noise, rounded to a multiple of the granularity: a float, or float64 of the same shape.

        Guarantees: the result is a fixed function, a rounding, of value + noise for an ideal real-valued noise, so that
        the pair prices it as it is, floating-point attacks included [Mir12] (see `mechanisms.core.exact_noise`). How
        long it takes is no part of the guarantee. That one record moves the floats in `value` by at most the
        sensitivity is for the caller to see to; sums of floats may be off by more than one thinks [CSVW22]. Clamping
        the result to a public range is post-processing and costs nothing.

        Args:
            value: finite number or array, taken exactly; the caller has bounded every record's contribution to it.
            sensitivity: > 0, in the L1 norm.
            randomness: a `SystemSource` for real releases.
            granularity: a power of two, public; by default noise_multiplier · sensitivity / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is not finite, the sensitivity not above 0, or the granularity no power of 2.

        >>> from mechanisms import KeyedSource
        >>> round(Laplace(noise_multiplier=1.0).release(10.0, sensitivity=1.0, randomness=KeyedSource(0)), 3)
        9.7
        """
        return noisy(
            "Laplace",
            value,
            noise_multiplier=self.noise_multiplier,
            sensitivity=sensitivity,
            granularity=granularity,
            law=Exponential(),
            randomness=randomness,
        )

    def release_continuous(self, value: Any, *, sensitivity: float, randomness: Source) -> Any:
        """Return `value` plus float64 noise, in less time: for simulations.

        Lacks what `release` guarantees: the noise is the inverse distribution function, in float64, of odd multiples of
        2^-53, so that floats come back which only one of two neighbours can give, and who sees them may tell the two
        apart [Mir12]. The accountants price the ideal mechanism, not this one.

        Args:
            value: finite number or array.
            sensitivity: > 0, in the L1 norm.
            randomness: a `SystemSource`, or a `KeyedSource` to have the same again.

        Raises:
            InvalidParameter: as `release`.

        >>> from mechanisms import KeyedSource
        >>> laplace = Laplace(noise_multiplier=1.0)
        >>> -30 < laplace.release_continuous(10.0, sensitivity=1.0, randomness=KeyedSource(0)) < 50
        True
        """
        scale = self.noise_multiplier * validate.positive("Laplace", "sensitivity", sensitivity)
        data = numbers("Laplace", value).astype(np.float64)
        start = randomness.reserve("laplace_continuous", 2 * data.size)
        u = uniforms(randomness.words("laplace_continuous", start, 2 * data.size)).reshape(data.shape)
        noisy_data = data + scale * np.where(u < 0.5, np.log(2.0 * u), -np.log(2.0 - 2.0 * u))
        return float(noisy_data) if noisy_data.ndim == 0 else noisy_data


@dataclass(frozen=True, slots=True, kw_only=True)
class LaplacePair(DominatingPair):
    """Lap(0, 1) against Lap(s, 1): the loss |x − s| − |x| lies in [−s, s].

    | loss | mass under P | mass under Q |
    |---|---|---|
    | s | 1/2 | e^{−s}/2 |
    | l in (−s, s) | e^{−(s − l)/2}/4 dl | e^{−(s + l)/2}/4 dl |
    | −s | e^{−s}/2 | 1/2 |

    Args:
        shift: enclosure of s > 0.
        attained: whether named neighbours have this pair.

    >>> LaplacePair(shift=Bounds.exact(1.0), attained=True).delta(Bounds.exact(0.5)).contains(0.22119921692859512)
    True
    """

    shift: Bounds
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """The shift s."""
        return self.shift

    @property
    def supremum_mass(self) -> Bounds:
        """One half."""
        return Bounds.exact(0.5)

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    @property
    def mixture(self) -> BoundedMixture:
        """The law of the loss under Q, as in the table."""
        rare = exp(-self.shift) / 2.0
        ends = Bounds(
            lower=np.array([-self.shift.upper, self.shift.lower]), upper=np.array([-self.shift.lower, self.shift.upper])
        )
        masses = Bounds(lower=np.array([0.5, rare.lower]), upper=np.array([0.5, rare.upper]))
        return BoundedMixture(losses=ends, masses=masses, reach=self.shift, probability=1.0, reverse=False)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) = (1 − e^{(ε − s)/2})₊: P's loss exceeds the threshold in one piece."""
        gap = ((self.shift - epsilon) / 2.0).clip(0.0, np.inf)
        return (-expm1(-gap)).clip(0.0, np.where(np.less(epsilon.lower, self.shift.upper), 1.0, 0.0))

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses for s at the middle of its enclosure, on bins (a, b]: e^{(b − s)/2} (1 − e^{(a − b)/2})/2 under P.

        Any other s = (1 + r) middle has these masses between edges stretched by 1 + r, but for r (1 + s) of themselves.
        """
        starts = range(0, max(len(scale), 1), BLOCK)
        masses = [self._masses(edges[k : k + BLOCK + 1], scale[k : k + BLOCK]) for k in starts]
        p, q = (concatenated([one[side] for one in masses]) for side in (0, 1))
        finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
        return LossBins(p=p, q=q, edge_error=(2.0 * UNIT_ROUNDOFF + 2.0 * self._spread) * finite)

    def _masses(self, edges: Array, scale: Array) -> tuple[Bounds, Bounds]:
        """Return those under P and Q."""
        s = self._middle
        low, high = np.clip(edges[:-1], -s, s), np.clip(edges[1:], -s, s)
        inside = low < high
        a, b, weight = (Bounds.exact(np.where(inside, x, 0.0)) for x in (low, high, scale))
        share = -expm1((a - b) / 2.0) / 2.0
        p, q = exp((b - s) / 2.0) * share, exp(weight - (a + s) / 2.0) * share
        held = np.array(inside, dtype=float)
        for loss in (-s, s):
            here = np.arange(len(scale)) == np.searchsorted(edges, loss, side="left") - 1
            p = p + np.where(here, 0.5, 0.0) * exp(Bounds.exact(min(loss, 0.0)))
            q = q + np.where(here, 0.5, 0.0) * exp(Bounds.exact(scale) - max(loss, 0.0))
            held[here] = 1.0
        bend = min(0.5, 4.0 * self._spread * (1.0 + s))
        return held * p.clip(0.0, np.inf).inflate(bend), held * q.clip(0.0, np.inf).inflate(bend)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return ±s: both ends are atoms."""
        return -float(self.shift.upper), float(self.shift.upper)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log of e^{−s}/2 r(s)^t + r(−s)^t/2 + ∫ e^{−(s + l)/2}/4 r(l)^t dl with r(l) = 1 − p + p e^l."""
        if power in (0.0, 1.0):
            return Bounds.exact(0.0)
        if probability == 1.0:
            return log_moment(self.shift, power)
        ends = [log_mixture_moment(float(s), probability, power) for s in {self.shift.lower, self.shift.upper}]
        # A larger s is a more telling pair, so that the moment rises with it, and falls for powers in (0, 1).
        return Bounds(lower=min(end.lower for end in ends), upper=max(end.upper for end in ends))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """In closed form."""
        return cumulants(self._middle, powers)

    def group(self, size: int) -> LaplacePair:
        """Return the Laplace pair of shift size · s: so far do that many records move a query, if they all agree."""
        return LaplacePair(shift=float(size) * self.shift, attained=self.attained)

    def reverse(self) -> LaplacePair:
        """Return the pair itself: mirrored at s/2, Lap(s, 1) against Lap(0, 1) is Lap(0, 1) against Lap(s, 1)."""
        return self

    @property
    def _middle(self) -> float:
        return float(self.shift.lower + 0.5 * (self.shift.upper - self.shift.lower))

    @property
    def _spread(self) -> float:
        """How far s may lie from `_middle`, relative to it."""
        return float(self.shift.width / self._middle)
