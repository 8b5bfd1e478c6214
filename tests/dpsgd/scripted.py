"""Words that are given instead of drawn, those at which noise is farthest from normals, and exact normals of them."""

import mpmath
import numpy as np
import torch

from dpsgd.core.box_muller import BLOCK, MOST_RARE, RARE
from mechanisms import KeyedSource

BITS = {"float32": 32, "float64": 64}


class Scripted(KeyedSource):
    """A source whose words are given: those of U and V of pairs at the beginnings of blocks, and the digits of U."""

    def __init__(self, us, vs, more, bits):
        super().__init__("scripted")
        self.given = [_block(*some, bits) for some in zip(*(_batched(each) for each in (us, vs, more)), strict=True)]

    def reader(self, stream, *, most):
        return Given(self.given, most)


class Given:
    def __init__(self, words, most):
        self.words, self.most, self.next = words, most, 0
        assert all(len(block) == most for block in words)

    def seek(self, counter):
        self.next, rest = divmod(counter, self.most)
        assert not rest

    def read(self, n):
        assert n == self.most
        self.next += 1
        return self.words[self.next - 1].copy()


def _batched(values):
    return [values[i : i + MOST_RARE] for i in range(0, len(values), MOST_RARE)]


def _block(us, vs, more, bits):
    """Return the words of a block that begins with these pairs, which may all be rare, and has no other rare ones."""
    words = np.full(BLOCK, 2 ** (bits - 1), dtype=f"<u{bits // 8}")
    words[: len(us)], words[BLOCK // 2 : BLOCK // 2 + len(vs)] = us, vs
    rare = RARE[f"float{bits}"]
    digits = [digits for u, digits in zip(us, more, strict=True) if u < rare or u >= 2**bits - rare]
    halves = [half for each in digits for half in (each >> 32, each & (2**32 - 1))]
    return np.concatenate([words.view("<u4"), np.array(halves + [0] * (2 * MOST_RARE - len(halves)), dtype="<u4")])


def made(noise, pairs, *, scale=1.0, dtype="float32"):
    """Return the noise (2, pairs) of a scripted source, in units of its scale."""
    total = np.zeros(-(-pairs // MOST_RARE) * BLOCK, dtype=dtype)
    noise.add_to(torch.from_numpy(total), position=0, scale=scale)
    firsts = total.reshape(-1, 2, BLOCK // 2)[:, :, :MOST_RARE].transpose(1, 0, 2).reshape(2, -1)[:, :pairs]
    return firsts.astype(np.float64) / float(np.dtype(dtype).type(scale))


def exact_pair(bits, u, v, more, end):
    """Return z of U and V whose digits after those drawn are all 0, or all 1, in 60 digits."""
    with mpmath.workdps(60):
        big_u = (mpmath.mpf(u * 2**64 + more) + end) / mpmath.mpf(2) ** (bits + 64)
        big_v = (mpmath.mpf(v) + end) / mpmath.mpf(2) ** bits
        radius = mpmath.sqrt(-2 * mpmath.log(big_u))
        return radius * mpmath.cos(2 * mpmath.pi * big_v), radius * mpmath.sin(2 * mpmath.pi * big_v)


def farthest(found, us, vs, more, bits, *, least=None):
    """Return how far the noise (2, n) of words is from exact normals of the same digits, whichever come after them."""
    worst = 0.0
    for i, (u, v, digits) in enumerate(zip(us, vs, more, strict=True)):
        if (u << 64 | digits) >= (least or 2 ** (bits // 2)):  # otherwise it is what `failure` is the probability of
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
    us = [0, 1, 2, rare // 2 - 1, rare // 2, rare - 1, rare, rare + 1, 3 * rare, top // 2 - 1]
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
