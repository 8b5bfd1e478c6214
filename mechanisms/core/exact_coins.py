"""Exact draws, many at once: coins whose probability is no rational number, uniform integers, discrete Laplace noise.

A coin of probability π compares a uniform number, of which only as many bits are drawn as it takes, with the binary
digits of π: the first 64 decide but once in 2^64 coins. The digits are certain: they are those of both ends of an
enclosure of π, made of an exponential that `decimal` rounds correctly, at as many places as it takes.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source, bernoulli_exp

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
        exponent: γ >= 0.
        weight: m >= 1.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> int(exact_coins(KeyedSource(0), "coins", 10_000, exponent=0.0).sum())
    5013
    """
    digits = partial(logistic_digits, Fraction(exponent), weight)
    found, threshold = np.empty(n, dtype=np.bool_), np.uint64(digits(BITS))
    for start in range(0, n, AT_ONCE):
        drawn = _words(source, stream, min(AT_ONCE, n - start))
        part = drawn < threshold
        for tied in np.flatnonzero(drawn == threshold):
            part[tied] = _later_bits_are_less(source, stream, digits)
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


def discrete_laplace(source: Source, stream: str, rate: Fraction) -> int:
    """Return a whole number z with probability tanh(rate/2) e^{−rate |z|}, exactly.

    A geometric X >= 0, P(X >= x) = e^{−rx}, is 2^J W + Σ_{j<J} 2^j D_j, W geometric of the rate 2^J r and the digits
    D_j coins that fall 1 with probability e^{−r 2^j}/(1 + e^{−r 2^j}), all independent, as e^{−rx} is a product over
    them. With a fair sign, zero with one of its two signs being drawn again, it is the law above.

    Args:
        source: a `SystemSource` for real releases.
        stream: the name of the stream.
        rate: r > 0.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> source = KeyedSource(0)
    >>> [discrete_laplace(source, "noise", Fraction(1, 100)) for _ in range(4)]
    [62, 27, 106, -107]
    """
    digits, thresholds = _geometric_digits(rate)
    while True:
        words = [int(word) for word in _words(source, stream, len(digits) + 1)]
        coins = [
            word < threshold or (word == threshold and _later_bits_are_less(source, stream, later))
            for word, threshold, later in zip(words[1:], thresholds, digits, strict=True)
        ]
        size = sum(coin << j for j, coin in enumerate(coins[:-1]))
        again = coins[-1]
        while again:
            size += 1 << (len(coins) - 1)
            again = bernoulli_exp(source, stream, rate * (1 << (len(coins) - 1)))
        negative = words[0] >> (BITS - 1) == 1
        if size or not negative:
            return -size if negative else size


@lru_cache(maxsize=64)
def _geometric_digits(rate: Fraction) -> tuple[tuple[Callable[[int], int], ...], tuple[int, ...]]:
    """Return the digits of the coins D_0, …, D_{J−1} and of P(W >= 1), and the first 64; 1 <= 2^J r < 4 or J = 0."""
    top = (rate.denominator // rate.numerator).bit_length()
    coins = [partial(logistic_digits, rate * (1 << j), 1) for j in range(top)]
    digits = (*coins, partial(exponential_digits, rate * (1 << top)))
    return digits, tuple(one(BITS) for one in digits)


@lru_cache(maxsize=256)
def logistic_digits(exponent: Fraction, weight: int, bits: int) -> int:
    """Return ⌊2^bits π⌋ of π = m e^−γ / (1 + m e^−γ).

    >>> logistic_digits(Fraction(0), 1, 3), logistic_digits(Fraction(1), 1, 8)  # 1/2 and 1/(1 + e)
    (4, 68)
    """
    return _certain(lambda x: weight * x / (1 + weight * x), exponent, bits, bits + weight.bit_length())


@lru_cache(maxsize=256)
def exponential_digits(exponent: Fraction, bits: int) -> int:
    """Return ⌊2^bits e^−γ⌋, for γ > 0.

    >>> exponential_digits(Fraction(1), 8)
    94
    """
    return _certain(lambda x: x, exponent, bits, bits)


def _certain(probability: Callable[[Fraction], Fraction], exponent: Fraction, bits: int, about: int) -> int:
    """Return ⌊2^bits π(e^−γ)⌋ of a rational and increasing π.

    An enclosure of e^−γ is narrowed until both its ends have the same floor: it ends, as e^−γ is transcendental for
    rational γ > 0, so that no 2^bits π is whole.
    """
    places = 20 + about // 3
    while True:
        low, high = (probability(end) * (1 << bits) // 1 for end in _exponential(exponent, places))
        if low == high:
            return low
        places *= 2


def _exponential(exponent: Fraction, places: int) -> tuple[Fraction, Fraction]:
    """Enclose e^−exponent by numbers of so many decimal places."""
    if exponent == 0:
        return Fraction(1), Fraction(1)
    if exponent > 3 * places:
        return Fraction(0), Fraction(1, 10**places)  # e^−3 < 1/10
    ends = []
    for rounding in (decimal.ROUND_CEILING, decimal.ROUND_FLOOR):
        context = decimal.Context(
            prec=places, rounding=rounding, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[]
        )
        quotient = context.divide(decimal.Decimal(exponent.numerator), decimal.Decimal(exponent.denominator))
        value = context.exp(quotient.copy_negate())  # correctly rounded to nearest
        ends.append(context.next_minus(value) if rounding == decimal.ROUND_CEILING else context.next_plus(value))
    return Fraction(ends[0]), Fraction(ends[1])


def _later_bits_are_less(source: Source, stream: str, digits: Callable[[int], int]) -> bool:
    """Decide a coin whose first 64 bits are those of its probability."""
    level = 2
    while True:
        drawn = int(_words(source, stream, 1)[0])
        expected = digits(BITS * level) & ((1 << BITS) - 1)
        if drawn != expected:
            return drawn < expected
        level += 1


def _words(source: Source, stream: str, n: int) -> NDArray[np.uint64]:
    """Return the next `n` uniform words of 64 bits."""
    words = source.words(stream, source.reserve(stream, 2 * n), 2 * n).astype(np.uint64).reshape(-1, 2)
    joined: NDArray[np.uint64] = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return joined
