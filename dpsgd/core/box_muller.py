"""Normal noise in the floats of the sums it is added to, at little more than what the cipher takes: Box–Muller.

The first 32 binary digits of two real uniforms U and V (64 for float64) are the words of a pair of coordinates; the
digits after them are further words. Then z = √(−2 log U) (cos 2πV, sin 2πV) are independent standard normals, exactly
[BM58], and what is computed is z̃ near z. Proof of how near: u is the unit roundoff (2^−24, 2^−53), b the digits of a
word, k = b/2, w and s the words of U and V as integers, s with a sign, r = √(−2 log U). Of numpy's log, sin and cos it
is assumed that they are off by at most 4 ulp: by 8 u relative, and by 4 u where they are at most 1.

1.  Ordinary words, 2^k <= w < 2^b − 2^k. The logarithms of U = (w + θ) 2^−b and of the float x = w 2^−b (1 + η),
    |η| <= u, differ by at most 1/w + 1.01 u. As |√a − √b| = |a − b|/(√a + √b), the radius is off by at most
    1.01 (1/w + 1.01 u)/r + 5.1 u r. Here r lies between 2^((k − b + 1)/2) and √(2 k log 2); the first term is largest
    where r is: 3.3e-6 (3.6e-11 for float64), or where r is smallest: 1.2e-5 (5.3e-12).
2.  Rare words, all others. U is known to b + 64 digits and the radius made in float64, then rounded: off by at most
    1.01 · 2^−(k + 1)/r + 4 u r, r <= 10.6 (11.6), unless these digits spell a number below 2^k, which has probability
    2^−(b + 64 − k). Near U = 1 the digits that are left open move it by at most √(2 · 2^−(b + 64)).
3.  Angle: s, 2π 2^−b and their product are rounded, so that it is off by at most 3.01 u π + 2π 2^−b, and its cosine
    and sine, with the 4 u of these functions, by at most 13.6 u.
4.  The scale, its product with the radius and that with the cosine are rounded: 3.01 u r, and 2 u more where products
    are below the normal floats, rounded or flushed to 0, as the scale is at least 1/u times the least of these.

In sum, for float32: 9.6e-6 where r is largest in 1, 1.2e-5 where it is smallest, and 1.4e-5 at r = 10.6 in 2: below
2^−16 everywhere. For float64: below 2^−34. These are the figures of `dpsgd.resolution`; tests hold the computation and
numpy's functions against exact values.

[BM58] G. E. P. Box, M. E. Muller. A Note on the Generation of Random Normal Deviates. Ann. Math. Statist. 29 (1958).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms import Source
from mechanisms.core.randomness import Words

Array = NDArray[Any]

BLOCK = 2**15
"""Coordinates made at once, the first half by cosines, the other by sines, which are whole runs of memory. It is a part
of the definition of the noise, and small enough that a block's buffers stay in the cache."""
ALIGNED = 4
"""A step's coordinates are counted as a multiple of this, so that steps begin with a block of the cipher."""
MORE_DIGITS = 64
WIDTHS = {"float32": 32, "float64": 64}


