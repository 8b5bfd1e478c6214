import pytest
import torch
from torch import nn

from dpsgd import gradient_sum
from mechanisms import InvalidParameter

BATCH = torch.randn(3, 2), torch.tensor([0, 1, 0])
MODELS = {
    "book-keeping": nn.Linear(2, 2),
    "vmap": nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (nn.CrossEntropyLoss(), "got 0 dimensions"),
        (lambda outputs, targets: outputs, "got 2 dimensions"),
        (lambda outputs, targets: 1.0, "got float"),
    ],
)
def test_a_loss_that_is_not_one_value_an_example_is_refused_with_the_way_out(model, loss, got):
    clipped_sum = gradient_sum(model, example_dimensions=1, loss=loss, max_grad_norm=1.0)
    with pytest.raises(InvalidParameter, match=r"train: loss must return one value per example.*" + got) as refusal:
        clipped_sum(*BATCH)
    assert 'reduction="none"' in str(refusal.value)
