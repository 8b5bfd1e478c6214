"""Noise of steps: its law by χ² and Kolmogorov–Smirnov at fixed keys, and that every part of it can be had alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from dpsgd.core.box_muller import BLOCK
from dpsgd.core.noise import Noise
from dpsgd.core.runs import RUN, begin_run
from mechanisms import InvalidParameter, KeyedSource

STEPS, DIMENSION, SCALE = 400, 51, 3.0
MANY = 1_000_000
LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
DTYPES = [torch.float32, torch.float64]


def _noise(key="tests of noise", *, source=None, run=0, dimension=DIMENSION, dtype=torch.float32):
    return Noise(source=source or KeyedSource(key), run=run, steps=STEPS, like=torch.zeros(dimension, dtype=dtype))


def _of(noise, step, *, scale=SCALE, part=slice(None)):
    total = torch.zeros_like(noise.like[part])
    noise.add_to(total, step=step, scale=scale, part=part)
    return total


def _standard():
    noise = _noise()
    return torch.stack([_of(noise, step) for step in range(STEPS)]).double().numpy() / SCALE


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def many(request):
    return _of(_noise("many", dimension=MANY, dtype=request.param), 3, scale=1.0).double().numpy()


def test_noise_has_mean_zero_and_the_variance_asked_for():
    z = _standard().ravel()
    assert abs(z.mean()) * np.sqrt(z.size) < 4
    assert abs(z.var() - 1) / np.sqrt(2 / z.size) < 4
    assert stats.kstest(z, "norm").pvalue > LEAST_P_VALUE


def test_noise_is_normal(many):
    assert stats.kstest(many, "norm").pvalue > LEAST_P_VALUE
    cells = np.histogram(many, bins=stats.norm.ppf(np.linspace(0, 1, 201)))[0]
    assert stats.chisquare(cells).pvalue > LEAST_P_VALUE


def _tails_p_value(z):
    """χ² of how many lie in cells beyond ±3.5, ±4, ±4.5, the two sides apart, and of all the others."""
    edges = np.array([-np.inf, -4.5, -4.0, -3.5, 3.5, 4.0, 4.5, np.inf])
    counts = np.histogram(z, bins=edges)[0]
    cdf = stats.norm.cdf(edges)
    expected = np.where(edges[1:] > 0, stats.norm.sf(edges[:-1]) - stats.norm.sf(edges[1:]), np.diff(cdf)) * z.size
    expected[3] = z.size - expected[:3].sum() - expected[4:].sum()
    return stats.chisquare(counts, expected).pvalue


def test_tails_of_noise_have_the_mass_of_normal_tails(many):
    assert _tails_p_value(many) > LEAST_P_VALUE


def _pairs():
    """Return the two coordinates of every pair of a block, and neighbours, steps and blocks that share no pair."""
    noise = _noise("pairs", dimension=2 * BLOCK)
    first, second = (_of(noise, step, scale=1.0).double().numpy() for step in (0, 1))
    half = BLOCK // 2
    return {
        "a pair": (first[:half], first[half:BLOCK]),
        "neighbours": (first[:-1:2], first[1::2]),
        "steps": (first, second),
        "blocks": (first[:BLOCK], first[BLOCK:]),
    }


@pytest.mark.parametrize("name", ["a pair", "neighbours", "steps", "blocks"])
def test_two_values_are_independent(name):
    a, b = _pairs()[name]
    cells = np.histogram2d(stats.norm.cdf(a), stats.norm.cdf(b), bins=10, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > LEAST_P_VALUE
    turn = np.arctan2(b, a) / (2 * math.pi) + 0.5
    assert stats.kstest(turn, "uniform").pvalue > LEAST_P_VALUE
    squares = np.histogram2d(np.exp(-(a**2 + b**2) / 2), turn, bins=8, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(squares.ravel()).pvalue > LEAST_P_VALUE


@pytest.mark.slow
def test_far_tails_of_noise_have_the_mass_of_normal_tails():
    noise = _noise("far tails", dimension=MANY)
    beyond = np.zeros(3, dtype=int)
    for step in range(100):
        size = _of(noise, step, scale=1.0).abs().numpy()
        beyond += [int((size > least).sum()) for least in (4.0, 4.75, 5.5)]
    counts = np.append(-np.diff(beyond), beyond[-1])  # in (4, 4.75], (4.75, 5.5] and beyond
    masses = 2 * stats.norm.sf([4.0, 4.75, 5.5])
    expected = 100 * MANY * np.append(-np.diff(masses), masses[-1])
    for least in (stats.poisson.cdf(counts, expected), stats.poisson.sf(counts - 1, expected)):
        assert (least > LEAST_P_VALUE).all()


@pytest.mark.parametrize("lag", [(1, 0), (0, 1), (0, 2), (1, 1)])
def test_noise_of_different_steps_and_coordinates_is_uncorrelated(lag):
    z = _standard()
    product = z[lag[0] :, lag[1] :] * z[: STEPS - lag[0], : DIMENSION - lag[1]]
    assert abs(product.mean()) * np.sqrt(product.size) < 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dimension", [1, 2, 5, 8, 3000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_a_steps_noise_is_the_same_alone_and_among_others(dimension, dtype):
    noise = _noise(dimension=dimension, dtype=dtype)
    together = {step: _of(noise, step) for step in range(6)}
    for step in (5, 0, 1):
        assert torch.equal(_of(noise, step), together[step])
        assert torch.equal(_of(_noise(dimension=dimension, dtype=dtype), step), together[step])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dimension", [1, 6, 2 * BLOCK + 7])
def test_any_range_of_coordinates_has_the_noise_of_the_whole(dimension, dtype):
    noise = _noise(dimension=dimension, dtype=dtype)
    whole = _of(noise, 2)
    cuts = sorted({0, 1, dimension // 3, min(BLOCK - 1, dimension), min(BLOCK + 1, dimension), dimension})
    parts = [slice(low, high) for low in cuts for high in cuts if low <= high]
    for part in parts:
        assert torch.equal(_of(noise, 2, part=part), whole[part])
        assert torch.equal(_of(_noise(dimension=dimension, dtype=dtype), 2, part=part), whole[part])


class Watched(KeyedSource):
    """A source that keeps which words of which stream are read."""

    def __init__(self, key):
        super().__init__(key)
        self.read = []

    def reader(self, stream, *, most):
        reader, at = super().reader(stream, most=most), 0
        seek, read = reader.seek, reader.read

        def watched_seek(counter):
            nonlocal at
            at = counter
            seek(counter)

        def watched_read(n):
            nonlocal at
            self.read.append((stream, at, at := at + n))
            return read(n)

        reader.seek, reader.read = watched_seek, watched_read
        return reader


@pytest.mark.parametrize("dimension", [1, 6, BLOCK + 7])
def test_no_word_makes_the_noise_of_two_blocks_or_runs_or_dtypes(dimension):
    source = Watched("tests of noise")
    for dtype in DTYPES:
        for run in (0, RUN, 2 * RUN):
            noise = _noise(source=source, run=run, dimension=dimension, dtype=dtype)
            for step in (0, 1, 2, STEPS - 1):
                _of(noise, step)
    ranges = sorted(source.read)
    blocks = {(step * dimension + i) // BLOCK for step in (0, 1, 2, STEPS - 1) for i in (0, dimension - 1)}
    assert len(ranges) == 6 * len(blocks)
    for (stream, _, stop), (other, start, _) in itertools.pairwise(ranges):
        assert stream != other or stop <= start


@pytest.mark.parametrize("dimension", [1, 51, BLOCK // 2 + 3, BLOCK + 7])
def test_no_coordinate_of_a_sequence_makes_the_noise_of_two_steps(dimension):
    """The noise of steps, one after the other, is what a step of as many coordinates as all of them has."""
    noise, steps = _noise(dimension=dimension), 5
    whole = _of(_noise(dimension=steps * dimension), 0)
    for step in (3, 0, 4, 1, 2):
        assert torch.equal(_of(noise, step), whole[step * dimension : (step + 1) * dimension])
    assert len(np.unique(whole.numpy())) > len(whole) - 2 - len(whole) ** 2 / 2**26


def test_another_scale_in_the_midst_of_a_block_changes_the_noise_by_that_factor():
    noise = _noise()
    found = [_of(noise, step, scale=scale) for step, scale in enumerate((2.0, 4.0, 2.0))]
    for step, scale in enumerate((2.0, 4.0, 2.0)):
        assert torch.equal(found[step], scale * _of(_noise(), step, scale=1.0))


def test_a_block_that_has_been_made_serves_no_forked_process(monkeypatch):
    noise = _noise()
    _of(noise, 0)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(InvalidParameter, match="a source must stay in the process that made it"):
        _of(noise, 1)


def test_noise_is_added_to_what_is_there():
    noise, total = _noise(), torch.ones(DIMENSION)
    noise.add_to(total, step=0, scale=SCALE)
    torch.testing.assert_close(total, 1 + _of(_noise(), 0))


def test_noise_is_added_to_a_view_and_to_nothing_beside_it():
    noise, total = _noise(), torch.zeros(2, DIMENSION)
    noise.add_to(total[:, :].T.contiguous().T[1], step=0, scale=SCALE)
    assert not total.any()
    wide = torch.zeros(DIMENSION, 2)
    noise.add_to(wide[:, 1], step=0, scale=SCALE)
    assert torch.equal(wide[:, 1], _of(noise, 0)) and not wide[:, 0].any()


def test_noise_for_another_device_is_made_here_and_sent_there():
    noise = Noise(source=KeyedSource(0), run=0, steps=1, like=torch.zeros(DIMENSION, device="meta"))
    noise.add_to(torch.zeros(DIMENSION, device="meta"), step=0, scale=SCALE)


def test_scale_zero_adds_nothing():
    total = torch.full((DIMENSION,), -0.0)
    _noise().add_to(total, step=0, scale=0.0)
    assert torch.signbit(total).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_has_the_dtype_of_the_weights(dtype):
    assert _of(_noise(dtype=dtype), 0).dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_smallest_and_the_largest_scale_give_finite_noise_of_their_size(dtype):
    limits = torch.finfo(dtype)
    for scale in (2 * limits.smallest_normal / limits.eps, limits.max / 16):
        size = _of(_noise(dimension=3000, dtype=dtype), 0, scale=scale).double() / scale
        assert torch.isfinite(size).all() and 0.9 < size.std() < 1.1


def test_another_key_or_run_gives_other_noise():
    source = KeyedSource("tests of noise")
    first, second = begin_run(source), begin_run(source)
    assert not torch.isclose(_of(_noise(source=source, run=first), 0), _of(_noise(source=source, run=second), 0)).any()
    assert not torch.isclose(_of(_noise(), 0), _of(_noise(key="another"), 0)).any()


def test_a_forked_process_is_refused_also_where_a_step_follows_the_last_one():
    source = KeyedSource(0)
    noise = _noise(source=source)
    _of(noise, 0)
    source._process -= 1
    with pytest.raises(InvalidParameter, match="must stay in the process that made it"):
        _of(noise, 1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"step": -1}, r"Noise: step must lie in \[0, 400\), got -1"),
        ({"step": STEPS}, r"Noise: step must lie in \[0, 400\), got 400"),
        ({"scale": -1.0}, "Noise: scale must be"),
        ({"scale": math.nan}, "Noise: scale must be"),
        ({"scale": 1e-40}, r"Noise: scale must be 0 or lie in \[2e-31, 2.1e\+37\] for float32, got 1e-40"),
        ({"scale": 1e38}, "Noise: scale must be 0 or lie in"),
        ({"total": torch.zeros(DIMENSION + 1)}, r"Noise: total must hold the coordinates .* got shape \(52,\)"),
        ({"total": torch.zeros(1, DIMENSION)}, r"Noise: total must hold the coordinates .* got shape \(1, 51\)"),
        ({"total": torch.zeros(DIMENSION).double()}, "as torch.float32, got .*torch.float64"),
        ({"part": slice(0, 50)}, "Noise: total must hold the coordinates"),
        ({"part": slice(0, 51, 2), "total": torch.zeros(26)}, "Noise: total must hold the coordinates"),
    ],
)
def test_what_does_not_fit_is_refused_and_left_as_it_is(given, text):
    arguments = {"total": torch.zeros(DIMENSION), "step": 0, "scale": 1.0, **given}
    total = arguments.pop("total")
    with pytest.raises(InvalidParameter, match=text):
        _noise().add_to(total, **arguments)
    assert not total.any()
