"""How near computed noise is to exact normals: at any words against 60 digits, and torch's functions in ulp."""

import math

import mpmath
import numpy as np
import pytest
import torch

from dpsgd.core.box_muller import BLOCK, MOST_RARE, RARE, BoxMuller
from dpsgd.resolution import RESOLUTIONS
from mechanisms import InvalidParameter, KeyedSource
from tests.dpsgd.scripted import BITS, Scripted, awkward_words, farthest, floats_between, made

ULP = 4


def _computed(dtype, us, vs, more, scale=1.0):
    noise = BoxMuller(Scripted(us, vs, more, BITS[dtype]), dtype=dtype)
    return made(noise, len(us), scale=scale, dtype=dtype)


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


def test_failure_leaves_room_for_blocks_of_more_rare_words_than_have_digits_of_their_own():
    """Numbers from 2^(b/2 − 1) on are within the error, which leaves half of the failure for such blocks."""
    for dtype, bits in BITS.items():
        pairs, rare = BLOCK // 2, 2 * RARE[dtype] / 2.0**bits
        with mpmath.workdps(30):
            most = mpmath.binomial(pairs, MOST_RARE + 1) * mpmath.mpf(rare) ** (MOST_RARE + 1)
            assert most < mpmath.mpf(2) ** -150 < RESOLUTIONS[dtype].failure / 2
        least = 2 ** (bits // 2 - 1)
        found = _computed(dtype, [0, 0], [0, 0], [least, least + 1])
        assert farthest(found, [0, 0], [0, 0], [least, least + 1], bits, least=least) < RESOLUTIONS[dtype].error


def test_rare_words_are_met_in_whole_blocks_and_have_digits_of_their_own():
    """Among 2^19 pairs some eight are rare: their radii are made of digits behind the block, in their order."""
    source, blocks = KeyedSource("rare"), 2**20 // BLOCK
    noise, size = BoxMuller(source, dtype="float32"), BLOCK + 2 * MOST_RARE
    total, met = np.zeros(2**20, dtype=np.float32), 0
    noise.add_to(torch.from_numpy(total), position=0, scale=1.0)
    for block in range(blocks):
        words = source.words("noise float32", block * size, size).astype(np.int64)
        us, digits = words[: BLOCK // 2], words[BLOCK:].reshape(-1, 2).tolist()
        rare = np.flatnonzero((us < 2**15) | (us >= 2**32 - 2**15)).tolist()
        for place, (high, low) in zip(rare, digits, strict=False):
            value = (int(us[place]) << 64 | high << 32 | low) / 2.0**96
            radius = math.sqrt(-2 * (math.log1p(value - 1) if value > 0.5 else math.log(value)))
            first = block * BLOCK + place
            assert abs(math.hypot(total[first], total[first + BLOCK // 2]) - radius) < 1e-5
        met += len(rare)
    assert 3 < met < 16


@pytest.mark.parametrize("dtype", BITS)
def test_the_number_of_threads_changes_no_noise(dtype):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(np.zeros(1000, dtype=dtype))
            BoxMuller(KeyedSource("threads"), dtype=dtype).add_to(
                torch.from_numpy(found[-1]), position=BLOCK // 2 - 500, scale=0.3
            )
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_a_block_is_made_once_for_all_its_steps_whatever_their_scales(monkeypatch):
    noise, made_of = BoxMuller(KeyedSource(0), dtype="float32"), []
    make = noise._make
    monkeypatch.setattr(noise, "_make", lambda *given: made_of.append(given) or make(*given))
    totals = []
    for position, scale in ((0, 1.0), (100, 1.0), (BLOCK - 50, 1.0), (0, 2.0), (100, 2.0), (0, 0.5), (0, 1.0)):
        totals.append(torch.zeros(100))
        noise.add_to(totals[-1], position=position, scale=scale)
    assert made_of == [(0,), (1,), (0,)]
    assert torch.equal(totals[3], 2 * totals[0]) and torch.equal(totals[4], 2 * totals[1])
    assert torch.equal(totals[5], totals[0] / 2) and torch.equal(totals[6], totals[0])


@pytest.mark.parametrize("dtype", BITS)
def test_noise_of_any_scale_and_its_sum_are_rounded_once_each_at_most(dtype):
    z, noise, unit = np.zeros(3000, dtype=dtype), BoxMuller(KeyedSource(0), dtype=dtype), np.finfo(dtype).epsneg
    noise.add_to(torch.from_numpy(z), position=BLOCK - 1500, scale=1.0)
    before = np.random.default_rng(0).standard_normal(3000).astype(dtype)
    after, scale = before.copy(), np.dtype(dtype).type(0.7)
    noise.add_to(torch.from_numpy(after), position=BLOCK - 1500, scale=0.7)
    with mpmath.workdps(40):
        for start, each, end in zip(before.tolist(), z.tolist(), after.tolist(), strict=True):
            product = mpmath.mpf(float(scale)) * each
            assert abs(start + product - end) <= unit * (abs(product) + abs(end))


def test_a_block_that_was_interrupted_is_made_anew(monkeypatch):
    noise, fill = BoxMuller(KeyedSource(0), dtype="float32"), BoxMuller._fill

    def interrupted(self, *given):
        fill(self, *given)
        raise KeyboardInterrupt

    expected, total = np.zeros((2, 100), dtype=np.float32)
    BoxMuller(KeyedSource(0), dtype="float32").add_to(torch.from_numpy(expected), position=0, scale=1.0)
    noise.add_to(torch.from_numpy(np.zeros(1, dtype=np.float32)), position=0, scale=1.0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(BoxMuller, "_fill", interrupted)
        noise.add_to(torch.from_numpy(total), position=BLOCK, scale=1.0)
    noise.add_to(torch.from_numpy(total), position=0, scale=1.0)
    assert np.array_equal(total, expected)


def _in_ulp_of_float32(stride):
    """Return by how many ulp log is off at worst, and sine and cosine, for these the ulp of numbers just below 1."""
    worst = []
    for u in floats_between(2.0**-17, 1 - 2.0**-24, stride):
        exact = np.log(u.astype(np.float64))
        worst.append(np.max(np.abs(_of_torch(torch.log, u) - exact) / np.spacing(np.abs(exact).astype(np.float32))))
    for angle in floats_between(2.0**-30, np.pi, stride):
        for function, exact, x in ((torch.sin, np.sin, -angle), (torch.cos, np.cos, angle)):
            worst.append(np.max(np.abs(_of_torch(function, x) - exact(x.astype(np.float64)))) * 2.0**24)
    return worst


def _of_torch(function, x):
    return function(torch.from_numpy(x)).numpy()


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
        for function, exact, x in (
            (torch.log, mpmath.log, u), (torch.sin, mpmath.sin, angle), (torch.cos, mpmath.cos, angle),
        ):  # fmt: skip
            for argument, value in zip(x.tolist(), _of_torch(function, x).tolist(), strict=True):
                true = exact(mpmath.mpf(argument))
                unit = float(np.spacing(abs(float(true)))) if function is torch.log else 2.0**-53
                assert abs(float(true - mpmath.mpf(value))) <= ULP * unit


def test_failure_adds_up_over_coordinates_and_steps():
    resolution = RESOLUTIONS["float32"]
    assert resolution.failure_within(coordinates=2**20, steps=2**10) == 2.0**-50
    assert resolution.failure_within(coordinates=2**60, steps=2**60) == 1.0
    with pytest.raises(InvalidParameter, match="NoiseResolution: coordinates must"):
        resolution.failure_within(coordinates=0, steps=1)
