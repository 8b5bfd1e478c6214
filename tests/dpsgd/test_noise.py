import numpy as np
import pytest
import torch
from scipy import stats

from dpsgd.noise import Noise
from dpsgd.runs import begin_run
from mechanisms import KeyedSource

STEPS, DIMENSION, SCALE = 400, 51, 3.0


def _noise(key="tests of noise", *, source=None, run=0, dimension=DIMENSION, dtype=torch.float32):
    return Noise(source=source or KeyedSource(key), run=run, steps=STEPS, like=torch.zeros(dimension, dtype=dtype))


def _of(noise, step):
    total = torch.zeros_like(noise.like)
    noise.add_to(total, step=step, scale=SCALE)
    return total


def _standard():
    noise = _noise()
    return torch.stack([_of(noise, step) for step in range(STEPS)]).double().numpy() / SCALE


def test_noise_has_mean_zero_and_the_variance_asked_for():
    z = _standard().ravel()
    assert abs(z.mean()) * np.sqrt(z.size) < 4
    assert abs(z.var() - 1) / np.sqrt(2 / z.size) < 4
    assert stats.kstest(z, "norm").pvalue > 1e-4


@pytest.mark.parametrize("lag", [(1, 0), (0, 1), (0, 2), (1, 1)])
def test_noise_of_different_steps_and_coordinates_is_uncorrelated(lag):
    z = _standard()
    product = z[lag[0] :, lag[1] :] * z[: STEPS - lag[0], : DIMENSION - lag[1]]
    assert abs(product.mean()) * np.sqrt(product.size) < 4


@pytest.mark.parametrize("dimension", [1, 2, 5, 8, 3000, 10_001])
def test_a_steps_noise_is_the_same_alone_and_among_others(dimension):
    noise = _noise(dimension=dimension)
    together = {step: _of(noise, step) for step in range(38)}
    for step in (37, 0, 1):
        assert torch.equal(_of(noise, step), together[step])
        assert torch.equal(_of(_noise(dimension=dimension), step), together[step])


def test_noise_is_added_to_what_is_there():
    noise, total = _noise(), torch.ones(DIMENSION)
    noise.add_to(total, step=0, scale=SCALE)
    torch.testing.assert_close(total, 1 + _of(_noise(), 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_dtype_of_the_weights(dtype):
    assert _of(_noise(dtype=dtype), 0).dtype == dtype


def test_another_key_or_run_gives_other_noise():
    source = KeyedSource("tests of noise")
    first, second = begin_run(source), begin_run(source)
    assert not torch.isclose(_of(_noise(source=source, run=first), 0), _of(_noise(source=source, run=second), 0)).any()
    assert not torch.isclose(_of(_noise(), 0), _of(_noise(key="another"), 0)).any()
