"""Sums of rows of a dataset, which stays as it is whatever is done to the batches fetched from it."""

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.population import Examples
from dpsgd.gradients import gradient_sum_by

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
