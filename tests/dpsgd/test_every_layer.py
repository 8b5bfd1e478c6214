import re
import warnings

import pytest
import torch

from dpsgd import gradient_sum
from dpsgd.core.parameters import trainable
from dpsgd.isolation import validate_model
from tests.dpsgd.every_layer import EVERY_LAYER, model_around

REFUSED = {
    **dict.fromkeys(
        ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), "normalises by the batch.*GroupNorm"
    ),
    "LazyBatchNorm1d": "normalises by the batch",
    **dict.fromkeys(("LazyLinear", "LazyConv2d"), "no parameters yet"),
    "InstanceNorm2d that tracks": "track_running_stats=False",
    **dict.fromkeys(("Embedding with max_norm", "EmbeddingBag with max_norm"), "max_norm=None"),
    "Embedding with sparse gradients": "sparse=False",
    "Softmax over the batch": "mixes the examples of a batch",
    **dict.fromkeys(("LSTM along the batch", "MultiheadAttention along the batch"), "mixes .* Use batch_first=True"),
    **dict.fromkeys(("RReLU", "CrossMapLRN2d"), "one example at a time .* operations that torch.func.vmap supports"),
    "spectral_norm": "SpectralNorm at .* number of batches. Use weight_norm",
    "spectral_norm by a hook": "Linear at model.layer: it writes its weight anew before every pass",
}


def _loss(outputs, _):
    return outputs.reshape(len(outputs), -1).square().sum(1)


def _by_hand(model, batch, bound):
    parameters, total = list(trainable(model).values()), 0
    for i in range(len(batch)):
        pieces = torch.autograd.grad(
            _loss(model(batch[i : i + 1]), None).sum(), parameters, allow_unused=True, materialize_grads=True
        )
        gradient = torch.cat([piece.reshape(-1) for piece in pieces])
        total = total + gradient * min(1.0, bound / float(gradient.norm()))
    return total


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_every_layer_of_torch_is_trained_as_by_hand_or_refused_by_name(name):
    model, batch = model_around(name)
    findings = validate_model(model, like=batch)
    if name in REFUSED:
        assert findings and re.search(REFUSED[name], str(findings[0]))
        assert name.split()[0] in str(findings[0]) or name.startswith("spectral_norm")
        return
    assert not findings
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # of some below vmap
        found = gradient_sum(model, example_dimensions=batch.dim() - 1, loss=_loss, max_grad_norm=0.5)(
            batch, torch.zeros(5)
        )
    expected = _by_hand(model, batch, 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.norm() > 0.1


def test_the_table_names_layers_that_there_are():
    assert set(REFUSED) <= set(EVERY_LAYER) and len(EVERY_LAYER) >= 100
