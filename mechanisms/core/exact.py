"""Arrays of exact draws: uniform integers, coins of probability e^−γ, geometric, discrete Laplace and Gaussian noise.

A draw is decided by a uniform number U in [0, 1) of which as many binary digits are drawn as it takes. The first 64
are compared with a float that is near the probability p: only where they are apart by more than 2^-34 of p, thousands
of times what the float can be off, does that settle the draw. Elsewhere, a few times in 10^11 draws, p is enclosed in
decimal arithmetic, whose exponential is correctly rounded, with as many digits as it takes. So every law is exact:
floats save work and decide nothing that the digits would not.

How long rejection takes depends on the draws, never on data; timing is no part of any guarantee here.

[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source, uniform_integer

Array = NDArray[Any]
Exponent = Callable[[int], Fraction]

DOUBT = 2.0**-34  # relative, far beyond the error of any float that is compared
NOTHING = 1e-280  # absolute: a float below it says only that p is small
WORD = 2**64
LARGEST = 2**62  # magnitudes up to here are computed in int64, larger ones in Python's integers
LONGEST = 32  # trials that one word decides: it is below e^-32 2^64 once in 8e13
AT_ONCE = 2**14  # candidates: arrays of that size stay in the cache
FLOAT_VARIANCES = Fraction(1, 2**400), Fraction(2**400)  # squares of which are floats


def uniform_integers(source: Source, stream: str, below: int, n: int) -> Array:
    """Return n independent uniform integers in [0, below), shape (n,): int64, or Python's where `below` > 2^63.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> found = uniform_integers(KeyedSource(0), "dice", 6, 1000)
    >>> int(found.min()), int(found.max())
    (0, 5)
    """
    below = validate.count("uniform_integers", "below", below, least=1)
    if below > 2**63:
        return _objects([uniform_integer(source, stream, below) for _ in range(n)])
    found = np.empty(n, dtype=np.int64)
    accepted = np.uint64(WORD - WORD % below - 1)  # words up to here hold every remainder equally often
    filled = 0
    while filled < n:
        words = _words(source, stream, n - filled)
        kept = words[words <= accepted]
        found[filled : filled + len(kept)] = kept % np.uint64(below)
        filled += len(kept)
    return found


def rational_coins(source: Source, stream: str, probability: Fraction, n: int) -> NDArray[np.bool_]:
    """Return n independent coins that fall True with exactly this probability, shape (n,).

    Raises:
        InvalidParameter: if the probability lies outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise InvalidParameter(f"rational_coins: probability must lie in [0, 1], got {probability}.")
    return uniform_integers(source, stream, probability.denominator, n) < probability.numerator


def exp_coins(source: Source, stream: str, exponents: Array, exact: Exponent) -> NDArray[np.bool_]:
    """Return coins that fall True with probability exactly e^−γ each, what [CKS20, Alg 1] draws one by one.

    Args:
        source: of the digits.
        stream: its name.
        exponents: about γ >= 0, shape (n,), off by at most 2^-36, or NaN where nothing is known; where e^−γ < 1e-280,
            any number is good that says so too.
        exact: from an index to γ.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> bool(exp_coins(KeyedSource(0), "coins", np.zeros(9), lambda index: Fraction(0)).all())
    True
    """
    words = _words(source, stream, len(exponents))
    with np.errstate(under="ignore", over="ignore"):
        near = np.exp(-exponents)
        least = words.astype(np.float64) * 2.0**-64
        falls = least + 2.0**-63 <= near * (1.0 - DOUBT)
        fails = least * (1.0 - 2.0**-50) >= near * (1.0 + DOUBT) + NOTHING
    for index in np.flatnonzero(~(falls | fails)):
        falls[index] = _is_below_exp(source, stream, int(words[index]), exact(int(index)))
    return falls


def geometrics(source: Source, stream: str, n: int) -> NDArray[np.int64]:
    """Return n independent integers V >= 0 with P(V >= k) = e^−k: one word tells all of the first 32 trials apart."""
    words = _words(source, stream, n)
    below = np.searchsorted(_thresholds(), words, side="right")
    found = (LONGEST - below).astype(np.int64)
    for index in np.flatnonzero(_thresholds()[np.maximum(below - 1, 0)] == words):
        found[index] += _is_below_exp(source, stream, int(words[index]), Fraction(int(found[index]) + 1))
    longer = np.flatnonzero(found >= LONGEST)
    if len(longer):
        found[longer] = LONGEST + geometrics(source, stream, len(longer))  # trials have no memory
    return found


def discrete_laplace(source: Source, stream: str, scale: Fraction, n: int) -> Array:
    """Return n independent integers with P(k) proportional to e^{−|k|/scale}, shape (n,)         [CKS20, Alg 2].

    Guarantees: the law, exactly. int64, or Python's integers where those could overflow.

    Args:
        source: of the digits.
        stream: its name.
        scale: > 0; a float is the rational number that it is.
        n: how many.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> discrete_laplace(KeyedSource(0), "noise", Fraction(1, 100), 5)
    array([0, 0, 0, 0, 0])
    """
    if not scale > 0:
        raise InvalidParameter(f"discrete_laplace: scale must be above 0, got {scale}.")
    return _gathered(partial(_laplace_candidates, source, stream, scale), n)


