"""What is given to a run in the place of something else is refused by name."""

import numpy as np
import pytest
import torch

from dpsgd import Dataset, mlp, train
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

GIVEN = {
    "model": mlp(5, (), 3),
    "dataset": Dataset(features=torch.ones(6, 5), targets=torch.arange(6) % 3),
    "config": config_of(Poisson(probability=1.0)),
    "loss": torch.nn.CrossEntropyLoss(reduction="none"),
    "randomness": KeyedSource(0),
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dataset": (torch.ones(6, 5), torch.zeros(6))}, "dataset must be a Dataset, got tuple"),
        ({"config": {}}, "config must be a DPSGD, got dict"),
        ({"randomness": 0}, r"randomness must be a Source, got int.\nNoise comes from SystemSource\(\)"),
        ({"randomness": np.random.default_rng(0)}, "randomness must be a Source, got Generator"),
        ({"randomness": None}, "randomness must be a Source, got NoneType"),
        ({"loss": None}, r"loss must be a function of \(outputs, targets\), got NoneType"),
        ({"optimizer": torch.optim.SGD([torch.ones(1)], lr=0.1)}, r"optimizer must be a function .* got SGD"),
        ({"schedule": 0.5}, "schedule must be a function of the number of a step, got float"),
        ({"checkpoint": "run"}, r"checkpoint must be of Checkpoint, got str.\nWrite checkpoint=Checkpoint\(path="),
        ({"augmentation": lambda x, u: x}, "augmentation must be of Augmentation, got function"),
        ({"budget": 3.0}, "budget must be a Budget, got float"),
    ],
)
def test_what_is_something_else_is_refused_before_the_first_step(changes, text):
    with pytest.raises(InvalidParameter, match=f"train: {text}"):
        train(**{**GIVEN, **changes})
