"""Where torch makes tensors that nobody places is nothing to a run: its own are made where they belong.

Of the device "meta" tensors hold nothing, so that whatever comes to lie there ends a run or is missed in it.
"""

import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import (
    AdaptiveQuantile,
    Augmentation,
    Automatic,
    Checkpoint,
    Dataset,
    DPAdam,
    ExponentialAverage,
    MatrixGaussian,
    PerLayer,
    PrescribedGradients,
    RoundedGaussian,
    mlp,
    train,
)
from dpsgd.core import tuning
from dpsgd.core.forms import GROUPED, Given
from dpsgd.cyclic import Cyclic
from dpsgd.isolation import validate_model
from mechanisms import KeyedSource
from tests.dpsgd.clocks import Clock
from tests.dpsgd.schemes import EVERY_SCHEME, config_of

POISSON = EVERY_SCHEME["Poisson"]
OF_USERS = dataclasses.replace(POISSON, unit="user", examples_per_user=2)
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)
FLIPPED = Augmentation(make=lambda x, u: torch.where(u[0] < 0.5, x, x.flip(-1)), copies=2, draws=1)
CANARIES = PrescribedGradients(
    coordinates=torch.tensor([7, 2]), values=torch.tensor([0.4, -2.0]), included=torch.tensor([True, True])
)
FEATURES = torch.linspace(-3, 3, 35).view(7, 5)
TARGETS = torch.arange(7) % 3


class Own(nn.Module):
    """A model that is no chain."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, rows):
        return self.last(torch.tanh(self.first(rows)) + 0.5)


RUNS = {
    **EVERY_SCHEME,
    "correlated": config_of(Cyclic(), steps_per_epoch=3, noise=MatrixGaussian(coefficients=(1.0, 0.5))),
    "exact": dataclasses.replace(POISSON, noise=RoundedGaussian()),
    "users": OF_USERS,
    "adaptive": dataclasses.replace(POISSON, clipping=ADAPTIVE),
    "automatic": dataclasses.replace(POISSON, clipping=Automatic()),
    "per layer": dataclasses.replace(POISSON, clipping=PerLayer()),
}
OPTIONS = {
    "copies": {"augmentation": FLIPPED},
    "copies of users": {"config": OF_USERS, "augmentation": FLIPPED},
    "canaries": {"prescribed": CANARIES},
    "canaries of an adaptive bound": {"prescribed": CANARIES, "config": RUNS["adaptive"]},
    "small batches": {"largest_physical_batch": 2},
    "Adam and an average": {"optimizer": DPAdam, "average": ExponentialAverage(decay=0.9)},
    "masks": {"model": nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3))},
    "a model of its own": {"model": Own()},
}
CASES = {**{name: {"config": config} for name, config in RUNS.items()}, **OPTIONS}
MODEL = mlp(5, (4,), 3)


def _shown(*, config=POISSON, model=MODEL, stop=None, **options):
    owners = torch.from_numpy((TARGETS // 2 + 9).numpy()) if config.unit == "user" else None
    shown = []

    def seen(release):
        if release.step == stop:
            raise ZeroDivisionError
        shown.append(release.noisy_sum)

    train(
        model,
        Dataset(features=FEATURES, targets=TARGETS, owners=owners),
        config,
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=KeyedSource(0),
        callbacks=[seen],
        **options,
    )
    return torch.stack(shown)


@pytest.fixture
def elsewhere():
    """Return a function that runs another with new tensors on another device."""

    def run(function, **options):
        with torch.device("meta"):
            return function(**options)

    yield run


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_the_same_wherever_torch_makes_its_tensors(elsewhere, name):
    assert torch.equal(elsewhere(_shown, **CASES[name]), _shown(**CASES[name]))


def test_a_run_goes_on_wherever_torch_makes_its_tensors(elsewhere, tmp_path):
    options = CASES["Adam and an average"]
    whole = _shown(**options)
    kept = Checkpoint(path=tmp_path / "run", every=3)
    with pytest.raises(ZeroDivisionError):
        elsewhere(_shown, checkpoint=kept, stop=7, **options)
    assert torch.equal(elsewhere(_shown, checkpoint=kept, **options), whole[6:])


def test_forms_of_convolutions_are_tried_wherever_torch_makes_its_tensors(elsewhere, monkeypatch):
    layer, images = nn.Conv2d(2, 3, 3), torch.zeros(1, 2, 6, 6)
    one = Given(layer=layer, inputs=images, gradients=torch.zeros(1, 3, 4, 4))
    monkeypatch.setattr(tuning, "clock", Clock(ratio=0.5))
    assert elsewhere(tuning.fastest_forms, given={"0": one}) == {"0": GROUPED}


@pytest.mark.parametrize(
    ("layer", "found"), [(nn.TransformerEncoderLayer(4, 2, batch_first=True), 0), (nn.Softmax(dim=0), 1)]
)
def test_a_model_is_found_the_same_wherever_torch_makes_its_tensors(elsewhere, layer, found):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    assert len(validate_model(model, like=torch.ones(2, 3, 4))) == found
    assert len(elsewhere(validate_model, model=model, like=torch.ones(2, 3, 4))) == found
