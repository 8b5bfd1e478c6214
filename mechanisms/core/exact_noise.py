"""Real-valued noise that is safe on real machines: value + scale Z for an ideal real Z, rounded once, exactly.

Textbook sampling in floating point gives outputs that depend on the input in their last digits: some floats can be had
from one of two neighbours only [Mir12]. Here Z is an exact function of uniform reals whose digits are drawn as they are
needed, value and scale enter as rationals, and what is returned is

    ⌊(value + scale Z)/g + 1/2⌋ g,        rounded to the nearest float where it has more than 53 digits,

g a power of two that depends on public parameters only. It is a fixed function of value + scale Z, so that it shows
nothing that the ideal mechanism does not show, and the ideal mechanism's pair prices it with nothing added.

Most roundings are decided in float64 by +, −, ×, ÷, √ and floor alone, whose errors IEEE 754 bounds; where that bound
does not decide, by integers (`mechanisms.core.exact_reals`), with as many digits as it takes. So the result is the same
on every machine.

[Mir12] I. Mironov. On Significance of the Least Significant Bits for Differential Privacy. CCS 2012.
[BM58] G. E. P. Box, M. E. Muller. A Note on the Generation of Random Normal Deviates. Ann. Math. Statist. 29 (1958).
[CSVW22] S. Casacuberta, M. Shoemate, S. Vadhan, C. Wagaman. Widespread Underestimation of Sensitivity in Differentially
Private Libraries and How to Fix It. CCS 2022. arXiv:2207.10635.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import Array
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_reals import Enclosure, floor_of, minus_log, quarter_sine
from mechanisms.core.exact_uniforms import LazyUniform, words_of_64
from mechanisms.core.randomness import Source

AT_ONCE = 8192
FINER = 40  # binary digits that the granularity is finer than the scale, unless it is given
FASTEST = 2.0**-100, 2.0**44  # scale ÷ granularity, outside which float64 decides nothing or leaves its range
LARGEST_EXACT = 2**53
LOGS = [1.0 / (2 * i + 1) for i in range(11)]
SINES = [(-1) ** i * (math.pi / 2) ** (2 * i + 1) / math.factorial(2 * i + 1) for i in range(12)]


class Law(ABC):
    """The law of |Z| for a symmetric Z, as a monotone function of independent uniforms.

    Args of `approximate`: words, uint64 of shape (number of uniforms, n): the first 63 digits of the first uniform, the
    first 64 of the others.
    """

    uniforms: int

    @abstractmethod
    def approximate(self, words: Array) -> tuple[Array, Array]:
        """Return float64 values of |Z| and a proved bound of their errors, whatever the digits not seen are."""

    @abstractmethod
    def enclose(self, uniforms: list[LazyUniform], precision: int) -> tuple[int, int]:
        """Enclose 2^precision |Z|."""


class Exponential(Law):
    """|Z| = −log U: Z is Laplace-distributed with scale 1."""

    uniforms = 1

    def approximate(self, words: Array) -> tuple[Array, Array]:
        """Return −log U, off by at most 2^−50 (1 + |Z|) + 2/known; u = 2^−53.

        With known = m 2^e exactly, w = (m − 1)/(m + 1) is off by a relative 2 u, the series 1 + w²/3 + … (11 terms
        leave out 1e-18) by 1.2 u, so that 2 w (…), at most .35, is off by 1.5 u; k log 2 by a relative 1.6 u; their
        difference is rounded once: together 2.6 u |Z| + 2.1 u, and 1.1 u for known as a float.
        """
        known = words[0].astype(np.float64)
        mantissa, exponent = np.frexp(np.maximum(known, 1.0))
        small = mantissa < math.sqrt(0.5)
        mantissa = np.where(small, 2.0 * mantissa, mantissa)
        w = (mantissa - 1.0) / (mantissa + 1.0)
        value = (63 - exponent + small) * math.log(2.0) - 2.0 * w * _horner(LOGS, w * w)
        value = np.maximum(value, 0.0)
        return value, 2.0**-50 * (1.0 + value) + 2.0 / known

    def enclose(self, uniforms: list[LazyUniform], precision: int) -> tuple[int, int]:
        """Enclose −log U."""
        return minus_log(uniforms[0], precision)


class HalfNormal(Law):
    """|Z| = √(−2 log U) sin(π V/2): Z is standard normal [BM58]."""

    uniforms = 2

    def approximate(self, words: Array) -> tuple[Array, Array]:
        """Return the product of r = √(−2 log U) and the sine, with its error; u = 2^−53.

        r is off by 1.1 e/r + u r, where e, the error of −log U, is below a quarter of it, and by anything elsewhere.
        The sine's series (12 terms leave out 1e-20), evaluated by Horner's rule, is off by 7.1 u, by 1.6 u for V as a
        float, and the product is rounded once.
        """
        half_square, error = Exponential().approximate(words[:1])
        radius = np.sqrt(2.0 * half_square)
        radius_error = np.where(4.0 * error < half_square, 1.1 * error / radius + 2.0**-53 * radius, np.inf)
        v = words[1].astype(np.float64) * 2.0**-64
        sine = v * _horner(SINES, v * v)
        return radius * sine, radius_error * (sine + 2.0**-48) + 2.0**-49 * radius

    def enclose(self, uniforms: list[LazyUniform], precision: int) -> tuple[int, int]:
        """Enclose the product; both factors are at least 0."""
        (low, high), (less, more) = minus_log(uniforms[0], precision), quarter_sine(uniforms[1], precision)
        radius = math.isqrt(2 * low << precision), math.isqrt(2 * high << precision) + 1
        return radius[0] * less >> precision, (radius[1] * more >> precision) + 1


class Grid(NamedTuple):
    """What a release is rounded to, from public parameters alone: scale, exactly, and granularity 2^exponent."""

    scale: Fraction
    exponent: int

    @property
    def granularity(self) -> Fraction:
        """2^exponent."""
        return Fraction(2) ** self.exponent


def grid(owner: str, scale: Fraction, granularity: float | None) -> Grid:
    """Return the grid for noise of this scale > 0: by default 2^40 times as fine as the scale, to a power of two.

    Raises:
        InvalidParameter: if the granularity is no power of two, or the scale beyond the floats.
    """
    if scale >= Fraction(2) ** 1024:
        raise InvalidParameter(f"{owner}: noise multiplier × sensitivity must be below 1.8e308.")
    if granularity is None:
        size = scale.numerator.bit_length() - scale.denominator.bit_length()
        size -= Fraction(2) ** size > scale
        return Grid(scale, max(size - FINER, -1074))
    mantissa, exponent = math.frexp(validate.positive(owner, "granularity", granularity))
    if mantissa != 0.5:
        near = math.ldexp(1.0, exponent - 1)
        raise InvalidParameter(f"{owner}: granularity must be a power of two, got {granularity!r}. Use {near!r}.")
    return Grid(scale, exponent - 1)


def numbers(owner: str, value: Any) -> Array:
    """Return `value` as an array of integers or floats of at most 64 bits, as it is.

    Raises:
        InvalidParameter: if it is none, or not finite; the message names no value.
    """
    data = plain_array(owner, value)
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
        raise InvalidParameter(
            f"{owner}: value must hold floats or integers of at most 64 bits, got dtype {data.dtype}. "
            "Convert it first, and add to the sensitivity what the conversion may move the value by."
        )
    if not np.all(np.isfinite(data)):
        raise InvalidParameter(f"{owner}: value must be finite. Bound the query first, by a rule that no data decides.")
    return data


def number(owner: str, value: Any) -> Fraction:
    """Return a single finite number exactly.

    Raises:
        InvalidParameter: if `value` is none, or several; the message names no value.
    """
    data = numbers(owner, value)
    if data.ndim:
        raise InvalidParameter(
            f"{owner}: value must be a single number, got an array of shape {data.shape}.\n"
            "The mechanism is analysed for one: release them one by one, and describe that by Repeat(mechanism, times)."
        )
    return Fraction(data.item())


def noisy(
    owner: str,
    value: Any,
    *,
    noise_multiplier: float,
    sensitivity: float,
    granularity: float | None,
    law: Law,
    randomness: Source,
) -> Any:
    """Return `value` plus noise_multiplier · sensitivity · Z as `released` does; without noise, `value` as floats.

    Raises:
        InvalidParameter: as `numbers` and `grid`, and if the sensitivity is not above 0.
    """
    sensitivity = validate.positive(owner, "sensitivity", sensitivity)
    scale = Fraction(noise_multiplier) * Fraction(sensitivity)
    on = grid(owner, scale or Fraction(1), granularity)
    data = numbers(owner, value)
    if scale:
        return released(data, on=on, law=law, randomness=randomness, stream=owner.lower())
    return data.astype(np.float64) if data.ndim else float(data)


def released(data: Array, *, on: Grid, law: Law, randomness: Source, stream: str) -> Any:
    """Return `data` plus scale Z for independent Z of random sign, rounded to the grid: a float for a 0-d array.

    Args:
        data: from `numbers`.
        on: scale and granularity.
        law: of |Z|.
        randomness: the source; `stream` gives every value its words, `stream` + " digits" what more is needed.
        stream: of the source.
    """
    flat = data.ravel()
    result = np.empty(len(flat))
    for first in range(0, len(flat), AT_ONCE):
        part = flat[first : first + AT_ONCE]
        words = words_of_64(randomness, stream, law.uniforms * len(part)).reshape(-1, law.uniforms).T
        negative = words[0] >> np.uint64(63) == 1
        words = np.vstack([words[:1] & np.uint64(2**63 - 1), words[1:]])
        result[first : first + AT_ONCE], doubtful = _filtered(part, on, law, words, negative)
        for i in np.flatnonzero(doubtful):
            digits = [(int(word), 64 if k else 63) for k, word in enumerate(words[:, i])]
            uniforms = [LazyUniform(randomness, f"{stream} digits", *known) for known in digits]
            result[first + i] = _settled(part[i].item(), on, law, uniforms, -1 if negative[i] else 1)
    return float(result[0]) if data.ndim == 0 else result.reshape(data.shape)


def _filtered(part: Array, on: Grid, law: Law, words: Array, negative: Array) -> tuple[Array, Array]:
    """Return results, and which of them are in doubt: where a whole number lies within the error of the quotient.

    Only the remainder of the value by the granularity is added to the noise; it and the multiple left are exact. The
    rounding of scale ÷ granularity, of the product and of two sums is off by less than 2^−50 (|quotient| + 1).
    """
    ratio = on.scale / on.granularity
    if not FASTEST[0] < ratio < FASTEST[1]:
        return np.zeros(len(part)), np.ones(len(part), dtype=bool)
    values, unit = part.astype(np.float64), math.ldexp(1.0, on.exponent)
    with np.errstate(all="ignore"):
        rest = np.fmod(values, unit)
        size, error = law.approximate(words)
        quotient = rest / unit + np.where(negative, -1.0, 1.0) * (float(ratio) * size) + 0.5
        whole = np.floor(quotient)
        doubt = (1.0 + 2.0**-40) * float(ratio) * error + 2.0**-50 * (np.abs(quotient) + 1.0)
        result = (values - rest) + whole * unit + 0.0
    decided = (quotient - whole > doubt) & (quotient - whole < 1.0 - doubt) & np.isfinite(result)
    if part.dtype.kind in "iu" and part.dtype.itemsize == 8:
        decided &= (part <= LARGEST_EXACT) & ((part >= -LARGEST_EXACT) | (part.dtype.kind == "u"))
    return result, ~decided


def _settled(value: float, on: Grid, law: Law, uniforms: list[LazyUniform], sign: int) -> float:
    def enclose(precision: int) -> tuple[Fraction, Fraction]:
        low, high = sorted(sign * end for end in law.enclose(uniforms, precision))
        return on.scale * Fraction(low, 1 << precision), on.scale * Fraction(high, 1 << precision)

    return rounded(Fraction(value), on, enclose)


def rounded(value: Fraction, on: Grid, enclose: Enclosure) -> float:
    """Return value + noise rounded to the grid, for noise that `enclose(precision)` encloses ever more narrowly."""
    offset = value / on.granularity + Fraction(1, 2)

    def quotient(precision: int) -> tuple[Fraction, Fraction]:
        low, high = enclose(precision)
        return offset + low / on.granularity, offset + high / on.granularity

    return nearest(floor_of(quotient), on.exponent)


def nearest(multiple: int, exponent: int) -> float:
    """Return the float nearest to multiple · 2^exponent, as sums of floats are rounded; infinite beyond the largest."""
    try:
        return float(multiple << exponent) if exponent >= 0 else multiple / (1 << -exponent)
    except OverflowError:
        return math.inf if multiple > 0 else -math.inf


def _horner(coefficients: list[float], x: Array) -> Array:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total
