"""The bounded Laplace mechanism: double-exponential noise given that the result lies in a public interval.

[HABM20] N. Holohan, S. Antonatos, S. Braghin, P. Mac Aonghusa. The Bounded Laplace Mechanism in Differential Privacy.
Journal of Privacy and Confidentiality 10 (2020). arXiv:1808.10410.
[Mir12], [CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds
from mechanisms.core.conditioned import (
    CELLS,
    DIGITS,
    LEAST_REACH,
    around,
    cells,
    check_declared,
    interval,
    kept_within,
    scaled,
    within,
)
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_reals import Enclosure, exp_minus, minus_log_of
from mechanisms.core.exact_uniforms import LazyUniform
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Mechanism, Pairs
from mechanisms.core.public_mixture import PublicMixture
from mechanisms.core.randomness import Source
from mechanisms.core.range_pair import RangeDivergence, RangePair
from mechanisms.laplace import LaplacePair

MOST_SHOWN = 300  # of the movement of named neighbours, in scales: they may move by less than there may be
STREAM = "bounded_laplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedLaplace(Mechanism):
    """Release z in [lower, upper], of density in proportion to e^{−|z − x|/b}, x the value, a single number   [HABM20].

    The scale is b = noise_multiplier · sensitivity, the sensitivity the most by which one record moves the number;
    under replace-one neighbours it moves by at most twice that. Values beyond the interval count as its nearer end.

    In units of b, let W be the width, x the distance from the lower end, s the largest movement, W at most, and
    N(x) = 2 − e^{−x} − e^{x − W} twice the mass within the interval of noise around x. For x and x + t the loss is

        L(z) = |z − x − t| − |z − x| + log N(x + t)/N(x),    of the range 2t, falling from its largest value at z <= x.

    log N is concave, so that the largest value t + log N(x + t)/N(x) falls with x; at x = 0 it rises with t, as
    1 + N'/N = 2 (1 − e^{t − W})/N(t) >= 0. Mirrored at the middle, the other order is this one. So every loss lies in
    an interval of length 2s within ±ε, and, ε being approached at z = lower by x = 0 and s,

        ε = s + log(1 + (1 − e^{−s}) (1 − e^{s − W}) / (1 − e^{−W})),    s <= ε <= 2s,

    is the least ε of ε-differential privacy: plain Laplace noise, clamped afterwards, has ε = s.

    Args:
        noise_multiplier: b ÷ sensitivity, > 0.
        lower: the lower end of the interval, finite; public.
        upper: the upper end, above it; public.
        sensitivity: > 0, in the same unit.

    Raises:
        InvalidParameter: if the interval is empty, or a field is not above 0, infinite, NaN or not a number.

    >>> noise = BoundedLaplace(noise_multiplier=2.0, lower=0.0, upper=10.0, sensitivity=1.0)
    >>> round(noise.largest_loss(Adjacency.ADD_REMOVE).upper, 6)
    0.830553
    """

    noise_multiplier: float
    lower: float
    upper: float
    sensitivity: float

    def __post_init__(self) -> None:
        lower, upper = interval("BoundedLaplace", self.lower, self.upper)
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        for name in ("noise_multiplier", "sensitivity"):
            object.__setattr__(self, name, validate.positive("BoundedLaplace", name, getattr(self, name)))

    @classmethod
    def for_budget(cls, *, epsilon: float, lower: float, upper: float, sensitivity: float) -> BoundedLaplace:
        """Return what is ε-private under add/remove, with the least noise: b lies between m/ε and 2m/ε, m the movement.

        The certified `largest_loss` is at most ε; bisection narrows the noise multiplier down to its last digits.

        Args:
            epsilon: ε > 0.
            lower: the lower end of the interval.
            upper: the upper end.
            sensitivity: > 0.

        Raises:
            InvalidParameter: if ε is not above 0, or the noise multiplier beyond the floats; else as the mechanism.

        >>> noise = BoundedLaplace.for_budget(epsilon=1.0, lower=0.0, upper=10.0, sensitivity=1.0)
        >>> 1 - 1e-12 < noise.largest_loss(Adjacency.ADD_REMOVE).upper <= 1
        True
        """
        epsilon = validate.positive("BoundedLaplace", "epsilon", epsilon)

        def made(multiplier: float) -> BoundedLaplace:
            return cls(noise_multiplier=multiplier, lower=lower, upper=upper, sensitivity=sensitivity)

        widest = made(1.0)
        width = Fraction(widest.upper) - Fraction(widest.lower)
        share = float(min(width / Fraction(widest.sensitivity), Fraction(1)))
        less, enough = 0.5 * share / epsilon, 2.0 * share / epsilon * (1.0 + 2.0**-40)
        if not (less > 1e-300 and enough < 1e300):
            raise InvalidParameter(f"BoundedLaplace: epsilon must leave noise that fits a double, got {epsilon}.")
        while enough > less * (1.0 + 2.0**-50):
            middle = 0.5 * (less + enough)
            private = made(middle).largest_loss(Adjacency.ADD_REMOVE).upper <= epsilon
            less, enough = (less, middle) if private else (middle, enough)
        return made(enough)

    def largest_loss(self, adjacency: Adjacency) -> Bounds:
        """Enclose the least ε of ε-differential privacy under this adjacency."""
        with mp.workdps(DIGITS):
            movement, width = self._scaled(adjacency)
            return around(movement + _added(movement, width), most=mp.inf)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of losses of the range 2s within ±ε in every direction, and what two pairs of values show.

        The witness are the values (W ± s)/2, whose normalising constants are equal, so that they show the Laplace
        mechanism's loss: with probability e^{−W/2} sinh(s/2)/(1 − e^{−W/2} cosh(s/2)) that pair without its atoms.
        The reversed one are 0 and s, of which cells are told apart that narrow down to z = lower, where the loss is ε.
        """
        with mp.workdps(DIGITS):
            movement, width = self._scaled(adjacency)
            pair = within(2 * movement, movement + _added(movement, width))
            found: dict[Direction, DominatingPair] = dict.fromkeys(adjacency.directions, pair)
            shown = min(movement, mp.mpf(MOST_SHOWN))
            if shown < LEAST_REACH:
                return found
            return found | {"witness": _in_the_middle(shown, width), "witness_reversed": _at_the_end(shown, width)}

    def renyi(self, adjacency: Adjacency) -> RangeDivergence:
        """Return the largest divergences of losses of the range 2s."""
        with mp.workdps(DIGITS):
            return RangeDivergence.of(around(2 * self._scaled(adjacency)[0], most=mp.inf).upper)

    def release(self, value: Any, *, sensitivity: float, randomness: Source, granularity: float | None = None) -> float:
        """Return a number in [lower, upper]: `value` plus noise given that it lies there, rounded to the granularity.

        Guarantees: the result is a fixed function, a rounding and a clamping, of an ideal real number that has the law
        above, so that the pair prices it as it is, floating-point attacks included [Mir12]. That number is the inverse
        distribution function at a uniform real of as many digits as it takes. Nothing is drawn and thrown away: how
        often noise falls outside an interval would depend on how far the value is from its ends, and a count of tries,
        in time or in words of the source used up, is not covered by the pair. How long arithmetic takes is no part of
        the guarantee. That one record moves the float `value` by at most the sensitivity is for the caller to see to
        [CSVW22].

        Args:
            value: a finite number, taken exactly and clamped to the interval.
            sensitivity: must be the declared one.
            randomness: a `SystemSource` for real releases.
            granularity: a power of two, public; by default min(b, width) / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is no single finite number, the sensitivity another one, or the granularity
                no power of two.

        >>> from mechanisms import KeyedSource
        >>> noise = BoundedLaplace(noise_multiplier=2.0, lower=0.0, upper=10.0, sensitivity=1.0)
        >>> 0 <= noise.release(10.0, sensitivity=1.0, randomness=KeyedSource(0)) <= 10
        True
        """
        check_declared("BoundedLaplace", self.sensitivity, sensitivity)
        scale = Fraction(self.noise_multiplier) * Fraction(self.sensitivity)

        def inverse(at: Fraction, low: Fraction, high: Fraction) -> Enclosure:
            return _quantile(LazyUniform(randomness, STREAM), (at - low) / scale, (high - at) / scale, scale)

        return kept_within(
            "BoundedLaplace",
            value,
            lower=self.lower,
            upper=self.upper,
            scale=scale,
            granularity=granularity,
            inverse=inverse,
        )

    def _scaled(self, adjacency: Adjacency) -> tuple[mp.mpf, mp.mpf]:
        """Return s and W."""
        return scaled(self.noise_multiplier, self.lower, self.upper, self.sensitivity, adjacency)


