"""A source whose words are written down, so that a test can put a draw just above or below where it is decided."""

import numpy as np

from mechanisms import Source

WORD = 2**64


class Scripted(Source):
    """Words of 64 bits that are given, one list for all streams; `rest` are those that were not asked for."""

    def __init__(self, words):
        super().__init__(bytes(32))
        self.rest = list(words)

    @property
    def reproducible(self):
        return True

    def words(self, stream, counter, n):
        assert n % 2 == 0 and n // 2 <= len(self.rest), "the script has no more words"
        found, self.rest = self.rest[: n // 2], self.rest[n // 2 :]
        return np.array(found, dtype="<u8").view("<u4")


def first_bits(value, below):
    """The word from which a uniform integer `below` a number of up to 64 bits is this value."""
    return value << (64 - (below - 1).bit_length())
