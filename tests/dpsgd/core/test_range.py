"""Products that floats near 0 cannot hold: what clipping leaves of extreme inputs and output gradients, exactly."""

import pytest
import torch
from torch import nn

import dpsgd.core.compiled as compiled
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer
from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.norms import squared_norms
from dpsgd.core.recorded import Recorded
from dpsgd.core.run_clipping import run_clipping
from dpsgd.core.stacked import Batches, gradient_sums
from dpsgd.core.vectorised import Vectorised
from mechanisms import Poisson
from tests.dpsgd.schemes import config_of

CLIPPINGS = [
    Flat(),
    PerLayer(),
    Automatic(),
    Automatic(stability=1e-30),
    Normalised(),
    AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=4.0),
]
BOUNDS, FEATURES = [1e-6, 1.0], [1e-38, 1.0, 3e38]
WEIGHTS = [1e-42, 1e-38, 1e-12, 1e20]
SHAPES = [(1, 1, False), (1, 64, False), (3, 200, True)]
"""(inputs, outputs, bias)"""
WAYS = ["book-keeping", "recorded", "vmap", "compiled", "stacked"]


@pytest.fixture(params=[False, True], ids=["gradual", "flushed"])
def underflow(request):
    if not torch.set_flush_denormal(request.param):
        pytest.skip("this CPU does not flush")
    yield
    torch.set_flush_denormal(False)


def _sum_of(way, layer, features, weights, clipping, bound):
    """Return what one record adds, of the loss (layer(features) * weights).sum()."""
    config = config_of(Poisson(probability=0.5), clipping=clipping, max_grad_norm=bound)
    clip, targets = run_clipping(config, layer).clip, torch.zeros(1)

    def loss(outputs, targets):
        return (outputs * weights).flatten(start_dim=1).sum(1) + 0 * targets

    if way == "stacked":
        flat = torch.cat([p.detach().flatten() for p in layer.parameters()]).unsqueeze(0)
        squares = squared_norms(features).unsqueeze(0)
        batches = Batches(features=features.unsqueeze(0), squares=squares, targets=targets, taken=None)
        return gradient_sums((nn.Identity(), layer), flat, batches, loss=loss, clip=clip)[0]
    if way == "compiled":
        return compiled.Compiled(chain=(layer,), loss=loss, clip=clip)(features.repeat(2, 1), torch.zeros(2)) / 2
    if way == "book-keeping":
        return BookKeeping(chain=(layer,), loss=loss, clip=clip)(features, targets)
    return (Recorded if way == "recorded" else Vectorised)(model=layer, loss=loss, clip=clip)(features, targets)


@pytest.mark.thinned(7)
@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("underflow")
def test_a_record_of_any_range_keeps_within_the_bound(way, clipping, monkeypatch):
    monkeypatch.setattr(compiled, "Once", lambda function: function)
    if way == "compiled" and clipping != Flat():
        pytest.skip("compiled sums have one factor of at most 1")
    for inputs, outputs, bias in SHAPES:
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        for feature in FEATURES:
            for weight in WEIGHTS:
                features, weights = torch.full((1, inputs), feature), weight * torch.linspace(1, 2, outputs)
                for bound in BOUNDS:
                    added = _sum_of(way, layer, features, weights, clipping, bound).double()
                    assert float(added.norm()) <= bound * (1 + 1e-12), (inputs, outputs, feature, weight, bound)
