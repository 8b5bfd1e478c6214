"""Arrays of exact coins, of probabilities that are no rational numbers, and geometric numbers.

The first 64 digits of a uniform U are compared with what is known of the probability p: integers around 2^64 p, or a
float that is near p, which settles the coin only where the two are apart by thousands of times what the float can be
off. Elsewhere, a few times in 10^11 coins, the digits of both decide, as many as it takes (`LazyUniform.is_below`). So
floats save work and decide nothing that the digits would not.

[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.exact_reals import exp_minus, logistic
from mechanisms.core.exact_uniforms import BITS, WORD, Array, LazyUniform, Probability, words_of_64
from mechanisms.core.randomness import Source

DOUBT = 2.0**-34  # relative, far beyond the error of any float that is compared
NOTHING = 1e-280  # absolute: a float below it says only that p is small
LONGEST = 32  # trials that one word decides: it is below e^-32 2^64 once in 8e13
AT_ONCE = 2**20  # coins: their words take 8 MiB
Coins = NDArray[np.bool_]


def logistic_coins(source: Source, stream: str, n: int, *, exponent: Fraction | float, weight: int = 1) -> Coins:
    """Return `n` independent coins that fall True with probability exactly m e^−γ / (1 + m e^−γ), shape (n,).

    Args:
        source: a `SystemSource` for real releases.
        stream: the name of the stream.
        n: how many.
        exponent: γ >= 0; a float is the rational number that it is.
        weight: m >= 1.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> int(logistic_coins(KeyedSource(0), "coins", 10_000, exponent=0.0).sum())
    5043
    """
    probability = partial(logistic, Fraction(exponent), Fraction(weight))
    low, high = probability(BITS)
    first, width = np.uint64(low), np.uint64(high - low)
    found = np.empty(n, dtype=np.bool_)
    for start in range(0, n, AT_ONCE):
        words = words_of_64(source, stream, min(AT_ONCE, n - start))
        falls = words < first
        doubtful = words - first < width  # of those below, the difference wraps round and is large
        found[start : start + len(words)] = _settled(source, stream, words, falls, doubtful, lambda _: probability)
    return found


def exp_coins(source: Source, stream: str, exponents: Array, exact: Callable[[int], Fraction]) -> Coins:
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
    words = words_of_64(source, stream, len(exponents))
    with np.errstate(under="ignore", over="ignore"):
        near = np.exp(-exponents)
        least = words.astype(np.float64) * 2.0**-64
        falls = least + 2.0**-63 <= near * (1.0 - DOUBT)
        fails = least * (1.0 - 2.0**-50) >= near * (1.0 + DOUBT) + NOTHING
    return _settled(source, stream, words, falls, ~(falls | fails), lambda index: partial(exp_minus, exact(index)))


def geometrics(source: Source, stream: str, n: int) -> NDArray[np.int64]:
    """Return n independent integers V >= 0 with P(V >= k) = e^−k: one word tells all of the first 32 trials apart."""
    words = words_of_64(source, stream, n)
    below = np.searchsorted(_thresholds(), words, side="right")
    found = (LONGEST - below).astype(np.int64)
    doubtful = _thresholds()[np.maximum(below - 1, 0)] == words
    found += _settled(source, stream, words, np.zeros(n, dtype=np.bool_), doubtful, lambda i: _trial(int(found[i]) + 1))
    longer = np.flatnonzero(found >= LONGEST)
    if len(longer):
        found[longer] = LONGEST + geometrics(source, stream, len(longer))  # trials have no memory
    return found


def _settled(
    source: Source, stream: str, words: Array, falls: Coins, doubtful: Coins, probability: Callable[[int], Probability]
) -> Coins:
    """Return `falls`, with the doubtful coins decided by as many digits as it takes, after the first 64."""
    for index in np.flatnonzero(doubtful):
        uniform = LazyUniform(source, stream, int(words[index]), BITS)
        falls[index] = uniform.is_below(probability(int(index)))
    return falls


def _trial(k: int) -> Probability:
    return partial(exp_minus, Fraction(k))


@cache
def _thresholds() -> NDArray[np.uint64]:
    """Return ⌊2^64 e^−k⌋ for k = 32, …, 1."""
    return np.array([exp_minus(Fraction(k), 3 * BITS)[0] // WORD**2 for k in range(LONGEST, 0, -1)], dtype=np.uint64)
