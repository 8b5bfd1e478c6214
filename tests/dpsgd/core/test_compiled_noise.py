"""Noise that is compiled: what is traced, run as it is, against exact normals; and compiled, where there is time."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

import dpsgd.core.compiled_noise as core
from dpsgd import DPSGD, IndependentGaussian, LatticeGaussian
from dpsgd.core.box_muller import BLOCK, BoxMuller
from dpsgd.core.compiled_noise import CompiledBoxMuller, add_noise, cosines_and_sines, kernel, minus_two_logs
from dpsgd.core.noise import Noise
from dpsgd.core.noising import compile_noise, noising
from dpsgd.resolution import RESOLUTIONS
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.conftest import ROOT
from tests.dpsgd.scripted import Scripted, awkward_words, farthest, floats_between, made

ULP, U = 4, 2.0**-24
ERROR = RESOLUTIONS["float32"].error
SIZES = [1, 2, 5, 8, 3000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7]
LEAST_P_VALUE = 1e-4


def _traced(given):
    return [add_noise(*given)]


@pytest.fixture
def traced(monkeypatch):
    """What would be compiled runs as it is written."""
    monkeypatch.setattr(core, "kernel", lambda size: _traced)


@pytest.fixture
def afresh():
    """Nothing is compiled yet, and nothing of a test stays."""
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@pytest.fixture
def untraced(monkeypatch, afresh):
    """Nothing is traced either, for compilers that do not look at it."""
    monkeypatch.setattr(core, "make_fx", lambda function: lambda *given: None)


def _noise(dimension, key="compiled noise", *, compiled=True, run=0, dtype=torch.float32):
    like = torch.zeros(dimension, dtype=dtype)
    return Noise(source=KeyedSource(key), run=run, steps=400, like=like, compiled=compiled)


def _of(noise, step, *, scale=1.0, part=slice(None)):
    total = torch.zeros_like(noise.like[part])
    noise.add_to(total, step=step, scale=scale, part=part)
    return total


@pytest.mark.parametrize(("upper", "scale"), [(False, 1.0), (True, 0.7)], ids=["U below 1/2", "U above 1/2"])
def test_noise_lies_within_the_error_of_an_exact_normal_with_the_same_digits(upper, scale, traced):
    us, vs, more = zip(*awkward_words(32, upper, np.random.default_rng(0)), strict=True)
    found = made(CompiledBoxMuller(Scripted(us, vs, more, 32)), len(us), scale=scale)
    worst = farthest(found, us, vs, more, 32)
    assert ERROR / 5 < worst < ERROR


@pytest.mark.parametrize("dimension", SIZES)
def test_it_is_the_noise_that_is_not_compiled_but_for_its_error(dimension, traced):
    for step, scale in ((0, 1.0), (3, 0.3)):
        found, other = (_of(_noise(dimension, compiled=way), step, scale=scale) for way in (True, False))
        assert (found - other).abs().max() <= 2 * ERROR * scale
    assert dimension < 3000 or not torch.equal(found, other)


def test_rare_words_are_met_and_their_noise_is_that_of_further_digits(traced):
    noise = CompiledBoxMuller(KeyedSource("rare"))
    places, rare_radii, half = [], noise._rare_radii, BLOCK // 2

    def watched(words, digits):
        found = list(rare_radii(words, digits))
        places.extend(noise._reader._next // noise._words * BLOCK - BLOCK + place for place, _ in found)
        return found

    noise._rare_radii = watched
    found, other = np.zeros((2, 2**20), dtype=np.float32)
    noise.add_to(torch.from_numpy(found), position=0, scale=1.0)
    assert 3 < len(places) < 16
    BoxMuller(KeyedSource("rare"), dtype="float32").add_to(torch.from_numpy(other), position=0, scale=1.0)
    both = [*places, *(first + half for first in places)]
    assert np.abs(found[both] - other[both]).max() <= 4 * U * 6.7
    assert np.abs(found - other).max() <= 2 * ERROR


def _logs_in_ulp(stride):
    """Return by how many ulp −log U is off at worst, of words of U that are floats: others are rounded to these."""
    worst = 0.0
    for floats in floats_between(2.0**15, 2.0**32 - 2.0**15, stride):
        words = floats.astype(np.uint32)
        exact = -np.log(words.astype(np.float64) * 2.0**-32)
        found = minus_two_logs(torch.from_numpy(words.view(np.int32))).numpy() / 2.0
        worst = max(worst, np.max(np.abs(found - exact) / np.spacing(exact.astype(np.float32))))
    return worst


def _turns_in_u(stride):
    """Return by how many u cosines and sines are off at worst, beside the rounding of angles within a quarter turn."""
    worst = 0.0
    for rest in floats_between(1.0, 2.0**29, stride):
        words = rest.astype(np.int32)
        y = (words.astype(np.float32) * np.float32(core.TURN)).astype(np.float64)
        for sign in (1, -1):
            found = cosines_and_sines(torch.from_numpy(sign * words))
            for values, exact in zip(found, (np.cos(y), sign * np.sin(y)), strict=True):
                worst = max(worst, np.max(np.abs(values.numpy() - exact)) / U)
    return worst


def test_logarithms_and_turns_are_off_by_at_most_four_ulp():
    assert 0.5 < _logs_in_ulp(9973) <= ULP and 0.5 < _turns_in_u(9973) <= ULP


@pytest.mark.slow
def test_logarithms_and_turns_of_every_float_are_off_by_at_most_four_ulp():
    assert _logs_in_ulp(1) <= ULP and _turns_in_u(1) <= ULP


def test_quarter_turns_exchange_cosines_and_sines_exactly():
    words = torch.from_numpy(np.random.default_rng(0).integers(-(2**31), 2**31, 1000, dtype=np.int32))
    words = torch.cat([words, torch.tensor([0, 2**29, 2**29 - 1, 2**30, -(2**29), -(2**31), 2**31 - 1]).int()])
    cosines, sines = cosines_and_sines(words)
    angle = words.double() * (2 * math.pi * 2.0**-32)
    assert (cosines - angle.cos()).abs().max() <= 8 * U and (sines - angle.sin()).abs().max() <= 8 * U
    turned, others = cosines_and_sines(words + 2**30)
    assert torch.equal(turned, -sines) and torch.equal(others, cosines)


@pytest.mark.parametrize("dimension", [1, 6, 2 * BLOCK + 7])
def test_any_step_alone_and_any_range_of_coordinates_has_the_noise_of_the_whole(dimension, traced):
    noise = _noise(dimension)
    together = {step: _of(noise, step) for step in range(4)}
    cuts = sorted({0, 1, dimension // 3, min(BLOCK - 1, dimension), min(BLOCK + 1, dimension), dimension})
    for step in (3, 0, 2):
        assert torch.equal(_of(_noise(dimension), step), together[step])
        for part in itertools.starmap(slice, itertools.combinations_with_replacement(cuts, 2)):
            assert torch.equal(_of(noise, step, part=part), together[step][part])


def test_noise_is_normal_and_its_steps_and_pairs_are_independent(traced):
    noise = _noise(300_000)
    first, second = (_of(noise, step).double().numpy() for step in (0, 1))
    half = BLOCK // 2
    for a, b in ((first, second), (first[:half], first[half:BLOCK]), (first[:-1:2], first[1::2])):
        cells = np.histogram2d(stats.norm.cdf(a), stats.norm.cdf(b), bins=10, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(cells.ravel()).pvalue > LEAST_P_VALUE
    assert stats.kstest(first, "norm").pvalue > LEAST_P_VALUE
    assert abs(first.var() - 1) < 4 * math.sqrt(2 / len(first))


def test_noise_is_added_to_what_is_there_and_to_a_view(traced):
    wide = torch.ones(3000, 2)
    noise = _noise(3000)
    noise.add_to(wide[:, 1], step=0, scale=2.0)
    assert torch.equal(wide[:, 1], 1 + _of(noise, 0, scale=2.0))
    assert torch.equal(wide[:, 0], torch.ones(3000))
    assert torch.equal(_of(noise, 0, scale=1.0), _of(_noise(3000), 0, scale=1.0))  # after another scale


def test_torchs_defaults_do_not_matter(traced):
    expected = _of(_noise(30), 0)
    torch.set_default_dtype(torch.float64)
    try:
        found = _of(_noise(30), 0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scale", [2.0**-101, 2.0**123])
def test_the_smallest_and_the_largest_scale_give_finite_noise_of_their_size(scale, traced):
    size = _of(_noise(3000), 0, scale=scale).double() / scale
    assert torch.isfinite(size).all() and 0.9 < size.std() < 1.1


def test_noise_of_other_laws_and_dtypes_is_not_compiled(monkeypatch):
    def never(size):
        raise AssertionError

    monkeypatch.setattr(core, "kernel", never)
    assert torch.equal(_of(_noise(9, dtype=torch.float64), 0), _of(_noise(9, compiled=False, dtype=torch.float64), 0))
    like, config = torch.zeros(9), _config(LatticeGaussian(dimension=9))
    compile_noise(config, like=like)
    noising(config, source=KeyedSource(0), run=0, like=like, compiled=True)
    with pytest.raises(AssertionError):
        compile_noise(_config(IndependentGaussian()), like=like)


def _config(noise):
    return DPSGD(
        noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.5), expected_batch_size=4, steps=9,
        learning_rate=0.1, noise=noise,
    )  # fmt: skip


def test_a_compiler_that_fails_is_told(monkeypatch, untraced):
    def fails(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(core, "inductor", fails)
    with pytest.raises(InvalidParameter, match=r"^compiled: noise must compile, got RuntimeError: no C\+\+ compiler"):
        _noise(9)


def test_a_compiler_that_rounds_otherwise_is_refused(monkeypatch, untraced):
    """Here one that makes one operation of a product and a sum, for which it has float64."""

    def contracts(graph, inputs):
        def compiled(given):
            first, second, words = given
            values = [torch.zeros_like(first), torch.zeros_like(first)]
            least = add_noise(*values, words)
            for total, noise in zip((first, second), values, strict=True):
                total.add_(torch.from_numpy(np.nextafter(noise.numpy(), np.float32(np.inf))))
            return [least]

        return compiled

    monkeypatch.setattr(core, "inductor", contracts)
    with pytest.raises(InvalidParameter, match=r"^compiled: the compiler must round every sum and product of noise"):
        _noise(64)


def test_a_compiler_that_rounds_noise_and_its_sum_once_is_refused(monkeypatch, untraced):
    def contracts(graph, inputs):
        def compiled(given):
            first, second, words = given
            half = len(first)
            logs = torch.from_numpy(np.sqrt(core.minus_two_logs(words[:half]).numpy()))
            radius = logs.masked_fill(core._distance(words[:half]) < core.RARE, 0.0).double()
            for total, turns in zip((first, second), core.cosines_and_sines(words[half:]), strict=True):
                total.copy_(total.double() + radius * turns)
            return [core._distance(words[:half]).amin()]

        return compiled

    monkeypatch.setattr(core, "inductor", contracts)
    with pytest.raises(InvalidParameter, match=r"^compiled: the compiler must round every sum and product of noise"):
        _noise(64)


def test_what_is_compiled_is_compiled_once_and_for_made_up_words(monkeypatch, untraced):
    seen = []
    monkeypatch.setattr(core, "inductor", lambda graph, inputs: seen.append(inputs) or _traced)
    monkeypatch.setattr(np, "sqrt", lambda x: torch.from_numpy(x).sqrt().numpy())  # as what is traced does here
    noise = _noise(64)
    monkeypatch.setattr(core, "inductor", None)
    for step in range(3):
        _of(noise, step)
        _of(_noise(62, key=str(step)), step)
    [(first, second, words)] = seen
    made_up = np.random.default_rng(0).standard_normal((2, BLOCK // 2), dtype=np.float32)
    assert np.array_equal(torch.stack([first, second]).numpy(), made_up)
    assert not set(words.tolist()) & set(
        KeyedSource("compiled noise").words("noise float32", 0, 256).view("<i4").tolist()
    )


@pytest.mark.slow
def test_compiled_it_is_bit_for_bit_what_is_written_whatever_the_number_of_threads(afresh):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            kernel.cache_clear()
            found.append([_of(_noise(dimension), 3, scale=0.3) for dimension in (5, BLOCK + 29)])
    finally:
        torch.set_num_threads(before)
    for one, other in itertools.product(found[:1], found[1:]):
        assert all(map(torch.equal, one, other))
    words = torch.from_numpy(KeyedSource("bits").words("words", 0, 8000).view("<i4").copy())
    values = [torch.zeros(4000), torch.zeros(4000)]
    kernel(8000)([*values, words])
    radius = torch.from_numpy(np.sqrt(minus_two_logs(words[:4000]).numpy()))
    radius[core._distance(words[:4000]) < core.RARE] = 0.0  # of which there is one
    assert all(map(torch.equal, values, (radius * each for each in cosines_and_sines(words[4000:]))))


@pytest.mark.slow
def test_compiled_in_a_process_that_is_told_to_contract_it_is_the_same(tmp_path):
    """Torch's variables of the environment do not reach what noise is made of."""
    shown = "print(_of(_noise(3000), 1).numpy().tobytes().hex())"
    code = f"from tests.dpsgd.core.test_compiled_noise import _noise, _of; {shown}"
    told = {
        "TORCHINDUCTOR_CPP_ENABLE_FLOATING_POINT_CONTRACT_FLAG": "fast",
        "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | told, capture_output=True, text=True)
    assert done.stdout.strip() == _of(_noise(3000), 1).numpy().tobytes().hex()