def _added(s: mp.mpf, w: mp.mpf) -> mp.mpf:
    """Return log N(s)/N(0): what the normalising constants add to the loss."""
    return mp.log1p(mp.expm1(-s) * mp.expm1(s - w) / -mp.expm1(-w))


def _in_the_middle(s: mp.mpf, w: mp.mpf) -> DominatingPair:
    """Return the pair of (W − s)/2 and (W + s)/2."""
    rare = mp.exp(-w / 2)
    ramp = rare * mp.sinh(s / 2) / (1 - rare * mp.cosh(s / 2))
    reach, share = around(s, most=mp.inf), min(ramp, mp.mpf(1))
    parts: tuple[tuple[DominatingPair, Bounds], ...] = ((RangePair(reach=reach, attained=True), around(share)),)
    if s < w:
        parts += ((LaplacePair(shift=reach, attained=True), around(1 - share)),)
    return PublicMixture(parts=parts, attained=True)


def _at_the_end(s: mp.mpf, w: mp.mpf) -> DiscretePair:
    """Return what 0 and s show of cells of [0, s] and of all beyond."""
    edges = [s * (mp.mpf(k) / CELLS) ** 2 for k in range(CELLS + 1)]
    beyond = mp.exp(-s) * -mp.expm1(s - w)
    p = [mp.exp(-a) * -mp.expm1(a - b) for a, b in itertools.pairwise(edges)]
    q = [mp.exp(b - s) * -mp.expm1(a - b) for a, b in itertools.pairwise(edges)]
    if s < w:
        p, q = [*p, beyond], [*q, -mp.expm1(s - w)]
    return cells([one / mp.fsum(p) for one in p], [one / mp.fsum(q) for one in q])


