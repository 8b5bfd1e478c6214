"""How near computed noise is to exact normals: at any words against 60 digits, and numpy's functions in ulp."""

import math

import mpmath
import numpy as np
import pytest

from dpsgd.core.box_muller import BLOCK, BoxMuller
from dpsgd.resolution import RESOLUTIONS
from mechanisms import InvalidParameter, KeyedSource

ULP = 4
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


def _computed(dtype, us, vs, more, scale=1.0):
    size = 2 * len(us)
    total = np.zeros(size, dtype=dtype)
    source = Scripted(us, vs, more, BITS[dtype])
    BoxMuller(source, dtype=dtype, dimension=size).add_to(total, position=0, scale=scale)
    return total.reshape(2, -1).astype(np.float64) / float(np.dtype(dtype).type(scale))


def _exact(bits, u, v, more, end):
    """Return z of U and V whose digits after those drawn are all 0, or all 1, in 60 digits."""
    with mpmath.workdps(60):
        big_u = (mpmath.mpf(u * 2**64 + more) + end) / mpmath.mpf(2) ** (bits + 64)
        big_v = (mpmath.mpf(v) + end) / mpmath.mpf(2) ** bits
        radius = mpmath.sqrt(-2 * mpmath.log(big_u))
        return radius * mpmath.cos(2 * mpmath.pi * big_v), radius * mpmath.sin(2 * mpmath.pi * big_v)


