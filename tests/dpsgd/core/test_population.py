"""Sums of rows of a dataset, which stays as it is whatever is done to the batches fetched from it."""

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Augmentation, Dataset, RoundedGaussian
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.population import Examples, population_of
from dpsgd.core.whole import summed
from dpsgd.gradients import gradient_sum_by
from mechanisms import KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

LOSS = nn.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf")])
def test_sums_are_the_same_where_batches_are_written_over_and_records_stay_as_they_are(poison):
    torch.manual_seed(0)
    data = Dataset(features=torch.randn(200, 150), targets=torch.randint(3, (200,)))
    data.features[::3] += poison
    before = data.features.clone()
    model = nn.Sequential(nn.Linear(150, 120), nn.Identity(), nn.Tanh(), nn.Linear(120, 3))

    def examples(*, overwrite):
        clipped = gradient_sum_by(
            FlatClipper(max_grad_norm=0.3), model, example_dimensions=1, loss=LOSS, overwrite=overwrite
        )
        return Examples(dataset=data, clipped_sum=clipped)

    kept, written = examples(overwrite=False), examples(overwrite=True)
    draw = np.random.default_rng(0)
    for size in (0, 1, 150, 200, 40, 199, 0, 200):
        rows = draw.permutation(200)[:size]
        assert torch.equal(written.sum_of(rows, 0, rows), kept.sum_of(rows, 0, rows))
    torch.testing.assert_close(data.features, before, rtol=0, atol=0, equal_nan=True)


MATRIX = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
TURNED = Augmentation(make=lambda x, u: x @ MATRIX * (1 + u[0]), copies=3, draws=1)


@pytest.mark.parametrize("augmentation", [None, TURNED], ids=["rows", "copies"])
@pytest.mark.parametrize("unit", ["record", "user"])
def test_under_exact_noise_no_unit_moves_anothers_whole_numbers(unit, augmentation):
    """In batches, kernels and rectangles of other sizes would round copies and gradients otherwise: by 1e-6 of C."""
    torch.manual_seed(0)
    of_users, width = unit == "user", 64
    owners = torch.arange(7).repeat_interleave(torch.tensor([3, 2, 1, 5, 1, 4, 7]))
    data = Dataset(
        features=torch.randn(23, width), targets=torch.randint(3, (23,)), owners=owners if of_users else None
    )
    config = config_of(
        Poisson(probability=1.0),
        noise=RoundedGaussian(divisions=2**30),
        unit=unit,
        examples_per_user=7 if of_users else None,
    )
    model = nn.Sequential(nn.Linear(width, 96), nn.Tanh(), nn.Linear(96, 3))
    clipped = gradient_sum_by(FlatClipper(max_grad_norm=1.0), model, example_dimensions=1, loss=LOSS)
    examples = Examples(
        dataset=data, clipped_sum=summed(config, clipped), augmentation=augmentation, source=KeyedSource(0)
    )
    population = population_of(config, examples)
    units = np.arange(population.units)
    alone = [population.clipped_sum(units[one : one + 1], 0) for one in units]
    together = population.clipped_sum(units, 0)
    assert together.dtype == torch.int64 and torch.equal(together, sum(alone))
    assert not population.clipped_sum(units[:0], 0).any()