def discrete_gaussian(source: Source, stream: str, variance: Fraction, n: int) -> Array:
    """Return n independent integers with P(k) proportional to e^{−k²/2σ²}, σ² = variance         [CKS20, Alg 3].

    Guarantees: the law, exactly. int64, or Python's integers where those could overflow.

    Args:
        source: of the digits.
        stream: its name.
        variance: σ² > 0, the parameter of the law, not quite its variance where σ < 1.
        n: how many.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> discrete_gaussian(KeyedSource(0), "noise", Fraction(1, 1000), 5)
    array([0, 0, 0, 0, 0])
    """
    if not variance > 0:
        raise InvalidParameter(f"discrete_gaussian: variance must be above 0, got {variance}.")
    return _gathered(partial(_gaussian_candidates, source, stream, variance), n)


def _gaussian_candidates(source: Source, stream: str, variance: Fraction, n: int) -> Array:
    """Return those of about n discrete Laplace draws Y that are kept: with e^{−(|Y| − σ²/t)²/2σ²}, t = ⌊σ⌋ + 1."""
    t = math.isqrt(variance.numerator // variance.denominator) + 1
    drawn = _laplace_candidates(source, stream, Fraction(t), n)
    least, most = FLOAT_VARIANCES
    exponents = np.full(len(drawn), math.nan)
    if drawn.dtype != object and least <= variance <= most:
        sigma = math.sqrt(float(variance))  # γ is off by 4 (|Y|/σ + 1)² 2^-53 at most: 2^-40 where e^-γ > 1e-280
        with np.errstate(over="ignore"):
            exponents = 0.5 * (np.abs(drawn) / sigma - sigma / t) ** 2
    return drawn[exp_coins(source, stream, exponents, lambda i: _gaussian_exponent(int(drawn[i]), variance, t))]


def _gaussian_exponent(drawn: int, variance: Fraction, t: int) -> Fraction:
    return (abs(drawn) - variance / t) ** 2 / (2 * variance)


def _laplace_candidates(source: Source, stream: str, scale: Fraction, n: int) -> Array:
    """Return the draws from n candidates: U below the numerator t, kept with e^{−U/t}, then t more with e^−1 each.

    U + t V is geometric with ratio e^{−1/t}; divided by the denominator, rounded down, with that of the scale. Then a
    sign; −0 is dropped.
    """
    t = scale.numerator
    below = uniform_integers(source, stream, t, n)
    near = np.full(n, math.nan) if below.dtype == object else below / float(t)
    below = below[exp_coins(source, stream, near, lambda i: Fraction(int(below[i]), t))]
    trials = geometrics(source, stream, len(below))
    if below.dtype == object or (int(trials.max(initial=0)) + 1) * t > LARGEST or scale.denominator > LARGEST:
        below, trials = below.astype(object), trials.astype(object)
    drawn = (below + t * trials) // scale.denominator
    negative = _signs(source, stream, len(drawn))
    found: Array = np.where(negative, -drawn, drawn)[~(negative & (drawn == 0))]
    return found


def _gathered(candidates: Callable[[int], Array], n: int) -> Array:
    """Return the first n draws of as many batches of candidates as it takes."""
    n = validate.count("exact", "n", n)
    parts, missing = [np.empty(0, dtype=np.int64)], n
    while missing > 0:
        parts.append(candidates(min(AT_ONCE, 3 * missing + 16))[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _words(source: Source, stream: str, n: int) -> NDArray[np.uint64]:
    words = source.words(stream, source.reserve(stream, 2 * n), 2 * n)
    return words.astype("<u4", copy=False).view("<u8").astype(np.uint64, copy=False)


def _signs(source: Source, stream: str, n: int) -> NDArray[np.bool_]:
    size = -(-n // 32)
    words = source.words(stream, source.reserve(stream, size), size).astype("<u4", copy=False)
    return np.unpackbits(words.view(np.uint8), count=n).astype(bool)


def _is_below_exp(source: Source, stream: str, digits: int, exponent: Fraction) -> bool:
    """Tell whether U < e^−exponent, for the U whose first 64 binary digits these are; more are drawn while it is open.

    It ends: e^−γ is no rational number but for γ = 0.
    """
    bits = 64
    while True:
        least, most = exp_digits(exponent, bits)
        if digits + 1 <= least:
            return True
        if digits >= most:
            return False
        digits, bits = digits * WORD + int(_words(source, stream, 1)[0]), bits + 64


def exp_digits(exponent: Fraction, bits: int) -> tuple[int, int]:
    """Return integers around 2^bits e^−exponent, for an exponent >= 0, one or two apart where e^-exponent is no float.

    >>> exp_digits(Fraction(1), 16)
    (24109, 24110)
    """
    if exponent == 0:
        return 2**bits, 2**bits
    if exponent > bits:
        return 0, 1  # 2^bits e^-bits < 1
    precision = 40 + bits // 3  # e^-exponent >= e^-bits, and 10^(bits/3) > 2^bits: 30 digits are beyond the last one
    context = decimal.Context(
        prec=precision, rounding=decimal.ROUND_HALF_EVEN, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX
    )
    rounded = context.divide(decimal.Decimal(exponent.numerator), decimal.Decimal(exponent.denominator))
    value = context.exp(rounded.copy_negate())  # `-rounded` would round it to the precision of the thread
    slack = Fraction(2 * bits + 2, 10 ** (precision - 1))  # relative; each is off by half a unit of its last digit
    scaled = Fraction(value) * 2**bits
    return math.floor(scaled * (1 - slack)), math.floor(scaled * (1 + slack)) + 1


@cache
def _thresholds() -> NDArray[np.uint64]:
    """Return ⌊2^64 e^−k⌋ for k = 32, …, 1."""
    return np.array([exp_digits(Fraction(k), 192)[0] >> 128 for k in range(LONGEST, 0, -1)], dtype=np.uint64)


def _objects(values: list[int]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