def _awkward_words(bits, upper, generator):
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


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize(("upper", "scale"), [(False, 1.0), (True, 0.7)], ids=["U below 1/2", "U above 1/2"])
def test_noise_lies_within_the_error_of_an_exact_normal_with_the_same_digits(dtype, upper, scale):
    bits, bound = BITS[dtype], RESOLUTIONS[dtype].error
    us, vs, more = zip(*_awkward_words(bits, upper, np.random.default_rng(0)), strict=True)
    found = _computed(dtype, us, vs, more, scale)
    worst = 0.0
    for i, (u, v, digits) in enumerate(zip(us, vs, more, strict=True)):
        if (u << 64 | digits) >= 2 ** (bits // 2):  # otherwise it is what `failure` is the probability of
            for exact in (_exact(bits, u, v, digits, end) for end in (0, 1)):
                worst = max(worst, *(abs(float(e - mpmath.mpf(f))) for e, f in zip(exact, found[:, i], strict=True)))
    slack = 25 if (dtype, upper) == ("float64", True) else 5  # of a bound for both ends and functions off by 4 ulp
    assert bound / slack < worst < bound


@pytest.mark.parametrize("dtype", BITS)
def test_no_noise_is_larger_than_the_largest(dtype):
    top = 2 ** BITS[dtype]
    found = _computed(dtype, [0, 0, 1, top - 1], [0, top // 4, top // 2, 3], [0, 0, 0, 0])
    largest = RESOLUTIONS[dtype].largest
    assert abs(found[0, 0] - largest) < 1e-5 and abs(found[1, 1] - largest) < 1e-5
    assert np.abs(found).max() <= largest * (1 + 1e-6)


@pytest.mark.parametrize("dtype", BITS)
def test_failure_is_the_probability_of_digits_that_leave_the_radius_open(dtype):
    bits, resolution = BITS[dtype], RESOLUTIONS[dtype]
    assert resolution.failure == 2.0 ** (bits // 2) / 2.0 ** (bits + 64)
    with mpmath.workdps(60):
        missed = 2 * mpmath.ncdf(-mpmath.mpf(resolution.largest))
        assert missed < resolution.failure
        last = mpmath.mpf(2) ** (bits // 2)  # within the error from there on, but not much below
        at = [
            mpmath.sqrt(-2 * mpmath.log((n) / mpmath.mpf(2) ** (bits + 64)))
            for n in (last, last + mpmath.mpf(1) / 2, last / 64, last / 64 + mpmath.mpf(1) / 2)
        ]
        assert at[0] - at[1] < resolution.error / 4 and at[2] - at[3] > resolution.error / 8


def test_rare_words_are_met_in_whole_blocks_and_give_the_same_noise_in_parts():
    """Among 2^19 pairs some sixteen are rare: their radii are set from further digits, in the right places."""
    source, dimension = KeyedSource("rare"), 2**20
    noise = BoxMuller(source, dtype="float32", dimension=dimension)
    calls = []
    made = noise._rare_radius
    noise._rare_radius = lambda word, pair: calls.append((word, pair)) or made(word, pair)
    total = np.zeros(dimension, dtype=np.float32)
    noise.add_to(total, position=0, scale=1.0)
    assert 5 < len(calls) < 32
    for word, pair in calls:
        block, place = divmod(pair, BLOCK // 2)
        first = block * BLOCK + place
        more = source.words("noise float32 digits", 4 * pair, 2)
        value = (word << 64 | int(more[0]) << 32 | int(more[1])) / 2.0**96
        radius = math.sqrt(-2 * (math.log1p(value - 1) if value > 0.5 else math.log(value)))
        assert abs(math.hypot(total[first], total[first + BLOCK // 2]) - radius) < 1e-5
        assert source.words("noise float32", block * BLOCK + place, 1)[0] == word


def _float32_between(low, high, stride, at_once=2**20):
    ends = np.array([low, high], dtype=np.float32).view(np.uint32).tolist()
    for start in range(ends[0], ends[1] + 1, at_once * stride):
        yield np.arange(start, min(start + at_once * stride, ends[1] + 1), stride, dtype=np.uint32).view(np.float32)


def _in_ulp_of_float32(stride):
    """Return by how many ulp log is off at worst, and sine and cosine, for these the ulp of numbers just below 1."""
    worst = []
    for u in _float32_between(2.0**-16, 1 - 2.0**-24, stride):
        exact = np.log(u.astype(np.float64))
        worst.append(np.max(np.abs(np.log(u) - exact) / np.spacing(np.abs(exact).astype(np.float32))))
    for angle in _float32_between(2.0**-30, np.pi, stride):
        for function, x in ((np.sin, -angle), (np.cos, angle)):
            worst.append(np.max(np.abs(function(x) - function(x.astype(np.float64)))) * 2.0**24)
    return worst


def test_functions_of_float32_are_off_by_at_most_four_ulp():
    assert max(_in_ulp_of_float32(997)) <= ULP


@pytest.mark.slow
def test_functions_of_every_float32_are_off_by_at_most_four_ulp():
    assert max(_in_ulp_of_float32(1)) <= ULP


def test_functions_of_float64_are_off_by_at_most_four_ulp():
    generator = np.random.default_rng(0)
    u = np.concatenate([2.0 ** -(32 * generator.random(1000)), 1 - 2.0 ** -(32 * generator.random(1000)) / 2])
    angle = np.concatenate([np.pi * generator.uniform(-1, 1, 1000), np.pi / 2 * (1 + 2.0 ** -np.arange(1, 50.0))])
    with mpmath.workdps(40):
        for function, exact, x in ((np.log, mpmath.log, u), (np.sin, mpmath.sin, angle), (np.cos, mpmath.cos, angle)):
            for argument, value in zip(x.tolist(), function(x).tolist(), strict=True):
                true = exact(mpmath.mpf(argument))
                unit = float(np.spacing(abs(float(true)))) if function is np.log else 2.0**-53
                assert abs(float(true - mpmath.mpf(value))) <= ULP * unit


def test_failure_adds_up_over_coordinates_and_steps():
    resolution = RESOLUTIONS["float32"]
    assert resolution.failure_within(coordinates=2**20, steps=2**10) == 2.0**-50
    assert resolution.failure_within(coordinates=2**60, steps=2**60) == 1.0
    with pytest.raises(InvalidParameter, match="NoiseResolution: coordinates must"):
        resolution.failure_within(coordinates=0, steps=1)
