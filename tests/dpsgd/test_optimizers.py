import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps
from dpsgd.core.parameters import flatten
from dpsgd.optimizers import DPAdam
from mechanisms import InvalidParameter, KeyedSource

NOISE = 0.25  # σ C / B of the fixture's configuration


def _moved(config, gradients, **options):
    """Return the weights after every gradient, beginning at 1."""
    parameter = nn.Parameter(torch.ones(gradients.shape[1], dtype=torch.float64))
    optimizer = DPAdam([parameter], config, **options)
    seen = []
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        seen.append(parameter.detach().numpy().copy())
    return np.array(seen)


def test_it_moves_by_the_formula(config):
    gradients = np.random.default_rng(0).normal(size=(12, 5)) * [0.01, 0.1, 0.3, 1, 3]
    beta_1, beta_2, floor = 0.8, 0.95, 1e-3
    weights, expected = np.ones(5), []
    for t in range(1, 13):  # from the weights of the sums, not by recursion
        first = (1 - beta_1) * beta_1 ** np.arange(t - 1, -1, -1) @ gradients[:t] / (1 - beta_1**t)
        second = (1 - beta_2) * beta_2 ** np.arange(t - 1, -1, -1) @ gradients[:t] ** 2 / (1 - beta_2**t)
        weights = weights - 0.1 * first / np.sqrt(np.maximum(second - NOISE**2, floor))
        expected.append(weights)
    np.testing.assert_allclose(_moved(config, gradients, betas=(beta_1, beta_2), floor=floor), expected, rtol=1e-12)


def test_without_noise_it_is_adam(config):
    silent = dataclasses.replace(config, noise_multiplier=0)
    gradients = np.random.default_rng(0).normal(size=(12, 5))
    parameter = nn.Parameter(torch.ones(5, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], lr=0.1, eps=0)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        adam.step()
    np.testing.assert_allclose(_moved(silent, gradients)[-1], parameter.detach().numpy(), rtol=1e-12)


def test_the_corrected_second_moment_is_unbiased_where_adams_is_not(config):
    coordinates, rounds = 20_000, 400
    rng = np.random.default_rng(0)
    signal = np.repeat([0.0, 0.05, 0.3], [10_000, 5_000, 5_000])
    parameter = nn.Parameter(torch.zeros(coordinates, dtype=torch.float64))
    optimizer = DPAdam([parameter], dataclasses.replace(config, learning_rate=1e-9), betas=(0.9, 0.99))
    for _ in range(rounds):  # clipped sums of ±signal: their second moment is signal²
        clipped = signal * rng.choice([-1, 1], size=coordinates)
        parameter.grad = torch.from_numpy(clipped + NOISE * rng.normal(size=coordinates))
        optimizer.step()
    estimate = optimizer.state[parameter]["second"].numpy() / (1 - 0.99**rounds)
    for level in (0.0, 0.05, 0.3):
        own = estimate[signal == level]
        error = own.std() / math.sqrt(len(own))
        assert abs(own.mean() - NOISE**2 - level**2) < 4 * error
        assert own.mean() - level**2 > 0.9 * NOISE**2  # by which Adam is wrong
    alone = estimate[signal == 0].std()
    assert 0.97 < optimizer.param_groups[0]["floor"] / alone < 1.03


def test_the_noise_that_is_subtracted_is_the_noise_of_a_run(config):
    empty = Dataset(features=torch.zeros(0, 5), targets=torch.zeros(0, dtype=torch.int64))
    made = []

    def make(parameters, config):
        made.append(DPAdam(parameters, config))
        return made[0]

    loud = dataclasses.replace(config, noise_multiplier=3.0, max_grad_norm=0.7, expected_batch_size=10)
    run = steps(
        mlp(5, (300,), 3),
        empty,
        loud,
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=KeyedSource(0),
        optimizer=make,
    )
    sums = torch.stack([release.noisy_sum for release in run]) / 10
    assert made[0].noise_variance == pytest.approx(float(sums.double().var()), rel=0.02)


def test_a_run_with_it_moves_every_coordinate_by_about_the_learning_rate(config):
    model = mlp(5, (4,), 3)
    data = Dataset(features=torch.rand(9, 5), targets=torch.zeros(9, dtype=torch.int64))
    before = flatten(model.parameters())
    once = dataclasses.replace(config, steps=1, noise_multiplier=0)
    loss = nn.CrossEntropyLoss(reduction="none")
    make = functools.partial(DPAdam, betas=(0.5, 0.9))
    [release] = steps(model, data, once, loss=loss, randomness=KeyedSource(0), optimizer=make)
    moved = before - flatten(model.parameters())
    large = release.noisy_sum.abs() > 1e-6
    torch.testing.assert_close(moved[large], 0.1 * release.noisy_sum.sign()[large])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"betas": (1.0, 0.9)}, "DPAdam: beta 1 must be below 1, got 1"),
        ({"betas": (0.9, -0.1)}, r"DPAdam: beta 2 must lie in \[0, 1\], got -0.1"),
        ({"floor": 0.0}, "DPAdam: floor must be above 0, got 0.0"),
        ({"floor": float("nan")}, "DPAdam: floor must be a number, got nan"),
    ],
)
def test_its_settings_are_checked(config, options, text):
    with pytest.raises(InvalidParameter, match=text):
        DPAdam([nn.Parameter(torch.zeros(2))], config, **options)


def test_it_does_not_evaluate_the_loss_again(config):
    with pytest.raises(InvalidParameter, match="DPAdam: closure must be None"):
        DPAdam([nn.Parameter(torch.zeros(2))], config).step(lambda: 0.0)
