import numpy as np
import pytest
import torch

from dpsgd.schedules import Cosine
from mechanisms import InvalidParameter


@pytest.mark.parametrize(("steps", "warm_up"), [(10, 0), (10, 3), (1, 0), (100, 99)])
def test_it_rises_in_a_line_and_falls_along_half_a_cosine(steps, warm_up):
    factors = np.array([Cosine(steps=steps, warm_up=warm_up)(step) for step in range(steps + 3)])
    np.testing.assert_allclose(np.diff(factors[:warm_up]), 1 / warm_up if warm_up else 0)
    assert factors[warm_up] == 1 and (factors[steps:] == 0).all() and (factors[:steps] > 0).all()
    assert (np.diff(factors[warm_up:]) <= 0).all()


def test_it_is_the_annealing_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    for step in range(7):
        assert Cosine(steps=7)(step) == pytest.approx(annealing.get_last_lr()[0])
        optimizer.step(), annealing.step()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "Cosine: steps must be at least 1, got 0"),
        ({"steps": 3, "warm_up": 3}, "Cosine: warm_up must be below steps = 3, got 3"),
        ({"steps": 3, "warm_up": -1}, "Cosine: warm_up must be at least 0, got -1"),
    ],
)
def test_its_numbers_are_checked(fields, text):
    with pytest.raises(InvalidParameter, match=text):
        Cosine(**fields)