def _quantile(u: LazyUniform, below: Fraction, above: Fraction, scale: Fraction) -> Enclosure:
    """Return ever narrower enclosures of scale · g(w), w uniform between e^{−below} and 2 − e^{−above}.

    g(w) = log w up to w = 1 and −log(2 − w) beyond is the inverse of twice the distribution function of noise of scale
    1. It rises with w, which rises with U and e^{−below} and falls with e^{−above}.
    """

    def enclose(precision: int) -> tuple[Fraction, Fraction]:
        one = 1 << precision
        (least, most), (fewest, many) = exp_minus(below, precision), exp_minus(above, precision)
        low, high = u.to(precision - 64).ends()
        first = math.floor(least * (1 - low) + low * (2 * one - many))
        last = math.ceil(most * (1 - high) + high * (2 * one - fewest))
        return (
            scale * max(_inverse(first, precision, 0), -below),
            scale * min(_inverse(last, precision, 1), above),
        )

    return enclose


def _inverse(w: int, precision: int, end: int) -> Fraction:
    """Bound g(w/2^precision) from below (end 0) or from above (end 1)."""
    one = 1 << precision
    if w <= 0 or w >= 2 * one:
        return Fraction(-(one**2) if w <= 0 else one**2)  # unbounded: clamped by the caller
    if w <= one:
        return Fraction(-minus_log_of(w, precision, precision)[1 - end], one)
    return Fraction(minus_log_of(2 * one - w, precision, precision)[end], one)
