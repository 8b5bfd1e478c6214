"""Arrays of discrete noise, exactly: Laplace and Gaussian, from exact coins by rejection.

How long rejection takes depends on the draws, never on data; timing is no part of any guarantee here.

[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_coins import exp_coins, geometrics
from mechanisms.core.exact_uniforms import Array, signs, uniform_integers
from mechanisms.core.randomness import Source

LARGEST = 2**62  # magnitudes up to here are computed in int64, larger ones in Python's integers
AT_ONCE = 2**14  # candidates: arrays of that size stay in the cache
FLOAT_VARIANCES = Fraction(1, 2**400), Fraction(2**400)  # squares of which are floats


def discrete_laplace(source: Source, stream: str, scale: Fraction, n: int) -> Array:
    """Return n independent integers with P(k) proportional to e^{−|k|/scale}, shape (n,)         [CKS20, Alg 2].

    Guarantees: the law, exactly. int64, or Python's integers where those could overflow.

    Args:
        source: of the digits.
        stream: its name.
        scale: > 0, a rational number: of a float, Fraction(scale).
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
    """Return those of about n discrete Laplace draws Y that are kept: with e^{−γ}, γ = (|Y| − σ²/t)²/2σ², t = ⌊σ⌋ + 1.

    In floats, u = 2^-53, |Y|/σ and σ/t <= 1 are off by a relative 3.5 u, the square of their difference by 10 u of
    (|Y|/σ + 1)², and γ by 6 u of it: by 2^-39 at most where e^−γ > 1e-280, as |Y|/σ < 37 there.
    """
    t = math.isqrt(variance.numerator // variance.denominator) + 1
    drawn = _laplace_candidates(source, stream, Fraction(t), n)
    least, most = FLOAT_VARIANCES
    exponents = np.full(len(drawn), math.nan)
    if least <= variance <= most:
        sigma = math.sqrt(float(variance))
        exponents = 0.5 * (np.abs(drawn).astype(np.float64) / sigma - sigma / t) ** 2
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
    wide = below.dtype == object
    near = (below / t).astype(np.float64) if wide else below / float(t)  # Python rounds quotients of any size once
    below = below[exp_coins(source, stream, near, lambda i: Fraction(int(below[i]), t))]
    trials = geometrics(source, stream, len(below))
    if wide or (int(trials.max(initial=0)) + 1) * t > LARGEST or scale.denominator > LARGEST:
        below, trials = below.astype(object), trials.astype(object)
    drawn = (below + t * trials) // scale.denominator
    negative = signs(source, stream, len(drawn))
    found: Array = np.where(negative, -drawn, drawn)[~(negative & (drawn == 0))]
    return found


def _gathered(candidates: Callable[[int], Array], n: int) -> Array:
    """Return the first n draws of as many batches of candidates as it takes."""
    n = validate.count("discrete noise", "n", n)
    parts, missing = [np.empty(0, dtype=np.int64)], n
    while missing > 0:
        parts.append(candidates(min(AT_ONCE, 3 * missing + 4))[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)