class BoxMuller:
    """Makes the noise of `dimension` coordinates, at any position, and adds it to sums.

    Args:
        source: where the noise comes from, its streams "noise float32" and "noise float32 digits" (or float64).
        dtype: of the sums, "float32" or "float64". Both have streams of their own: no word is used by both.
        dimension: of the whole sums, >= 1.

    >>> from mechanisms import KeyedSource
    >>> noise = BoxMuller(KeyedSource(0), dtype="float32", dimension=6)
    >>> whole, part = np.zeros(6, dtype=np.float32), np.zeros(2, dtype=np.float32)
    >>> noise.add_to(whole, position=0, scale=1.0)
    >>> noise.add_to(part, position=0, scale=1.0, start=3)
    >>> bool((part == whole[3:5]).all())
    True
    """

    def __init__(self, source: Source, *, dtype: str, dimension: int) -> None:
        self._source, self._digits = source, f"noise {dtype} digits"
        self._bits = WIDTHS[dtype]
        self._per_word = self._bits // 32
        self.width = self.width_of(dimension)
        self._reader = source.reader(f"noise {dtype}", most=min(BLOCK, self.width) * self._per_word)
        half = min(BLOCK, self.width) // 2
        self._radius, self._angle, self._values = (np.empty(half, dtype=dtype) for _ in range(3))
        number = self._radius.dtype.type
        self._unit, self._minus_two = number(2.0**-self._bits), number(-2.0)
        self._turn = number(2.0 * math.pi * 2.0**-self._bits)

    @staticmethod
    def width_of(dimension: int) -> int:
        """Return how many coordinates of the stream a step takes.

        >>> BoxMuller.width_of(6)
        8
        """
        return -(-dimension // ALIGNED) * ALIGNED

    def add_to(self, total: Array, *, position: int, scale: float, start: int = 0) -> None:
        """Add scale · z̃ to `total` (n,), coordinates start, …, start + n − 1 of `dimension`, in place.

        Args:
            total: of the dtype, with start + n <= dimension.
            position: where the coordinates begin in the stream, a multiple of 4; two that are `width` apart share none.
            scale: in the range that `dpsgd.core.noise` asks for.
            start: the first coordinate that `total` holds.
        """
        stop, first = start + len(total), start - start % BLOCK
        self._reader.seek((position + first) * self._per_word)
        for begin in range(first, stop, BLOCK):
            size = min(BLOCK, self.width - begin)
            low, high = max(start, begin), min(stop, begin + size)
            words = self._reader.read(size * self._per_word)
            self._add_block(
                total[low - start : high - start], words, pair=(position + begin) // 2, scale=scale, skipped=low - begin
            )

    def _add_block(self, part: Array, words: Words, *, pair: int, scale: float, skipped: int) -> None:
        """Add the noise of a block, whose first pair's number is given, to `part`, all of it but what is skipped."""
        half = len(words) // (2 * self._per_word)
        radius, angle, values = self._radius[:half], self._angle[:half], self._values[:half]
        self._fill_radius(radius, words[: half * self._per_word].view(f"<u{self._bits // 8}"), pair)
        np.multiply(radius, radius.dtype.type(scale), out=radius)
        np.copyto(angle, words[half * self._per_word :].view(f"<i{self._bits // 8}"), casting="unsafe")
        np.multiply(angle, self._turn, out=angle)
        for function, place in ((np.cos, 0), (np.sin, half)):
            low, high = max(skipped, place), min(skipped + len(part), place + half)
            if low < high:
                function(angle, out=values)
                np.multiply(values, radius, out=values)
                some = part[low - skipped : high - skipped]
                np.add(some, values[low - place : high - place], out=some)

    def _fill_radius(self, radius: Array, words: Array, pair: int) -> None:
        np.copyto(radius, words, casting="unsafe")
        np.multiply(radius, self._unit, out=radius)
        with np.errstate(divide="ignore"):  # of a zero word, which is a rare one
            np.log(radius, out=radius)
        np.multiply(radius, self._minus_two, out=radius)
        np.sqrt(radius, out=radius)
        rare = 2 ** (self._bits // 2)
        if np.minimum.reduce(words) < rare or np.maximum.reduce(words) >= 2**self._bits - rare:
            for i in np.flatnonzero((words < rare) | (words >= 2**self._bits - rare)):
                radius[i] = self._rare_radius(int(words[i]), pair + int(i))

    def _rare_radius(self, word: int, pair: int) -> float:
        """Return √(−2 log U) from 64 digits more: U is taken in the middle of what they leave open."""
        more = self._source.words(self._digits, 4 * pair, MORE_DIGITS // 32)
        odd = 2 * (word << MORE_DIGITS | int(more[0]) << 32 | int(more[1])) + 1
        bits = self._bits + MORE_DIGITS + 1
        if word >> (self._bits - 1):
            return math.sqrt(-2.0 * math.log1p(-math.ldexp(2**bits - odd, -bits)))
        return math.sqrt(-2.0 * math.log(math.ldexp(odd, -bits)))
