"""Batches that are fetched into the memory of earlier ones hold what new memory would."""

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.population import Examples
from dpsgd.core.workspace import Workspace
from dpsgd.gradients import gradient_sum_by

LOSS = nn.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf")])
def test_sums_are_the_same_where_batches_share_memory_and_records_stay_as_they_are(poison):
    torch.manual_seed(0)
    data = Dataset(features=torch.randn(200, 150), targets=torch.randint(3, (200,)))
    data.features[::3] += poison
    before = data.features.clone()
    model = nn.Sequential(nn.Linear(150, 120), nn.Identity(), nn.Tanh(), nn.Linear(120, 3))

    def examples(*, shared):
        clipped = gradient_sum_by(
            FlatClipper(max_grad_norm=0.3), model, example_dimensions=1, loss=LOSS, overwrite=shared
        )
        return Examples(dataset=data, clipped_sum=clipped, space=Workspace() if shared else None)

    apart, together = examples(shared=False), examples(shared=True)
    draw = np.random.default_rng(0)
    for size in (0, 1, 150, 200, 40, 199, 0, 200):
        rows = draw.permutation(200)[:size]
        assert torch.equal(together.sum_of(rows, None, 0), apart.sum_of(rows, None, 0))
    torch.testing.assert_close(data.features, before, rtol=0, atol=0, equal_nan=True)
