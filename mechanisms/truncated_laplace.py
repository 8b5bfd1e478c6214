"""The truncated Laplace mechanism: double-exponential noise that never leaves an interval.

[GDGK20] Q. Geng, W. Ding, R. Guo, S. Kumar. Tight Analysis of Privacy and Utility Tradeoff in Approximate Differential
Privacy. AISTATS 2020. arXiv:1810.00877.
[Mir12], [CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, down, exp, expm1, log, log1p, up
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_noise import grid, number, rounded
from mechanisms.core.exact_reals import Enclosure, floor_of, minus_log
from mechanisms.core.exact_uniforms import LazyUniform, uniform_integer
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.public_mixture import PublicMixture
from mechanisms.core.randomness import Source
from mechanisms.core.range_pair import RangePair
from mechanisms.laplace import LaplacePair

LEAST_SHIFT = 1e-300  # losses below which what is left of two noises that hardly overlap is not looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedLaplace(Mechanism):
    """Add sensitivity · X to a single number, |X| <= A, of density c/λ e^{−|x|/λ}, c = 1/(2 (1 − e^{−A/λ}))   [GDGK20].

    The sensitivity is the most by which one record moves the number; under replace-one neighbours it moves by at most
    twice that. For a symmetric density f that falls with |x|, log f(x)/f(x − s) is above 0 only where x < s/2, and
    there it grows with s: so the largest movement is the worst one for every ε.

    | symbol | here |
    |---|---|
    | λ | `noise_multiplier` |
    | A | `bound` |

    Args:
        noise_multiplier: scale of the noise before it is cut ÷ sensitivity, > 0.
        bound: the largest noise there is ÷ sensitivity, > 0.

    Raises:
        InvalidParameter: if one of them is not above 0, infinite, NaN or not a number.

    >>> noise = TruncatedLaplace.for_budget(epsilon=1.0, delta=1e-6)
    >>> noise.pairs(Adjacency.ADD_REMOVE)["remove"].delta(Bounds.exact(1.0)).upper <= 1e-6
    True
    """

    noise_multiplier: float
    bound: float

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "bound"):
            object.__setattr__(self, name, validate.positive("TruncatedLaplace", name, getattr(self, name)))

    @classmethod
    def for_budget(cls, *, epsilon: float, delta: float) -> TruncatedLaplace:
        """Return what is (ε, δ)-private under add/remove: λ = 1/ε, A = λ log(1 + (e^{1/λ} − 1)/(2δ))       [GDGK20].

        Both are rounded up, by units in the last place, until the certified δ(ε) is at most δ.

        Args:
            epsilon: ε > 0.
            delta: δ in (0, 1/2).

        Raises:
            InvalidParameter: if ε is not above 0, δ outside (0, 1/2), or the noise beyond the floats.
        """
        asked = Bounds.exact(validate.positive("TruncatedLaplace", "epsilon", epsilon))
        delta = validate.probability("TruncatedLaplace", "delta", delta)
        if not 0 < delta < 0.5:
            raise InvalidParameter(f"TruncatedLaplace: delta must lie in (0, 1/2), got {delta}.")
        scale = float((1.0 / asked).upper)
        while (1.0 / Bounds.exact(scale)).upper > asked.upper:
            scale = float(up(scale))
        rate, twice = 1.0 / Bounds.exact(scale), 2.0 * Bounds.exact(delta)
        reach = log1p(expm1(rate) / twice) if rate.upper < 1 else rate + log1p((twice - 1.0) * exp(-rate)) - log(twice)
        bound = float((scale * reach).upper)
        for wider in range(64):
            found = bound * (1.0 + 2.0 ** (wider - 52))
            if math.isfinite(found) and cls(noise_multiplier=scale, bound=found)._delta(asked).upper <= delta:
                return cls(noise_multiplier=scale, bound=found)
        raise InvalidParameter(
            f"TruncatedLaplace: epsilon and delta must leave noise that fits a double, got {epsilon} and {delta}."
        )

    def _delta(self, epsilon: Bounds) -> Bounds:
        return self.pairs(Adjacency.ADD_REMOVE)["remove"].delta(epsilon)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return X against X + s for the largest movement s: it shows which of the two it is, or a loss up to s/λ.

        Infinite losses have the mass d = c e^{−A/λ} (e^{s/λ} − 1) for s <= A, 1 − c (e^{(A − s)/λ} − e^{−A/λ}) for s
        in (A, 2A). What is left is, for s <= A, the Laplace mechanism's pair with weight 2 c (1 − e^{(s − A)/λ}) and,
        with weight d, that pair without its atoms; for s in (A, 2A) only the latter, of losses up to (2A − s)/λ.
        """
        moved = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
        return dict.fromkeys(adjacency.directions, self._pair(moved))

    def _pair(self, moved: float) -> DominatingPair:
        one, density = Bounds.exact(1.0), 0.5 / -expm1(-self._scaled(Fraction(self.bound)))
        shift, room = self._scaled(Fraction(moved)), self._scaled(Fraction(self.bound) - Fraction(moved))
        left = self._scaled(2 * Fraction(self.bound) - Fraction(moved))
        if not (shift.upper < math.inf and room.upper < math.inf and left.lower > LEAST_SHIFT):
            seen = moved >= 2.0 * self.bound
            return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=seen)
        if moved > self.bound:
            weight = (density * exp(room) * -expm1(-left)).clip(0.0, 1.0)
            ramp = RangePair(reach=left, attained=True)
            return PublicMixture(parts=((ramp, weight),), lost=(1.0 - weight).clip(0.0, 1.0), attained=True)
        lost = (density * exp(-room) * -expm1(-shift)).clip(0.0, 1.0)
        whole = (2.0 * density * -expm1(-room)).clip(0.0, 1.0)
        parts = ((LaplacePair(shift=shift, attained=True), whole), (RangePair(reach=shift, attained=True), lost))
        return PublicMixture(parts=parts, lost=lost, attained=True)

    def _scaled(self, length: Fraction) -> Bounds:
        """Enclose length/λ."""
        exact = length / Fraction(self.noise_multiplier)
        if abs(exact) >= Fraction(2) ** 1023:
            return Bounds(lower=8.9e307, upper=math.inf) if exact > 0 else Bounds(lower=-math.inf, upper=-8.9e307)
        near = float(exact)
        return Bounds(lower=float(down(near)), upper=float(up(near))) if exact else Bounds.exact(0.0)

    def release(self, value: Any, *, sensitivity: float, randomness: Source, granularity: float | None = None) -> float:
        """Return `value` plus noise, rounded to a multiple of the granularity: at most half of one beyond ±A.

        Guarantees: the result is a fixed function, a rounding, of value + noise for an ideal real-valued noise, so that
        the pair prices it as it is, floating-point attacks included [Mir12]: exponentials are drawn until one is at
        most A/λ; where that is below 1, uniform numbers until an exponential exceeds one. How long it takes is no part
        of the guarantee. That one record moves the float `value` by at most the sensitivity is for the caller to see to
        [CSVW22].

        Args:
            value: a finite number, taken exactly; the caller has bounded every record's contribution to it.
            sensitivity: > 0.
            randomness: a `SystemSource` for real releases.
            granularity: a power of two, public; by default min(λ, A) · sensitivity / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is no single finite number, the sensitivity not above 0, or the granularity
                no power of two.

        >>> from mechanisms import KeyedSource
        >>> noise = TruncatedLaplace(noise_multiplier=1.0, bound=3.0)
        >>> 7 <= noise.release(10.0, sensitivity=1.0, randomness=KeyedSource(0)) <= 13
        True
        """
        unit = Fraction(validate.positive("TruncatedLaplace", "sensitivity", sensitivity))
        fine = grid("TruncatedLaplace", unit * Fraction(min(self.noise_multiplier, self.bound)), granularity)
        exact, size = number("TruncatedLaplace", value), self._size(randomness)
        scale = unit * Fraction(self.noise_multiplier) * (1 - 2 * uniform_integer(randomness, "truncated_laplace", 2))

        def noise(precision: int) -> tuple[Fraction, Fraction]:
            low, high = sorted(scale * end for end in size(precision))
            return low, high

        return rounded(exact, fine, noise)

    def _size(self, randomness: Source) -> Enclosure:
        """Return ever narrower enclosures of |X|/λ: an exponential given that it is at most A/λ."""
        most = Fraction(self.bound) / Fraction(self.noise_multiplier)
        while True:
            exponential = _exponential(LazyUniform(randomness, "truncated_laplace"))
            uniform = _multiple(LazyUniform(randomness, "truncated_laplace"), most)
            if most > 1 and _exceeds(lambda precision: (most, most), exponential):
                return exponential
            if most <= 1 and _exceeds(exponential, uniform):
                return uniform


def _exponential(u: LazyUniform) -> Enclosure:
    def enclose(precision: int) -> tuple[Fraction, Fraction]:
        low, high = minus_log(u, precision)
        return Fraction(low, 1 << precision), Fraction(high, 1 << precision)

    return enclose


def _multiple(u: LazyUniform, times: Fraction) -> Enclosure:
    def enclose(precision: int) -> tuple[Fraction, Fraction]:
        low, high = u.to(precision).ends()
        return times * low, times * high

    return enclose


def _exceeds(one: Enclosure, other: Enclosure) -> bool:
    """Tell whether the first number is the larger one."""

    def difference(precision: int) -> tuple[Fraction, Fraction]:
        (low, high), (least, most) = one(precision), other(precision)
        return low - most, high - least

    return floor_of(difference) >= 0
