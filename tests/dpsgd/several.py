"""Runs by several ranks in forked processes: one import of torch serves them all.

`python -m tests.dpsgd.several FOLDER` leaves the weights of every run and rank, and what it showed, in FOLDER.
"""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed, nn

from dpsgd import STOP, BufferedGaussian, Cosine, Cyclic, Dataset, PrescribedGradients, RoundedGaussian, mlp, train
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import tuning
from dpsgd.core.parameters import flatten
from mechanisms import InvalidParameter, KeyedSource, SystemSource
from tests.dpsgd.clocks import Clock, stopped
from tests.dpsgd.schemes import EVERY_SCHEME, config_of

RECORDS = 7
CONFIG = EVERY_SCHEME["Poisson"]
OTHERS = {
    "exact noise": dataclasses.replace(CONFIG, noise=RoundedGaussian()),
    "buffered noise": config_of(
        Cyclic(), steps_per_epoch=3, noise=BufferedGaussian(weights=(0.5, 0.5), decays=(0.9, 0.2))
    ),
}
CANARIES = PrescribedGradients(
    coordinates=torch.tensor([7, 2]), values=torch.tensor([0.4, -2.0]), included=torch.tensor([True, True])
)


class Stop(Exception):
    """Ends a run before its end."""


def masked():
    """Return a model whose layers draw numbers of their own."""
    return nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3))


def run(
    name,
    config=CONFIG,
    *,
    model=None,
    randomness=None,
    stop=None,
    seed=0,
    ask=lambda step: False,
    data=None,
    ranks=None,
    **options,
):
    """Train, and keep weights and releases in a file of the rank's."""
    generator = torch.Generator().manual_seed(3)
    data = data or Dataset(
        features=3 * torch.randn(RECORDS, 5, generator=generator),
        targets=torch.randint(3, (RECORDS,), generator=generator),
    )
    shown = []

    def seen(release):
        if release.step == stop:
            raise Stop
        shown.append(release.noisy_sum)
        return STOP if ask(release.step) else None

    rank = distributed.get_rank() if distributed.is_initialized() else "alone"
    with contextlib.suppress(Stop):
        trained = train(
            model or mlp(5, (4,), 3),
            data,
            config,
            loss=nn.CrossEntropyLoss(reduction="none"),
            randomness=randomness or KeyedSource("tests of ranks"),
            initialisation_seed=seed,
            callbacks=[seen],
            **options,
        )
        assert trained.process == config.process()
        assert ranks is None or trained.circumstances.ranks == ranks
        weights = flatten(trained.model.parameters())
        save_file({"weights": weights, "shown": torch.stack(shown)}, f"{name} {rank}")


def refused(name, text, **options):
    """Check that every rank refuses a run that is not the same on all."""
    try:
        run(name, **options)
    except InvalidParameter as error:
        assert text in str(error)
    else:
        raise AssertionError(name)


def together(rank):
    """Run all that two ranks do."""
    torch.manual_seed(rank)  # their own weights differ
    for name, config in {**EVERY_SCHEME, **OTHERS}.items():
        run(name, config)
    run("canaries", prescribed=CANARIES)
    run("secret", randomness=SystemSource())
    run("unseeded", seed=None)
    run("given up together", stop=5, checkpoint=Checkpoint(path="together.safetensors", every=2))
    run("given up alone", checkpoint=Checkpoint(path="alone.safetensors", every=2))
    run("secret and kept", randomness=SystemSource(), checkpoint=Checkpoint(path="secret.safetensors", every=5))
    assert not Path("secret.safetensors.key").exists() or rank == 1
    forms(rank)
    run("masks", model=masked())
    run("masks given up", model=masked(), stop=5, checkpoint=Checkpoint(path="masks.safetensors", every=3))
    run("masks resumed", model=masked(), checkpoint=Checkpoint(path="masks.safetensors", every=3))
    run("masks left", model=masked(), stop=5, checkpoint=Checkpoint(path="left.safetensors", every=3))
    run("masks not begun", model=masked(), stop=0, checkpoint=Checkpoint(path="begun.safetensors"))
    run("stopped", checkpoint=Checkpoint(path="stopped.safetensors"), ask=lambda step: rank == 1 and step == 5)
    refused("keys", "key and number of runs must be the same", randomness=KeyedSource(rank))
    order = torch.arange(RECORDS).roll(rank)  # in which a record could be drawn by both
    mine = Dataset(features=torch.eye(RECORDS)[order, :5], targets=order % 3)
    refused("orders", "the records, in their order, must be the same on every rank", data=mine)
    other = EVERY_SCHEME["BallsInBins" if rank else "Poisson"]
    rates = Cosine(steps=12, warm_up=rank)
    refused("schedules", "optimizer, schedule, key and number of runs must be the same", schedule=rates)
    refused("configurations", "configuration, optimizer, schedule, key and number", config=other)
    if rank:
        run("failing", stop=5)
    else:
        refused("failed", "callbacks must not fail on any rank, and one did on another")


def convolving():
    """Return a model whose convolution has two forms, and what keeps its runs."""
    return nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(12, 3))


IMAGES = Dataset(features=torch.linspace(-2, 3, 35).reshape(RECORDS, 1, 5), targets=torch.arange(RECORDS) % 3)


def forms(rank):
    """Run where the first rank's clock alone says which form a convolution goes by, and is looked at once."""
    for name in ("forms", "forms left"):
        options = {"model": convolving(), "data": IMAGES, "checkpoint": Checkpoint(path=f"{name}.safetensors", every=2)}
        tuning.clock = stopped if rank else Clock(ratio=0.5)
        run(name, stop=5, randomness=SystemSource(), **options)
        tuning.clock = stopped
        if name == "forms":
            run(name, randomness=SystemSource(), **options)


def alone():
    """Run what one process does before two do, to compare."""
    for name, config in {**EVERY_SCHEME, **OTHERS}.items():
        run(name, config)
    run("canaries", prescribed=CANARIES)
    run("given up alone", stop=5, checkpoint=Checkpoint(path="alone.safetensors", every=2))


def forked(work):
    """Return a forked process that does `work`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def ranked(rank, count=2):
    """Join the group and work."""
    distributed.init_process_group("gloo", init_method=f"file://{Path.cwd()}/meeting", rank=rank, world_size=count)
    together(rank)
    distributed.destroy_process_group()


def main():
    """Run alone, with two ranks, and alone what two ranks gave up."""
    torch.set_num_threads(1)
    alone()
    tuning.clock = stopped
    children = [forked(lambda rank=rank: ranked(rank)) for rank in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    run("given up together", checkpoint=Checkpoint(path="together.safetensors", every=2), ranks=2)
    kept = Checkpoint(path="forms left.safetensors", every=2)
    run("forms left", model=convolving(), data=IMAGES, randomness=SystemSource(), checkpoint=kept)
    for path, every in (("left.safetensors", 3), ("begun.safetensors", 100)):
        kept = Checkpoint(path=path, every=every)
        refused(path, "there must be 2 ranks, as when the run was begun, got 1", model=masked(), checkpoint=kept)


if __name__ == "__main__":
    with contextlib.chdir(sys.argv[1]):
        main()
