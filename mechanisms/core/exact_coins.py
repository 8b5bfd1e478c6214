"""Many exact draws at once: coins whose probability is no rational number, and uniform integers.

A coin of probability π compares a uniform number, of which only as many bits are drawn as it takes, with the binary
digits of π: the first 64 decide but once in 2^64 coins. The digits are certain: they are those of both ends of an
enclosure of π, made of an exponential that `decimal` rounds correctly, at as many places as it takes.
"""

from __future__ import annotations

import decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source

BITS = 64
AT_ONCE = 2**20  # draws at a time
MOST_BELOW = 2**63  # what an int64 holds


def exact_coins(
    source: Source, stream: str, n: int, *, exponent: Fraction | float, weight: int = 1
) -> NDArray[np.bool_]:
    """Return `n` independent coins that fall True with probability exactly m e^−γ / (1 + m e^−γ), shape (n,).

    Guarantees: exact, given uniform words. How many are drawn depends on the coins alone, never on what they are for.

    Args:
        source: a `SystemSource` for real releases.
        stream: the name of the stream.
        n: how many.
        exponent: γ >= 0, a float or a fraction whose denominator is a power of two.
        weight: m >= 1.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> int(exact_coins(KeyedSource(0), "coins", 10_000, exponent=0.0).sum())
    5013
    """
    gamma = Fraction(exponent)
    found = np.empty(n, dtype=np.bool_)
    threshold = np.uint64(binary_digits(gamma, weight, BITS))
    for start in range(0, n, AT_ONCE):
        drawn = _words(source, stream, min(AT_ONCE, n - start))
        part = drawn < threshold
        for tied in np.flatnonzero(drawn == threshold):
            part[tied] = _later_bits_are_less(source, stream, gamma, weight)
        found[start : start + len(part)] = part
    return found


def uniform_integers(source: Source, stream: str, n: int, *, below: int) -> NDArray[np.int64]:
    """Return `n` independent uniform integers in [0, below), exactly, by rejection, shape (n,).

    Raises:
        InvalidParameter: if below is not in [1, 2^63].
    """
    below = validate.count("uniform_integers", "below", below, least=1)
    if below > MOST_BELOW:
        raise InvalidParameter("uniform_integers: below must be at most 2^63, so that int64 holds the integers.")
    values, pending = np.zeros(n, dtype=np.int64), np.arange(n if below > 1 else 0)
    unused = np.uint64(BITS - (below - 1).bit_length())
    while len(pending):
        drawn = _words(source, stream, len(pending)) >> unused
        kept = drawn < np.uint64(below)
        values[pending[kept]] = drawn[kept]
        pending = pending[~kept]
    return values


@lru_cache(maxsize=256)
def binary_digits(exponent: Fraction, weight: int, bits: int) -> int:
    """Return ⌊2^bits π⌋ of π = m e^−γ / (1 + m e^−γ).

    An enclosure of e^−γ is narrowed until both its ends have the same floor: it ends, as e^−γ is transcendental for
    rational γ > 0, so that no 2^bits π is whole.

    >>> binary_digits(Fraction(0), 1, 3), binary_digits(Fraction(1), 1, 8)  # 1/2 and 1/(1 + e)
    (4, 68)
    """
    places = 20 + (bits + weight.bit_length()) // 3
    while True:
        low, high = (weight * x * (1 << bits) // (1 + weight * x) for x in _exponential(exponent, places))
        if low == high:
            return low
        places *= 2


def _exponential(exponent: Fraction, places: int) -> tuple[Fraction, Fraction]:
    """Enclose e^−exponent by numbers of so many decimal places."""
    if exponent == 0:
        return Fraction(1), Fraction(1)
    if exponent > 3 * places:
        return Fraction(0), Fraction(1, 10**places)  # e^−3 < 1/10
    twos = exponent.denominator.bit_length() - 1
    negated = decimal.Decimal(f"-{exponent.numerator * 5**twos}E-{twos}")  # exact, for a denominator of 2^twos
    context = decimal.Context(prec=places, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[])
    value = context.exp(negated)
    return Fraction(context.next_minus(value)), Fraction(context.next_plus(value))


def _later_bits_are_less(source: Source, stream: str, exponent: Fraction, weight: int) -> bool:
    """Decide a coin whose first 64 bits are those of its probability."""
    level = 2
    while True:
        drawn = int(_words(source, stream, 1)[0])
        digits = binary_digits(exponent, weight, BITS * level) & ((1 << BITS) - 1)
        if drawn != digits:
            return drawn < digits
        level += 1


def _words(source: Source, stream: str, n: int) -> NDArray[np.uint64]:
    """Return the next `n` uniform words of 64 bits."""
    words = source.words(stream, source.reserve(stream, 2 * n), 2 * n).astype(np.uint64).reshape(-1, 2)
    joined: NDArray[np.uint64] = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return joined
