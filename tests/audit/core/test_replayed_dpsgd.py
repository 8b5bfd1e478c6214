"""Our trainer under replay: every way of clipping and sampling, on neighbours that are as bad as can be."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit.canaries import signed_coordinates  # noqa: E402
from audit.core.replayed_dpsgd import PER_RECORD, dataset_neighbours, replayed_dpsgd  # noqa: E402
from audit.replay import Additive, Neighbours, flipped_canaries, replay_training  # noqa: E402
from audit.trainers import dpsgd_trainer  # noqa: E402
from dpsgd import DPSGD, Dataset, steps  # noqa: E402
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer  # noqa: E402
from mechanisms import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
DATA = Dataset(
    features=torch.randn(6, 5, generator=GENERATOR), targets=torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.int64)
)
LOSS = torch.nn.CrossEntropyLoss(reduction="none")
POISSON = {"sampling": Poisson(probability=0.5), "expected_batch_size": 3}
CLIPPINGS = (
    Flat(),
    PerLayer(),
    Automatic(),
    Normalised(),
    AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0),
)


def tanh_net():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


FEW = slice(None, None, 3)  # of the neighbours: enough to find what many of them show


def replayed(adjacency, *, neighbours=slice(None), sensitivity=None, **fields):
    common = {"noise_multiplier": 1.0, "max_grad_norm": 0.7, "steps": 4, "learning_rate": 0.5}
    config = DPSGD(**common | POISSON | fields)
    return replay_training(
        replayed_dpsgd(tanh_net(), config, loss=LOSS),
        dataset_neighbours(DATA, adjacency=adjacency)[neighbours],
        description=Additive(
            sensitivity=sensitivity or {"replace_one": 2.0}.get(adjacency, 1.0), per_record=PER_RECORD
        ),
        bound=lambda release: release.max_grad_norm,
        keys=1,
    )


@pytest.mark.thinned(7)
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one", "zero_out"])
@pytest.mark.parametrize("clipping", CLIPPINGS, ids=lambda clipping: type(clipping).__name__)
def test_nothing_is_found_whatever_the_clipping(clipping, adjacency):
    report = replayed(adjacency, clipping=clipping)
    assert report.findings == () and report.compared + report.apart == 4 * report.neighbours
    assert not report.apart or clipping == CLIPPINGS[-1]  # its bound follows what was released


SAME_NUMBER = ("replace_one", "zero_out")
SCHEMES = {
    "truncated": ({"sampling": TruncatedPoisson(probability=0.5, largest_batch=4, records=6)}, SAME_NUMBER),
    "fixed": ({"sampling": FixedSize(batch_size=3, records=6)}, SAME_NUMBER),
    "shuffled": ({"sampling": Shuffled(), "steps_per_epoch": 2}, SAME_NUMBER),
    "bins": ({"sampling": BallsInBins(), "steps_per_epoch": 2}, ("add_remove", *SAME_NUMBER)),
}  # fmt: skip


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("name", "adjacency"), [(name, one) for name, (_, many) in SCHEMES.items() for one in many])
def test_nothing_is_found_whatever_the_sampling(name, adjacency):
    report = replayed(adjacency, **SCHEMES[name][0])
    assert report.findings == () and report.apart == 0


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("adjacency", "less"), [("add_remove", 0.99), ("replace_one", 1.2), ("zero_out", 0.99)])
def test_a_claim_below_what_records_do_is_refuted(adjacency, less):
    assert replayed(adjacency, neighbours=FEW, sensitivity=less).kinds == ("sensitivity",)


def test_a_trainer_that_clips_at_another_bound_than_described_is_found():
    def loose(model, config, *, loss):
        return replayed_dpsgd(model, dataclasses.replace(config, max_grad_norm=0.9), loss=loss)

    common = {"noise_multiplier": 1.0, "max_grad_norm": 0.7, "steps": 2, "learning_rate": 0.5}
    report = replay_training(
        loose(tanh_net(), DPSGD(**common | POISSON), loss=LOSS),
        dataset_neighbours(DATA, adjacency="add_remove")[FEW],
        description=Additive(sensitivity=0.7, per_record=PER_RECORD),
    )
    assert report.kinds == ("sensitivity",)


def test_forced_steps_stand_where_they_are_told():
    config = DPSGD(noise_multiplier=1.0, max_grad_norm=0.7, steps=3, learning_rate=0.5, **POISSON)
    from mechanisms import KeyedSource

    free = list(steps(tanh_net(), DATA, config, loss=LOSS, randomness=KeyedSource(0)))
    run, taken = replayed_dpsgd(tanh_net(), config, loss=LOSS)(DATA, KeyedSource(1)), []
    for release in run.releases:
        taken.append(release)
        if len(taken) < 3:
            run.force(free[len(taken)].weights_before)
    assert all(torch.equal(a.weights_before, b.weights_before) for a, b in zip(free, taken, strict=True))
    assert not any(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(free, taken, strict=True))


def test_features_of_zero_are_another_record_and_not_none():
    zero = DATA.features.clone()
    zero[-1] = 0.0
    pair = (Neighbours(name="features of zero", one=DATA, other=Dataset(features=zero, targets=DATA.targets)),)
    config = DPSGD(noise_multiplier=1.0, max_grad_norm=0.7, steps=4, learning_rate=0.5, **POISSON)
    run, bound = replayed_dpsgd(tanh_net(), config, loss=LOSS), lambda release: release.max_grad_norm
    found = replay_training(
        run, pair, description=Additive(sensitivity=1.0, per_record=PER_RECORD), bound=bound, keys=8
    )
    assert found.kinds == ("sensitivity",)


def test_nothing_is_found_in_our_trainer_as_it_is_audited():
    config = DPSGD(noise_multiplier=1.0, max_grad_norm=0.7, steps=3, learning_rate=0.5, **POISSON)
    canaries = signed_coordinates(canaries=4, dimension=39, rng=np.random.default_rng(0))
    run, pairs = flipped_canaries(dpsgd_trainer(tanh_net(), DATA, config, loss=LOSS), canaries)
    for claimed, kinds in ((0.7, ()), (0.69, ("sensitivity",))):
        found = replay_training(run, pairs, description=Additive(sensitivity=claimed, per_record=PER_RECORD), keys=3)
        assert found.kinds == kinds and found.moved > 0 and found.apart > 0
