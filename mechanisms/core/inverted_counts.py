"""Random whole numbers of given laws, exactly: where a uniform number of as many digits as it takes meets their cdf.

With U uniform on (0, 1), the least k with U < P(0) + … + P(k) has the law P. Both sides are enclosed: U by its first
digits, the sum by integers that are rounded down and up, from those around P(0). Where they can't be told apart, both
get more digits, so that the answer is that of all digits of U.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial

from mechanisms.core.exact_reals import exp_minus, minus_log_of
from mechanisms.core.exact_uniforms import BITS, LazyUniform, Probability
from mechanisms.core.randomness import Source

GUARD = 64  # bits that sums lose to the rounding of their terms, at most
PIECE = 32  # the largest mean that is drawn at once

Ratio = Callable[[int], tuple[int, int]]


def truncated_negative_binomial(source: Source, stream: str, eta: Fraction, gamma: Fraction) -> int:
    """Return k >= 1 with P(k) ∝ (1 − γ)^k Π_{l<k} (l + η)/(l + 1), for η > −1; for η = 0 that of (1 − γ)^k / k.

    γ in (0, 1) is a float's value: a whole number over a power of two.
    """
    kept = 1 - gamma
    top, bottom = kept.numerator, kept.denominator * eta.denominator

    def ratio(k: int) -> tuple[int, int]:
        return top * ((k + 1) * eta.denominator + eta.numerator), bottom * (k + 2)

    return 1 + _inverted(source, stream, partial(first_mass, eta, gamma), ratio)


def poisson(source: Source, stream: str, mean: Fraction) -> int:
    """Return k >= 0 with P(k) = e^−mean mean^k / k!, as a sum of independent ones of smaller means."""
    pieces = max(1, math.ceil(mean / PIECE))
    small = mean / pieces

    def ratio(k: int) -> tuple[int, int]:
        return small.numerator, small.denominator * (k + 1)

    return sum(_inverted(source, stream, partial(exp_minus, small), ratio) for _ in range(pieces))


@lru_cache(maxsize=64)
def first_mass(eta: Fraction, gamma: Fraction, bits: int) -> tuple[int, int]:
    """Enclose 2^bits P(1), P(1) = (1 − γ) η/(γ^−η − 1), or (1 − γ)/log(1/γ) for η = 0, by integers at most 2 apart.

    >>> first_mass(Fraction(1), Fraction(3, 4), 8)  # 2^8 γ
    (191, 193)
    """
    work = bits + GUARD
    while True:
        ends = _first_mass(eta, gamma, work)
        if ends:
            low, high = math.floor(ends[0] * (1 << bits)), math.ceil(ends[1] * (1 << bits))
            if high - low <= 2:
                return low, high
        work *= 2


def _first_mass(eta: Fraction, gamma: Fraction, work: int) -> tuple[Fraction, Fraction] | None:
    """Enclose P(1), which rises with γ^|η|, by that and log(1/γ) to so many bits; None where these show nothing."""
    unit, size, kept = 1 << work, abs(eta), 1 - gamma
    low, high = (Fraction(end, unit) for end in minus_log_of(gamma.numerator, gamma.denominator.bit_length() - 1, work))
    if low == 0:
        return None
    if eta == 0:
        return kept / high, kept / low
    least, most = Fraction(exp_minus(size * high, work)[0], unit), Fraction(exp_minus(size * low, work)[1], unit)
    if most >= 1:
        return None
    shown = (least, most) if eta > 0 else (Fraction(1), Fraction(1))
    return kept * size * shown[0] / (1 - least), kept * size * shown[1] / (1 - most)


def _inverted(source: Source, stream: str, first: Probability, ratio: Ratio) -> int:
    """Return k with P(k), given P(0) to any number of bits and P(k + 1)/P(k)."""
    return LazyUniform(source, stream).to(BITS).answer(lambda known, bits: _met(known, bits, first, ratio))


def _met(known: int, bits: int, first: Probability, ratio: Ratio) -> int | None:
    """Return where the cdf exceeds every number that begins with these bits; None where it is not known."""
    precision = bits + GUARD
    low, high = first(precision)
    while (missing := bits + GUARD - low.bit_length()) > 1:  # what the rounding of P(0) does to P(k) is in P(k)/P(0)
        precision += missing if low else precision
        low, high = first(precision)
    low_end, high_end = known << (precision - bits), (known + 1) << (precision - bits)
    sums, k = [low, high], 0
    while low_end >= sums[1]:
        top, bottom = ratio(k)
        low, high, k = low * top // bottom, -(-high * top // bottom), k + 1
        if low == 0:
            return None  # so far out in the tail that more digits are needed
        sums = [sums[0] + low, sums[1] + high]
    return k if high_end <= sums[0] else None
