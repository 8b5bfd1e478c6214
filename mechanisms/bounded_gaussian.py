"""The bounded Gaussian mechanism: normal noise given that the result lies in a public interval.

[CH22] B. Chen, M. Hale. The Bounded Gaussian Mechanism for Differential Privacy. 2022. arXiv:2211.17230.
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
    LARGEST_LOSS,
    around,
    cells,
    check_declared,
    interval,
    kept_within,
    scaled,
    within,
)
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.exact_normal import psi, psi_inverse
from mechanisms.core.exact_reals import Enclosure
from mechanisms.core.exact_uniforms import LazyUniform
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import LinearDivergence
from mechanisms.gaussian import GaussianPair

MOST_SHOWN, FAR = 20, 8  # of the movement of named neighbours, and of what is told apart beside them, in deviations
LEAST_SHOWN = mp.mpf("1e-15")  # a movement from which cells differ by what floats can tell
STREAM = "bounded_gaussian"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedGaussian(Mechanism):
    """Release z in [lower, upper] with density in proportion to e^{−(z − x)²/2σ²}, x the value, a single number [CH22].

    The deviation is σ = noise_multiplier · sensitivity, the sensitivity the most by which one record moves the number;
    under replace-one neighbours it moves by at most twice that. Values beyond the interval count as its nearer end.
    In units of σ, let W be the width, x the distance from the lower end, and s the largest movement, W at most.

    *It costs no more than the Gaussian mechanism*: N(s, 1) against N(0, 1) dominates. The density ratio of two values
    is monotone in z, so that thresholds decide all, and what has to be shown is that P_x(z > k) rises no faster with x
    than normal noise's would: that its slope, which is p f(p) on the scale of the isoperimetric profile
    I(p) = φ(Φ^{-1}(p)), is at most I(p) at p = P_x(z > k). Let z = T(g) with g normal and T rising. Its slope T' is
    I(p)/f, with f = I(A + N p)/N the density at the quantile p of noise given that it lies between quantiles A and
    A + N. As I is concave and at least 0,

        I(A + N p) = I(N p + (1 − N) A/(1 − N)) >= N I(p),    so that    T' <= 1,

    and the slope, Cov(1{g > c}, T(g)), is at most Cov(1{g > c}, g) = φ(c) = I(p), as g − T(g) rises too.

    *Losses are bounded*: for x and x + t the loss is t (x + t/2 − z) + log N(x + t)/N(x), of the range t W, N(x) being
    the mass of noise around x in the interval. The laws are an exponential family, with Λ(x) = x²/2 + log N(x) and Λ'
    the mean of z, which rises with x. So the largest loss Λ(x + t) − Λ(x), at z = lower, rises with x and t, and

        ε = Λ(W) − Λ(W − s) = s (2W − s)/2 + log((Φ(0) − Φ(−W)) / (Φ(s) − Φ(s − W)))

    is the least ε of ε-differential privacy, the other order being this one mirrored. Where it is s at most, in
    intervals of a deviation or so, the pair of losses of that range within ±ε is given, else the normal one.

    The plain `Gaussian`, clamped afterwards, costs the same; its results pile up at both ends.

    Args:
        noise_multiplier: σ ÷ sensitivity, > 0.
        lower: the lower end of the interval, finite; public.
        upper: the upper end, above it; public.
        sensitivity: > 0, in the same unit.

    Raises:
        InvalidParameter: if the interval is empty, or a field is not above 0, infinite, NaN or not a number.

    >>> noise = BoundedGaussian(noise_multiplier=2.0, lower=0.0, upper=10.0, sensitivity=1.0)
    >>> noise.pairs(Adjacency.ADD_REMOVE)["remove"].shift.contains(0.5)
    True
    """

    noise_multiplier: float
    lower: float
    upper: float
    sensitivity: float

    def __post_init__(self) -> None:
        lower, upper = interval("BoundedGaussian", self.lower, self.upper)
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        for name in ("noise_multiplier", "sensitivity"):
            object.__setattr__(self, name, validate.positive("BoundedGaussian", name, getattr(self, name)))

    def largest_loss(self, adjacency: Adjacency) -> Bounds:
        """Enclose the least ε of ε-differential privacy under this adjacency: about s W in wide intervals."""
        with mp.workdps(self._digits(adjacency)):
            return around(_largest(*self._scaled(adjacency)), most=mp.inf)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the smaller one of both pairs in every direction, and what two pairs of values show.

        The witness are the values (W ± s)/2, of whose results cells are told apart. Where ε is s at most, the reversed
        one are W − s and W, of cells that narrow down to z = lower, where the loss is ε.
        """
        with mp.workdps(self._digits(adjacency)):
            movement, width = self._scaled(adjacency)
            found: dict[Direction, DominatingPair] = {}
            shown, largest = min(movement, mp.mpf(MOST_SHOWN)), _largest(movement, width)
            pure = largest <= movement
            if pure or movement > LARGEST_LOSS:
                pair = within(movement * width, min(largest, movement * width))
            else:
                pair = GaussianPair(shift=around(movement, most=mp.inf), attained=False)
            found = dict.fromkeys(adjacency.directions, pair)
            if shown * width < LEAST_SHOWN:
                return found
            found["witness"] = found["witness_reversed"] = _in_the_middle(shown, width)
            if pure:
                found["witness_reversed"] = _at_the_end(shown, width)
            return found

    def renyi(self, adjacency: Adjacency) -> LinearDivergence:
        """Return ρ = s² v/2, where v = min(1, W²/4) is at least Λ'' everywhere.

        (α − 1) D_α = Λ(αx + (1 − α)y) − α Λ(x) − (1 − α) Λ(y) is at most α (α − 1) (x − y)²/2 times the largest Λ'',
        the variance of z: at most 1, as log N is concave, and at most that of the two ends of the interval.
        """
        with mp.workdps(self._digits(adjacency)):
            movement, width = self._scaled(adjacency)
            rho = min(movement, movement * width / 2) ** 2 / 2
            return LinearDivergence(rho=around(rho, most=mp.inf).upper)

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
            granularity: a power of two, public; by default min(σ, width) / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is no single finite number, the sensitivity another one, or the granularity
                no power of two.

        >>> from mechanisms import KeyedSource
        >>> noise = BoundedGaussian(noise_multiplier=2.0, lower=0.0, upper=10.0, sensitivity=1.0)
        >>> 0 <= noise.release(10.0, sensitivity=1.0, randomness=KeyedSource(0)) <= 10
        True
        """
        check_declared("BoundedGaussian", self.sensitivity, sensitivity)
        scale = Fraction(self.noise_multiplier) * Fraction(self.sensitivity)

        def inverse(at: Fraction, low: Fraction, high: Fraction) -> Enclosure:
            return _quantile(LazyUniform(randomness, STREAM), (low - at) / scale, (high - at) / scale, scale)

        return kept_within(
            "BoundedGaussian",
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

    def _digits(self, adjacency: Adjacency) -> int:
        """Return how many digits leave `DIGITS` of differences that are as small as s²."""
        return DIGITS + 2 * max(0, -int(mp.log10(self._scaled(adjacency)[0])))


def _largest(s: mp.mpf, w: mp.mpf) -> mp.mpf:
    """Return ε = Λ(W) − Λ(W − s)."""
    root = mp.sqrt(2)
    ratio = mp.erf(w / root) / (mp.erf(s / root) + mp.erf((w - s) / root))
    return s * (w - s / 2) + mp.log(ratio)


def _in_the_middle(s: mp.mpf, w: mp.mpf) -> DiscretePair:
    """Return what (W − s)/2 and (W + s)/2 show of cells between them, a few deviations beside, and all beyond."""
    low, high = max(mp.mpf(0), (w - s) / 2 - FAR), min(w, (w + s) / 2 + FAR)
    inside = [low + (high - low) * mp.mpf(k) / CELLS for k in range(CELLS + 1)]
    edges = sorted({mp.mpf(0), *inside, w})
    return cells(_masses(edges, (w - s) / 2), _masses(edges, (w + s) / 2))


def _at_the_end(s: mp.mpf, w: mp.mpf) -> DiscretePair:
    """Return what W − s and W show of cells that are the narrower the nearer they are to 0."""
    edges = [w * (mp.mpf(k) / CELLS) ** 2 for k in range(CELLS + 1)]
    return cells(_masses(edges, w - s), _masses(edges, w))


def _masses(edges: list[mp.mpf], x: mp.mpf) -> list[mp.mpf]:
    """Return P_x(z in cell), each cell on the side of the smaller tail."""
    places = [(edge - x) / mp.sqrt(2) for edge in edges]
    found = []
    for a, b in itertools.pairwise(places):
        low, high = (a, b) if a + b < 0 else (-b, -a)
        found.append(mp.erfc(-high) - mp.erfc(-low) if high < 0 else mp.erf(high) - mp.erf(low))
    return [one / mp.fsum(found) for one in found]


def _quantile(u: LazyUniform, least: Fraction, most: Fraction, scale: Fraction) -> Enclosure:
    """Return ever narrower enclosures of scale · t with ψ(t) uniform between ψ(least) and ψ(most)."""

    def enclose(precision: int) -> tuple[Fraction, Fraction]:
        (a, b), (c, d) = psi(least, precision), psi(most, precision)
        low, high = u.to(precision - 64).ends()
        first, last = math.floor(a * (1 - low) + c * low), math.ceil(b * (1 - high) + d * high)
        below, above = psi_inverse(first, last, precision, least, most)
        return scale * below, scale * above

    return enclose
