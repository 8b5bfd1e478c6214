"""Real numbers enclosed by integers, as narrowly as it takes: e^−x, logistic probabilities, logarithms and sines.

A real x is enclosed at precision p by integers low and high: low <= 2^p x <= high. Sums are taken of terms rounded down
to whole numbers, and each function says by how many units that can be off, so that nothing rests on floats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_uniforms import LazyUniform

FIRST_PRECISION, DIGITS_MORE = 112, 64
GUARD = 32  # bits in which the errors of the exponential are lost
"""The precision of the first attempt, for which the 64 digits of a word do, and by how much each next one has more."""

Enclosure = Callable[[int], tuple[Fraction, Fraction]]
"""From a precision to numbers below and above a real: the nearer to it, the higher the precision."""


def floor_of(enclose: Enclosure) -> int:
    """Return ⌊x⌋ of the real x that `enclose(precision)` encloses ever more narrowly.

    It ends with probability 1 for an x with a density; a wide enclosure costs time, never exactness.
    """
    for precision in itertools.count(FIRST_PRECISION, DIGITS_MORE):
        low, high = enclose(precision)
        if math.floor(low) == math.floor(high):
            break
    return math.floor(low)


def exp_minus(x: Fraction, bits: int) -> tuple[int, int]:
    """Enclose 2^bits e^−x, for x >= 0, by integers at most 2 apart.

    With y = x/2^s < 2^-8 in units of 2^-w: y is off by one unit, each term of the series by three, what follows the
    last by four, and squaring doubles the error and rounds: (4 n + 10) 2^s units after s squarings, n terms.

    >>> low, high = exp_minus(Fraction(1), 60)
    >>> low <= 424136118829305329 <= high <= low + 2
    True
    """
    if x <= 0:
        if x < 0:
            raise InvalidParameter("exp_minus: x must be at least 0.")
        return 1 << bits, 1 << bits
    if x > bits:
        return 0, 1  # 2^bits e^−bits < 1
    halvings = int(x).bit_length() + 8
    work = bits + halvings + GUARD
    y = (x.numerator << (work - halvings)) // x.denominator
    total, term, n = 0, 1 << work, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = (term * y >> work) // n
    for _ in range(halvings):
        total = total * total >> work
    error, cut = (4 * n + 10) << halvings, work - bits
    return max(total - error, 0) >> cut, ((total + error) >> cut) + 1


def logistic(exponent: Fraction, weight: Fraction, bits: int) -> tuple[int, int]:
    """Enclose 2^bits p, p = m e^−γ/(1 + m e^−γ), for γ >= 0 and m > 0, by integers at most 2 apart.

    p rises with e^−γ, with a slope of at most m.

    >>> logistic(Fraction(0), Fraction(1), 3), logistic(Fraction(1), Fraction(1), 8)  # 1/2 and 1/(1 + e)
    ((4, 4), (68, 69))
    """
    work = bits + math.ceil(weight).bit_length() + 1
    low, high = (weight.numerator * end for end in exp_minus(exponent, work))
    unit = weight.denominator << work
    return (low << bits) // (unit + low), -((-high << bits) // (unit + high))


def minus_log(u: LazyUniform, precision: int) -> tuple[int, int]:
    """Enclose −log U, which is exponentially distributed: between known and known + 1 it falls by at most 1/known."""
    u.to(precision - 64)
    while u.known == 0:
        u.to(u.bits + 1)
    low, high = minus_log_of(u.known, u.bits, precision)
    return max(low - (1 << precision) // u.known - 1, 0), high


def minus_log_of(n: int, bits: int, precision: int) -> tuple[int, int]:
    """Enclose −log(n/2^bits) for 0 < n <= 2^bits.

    With n = m 2^k and w = (m − 1)/(m + 1), m in [1/√2, √2), it is (bits − k) log 2 − 2 artanh w.
    """
    size = n.bit_length()
    size -= n * n < 1 << (2 * size - 1)
    low, high = artanh(abs(n - (1 << size)), n + (1 << size), precision)
    moved = (-2 * high, -2 * low) if n >= 1 << size else (2 * low, 2 * high)
    ln2, times = log_of_two(precision), bits - size
    return max(times * ln2[0] + moved[0], 0), max(times * ln2[1] + moved[1], 0)


def quarter_sine(u: LazyUniform, precision: int) -> tuple[int, int]:
    """Enclose sin(π U/2), which rises with U, with a slope below 2.

    In units of 2^−p: terms t_i are below 2^p · 1.6, x² below 2^p · 2.5, and the error of a term is at most
    (2.5 e + 1.6)/6 + 2 < 4 where that of the one before is e < 4; what is left after the last term is below 8.
    """
    u.to(precision - 64)
    pi = circle(precision)
    low, high = (pi[0] * u.known) >> (u.bits + 1), ((pi[1] * u.known) >> (u.bits + 1)) + 1
    square, term, total, i = (low * low) >> precision, low, 0, 0
    while term:
        total += -term if i % 2 else term
        i += 1
        term = ((term * square) >> precision) // (2 * i * (2 * i + 1))
    error = 4 * i + 8
    further = (2 << precision >> u.bits) + 1
    return max(total - error, 0), min(total + error + (high - low) + further, 1 << precision)


def artanh(top: int, bottom: int, precision: int) -> tuple[int, int]:
    """Enclose the artanh of w = top/bottom, Σ w^{2i+1}/(2i + 1) for 0 <= w <= 1/3.

    In units of 2^−p: the terms' errors are at most e/9 + 2 < 3, and what is left after the last one is below 4.
    """
    term = (top << precision) // bottom
    square, total, i = (term * term) >> precision, 0, 0
    while term:
        total += term // (2 * i + 1)
        i += 1
        term = (term * square) >> precision
    return total, total + 4 * i + 8


@lru_cache(maxsize=64)
def log_of_two(precision: int) -> tuple[int, int]:
    """Enclose log 2 = 2 artanh(1/3)."""
    low, high = artanh(1, 3, precision)
    return 2 * low, 2 * high


@lru_cache(maxsize=64)
def circle(precision: int) -> tuple[int, int]:
    """Enclose π = 16 arctan(1/5) − 4 arctan(1/239), by Machin."""
    fifth, small = _arctan_of_inverse(5, precision), _arctan_of_inverse(239, precision)
    return 16 * fifth[0] - 4 * small[1], 16 * fifth[1] - 4 * small[0]


def _arctan_of_inverse(k: int, precision: int) -> tuple[int, int]:
    """Enclose arctan(1/k); each term's error is below 3 units, that of what is left below 2."""
    term, total, i = (1 << precision) // k, 0, 0
    while term:
        total += -(term // (2 * i + 1)) if i % 2 else term // (2 * i + 1)
        i += 1
        term //= k * k
    return total - 3 * i - 4, total + 3 * i + 4
