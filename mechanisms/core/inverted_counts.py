"""Random whole numbers of given laws, exactly: where a uniform number of as many digits as it takes meets their cdf.

With U uniform on (0, 1), the least k with U < P(0) + … + P(k) has the law P. Both sides are enclosed: U by its first
bits, the sum by integers that are rounded down and up, from a P(0) enclosed by the correctly rounded `exp` and `ln` of
`decimal`. Where they can't be told apart, both get more digits, so that the answer is that of all digits of U.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from mechanisms.core.randomness import Source, uniform_integer

BITS, MORE, GUARD = 128, 64, 64
PIECE = 32  # the largest mean that is drawn at once

Enclosure = tuple[Fraction, Fraction]
Ratio = Callable[[int], tuple[int, int]]


def truncated_negative_binomial(source: Source, stream: str, eta: Fraction, gamma: Fraction) -> int:
    """Return k >= 1 with P(k) ∝ (1 − γ)^k Π_{l<k} (l + η)/(l + 1), for η > −1; for η = 0 that of (1 − γ)^k / k."""
    kept = 1 - gamma
    top, bottom = kept.numerator, kept.denominator * eta.denominator

    def first(digits: int) -> Enclosure:
        return first_mass(eta, gamma, digits)

    def ratio(k: int) -> tuple[int, int]:
        return top * ((k + 1) * eta.denominator + eta.numerator), bottom * (k + 2)

    return 1 + _inverted(source, stream, first, ratio)


def poisson(source: Source, stream: str, mean: Fraction) -> int:
    """Return k >= 0 with P(k) = e^−mean mean^k / k!, as a sum of independent ones of smaller means."""
    pieces = max(1, math.ceil(mean / PIECE))
    small = mean / pieces

    def first(digits: int) -> Enclosure:
        return exponential(-small, digits)

    def ratio(k: int) -> tuple[int, int]:
        return small.numerator, small.denominator * (k + 1)

    return sum(_inverted(source, stream, first, ratio) for _ in range(pieces))


@lru_cache(maxsize=64)
def first_mass(eta: Fraction, gamma: Fraction, digits: int) -> Enclosure:
    """Enclose P(1) = (1 − γ) η/(γ^−η − 1), or (1 − γ)/log(1/γ) for η = 0, to about so many digits.

    >>> low, high = first_mass(Fraction(1), Fraction(1, 4), 30)  # γ
    >>> bool(low <= Fraction(1, 4) <= high) and high - low < Fraction(1, 10**28)
    True
    """
    low, high = logarithm(1 / gamma, digits)
    if eta == 0:
        return (1 - gamma) / high, (1 - gamma) / low
    size = abs(eta)
    digits += _zeros(size * low)  # as many are lost in 1 − e^−x
    low, high = logarithm(1 / gamma, digits)
    least, most = exponential(-size * high, digits)[0], exponential(-size * low, digits)[1]
    shown = (least, most) if eta > 0 else (Fraction(1), Fraction(1))
    return (1 - gamma) * size * shown[0] / (1 - least), (1 - gamma) * size * shown[1] / (1 - most)


@lru_cache(maxsize=64)
def exponential(x: Fraction, digits: int) -> Enclosure:
    """Enclose e^x to about so many digits.

    >>> low, high = exponential(Fraction(1), 20)
    >>> low < Fraction(27182818284590452353602874713526625, 10**34) < high
    True
    """
    with decimal.localcontext(_context(digits + max(0, math.ceil(abs(x)).bit_length()))) as context:
        rounded = (decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)).exp()
        slack = Fraction(1, 10 ** (context.prec - 2)) * (1 + math.ceil(abs(x)))  # of x and of its e^x
    return Fraction(rounded) * (1 - slack), Fraction(rounded) * (1 + slack)


def logarithm(x: Fraction, digits: int) -> Enclosure:
    """Enclose log x, for x > 1, to about so many digits.

    >>> low, high = logarithm(Fraction(2), 20)
    >>> low < Fraction(6931471805599453094172321214581766, 10**34) < high
    True
    """
    with decimal.localcontext(_context(digits + _zeros(x - 1))) as context:
        rounded = (decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)).ln()
        slack = Fraction(1, 10 ** (context.prec - 2)) * (1 + math.ceil(rounded))  # of x and of its logarithm
    return Fraction(rounded) - slack, Fraction(rounded) + slack


def _zeros(x: Fraction) -> int:
    """Return at least as many as x > 0 has zeros behind the point."""
    return max(0, math.ceil((x.denominator.bit_length() - x.numerator.bit_length() + 1) * math.log10(2.0)))


def _context(digits: int) -> decimal.Context:
    return decimal.Context(
        prec=digits + 10, rounding=decimal.ROUND_HALF_EVEN, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN
    )


def _inverted(source: Source, stream: str, first: Callable[[int], Enclosure], ratio: Ratio) -> int:
    """Return k with P(k), given P(0) to any number of digits and P(k + 1)/P(k)."""
    bits, value = BITS, uniform_integer(source, stream, 2**BITS)
    while True:
        found = _met(value, bits, first, ratio)
        if found is not None:
            return found
        bits, value = bits + MORE, value << MORE | uniform_integer(source, stream, 2**MORE)


def _met(value: int, bits: int, first: Callable[[int], Enclosure], ratio: Ratio) -> int | None:
    """Return where the cdf exceeds every number that begins with these bits; None where it is not known."""
    least, most = first(20)
    guard = GUARD + max(0, math.ceil(1 / least).bit_length())
    least, most = first(math.ceil((bits + guard) * math.log10(2.0)))
    scale, low_end, high_end = 2 ** (bits + guard), value << guard, (value + 1) << guard
    low, high = math.floor(least * scale), math.ceil(most * scale)
    sums, k = [low, high], 0
    while low_end >= sums[1]:
        top, bottom = ratio(k)
        low, high, k = low * top // bottom, -(-high * top // bottom), k + 1
        if low == 0:
            return None  # so far out in the tail that more digits are needed
        sums = [sums[0] + low, sums[1] + high]
    return k if high_end <= sums[0] else None
