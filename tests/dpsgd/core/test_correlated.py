import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset, steps
from dpsgd.core.correlated import correlated
from dpsgd.core.noise_laws import BufferedGaussian, IndependentGaussian, MatrixGaussian, TreeGaussian
from dpsgd.core.noising import noising
from dpsgd.cyclic import Cyclic, CyclicPoisson
from dpsgd.training import train
from mechanisms import InvalidParameter, KeyedSource
from mechanisms.matrix import square_root
from tests.dpsgd.schemes import config_of

STEPS, COPIES = 9, 20_000  # coordinates stand for independent repetitions
LAWS = {
    "falling": MatrixGaussian(coefficients=square_root(4)),
    "mixed": MatrixGaussian(coefficients=(2.0, -0.5, 0.75)),
    "one band": MatrixGaussian(coefficients=(3.0,)),
    "buffered": BufferedGaussian(weights=(0.5, 1.0, 0.5), decays=(0.9, 0.5, 0.0)),
    "tree": TreeGaussian(),
}


def _config(law, **changes):
    fields = {"steps": STEPS, "steps_per_epoch": 3, "noise_multiplier": 1.5, "max_grad_norm": 2.0, "noise": law}
    return config_of(**{"sampling": Cyclic(), **fields, **changes})


def _noise(law, *, size, key="tests of correlated noise", run=0):
    config = _config(law)
    return correlated(config, law, source=KeyedSource(key), run=run, size=size)


def _row(noise, step, size, dtype=torch.float64):
    return noise(torch.zeros(size, dtype=dtype), step=step, scale=3.0)


def _rows(law, size, **place):
    noise = _noise(law, size=size, **place)
    return torch.stack([_row(noise, step, size) for step in range(STEPS)]).numpy()


def _toeplitz(coefficients, n=STEPS):
    matrix = np.zeros((n, n))
    for m, c in enumerate(coefficients):
        matrix += c * np.eye(n, k=-m)
    return matrix


def _coefficients(law):
    if isinstance(law, BufferedGaussian):
        return [sum(p * decay**m for p, decay in zip(law.weights, law.decays, strict=True)) for m in range(STEPS)]
    return law.coefficients


def _tree_factor(n=STEPS):
    """Return the noise of each step as a combination of nodes: best linear estimates of prefixes, by least squares."""
    nodes = [(j << level, (j + 1) << level) for level in range(n.bit_length()) for j in range(n >> level)]
    prefixes = []
    for t in range(1, n + 1):
        rows = np.array([[a <= i < b for i in range(t)] for a, b in nodes if b <= t], dtype=float)
        weights = np.linalg.pinv(rows).T @ np.ones(t)  # Gauss–Markov: the least variance of all unbiased ones
        prefixes.append([weights[[node for node in nodes if node[1] <= t].index(v)] if v[1] <= t else 0 for v in nodes])
    return np.diff(np.array(prefixes), axis=0, prepend=0.0)


def _covariance(law):
    factor = _tree_factor() if isinstance(law, TreeGaussian) else np.linalg.inv(_toeplitz(_coefficients(law)))
    return 9.0 * factor @ factor.T


@pytest.mark.parametrize("name", LAWS)
def test_noise_has_the_covariance_of_its_matrix(name):
    rows, expected = _rows(LAWS[name], COPIES), _covariance(LAWS[name])
    found = rows @ rows.T / COPIES
    spread = np.sqrt((expected**2 + np.outer(expected.diagonal(), expected.diagonal())) / COPIES)
    assert (np.abs(found - expected) < 5 * spread).all()
    assert (np.abs(rows.mean(1)) < 5 * np.sqrt(expected.diagonal() / COPIES)).all()
    between = (rows[:, 1:] * rows[:, :-1]).mean(1) / expected.diagonal()
    assert (np.abs(between) < 5 / np.sqrt(COPIES)).all()


@pytest.mark.parametrize("name", LAWS)
def test_prefix_sums_have_the_errors_of_the_mechanism(name):
    config = _config(LAWS[name])
    errors = config.process().squared_errors() * config.max_grad_norm**2
    found = (np.cumsum(_rows(LAWS[name], COPIES), axis=0) ** 2).mean(1)
    assert (np.abs(found / errors - 1) < 5 * np.sqrt(2 / COPIES)).all()


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_steps_noise_is_the_same_alone_and_among_others(name, size):
    together = _rows(LAWS[name], size)
    noise = _noise(LAWS[name], size=size)
    for step in (8, 8, 0, 5, 6, 2):
        assert np.array_equal(_row(noise, step, size).numpy(), together[step])
        assert np.array_equal(_row(_noise(LAWS[name], size=size), step, size).numpy(), together[step])


@pytest.mark.parametrize("name", LAWS)
def test_another_key_or_run_gives_other_noise(name):
    first, other, later = (_rows(LAWS[name], 50, **place) for place in ({}, {"key": "another"}, {"run": 2**80}))
    assert not np.isclose(first, other).any() and not np.isclose(first, later).any()


