"""An exact draw from weights that are whole numbers times e^−x, x rational.

A uniform number u is known to as many bits as it takes, the running sums of the weights to as many digits: first as
`Bounds` of floats, all at once, and where these leave open which two sums u · total lies between, as whole numbers with
the correctly rounded exponential of `decimal`, at twice the digits each time. Nothing is ever decided by a rounding.
"""

from __future__ import annotations

import decimal
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.randomness import Source

BITS, DIGITS = 64, 30


def weighted_choice(
    source: Source, stream: str, *, counts: Array, exponents: Bounds, exact: Callable[[int], Fraction]
) -> int:
    """Return an index, i with probability proportional to counts[i] e^{−x_i}, exactly.

    Args:
        source: of random words.
        stream: which of its streams.
        counts: int64 from 1 to 2^53, shape (m,), m >= 1.
        exponents: enclosures of the x_i >= 0, shape (m,).
        exact: from i to x_i itself.
    """
    drawn, bits = _more_bits(source, stream, 0), BITS
    found = _by_floats(drawn, counts, exponents)
    digits = DIGITS
    while found is None:
        drawn, bits = _more_bits(source, stream, drawn), bits + BITS
        found = _by_digits(drawn, bits, digits, counts, exact)
        digits *= 2
    return found


def _more_bits(source: Source, stream: str, drawn: int) -> int:
    """Return u to 64 more bits."""
    words = source.words(stream, source.reserve(stream, 2), 2)
    return (drawn << BITS) | (int(words[0]) << 32) | int(words[1])


def _by_floats(drawn: int, counts: Array, exponents: Bounds) -> int | None:
    """Return the index that u in [drawn, drawn + 1) 2^-64 stands for, None if floats can't tell."""
    least = float(np.min(exponents.upper))
    if not np.isfinite(least):
        return None
    weights = Bounds.exact(counts.astype(np.float64)) * exp(least - exponents)
    if not np.isfinite(np.sum(weights.upper)):
        return None
    sums = _running_sums(weights)
    start, end = (Bounds(lower=sums.lower[-1], upper=sums.upper[-1]) * (k * 2.0**-BITS) for k in _ends(drawn))
    first = int(np.searchsorted(sums.upper[:-1], start.lower, side="right"))
    last = int(np.searchsorted(sums.lower[:-1], end.upper, side="right"))
    return first if first == last else None


def _running_sums(weights: Bounds) -> Bounds:
    """Enclose the running sums of weights >= 0, rising, by those of k blocks of k: 2k additions round each at most."""
    size = len(weights.lower)
    k = int(np.ceil(np.sqrt(size)))

    def added(terms: Array) -> Array:
        blocks = np.cumsum(np.concatenate([terms, np.zeros(k * k - size)]).reshape(k, k), axis=1)
        before = np.concatenate([[0.0], np.cumsum(blocks[:, -1])[:-1]])
        return np.asarray((blocks + before[:, None]).ravel()[:size])

    slack = 2.0 * (2 * k + 2) * UNIT_ROUNDOFF
    return Bounds(lower=added(weights.lower), upper=added(weights.upper)).inflate(slack)


def _ends(drawn: int) -> tuple[float, float]:
    """Return floats at or below `drawn`, and at or above `drawn` + 1."""
    return float(drawn & ~0xFFF), float((drawn | 0xFFF) + 1)


def _by_digits(drawn: int, bits: int, digits: int, counts: Array, exact: Callable[[int], Fraction]) -> int | None:
    """Return the same for u in [drawn, drawn + 1) 2^-bits, in units of 10^-digits."""
    exponents = [exact(i) for i in range(len(counts))]
    least = min(exponents)
    powers = [_power(exponent - least, digits) for exponent in exponents]
    lower = list(accumulate(int(n) * low for n, (low, _) in zip(counts, powers, strict=True)))
    upper = list(accumulate(int(n) * high for n, (_, high) in zip(counts, powers, strict=True)))
    first = bisect_right([one << bits for one in upper[:-1]], drawn * lower[-1])
    last = bisect_left([one << bits for one in lower[:-1]], (drawn + 1) * upper[-1])
    return first if first == last else None


def _power(exponent: Fraction, digits: int) -> tuple[int, int]:
    """Enclose 10^digits e^−x by whole numbers.

    At ten digits more than are asked for, the quotient x is off by 10^-(digits + 9) x at most, and so, as x e^−x < 1,
    the power by less than one in all.
    """
    if exponent == 0:
        return 10**digits, 10**digits
    if exponent > 3 * digits:
        return 0, 1
    with decimal.localcontext() as context:
        context.prec, context.Emin, context.Emax = digits + 10, decimal.MIN_EMIN, decimal.MAX_EMAX
        context.traps = dict.fromkeys(context.traps, False)
        power = (-(decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator))).exp()
        whole = int(power.scaleb(digits))
    return max(whole - 1, 0), whole + 2
