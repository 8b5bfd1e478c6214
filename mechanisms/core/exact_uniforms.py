"""Uniform draws, exactly: words of 64 digits, whole numbers, and reals of which as many digits are drawn as it takes.

All that is decided by chance in an exact sampler is decided here: a uniform real U is compared with something that is
enclosed ever more narrowly, and where the digits known of both leave it open, both get more. Whatever was learnt of U
before, its next digits are fair coins, so that every question about it is answered as if all had been there.

How long a comparison or a rejection takes depends on the draws, never on data; timing is no part of any guarantee.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.randomness import Source

Array = NDArray[Any]
Answer = TypeVar("Answer")
Probability = Callable[[int], tuple[int, int]]
"""From a number of bits to integers around 2^bits p: the narrower around p, the more bits."""

BITS = 64  # of a word here
WORD = 1 << BITS


def words_of_64(source: Source, stream: str, n: int) -> NDArray[np.uint64]:
    """Return the next `n` uniform words of 64 bits of a stream, of which each is used once, shape (n,)."""
    words = source.words(stream, source.reserve(stream, 2 * n), 2 * n)
    return words.astype("<u4", copy=False).view("<u8").astype(np.uint64, copy=False)


def signs(source: Source, stream: str, n: int) -> NDArray[np.bool_]:
    """Return `n` independent fair coins, shape (n,)."""
    size = -(-n // 32)
    words = source.words(stream, source.reserve(stream, size), size).astype("<u4", copy=False)
    return np.unpackbits(words.view(np.uint8), count=n).astype(bool)


def uniform_integers(source: Source, stream: str, below: int, n: int) -> Array:
    """Return n independent uniform integers in [0, below), shape (n,): int64, or Python's where `below` > 2^63.

    >>> from mechanisms.core.randomness import KeyedSource
    >>> found = uniform_integers(KeyedSource(0), "dice", 6, 1000)
    >>> int(found.min()), int(found.max())
    (0, 5)
    """
    below = validate.count("uniform_integers", "below", below, least=1)
    found: Array
    if below > WORD // 2:
        found = np.empty(n, dtype=object)
        found[:] = _wide_integers(source, stream, below, n)
        return found
    found, filled = np.zeros(n, dtype=np.int64), 0 if below > 1 else n
    accepted = np.uint64(WORD - WORD % below - 1)  # words up to here hold every remainder equally often
    while filled < n:
        words = words_of_64(source, stream, n - filled)
        kept = words[words <= accepted]
        found[filled : filled + len(kept)] = kept % np.uint64(below)
        filled += len(kept)
    return found


def uniform_integer(source: Source, stream: str, below: int) -> int:
    """Return a uniform integer in [0, below)."""
    below = validate.count("uniform_integer", "below", below, least=1)
    return _wide_integers(source, stream, below, 1)[0] if below > 1 else 0


def _wide_integers(source: Source, stream: str, below: int, n: int) -> list[int]:
    """Return uniform integers of any width: the first bits of as many words, rejected where these are not below."""
    bits = (below - 1).bit_length()
    size = -(-bits // BITS)
    unused, width, found = BITS * size - bits, BITS // 8 * size, list[int]()
    while len(found) < n:
        drawn = words_of_64(source, stream, (n - len(found)) * size).astype("<u8", copy=False).tobytes()
        parts = (drawn[start : start + width] for start in range(0, len(drawn), width))
        values = (int.from_bytes(part, "little") >> unused for part in parts)
        found.extend(value for value in values if value < below)
    return found


class LazyUniform:
    """A uniform real in [0, 1) of which the first digits are known, the next ones drawn when they are needed.

    Args:
        source: where more digits come from.
        stream: of the source.
        known: the integer that the first digits spell.
        bits: how many they are.

    >>> from mechanisms import KeyedSource
    >>> u = LazyUniform(KeyedSource(0), "digits")
    >>> (u.bits, u.to(100).bits)
    (0, 128)
    """

    __slots__ = ("bits", "known", "source", "stream")

    def __init__(self, source: Source, stream: str, known: int = 0, bits: int = 0) -> None:
        self.source, self.stream, self.known, self.bits = source, stream, known, bits

    def to(self, bits: int) -> LazyUniform:
        """Draw digits until at least `bits` are known, and return the number itself."""
        while self.bits < bits:
            self.known = self.known << BITS | int(words_of_64(self.source, self.stream, 1)[0])
            self.bits += BITS
        return self

    def ends(self) -> tuple[Fraction, Fraction]:
        """Return what is known: the number lies between these two."""
        return Fraction(self.known, 1 << self.bits), Fraction(self.known + 1, 1 << self.bits)

    def is_below(self, probability: Probability) -> bool:
        """Tell whether U < p: a coin that falls True with exactly this probability, where no digits were known.

        It ends with probability 1 where the enclosures narrow down to p.

        >>> from mechanisms import KeyedSource
        >>> LazyUniform(KeyedSource(0), "digits", known=1, bits=2).is_below(lambda bits: (1 << bits - 1, 1 << bits - 1))
        True
        """
        while True:
            low, high = probability(self.bits)
            if self.known + 1 <= low:
                return True
            if self.known >= high:
                return False
            self.to(self.bits + 1)

    def answer(self, find: Callable[[int, int], Answer | None]) -> Answer:
        """Return what `find(known, bits)` says as soon as the digits known of the number tell it; until then, None."""
        while (found := find(self.known, self.bits)) is None:
            self.to(self.bits + 1)
        return found
