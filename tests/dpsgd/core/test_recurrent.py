"""Recurrent layers of every kind train as by hand, one example at a time, whole units and frozen ones among them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dpsgd import Dataset, gradient_sum, train
from dpsgd.core.parameters import trainable
from dpsgd.core.recurrent import with_own_states
from dpsgd.isolation import validate_model
from mechanisms import KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

KINDS = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN": nn.RNN,
    "RNN of relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}
EVERY = pytest.mark.parametrize("kind", KINDS)


class Model(nn.Module):
    """Reads a sequence to its end, perhaps from a first state that it learns, and leaves the rest to a linear layer."""

    def __init__(self, kind, *, learned=False, cell=False, **options):
        super().__init__()
        self.layer = CELLS[kind](3, 4) if cell else KINDS[kind](3, 4, batch_first=True, **options)
        ways = 2 if options.get("bidirectional") else 1
        shape = (4,) if cell else (ways * options.get("num_layers", 1), 1, 4)
        self.begun = nn.Parameter(torch.linspace(-1, 1, 4).expand(shape).contiguous()) if learned else None
        self.last, self.cell = nn.Linear(4 * ways, 2), cell

    def forward(self, rows):
        states = None
        if self.begun is not None:
            shape = (len(rows), 4) if self.cell else (len(self.begun), len(rows), 4)
            states = self.begun.expand(shape).contiguous()
            states = (states, states) if isinstance(self.layer, (nn.LSTM, nn.LSTMCell)) else states
        if not self.cell:
            return self.last(self.layer(rows, states)[0][:, -1])
        for step in rows.unbind(1):
            states = self.layer(step, states)
        return self.last(states[0] if isinstance(states, tuple) else states)


def _loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def _by_hand(model, features, targets, bound):
    parameters, total = list(trainable(model).values()), 0
    for one, target in zip(features, targets, strict=True):
        gradients = torch.autograd.grad(_loss(model(one[None]), target[None]).sum(), parameters)
        gradient = torch.cat([each.reshape(-1) for each in gradients])
        total = total + gradient * min(1.0, bound / float(gradient.norm()))
    return total


def _summed(model, features, targets, bound=0.5):
    return gradient_sum(model, example_dimensions=2, loss=_loss, max_grad_norm=bound)(features, targets)


def _batch(count=5, length=4):
    return torch.randn(count, length, 3), torch.arange(count) % 2


@EVERY
@given(
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    learned=st.booleans(),
    frozen=st.booleans(),
    length=st.integers(1, 4),
)
def test_sums_are_those_of_gradients_formed_one_by_one(kind, layers, bidirectional, bias, learned, frozen, length):
    torch.manual_seed(layers)
    model = Model(kind, num_layers=layers, bidirectional=bidirectional, bias=bias, learned=learned)
    model.layer.requires_grad_(not frozen)
    features, targets = _batch(length=length)
    assert not validate_model(model, like=features)
    expected = _by_hand(model, features, targets, 0.5)
    found = _summed(model, features, targets)
    assert (found - expected).norm() <= 1e-5 * expected.norm() and expected.norm() > 0.1


@EVERY
def test_layers_of_float64_run_too(kind):
    model, (features, targets) = Model(kind).double(), _batch()
    features = features.double()
    assert not validate_model(model, like=features)
    expected = _by_hand(model, features, targets, 0.5)
    assert (_summed(model, features, targets) - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("learned", [True, False])
def test_cells_are_as_layers(kind, learned):
    model, (features, targets) = Model(kind, cell=True, learned=learned), _batch()
    assert not validate_model(model, like=features)
    expected = _by_hand(model, features, targets, 0.5)
    assert (_summed(model, features, targets) - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("enabled", [True, False])
def test_kernels_of_onednn_are_as_before_after_a_pass_and_after_one_that_fails(enabled):
    """Below vmap torch would call them for one example after another, and warn that this is slow."""
    onednn, layer = torch.backends.mkldnn, nn.LSTM(3, 4)
    before, onednn.enabled = onednn.enabled, enabled
    try:
        _summed(Model("LSTM"), *_batch())
        assert onednn.enabled is enabled
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), with_own_states(layer):
            torch.lstm(
                torch.ones(2, 1, 5), (torch.ones(1, 1, 4),) * 2, layer._flat_weights, True, 1, 0.0, True, False, False
            )
        assert onednn.enabled is enabled
    finally:
        onednn.enabled = before


@EVERY
def test_what_is_not_finite_in_one_example_counts_as_zero_and_moves_no_other(kind):
    model, (features, targets) = Model(kind, num_layers=2), _batch()
    others = _summed(model, features[1:], targets[1:])
    for value in (torch.nan, torch.inf):
        features[0, 1] = value
        torch.testing.assert_close(_summed(model, features, targets), others, rtol=1e-6, atol=1e-7)


@EVERY
def test_masks_between_layers_are_an_examples_own_and_repeat_with_the_generator(kind):
    model, (features, _) = Model(kind, num_layers=2, dropout=0.5), _batch(count=1)
    targets = torch.zeros(1, dtype=torch.long)
    sums = []
    for count, seed in ((1, 0), (1, 0), (1, 1), (6, 0)):
        torch.default_generator.manual_seed(seed)
        sums.append(_summed(model, features.expand(count, -1, -1), targets.expand(count), bound=100.0) / count)
    assert torch.equal(sums[0], sums[1]) and not torch.equal(sums[0], sums[2]) and not torch.equal(sums[0], sums[3])


@EVERY
def test_a_run_with_users_and_masks_repeats_and_the_model_has_the_weights_that_it_shows(kind):
    """Layers keep a list of their weights beside the parameters, into which runs put others."""
    model = Model(kind, num_layers=2, dropout=0.5, learned=True)
    features, targets = _batch(count=12)
    data = Dataset(features=features, targets=targets, owners=torch.arange(12) // 3)
    config = config_of(Poisson(probability=0.9), steps=3, unit="user", examples_per_user=3)
    runs = [train(model, data, config, loss=_loss, randomness=KeyedSource(0)).model for _ in range(2)]
    assert all(map(torch.equal, runs[0].state_dict().values(), runs[1].state_dict().values()))
    assert not torch.equal(runs[0].begun, model.begun)
    loaded = Model(kind, num_layers=2, dropout=0.5, learned=True)
    loaded.load_state_dict(runs[0].state_dict())
    assert torch.equal(runs[0].eval()(features), loaded.eval()(features))
