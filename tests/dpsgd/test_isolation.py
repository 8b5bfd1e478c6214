import pytest
from torch import nn

from dpsgd import check_private
from mechanisms import InvalidParameter


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm1d(3), r"got BatchNorm1d at model\.1: it normalises by the batch.*Use GroupNorm or LayerNorm"),
        (nn.BatchNorm2d(3, affine=False, track_running_stats=False), "BatchNorm2d .* Use GroupNorm"),
        (nn.SyncBatchNorm(3), "SyncBatchNorm .* Use GroupNorm"),
        (
            nn.InstanceNorm1d(3, track_running_stats=True),
            "InstanceNorm1d .* stores statistics .*track_running_stats=False",
        ),
        (nn.Embedding(3, 2, max_norm=1.0), "Embedding .* Use max_norm=None"),
        (nn.EmbeddingBag(3, 2, max_norm=1.0), "EmbeddingBag .* Use max_norm=None"),
        (nn.LazyLinear(3), "LazyLinear .* no parameters yet. Run the model once on public data"),
    ],
)
def test_a_layer_that_cannot_be_private_is_named_with_what_to_use(layer, text):
    with pytest.raises(InvalidParameter, match=text):
        check_private(nn.Sequential(nn.Identity(), layer))


def test_a_model_that_is_such_a_layer_itself_is_named():
    with pytest.raises(InvalidParameter, match="got BatchNorm1d at model: it"):
        check_private(nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm1d(3), nn.Embedding(3, 2), nn.Dropout(), nn.Conv2d(1, 1, 1)],
)
def test_layers_that_keep_examples_apart_pass(layer):
    check_private(nn.Sequential(layer))
