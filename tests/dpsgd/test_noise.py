import numpy as np
import pytest
import torch
from scipy import stats

from dpsgd.noise import gaussian_noise, noise_of_each_step
from dpsgd.runs import begin_run
from mechanisms import KeyedSource

STEPS, DIMENSION, SCALE = 400, 51, 3.0


def _noise(key="tests of noise", **changes):
    given = {"run": 0, "steps": range(STEPS), "scale": SCALE, "like": torch.zeros(DIMENSION)} | changes
    return gaussian_noise(KeyedSource(key), **given)


def test_noise_has_mean_zero_and_the_variance_asked_for():
    z = _noise().double().numpy().ravel() / SCALE
    assert abs(z.mean()) * np.sqrt(z.size) < 4
    assert abs(z.var() - 1) / np.sqrt(2 / z.size) < 4
    assert stats.kstest(z, "norm").pvalue > 1e-4


@pytest.mark.parametrize("lag", [(1, 0), (0, 1), (0, 2), (1, 1)])
def test_noise_of_different_steps_and_coordinates_is_uncorrelated(lag):
    z = _noise().double().numpy() / SCALE
    product = z[lag[0] :, lag[1] :] * z[: STEPS - lag[0], : DIMENSION - lag[1]]
    assert abs(product.mean()) * np.sqrt(product.size) < 4


@pytest.mark.parametrize("dimension", [1, 2, 5, 8])
def test_a_steps_noise_is_the_same_alone_and_among_others(dimension):
    like = torch.zeros(dimension)
    together = _noise(like=like)
    for step in (0, 1, 37, STEPS - 1):
        assert torch.equal(_noise(like=like, steps=range(step, step + 1))[0], together[step])


@pytest.mark.parametrize("dimension", [1, 3, 3000, 10_001])
def test_noise_step_by_step_is_the_noise_of_the_steps(dimension):
    like = torch.zeros(dimension)
    one_by_one = noise_of_each_step(KeyedSource("tests of noise"), run=0, steps=7, scale=SCALE, like=like)
    assert torch.equal(torch.stack(list(one_by_one)), _noise(like=like, steps=range(7)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_dtype_of_the_weights(dtype):
    assert _noise(like=torch.zeros(3, dtype=dtype)).dtype == dtype


def test_another_key_or_run_gives_other_noise():
    source = KeyedSource("tests of noise")
    first, second = begin_run(source), begin_run(source)
    assert not torch.isclose(_noise(run=first), _noise(run=second)).any()
    assert not torch.isclose(_noise(), _noise(key="another")).any()
