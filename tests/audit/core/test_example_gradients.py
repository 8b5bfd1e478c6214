import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit.core import example_gradients  # noqa: E402
from audit.core.example_gradients import ExampleGradients  # noqa: E402
from dpsgd import Dataset, gradient_sum, mlp  # noqa: E402
from dpsgd.core.parameters import assign, trainable  # noqa: E402

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
MODEL = mlp(4, (5,), 3)
RECORDS = Dataset(features=3 * torch.randn(7, 4), targets=torch.arange(7) % 3)
WEIGHTS = torch.randn(sum(p.numel() for p in MODEL.parameters()))


def one_by_one(bound):
    """Each record's clipped gradient, by the trainer's own way, of a batch of one."""
    twin = mlp(4, (5,), 3)
    assign(WEIGHTS, list(trainable(twin).values()))
    clipped = gradient_sum(twin, example_dimensions=1, loss=LOSS, max_grad_norm=bound)
    return torch.stack([clipped(RECORDS.features[i : i + 1], RECORDS.targets[i : i + 1]) for i in range(7)])


@pytest.mark.parametrize("bound", [0.7, 1e3])
@pytest.mark.parametrize("entries", [1, 150, 2**20])
def test_gradients_are_those_that_the_trainer_clips(bound, entries, monkeypatch):
    monkeypatch.setattr(example_gradients, "ENTRIES", entries)
    before = [parameter.clone() for parameter in MODEL.parameters()]
    found = ExampleGradients.of(MODEL, RECORDS, loss=LOSS, max_grad_norm=bound)
    expected, vector = one_by_one(bound), torch.randn(len(WEIGHTS), dtype=torch.float64)
    torch.testing.assert_close(found.matrix(WEIGHTS), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.total(WEIGHTS), expected.sum(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.products(WEIGHTS, vector), expected.double() @ vector, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(old, new) for old, new in zip(before, MODEL.parameters(), strict=True))


def test_a_record_without_a_gradient_has_a_product_of_zero():
    flat = Dataset(features=torch.zeros(2, 4), targets=torch.zeros(2, dtype=torch.int64))
    found = ExampleGradients.of(MODEL, flat, loss=lambda o, t: 0 * o[:, 0], max_grad_norm=1.0)
    np.testing.assert_array_equal(found.products(WEIGHTS, torch.ones(len(WEIGHTS))), [0.0, 0.0])


@pytest.mark.parametrize("size", [1e20, 1e30, float("inf"), float("nan")])
def test_gradients_past_the_range_of_their_squares_are_clipped_as_the_trainer_clips_them(size):
    line = torch.nn.Linear(2, 1, bias=False)
    records = Dataset(features=torch.tensor([[size, size], [3.0, 4.0]]), targets=torch.zeros(2))
    weights = torch.ones(2)
    found = ExampleGradients.of(line, records, loss=lambda o, t: o[:, 0], max_grad_norm=1.0).matrix(weights)
    clipped = gradient_sum(line, example_dimensions=1, loss=lambda o, t: o[:, 0], max_grad_norm=1.0)
    expected = [clipped(records.features[i : i + 1], records.targets[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)
