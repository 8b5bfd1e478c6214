"""A run that is killed again and again with no warning, in forked processes: one import of torch serves them all.

`python -m tests.dpsgd.kills FOLDER KILLS NAME` leaves FOLDER/whole, of one of `RUNS` in one piece, and FOLDER/killed,
of the same in pieces: the weights at the end in `weights`; in `shown` a line for every release, its step and a digest.
"""

import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from dpsgd import (
    DPSGD,
    AdaptiveQuantile,
    BufferedGaussian,
    Cosine,
    Cyclic,
    CyclicPoisson,
    Dataset,
    DPAdam,
    ExponentialAverage,
    MatrixGaussian,
    TailAverage,
    TreeGaussian,
    train,
)
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import tuning
from dpsgd.core.parameters import flatten
from mechanisms import BallsInBins, Poisson, SystemSource
from tests.dpsgd.clocks import fickle

STEPS = 120
CONFIG = DPSGD(
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    sampling=BallsInBins(),
    expected_batch_size=4,
    steps=STEPS,
    learning_rate=0.5,
    steps_per_epoch=4,
)
RECORDS = Dataset(features=torch.linspace(-1, 1, 80).reshape(16, 5), targets=torch.arange(16) % 3)
USERS = dataclasses.replace(RECORDS, owners=torch.arange(16) % 6)
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)
DRAWN = {"steps_per_epoch": None, "sampling": Poisson(probability=0.3)}
CYCLIC = {"sampling": Cyclic(), "steps_per_epoch": 7}
GROUPS = {"steps_per_epoch": None, "sampling": CyclicPoisson(probability=0.3, groups=3)}
RUNS = {  # changes of the configuration, the records, and keywords of the run
    "balls in bins": ({}, RECORDS, {}),
    "users": (
        {**DRAWN, "unit": "user", "examples_per_user": 2},
        USERS,
        {"optimizer": lambda parameters, config: DPAdam(parameters, config), "average": ExponentialAverage(decay=0.9)},
    ),
    "adaptive": ({**DRAWN, "clipping": ADAPTIVE}, RECORDS, {"average": ExponentialAverage(decay=0.5)}),
    "tree": ({**CYCLIC, "noise": TreeGaussian()}, RECORDS, {"average": TailAverage(steps=60)}),
    "buffered, users": (
        {**CYCLIC, "noise": BufferedGaussian(weights=(0.5, 0.5), decays=(0.9, 0.2)), "unit": "user"}
        | {"examples_per_user": 2},
        USERS,
        {"schedule": Cosine(steps=STEPS)},
    ),
    "convolutions": (DRAWN, dataclasses.replace(RECORDS, features=RECORDS.features.reshape(16, 1, 5)), {}),
    "banded groups": ({**GROUPS, "noise": MatrixGaussian(coefficients=(1.0, 0.5, 0.25))}, RECORDS, {}),
}
WRITES = 2  # of the key and of the file before the first step


def train_in(folder, *, observer, name="balls in bins"):
    """Train where the run is kept in `folder`; Dropout draws from torch's own generator."""
    first = [nn.Conv1d(1, 6, 3), nn.Flatten(), nn.Linear(18, 8)] if name == "convolutions" else [nn.Linear(5, 8)]
    model = nn.Sequential(*first, nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
    tuning.clock = fickle()  # every process has another one
    changes, data, options = RUNS[name]
    config = dataclasses.replace(CONFIG, **changes)
    with (folder / "shown").open("a") as shown:

        def seen(release):
            digest = hashlib.sha256(release.noisy_sum.numpy().tobytes() + release.weights_before.numpy().tobytes())
            digest.update(repr((release.max_grad_norm, release.noisy_count)).encode())
            print(release.step, digest.hexdigest(), file=shown, flush=True)
            observer(release)

        result = train(
            model,
            data,
            config,
            loss=nn.CrossEntropyLoss(reduction="none"),
            randomness=SystemSource(),
            initialisation_seed=0,
            checkpoint=Checkpoint(path=folder / "run.safetensors", every=4),
            callbacks=[seen],
            **options,
        )
    assert result.process == config.process() and not result.reproducible
    models = [result.model, *([] if result.averaged_model is None else [result.averaged_model])]
    weights = b"".join(flatten(one.parameters()).numpy().tobytes() for one in models)
    (folder / "weights").write_bytes(weights)


def forked(work, pipe):
    """Do `work` in a forked process, which has no other end than 0, or 1 after an error, or being killed."""
    child = os.fork()
    if child == 0:
        os.close(pipe[0])
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    os.close(pipe[1])
    return child


def in_one_piece(folder, name):
    """Train to the end and fail if that fails."""
    pipe = os.pipe()
    child = forked(lambda: train_in(folder, observer=lambda release: None, name=name), pipe)
    os.close(pipe[0])
    assert os.waitpid(child, 0)[1] == 0


def killed_after(folder, step, seconds, name):
    """Train until so many seconds after a step was shown, wherever that is; return whether that came before the end."""
    pipe = os.pipe()

    def told(release):
        if release.step >= step:
            os.write(pipe[1], b"x")

    child = forked(lambda: train_in(folder, observer=told, name=name), pipe)
    os.read(pipe[0], 1)  # or the end of what a child that has ended could still say
    time.sleep(seconds)
    os.close(pipe[0])
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def killed_at(folder, step, name):
    """Train until a step was shown and not an instant longer, so that the next process has to take it again."""

    def dying(release):
        if release.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    pipe = os.pipe()
    child = forked(lambda: train_in(folder, observer=dying, name=name), pipe)
    os.close(pipe[0])
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def killed_before_a_replacement(folder, number, name):
    """Train until a file is written whole under its other name, the number-th one of this process."""
    pipe, calls = os.pipe(), []
    replace = os.replace

    def dying(*names):
        calls.append(names)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names)

    def work():
        os.replace = dying
        train_in(folder, observer=lambda release: None, name=name)

    child = forked(work, pipe)
    os.close(pipe[0])
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def main(folder, kills, name):
    """Begin one run, copy it, finish one copy in one piece and the other in so many more than one."""
    torch.set_num_threads(1)  # a process with threads cannot be forked
    killed, whole, warm = folder / "killed", folder / "whole", folder / "warm"
    warm.mkdir()
    train_in(
        warm, observer=lambda release: None, name=name
    )  # what is imported on first use is there for all that follows
    killed.mkdir()
    for number in range(1, WRITES + 1):  # nothing was shown: each new beginning has a key of its own
        killed_before_a_replacement(killed, number, name)
        assert not (killed / "run.safetensors").exists() and not (killed / "shown").read_text()
    killed_at(killed, 0, name)
    shutil.copytree(killed, whole)
    in_one_piece(whole, name)
    moments, died = random.Random(0), 0
    for kill in range(kills):
        if kill % 4 == 3:
            killed_before_a_replacement(killed, 1, name)
            died += 1
        else:
            died += killed_after(killed, 100 * kill // kills, moments.uniform(0, 0.004), name)
    in_one_piece(killed, name)
    print(died)


if __name__ == "__main__":
    with contextlib.chdir(sys.argv[1]):
        main(Path.cwd(), int(sys.argv[2]), sys.argv[3])