def test_a_run_shares_no_noise_with_a_stream_or_another_law_of_the_same_source():
    source, law, none = KeyedSource("shared"), MatrixGaussian(coefficients=(1.0,)), torch.zeros(7, dtype=torch.float64)
    config = _config(law)
    stream = config.process().stream((7,), sensitivity=2.0, randomness=source).add(np.zeros(7))
    laws = (law, IndependentGaussian(), TreeGaussian())
    plain = [noising(_config(one), source=source, run=0, like=none)(none.clone(), step=0, scale=3.0) for one in laws]
    assert not np.isclose(stream, plain[0].numpy()).any() and not torch.isclose(plain[0], plain[1]).any()
    assert torch.equal(plain[0], plain[2])  # the first leaf: two laws of one run never meet


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_added_to_what_is_there_in_its_dtype(dtype):
    total = torch.ones(5, dtype=dtype)
    found = _noise(LAWS["falling"], size=5)(total, step=1, scale=3.0)
    assert found is total and found.dtype == dtype
    torch.testing.assert_close(found, 1 + _row(_noise(LAWS["falling"], size=5), 1, 5).to(dtype))


def test_another_scale_than_the_runs_is_refused():
    noise = _noise(LAWS["falling"], size=5)
    with pytest.raises(InvalidParameter, match=r"Correlated: scale must be .* = 3.0, got 1.5(.|\n)*IndependentGauss"):
        noise(torch.zeros(5), step=0, scale=1.5)


def _streamed(data, config, *, key=0):
    """Return the noisy sums of a run whose gradients are the features, at all weights."""
    model = nn.Linear(data.shape[1], 1, bias=False)
    dataset = Dataset(features=data, targets=torch.zeros(len(data)))
    releases = steps(model, dataset, config, loss=lambda outputs, _: outputs[:, 0], randomness=KeyedSource(key))
    return torch.stack([release.noisy_sum.double() for release in releases]).numpy()


@pytest.mark.parametrize("row", [0, 1, 5])
@pytest.mark.parametrize("name", ["falling", "mixed", "one band", "buffered"])
def test_one_record_moves_the_run_by_the_sensitivity_of_its_description(name, row):
    """C times the difference of two runs with one noise is what the record adds to C x, whatever the noise."""
    config = _config(LAWS[name], noise_multiplier=0.5)
    data = 9 * torch.randn(7, 40, generator=torch.Generator().manual_seed(0))  # all are clipped
    without = data.clone()
    without[row] = 0.0
    moved = _toeplitz(_coefficients(LAWS[name])) @ (_streamed(data, config) - _streamed(without, config))
    most = config.process().sensitivity.upper * config.max_grad_norm
    assert np.linalg.norm(moved) <= most * (1 + 1e-5)
    if row == 0:  # whose steps are 0, s, 2s, …: the worst there are
        assert np.linalg.norm(moved) >= most * (1 - 1e-5)
    assert np.linalg.norm(moved) >= 0.8 * most


@pytest.mark.parametrize("row", range(3))
def test_one_record_moves_the_nodes_of_a_tree_by_its_sensitivity_at_most(row):
    config = _config(TreeGaussian(), noise_multiplier=0.5)
    data = 9 * torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    without = data.clone()
    without[row] = 0.0
    moved = np.cumsum(np.pad(_streamed(data, config) - _streamed(without, config), ((1, 0), (0, 0))), axis=0)
    nodes = [moved[(j + 1) << level] - moved[j << level] for level in range(4) for j in range(STEPS >> level)]
    most = config.process().squared_sensitivity[0] ** 0.5 * config.max_grad_norm
    assert 0.7 * most <= np.linalg.norm(nodes) <= most * (1 + 1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_without_noise_it_is_plain_training(name):
    data = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    quiet = _config(LAWS[name], noise_multiplier=0.0)
    plain = dataclasses.replace(quiet, noise=IndependentGaussian())
    assert np.array_equal(_streamed(data, quiet), _streamed(data, plain))


def test_what_ran_is_what_is_described_step_by_step():
    """Of a run of no records, what is shown is the noise: C times it is white, of the deviation described."""
    law = MatrixGaussian(coefficients=square_root(4))
    config = _config(law, sampling=CyclicPoisson(probability=0.2, groups=4), steps_per_epoch=None, steps=12)
    white = _toeplitz(law.coefficients, 12) @ _streamed(torch.zeros(0, 4000), config)
    assert abs(white.std() / 3.0 - 1) < 5 / np.sqrt(2 * white.size)
    lags = [(white[lag:] * white[: 12 - lag]).mean() / 9 * np.sqrt(white[lag:].size) for lag in range(1, 6)]
    assert np.abs(lags).max() < 5


@pytest.mark.parametrize("law", [LAWS["falling"], LAWS["buffered"], TreeGaussian()])
def test_a_trained_model_knows_the_pattern_that_it_ran(law):
    data = Dataset(features=torch.rand(7, 3), targets=torch.arange(7) % 2)
    config = _config(law)
    loss = nn.CrossEntropyLoss(reduction="none")
    result = train(nn.Linear(3, 2), data, config, loss=loss, randomness=KeyedSource(0))
    assert result.process == config.process()
    assert result.process.participations == 3 and result.process.separation == 3


@pytest.mark.parametrize("law", [LAWS["falling"], LAWS["buffered"], TreeGaussian()])
def test_correlated_noise_is_less_in_prefix_sums_at_the_same_privacy(law):
    """Over four epochs of 64 steps: squared error of a prefix sum times sens²/σ², which is 1/μ² at the same ε."""

    def cost(noise):
        process = _config(noise, steps=256, steps_per_epoch=64, noise_multiplier=1.0).process()
        square = process.squared_sensitivity[0] if isinstance(noise, TreeGaussian) else process.sensitivity.upper**2
        return process.squared_errors() * square

    assert cost(law).mean() < 0.8 * cost(IndependentGaussian()).mean()
