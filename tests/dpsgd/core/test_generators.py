"""Only torch's generators of the CPU and of the run's device are touched."""

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, train
from dpsgd.core import generators
from dpsgd.core.generators import set_apart
from dpsgd.isolation import validate_model
from mechanisms import KeyedSource
from tests.dpsgd.schemes import EVERY_SCHEME

SECOND = torch.device("cuda", 1)


@pytest.fixture
def cuda(monkeypatch):
    """Return generators in the place of those of two CUDA devices."""
    found = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", found)
    return found


def test_a_device_has_its_own_numbers_set_apart_and_other_devices_keep_theirs(cuda):
    before = [one.get_state() for one in (torch.default_generator, *cuda)]
    with set_apart(SECOND, seed=7):
        assert torch.default_generator.initial_seed() == cuda[1].initial_seed() == 7
        assert torch.equal(cuda[0].get_state(), before[1])
        torch.rand(3, generator=cuda[1])
    after = [one.get_state() for one in (torch.default_generator, *cuda)]
    assert all(map(torch.equal, before, after))


def test_places_tell_whether_numbers_were_drawn_on_the_device(cuda):
    before = generators.places(SECOND)
    torch.rand(1, generator=cuda[0])
    assert all(map(torch.equal, before, generators.places(SECOND)))
    torch.rand(1, generator=cuda[1])
    assert not all(map(torch.equal, before, generators.places(SECOND)))


def test_generators_are_as_before_whatever_ends_a_context(cuda):
    before = [one.get_state() for one in cuda]
    with pytest.raises(ZeroDivisionError), set_apart(SECOND, seed=7):
        raise ZeroDivisionError
    assert all(map(torch.equal, before, [one.get_state() for one in cuda]))


def test_a_run_on_the_cpu_takes_hold_of_no_other_device(monkeypatch):
    """As far as the calls go by which torch does: on a machine with two of them each would cost memory."""

    def called(*_, **__):
        raise AssertionError("a CUDA device")

    model, like = nn.TransformerEncoderLayer(4, 2, batch_first=True), torch.ones(2, 3, 4)
    assert not validate_model(model, like=like)  # what torch loads for it counts devices itself
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("manual_seed_all", "get_rng_state", "set_rng_state", "init"):
        monkeypatch.setattr(torch.cuda, name, called)
    data = Dataset(features=torch.ones(7, 5), targets=torch.arange(7) % 3)
    loss = nn.CrossEntropyLoss(reduction="none")
    train(mlp(5, (4,), 3), data, EVERY_SCHEME["Poisson"], loss=loss, randomness=KeyedSource(0), initialisation_seed=0)
    assert not validate_model(model, like=like)
