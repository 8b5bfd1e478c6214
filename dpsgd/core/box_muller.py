"""Normal noise in the floats of the sums it is added to, at little more than what the cipher takes: Box–Muller.

The noise of all steps of a run, one after the other, is one sequence, which is made block by block. The first 32 binary
digits of two real uniforms U and V (64 for float64) are the words of a pair of coordinates; 64 digits more of every U
that needs them follow the words of its block. Then z = √(−2 log U) (cos 2πV, sin 2πV) are independent standard normals,
exactly [BM58], and what is computed is z̃ near z. Proof of how near: u is the unit roundoff (2^−24, 2^−53), b the digits
of a word, m = 2^15 (2^32) the least word that is not rare, w and s the words of U and V as integers, s with a sign,
r = √(−2 log U). Of torch's log, sin and cos it is assumed that they are off by at most 4 ulp: by 8 u relative, and by
4 u where they are at most 1.

1.  Ordinary words, m <= w < 2^b − m. The logarithms of U = (w + θ) 2^−b and of the float x = w 2^−b (1 + η) differ by
    at most 1/w + 1.01 |η|, where |η| <= u, and |η| <= u/2 as x nears 1, the last float below it being 1 − u. As
    |√a − √b| = |a − b|/(√a + √b), the radius is off by at most 1.01 (1/w + 1.01 |η|)/r + 5.1 u r. Here r lies between
    √(2 m 2^−b) and √(2 log(2^b/m)); the first term is largest where r is: 6.4e-6 (3.6e-11 for float64), or where r is
    smallest: 7.9e-6 (2.7e-12).
2.  Rare words, all others. U is known to b + 64 digits and the radius made in float64, then rounded: off by at most
    1.01 · 2^−(b/2 + 1)/r + 4 u r, r <= 10.6 (11.6), unless these digits spell a number below 2^(b/2), which has
    probability 2^−(b/2 + 64). Near U = 1 the digits that are left open move it by at most √(2 · 2^−(b + 64)). A block
    has digits for MOST_RARE words: with a probability below 2^−150 it has more that are rare, and some share theirs.
    Failures allow for that: from 2^(b/2 − 1) on numbers keep within the error as well, which leaves 2^−(b/2 + 65).
3.  Angle: s, 2π 2^−b and their product are rounded, so that it is off by at most 3.01 u π + 2π 2^−b, and its cosine
    and sine, with the 4 u of these functions, by at most 13.6 u.
4.  The product of radius and cosine is rounded, and the scale, and its product with that, if not with the sum at once:
    3.01 u r, and 2 u more where products are below the normal floats, rounded or flushed to 0, as the scale is at least
    1/u times the least of these.

In sum, for float32: 1.3e-5 where r is largest in 1, 7.9e-6 where it is smallest, and 1.4e-5 at r = 10.6 in 2: below
2^−16 everywhere. For float64: below 2^−34. These are the figures of `dpsgd.resolution`; tests hold the computation and
torch's functions against exact values.

[BM58] G. E. P. Box, M. E. Muller. A Note on the Generation of Random Normal Deviates. Ann. Math. Statist. 29 (1958).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechanisms import Source
from mechanisms.core.randomness import Words

Array = NDArray[Any]

BLOCK = 2**17
"""Coordinates made at once, the first half by cosines, the other by sines, which are whole runs of memory. It is a part
of the definition of the noise: so small that what a block is made in stays in the cache, and so large that small models
have the noise of many steps at once, for what it costs to call the functions for one of them: between steps their code
has left the cache, and a call takes as long as thousands of numbers."""
RARE = {"float32": 2**15, "float64": 2**32}
"""How far from 0 and from 2^b words are that are not rare."""
MORE_DIGITS, MOST_RARE = 64, 40
WIDTHS = {"float32": 32, "float64": 64}


class BoxMuller:
    """Makes the noise of coordinates at any position, and adds it to sums.

    Args:
        source: where the noise comes from, its stream "noise float32" or "noise float64": no word is used by both.
        dtype: of the sums, "float32" or "float64".

    >>> from mechanisms import KeyedSource
    >>> noise = BoxMuller(KeyedSource(0), dtype="float32")
    >>> whole, part = torch.zeros(6), torch.zeros(2)
    >>> noise.add_to(whole, position=0, scale=1.0)
    >>> noise.add_to(part, position=3, scale=1.0)
    >>> torch.equal(part, whole[3:5])
    True
    """

    def __init__(self, source: Source, *, dtype: str) -> None:
        self._source = source
        self._bits, self._rare = WIDTHS[dtype], RARE[dtype]
        self._words = BLOCK * self._bits // 32 + MOST_RARE * MORE_DIGITS // 32
        self._reader = source.reader(f"noise {dtype}", most=self._words)
        self._noise = np.empty(BLOCK, dtype=dtype)
        self._radius, self._angle = self._noise.reshape(2, -1)
        self._shown = torch.from_numpy(self._noise)
        self._first, self._second = self._shown.view(2, -1)  # the same memory
        number = self._noise.dtype.type
        self._unit, self._turn = number(2.0**-self._bits), number(2.0 * math.pi * 2.0**-self._bits)
        self._minus_two = number(-2.0)
        self._made: int | None = None

    def add_to(self, total: Tensor, *, position: int, scale: float) -> None:
        """Add scale · z̃ to `total` (n,), the coordinates position, …, position + n − 1 of the sequence, in place.

        Args:
            total: of the dtype, on the CPU.
            position: >= 0.
            scale: in the range that `dpsgd.core.noise` asks for.

        Raises:
            InvalidParameter: if the source is used in a forked process, which would draw the same numbers.
        """
        self._source.check_process()  # also where the block has been made before
        size = len(total)
        stop = position + size
        for block in range(position // BLOCK, -(-stop // BLOCK)):
            if self._made != block:
                self._make(block)
            begin = block * BLOCK
            low, high = max(position, begin), min(stop, begin + BLOCK)
            part = total if high - low == size else total[low - position : high - position]
            part.add_(self._shown[low - begin : high - begin], alpha=scale)

    def _make(self, block: int) -> None:
        self._made = None  # until it is: an interrupt may come between
        self._reader.seek(block * self._words)
        words = self._reader.read(self._words)
        digits = words[-MOST_RARE * MORE_DIGITS // 32 :].reshape(MOST_RARE, -1)
        self._fill(words[: -digits.size].view(f"<u{self._bits // 8}"), digits)
        self._made = block

    def _fill(self, words: Words, digits: Words) -> None:
        """Make the noise of a block, of scale 1, of its words, those of U and then those of V, and digits of rare ones.

        The words are written over.
        """
        half = BLOCK // 2
        self._fill_radius(words[:half], digits)
        np.copyto(self._angle, words[half:].view(f"<i{self._bits // 8}"), casting="unsafe")
        np.multiply(self._angle, self._turn, out=self._angle)
        cosines = words[:half].view(self._noise.dtype)  # in memory of words that have been read
        torch.cos(self._second, out=torch.from_numpy(cosines))
        self._second.sin_()
        np.multiply(self._angle, self._radius, out=self._angle)
        np.multiply(self._radius, cosines, out=self._radius)

    def _fill_radius(self, words: Words, digits: Words) -> None:
        np.copyto(self._radius, words, casting="unsafe")
        np.multiply(self._radius, self._unit, out=self._radius)
        self._first.log_()
        np.multiply(self._radius, self._minus_two, out=self._radius)
        np.sqrt(self._radius, out=self._radius)
        for place, rare in self._rare_radii(words, digits):
            self._radius[place] = rare

    def _rare_radii(self, words: Words, digits: Words) -> Iterator[tuple[int, float]]:
        """Yield where words are rare and √(−2 log U) from 64 digits more, U in the middle of what they leave open."""
        bits = self._bits + MORE_DIGITS + 1
        for (place, word), more in zip(self._taken(words), itertools.cycle(digits)):
            high, low = more.tolist()
            odd = 2 * (word << MORE_DIGITS | high << 32 | low) + 1
            if odd >> (bits - 1):
                yield place, math.sqrt(-2.0 * math.log1p(-math.ldexp(2**bits - odd, -bits)))
            else:
                yield place, math.sqrt(-2.0 * math.log(math.ldexp(odd, -bits)))

    def _taken(self, words: Words) -> list[tuple[int, int]]:
        """Return (place, word) of all rare words by their places; one that is not rare is written over each.

        There is about one in a block, which is found sooner by its value than by comparing all words.
        """
        last = 2**self._bits - self._rare
        found: list[tuple[int, int]] = []
        while (word := int(words[place := int(words.argmin())])) < self._rare:
            found.append((place, word))
            words[place] = self._rare
        while (word := int(words[place := int(words.argmax())])) >= last:
            found.append((place, word))
            words[place] = self._rare
        return sorted(found)
