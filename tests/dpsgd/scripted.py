"""Words that are given instead of drawn, those at which noise is farthest from normals, and exact normals of them."""

import mpmath
import numpy as np

from mechanisms import KeyedSource

BITS = {"float32": 32, "float64": 64}


class Scripted(KeyedSource):
    """A source whose words are given: those of U and V of every pair, and the digits of U that follow."""

    def __init__(self, us, vs, more, bits):
        super().__init__("scripted")
        half = len(us)
        whole = np.array([*us, *vs], dtype=f"<u{bits // 8}")
        self.given, self.more, self.pairs = whole.view("<u4"), more, half

    def reader(self, stream, *, most):
        return Given(self.given)

    def words(self, stream, counter, n):
        word = self.more[counter // 4]
        return np.array([word >> 32, word & (2**32 - 1)], dtype=np.uint32)


class Given:
    def __init__(self, words):
        self.words = words

    def seek(self, counter):
        assert counter == 0

    def read(self, n):
        return self.words[:n].copy()


def exact_pair(bits, u, v, more, end):
    """Return z of U and V whose digits after those drawn are all 0, or all 1, in 60 digits."""
    with mpmath.workdps(60):
        big_u = (mpmath.mpf(u * 2**64 + more) + end) / mpmath.mpf(2) ** (bits + 64)
        big_v = (mpmath.mpf(v) + end) / mpmath.mpf(2) ** bits
        radius = mpmath.sqrt(-2 * mpmath.log(big_u))
        return radius * mpmath.cos(2 * mpmath.pi * big_v), radius * mpmath.sin(2 * mpmath.pi * big_v)


def farthest(found, us, vs, more, bits):
    """Return how far the noise (2, n) of words is from exact normals of the same digits, whichever come after them."""
    worst = 0.0
    for i, (u, v, digits) in enumerate(zip(us, vs, more, strict=True)):
        if (u << 64 | digits) >= 2 ** (bits // 2):  # otherwise it is what `failure` is the probability of
            for exact in (exact_pair(bits, u, v, digits, end) for end in (0, 1)):
                worst = max(worst, *(abs(float(e - mpmath.mpf(f))) for e, f in zip(exact, found[:, i], strict=True)))
    return worst


def awkward_words(bits, upper, generator):
    """Words of U at one end, at what is rare, between two floats; of V on an axis, near one, and any; digits after U.

    Where U's word is just not rare, all further digits 1 are farthest from it; a word close to 2^bits is farthest from
    a float halfway between two.
    """
    top, rare = 2**bits, 2 ** (bits // 2)
    halfway = 2 ** (bits - np.finfo(f"float{bits}").nmant - 2)
    us = [0, 1, 2, rare - 1, rare, rare + 1, 3 * rare, top // 2 - 1]
    us += [int(generator.random() * 2.0**e) for e in range(2, bits)]
    if upper:
        us = [top - 1 - u for u in us] + [top - rare - halfway]
    vs = [0, top // 4 + 1, 3 * top // 8 - 1, int(generator.integers(2**32)) << (bits - 32)]
    ends = [0, 2**64 - 1, int(generator.integers(2**63))]
    return [(u, v, more) for u in us for v in vs for more in ends]


def floats_between(low, high, stride, at_once=2**20):
    """Yield every so many-th float32 from one to another, both positive, in arrays."""
    ends = np.array([low, high], dtype=np.float32).view(np.uint32).tolist()
    for start in range(ends[0], ends[1] + 1, at_once * stride):
        yield np.arange(start, min(start + at_once * stride, ends[1] + 1), stride, dtype=np.uint32).view(np.float32)
