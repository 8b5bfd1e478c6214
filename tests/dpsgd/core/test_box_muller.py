"""How near computed noise is to exact normals: at any words against 60 digits, and numpy's functions in ulp."""

import math

import mpmath
import numpy as np
import pytest

from dpsgd.core.box_muller import BLOCK, BoxMuller
from dpsgd.resolution import RESOLUTIONS
from mechanisms import InvalidParameter, KeyedSource
from tests.dpsgd.scripted import BITS, Scripted, awkward_words, farthest, floats_between

ULP = 4


def _computed(dtype, us, vs, more, scale=1.0):
    size = 2 * len(us)
    total = np.zeros(size, dtype=dtype)
    source = Scripted(us, vs, more, BITS[dtype])
    BoxMuller(source, dtype=dtype, dimension=size).add_to(total, position=0, scale=scale)
    return total.reshape(2, -1).astype(np.float64) / float(np.dtype(dtype).type(scale))


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize(("upper", "scale"), [(False, 1.0), (True, 0.7)], ids=["U below 1/2", "U above 1/2"])
def test_noise_lies_within_the_error_of_an_exact_normal_with_the_same_digits(dtype, upper, scale):
    bits, bound = BITS[dtype], RESOLUTIONS[dtype].error
    us, vs, more = zip(*awkward_words(bits, upper, np.random.default_rng(0)), strict=True)
    found = _computed(dtype, us, vs, more, scale)
    worst = farthest(found, us, vs, more, bits)
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


def _in_ulp_of_float32(stride):
    """Return by how many ulp log is off at worst, and sine and cosine, for these the ulp of numbers just below 1."""
    worst = []
    for u in floats_between(2.0**-16, 1 - 2.0**-24, stride):
        exact = np.log(u.astype(np.float64))
        worst.append(np.max(np.abs(np.log(u) - exact) / np.spacing(np.abs(exact).astype(np.float32))))
    for angle in floats_between(2.0**-30, np.pi, stride):
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
