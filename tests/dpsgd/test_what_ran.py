"""The process that a result states, against what its releases show: steps, samples, bound and noise, taken by hand."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import STOP, Budget, Checkpoint, Cyclic, Dataset, train
from dpsgd.core.batches import drawn_rows
from dpsgd.descent import steps
from mechanisms import BallsInBins, Gaussian, KeyedSource, Poisson, Repeat, Sampled, SystemSource, TruncatedPoisson
from tests.dpsgd.schemes import config_of

RECORDS, KEY, BOUND = 40, KeyedSource("what ran"), 0.7
CONFIG = config_of(
    Poisson(probability=0.3),
    noise_multiplier=1.3,
    max_grad_norm=BOUND,
    expected_batch_size=12,
    steps=120,
    learning_rate=0.3,
)


class Killed(Exception):
    """Ends a run without warning."""


def data_of(records):
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=features.sum(1) + torch.randn(records, generator=generator))


def halved_square(outputs, targets):
    return (outputs[:, 0] - targets) ** 2 / 2


def line():
    model = nn.Linear(5, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def trained(path=None, *, killed_at=None, stopped_at=None, shown=None, **options):
    def seen(release):
        shown.append(release)
        if release.step == killed_at:
            raise Killed
        return STOP if release.step == stopped_at else None

    kept = None if path is None else Checkpoint(path=path, every=7)
    return train(
        line(),
        data_of(RECORDS),
        CONFIG,
        loss=halved_square,
        randomness=KeyedSource("what ran"),
        callbacks=[seen],
        checkpoint=kept,
        **options,
    )


def ended(ending, folder, shown):
    """Return the result of a run that ended, or went on, in one of these ways."""
    options = {"budget": Budget(epsilon=9.0, delta=1e-5)} if "budget" in ending else {}
    for killed_at in {"resumed": (50,), "resumed twice": (3, 90), "budget, resumed": (61,)}.get(ending, ()):
        with contextlib.suppress(Killed):
            trained(folder / "run", killed_at=killed_at, shown=shown, **options)
    path = folder / "run" if "resumed" in ending else None
    return trained(path, stopped_at=80 if ending == "stopped" else None, shown=shown, **options)


ENDINGS = ("whole", "resumed", "resumed twice", "budget", "budget, resumed", "stopped")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_is_what_the_releases_show(ending, tmp_path):
    shown = []
    result = ended(ending, tmp_path, shown)
    executed = {release.step: release for release in shown}
    process, data = result.process, data_of(RECORDS)
    assert sorted(executed) == list(range(result.executed)) and len(shown) >= len(executed)
    assert result.executed == (81 if ending == "stopped" else process.times)
    assert (process.times < 120) == ("budget" in ending)
    noise = []
    for release in executed.values():
        rows = torch.from_numpy(drawn_rows(KEY, CONFIG, run=release.run, records=RECORDS)(release.step))
        x, w = data.features[rows], release.weights_before
        gradients = (x @ w - data.targets[rows])[:, None] * x
        clipped = gradients * (BOUND / gradients.norm(dim=1, keepdim=True)).clamp(max=1.0)
        noise.append((release.noisy_sum - clipped.sum(0)) / BOUND)
    deviations = torch.stack(noise) / process.part.part.noise_multiplier
    assert process == Repeat(Sampled(Gaussian(noise_multiplier=1.3), Poisson(probability=0.3)), process.times)
    assert float(deviations.square().mean()) == pytest.approx(1.0, abs=4 * (2 / deviations.numel()) ** 0.5)
    assert deviations.unique().numel() == deviations.numel()  # no two steps share a noise
    for release in shown:  # nor has a step that was taken again another one
        assert torch.equal(release.noisy_sum, executed[release.step].noisy_sum)


ANY_NUMBER = {
    "Poisson": CONFIG,
    "full batch": dataclasses.replace(CONFIG, sampling=Poisson(probability=1.0)),
    "TruncatedPoisson": dataclasses.replace(CONFIG, sampling=TruncatedPoisson(probability=0.9, largest_batch=15)),
    "BallsInBins": dataclasses.replace(CONFIG, sampling=BallsInBins(), steps_per_epoch=4),
    "Cyclic": dataclasses.replace(CONFIG, sampling=Cyclic(), steps_per_epoch=4),
}


@pytest.mark.parametrize("records", [0, 1, 2])
@pytest.mark.parametrize("name", ANY_NUMBER)
def test_fewer_records_than_a_batch_or_none_change_neither_steps_nor_noise_nor_process(name, records):
    config = dataclasses.replace(ANY_NUMBER[name], steps=12, learning_rate=1e-30)
    still = dataclasses.replace(config, noise_multiplier=0.0)

    def sums(config, records):
        shown = list(steps(line(), data_of(records), config, loss=halved_square, randomness=KeyedSource("few")))
        return torch.stack([release.noisy_sum for release in shown])

    noise = sums(config, records) - sums(still, records)
    assert noise.shape == (12, 5)
    torch.testing.assert_close(noise, sums(config, 0), rtol=0, atol=1e-6)
    result = train(line(), data_of(records), config, loss=halved_square, randomness=SystemSource())
    assert result.process == config.process() and result.executed == 12


def test_one_record_is_trained_on_as_by_hand():
    config = dataclasses.replace(CONFIG, noise_multiplier=0.0, sampling=Poisson(probability=1.0), steps=2)
    data = Dataset(features=torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0]]), targets=torch.tensor([1.0]))
    model, found = line(), []
    for release in steps(model, data, config, loss=halved_square, randomness=KeyedSource(0)):
        found.append(release.noisy_sum)
    # gradient −(3, 4), of norm 5, cut to .7; then w = .3 · (.42, .56)/12 and the residual is .0875 − 1
    torch.testing.assert_close(found[0], torch.tensor([-0.42, -0.56, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(found[1], torch.tensor([-0.42, -0.56, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(model.weight[0], torch.tensor([0.021, 0.028, 0.0, 0.0, 0.0]))


def test_a_step_in_which_nobody_was_drawn_is_shown_and_counted_like_any_other():
    rare = dataclasses.replace(CONFIG, sampling=Poisson(probability=0.01), steps=30)
    rows = drawn_rows(KeyedSource("rare"), rare, run=0, records=RECORDS)
    assert {len(rows(step)) > 0 for step in range(30)} == {True, False}
    shown = list(steps(line(), data_of(RECORDS), rare, loss=halved_square, randomness=KeyedSource("rare")))
    assert [release.step for release in shown] == list(range(30)) and len(shown) == rare.process().times
    assert all(float(release.noisy_sum.norm()) > 0.1 * BOUND for release in shown)
