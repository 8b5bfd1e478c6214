"""Private training from a configuration to a model that knows what it has spent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike

import torch
from torch import nn

from dpsgd.config import DPSGD
from dpsgd.datasets import Dataset
from dpsgd.descent import Release, steps
from dpsgd.losses import Loss
from dpsgd.prescribed import PrescribedGradients
from dpsgd.schemes import check_neighbours
from mechanisms import InvalidParameter, Process, Source
from mechanisms.core import validate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainResult:
    """A trained model and what its training has spent.

    Args:
        model: the trained model; a model trained on real records may leave only under the ε below.
        process: of the steps executed.
        reproducible: whether the noise was made with a key that others may know: then the model is not private.
    """

    model: nn.Module
    process: Process
    reproducible: bool

    def epsilon(self, *, delta: float, adjacency: str = "add_remove") -> float:
        """Return the certified ε of the steps executed, at `delta` in [0, 1], for the `adjacency` named.

        Raises:
            InvalidParameter: if delta or adjacency is out of range, or the run would have been refused for another
                number of records than it declares, which neighbours by "add_remove" have.
            UnsupportedProcess: if there is no theorem for these neighbours.
        """
        from accountant import compute_epsilon

        check_neighbours("TrainResult", self.process, adjacency)
        return compute_epsilon(self.process, delta=delta, adjacency=adjacency)


def train(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD,
    *,
    loss: Loss,
    randomness: Source,
    initialisation_seed: int | None = None,
    prescribed: PrescribedGradients | None = None,
    operator_log: str | PathLike[str] | None = None,
    observer: Callable[[Release], None] | None = None,
    progress: bool = False,
) -> TrainResult:
    """Return a copy of `model` trained by `config` on `dataset`, and the process that this was.

    Args:
        model: what to train; it is left as it is.
        dataset: the private records.
        config: what to run.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of samples and noise: a `SystemSource` for anything that matters.
        initialisation_seed: of fresh weights for every layer; None keeps the weights of `model`.
        prescribed: further records with prescribed gradients, for gradient canaries; with Poisson or BallsInBins.
        operator_log: a new file for exact counts of every step, of examples, of those clipped and of those that counted
            as zero because they were not finite. It is private as the records are, and no part of the result.
        observer: is shown every release; whoever reads them is the adversary that the accountants assume.
        progress: whether to show the number of steps done on stderr.

    Guarantees: `result.process` describes exactly what ran. The same model, data, seed and key give the same weights,
    bit for bit, on one machine; layers that draw numbers of their own (Dropout) take them from torch's generator.

    Raises:
        InvalidParameter: before the first step, if the model cannot be private or something does not fit.

    >>> from dpsgd.models import mlp
    >>> from mechanisms import Poisson, SystemSource
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.5),
    ...                expected_batch_size=4, steps=3, learning_rate=0.1)
    >>> data = Dataset(features=torch.rand(8, 2), targets=torch.arange(8) % 2)
    >>> loss = nn.CrossEntropyLoss(reduction="none")
    >>> train(mlp(2, (), 2), data, config, loss=loss, randomness=SystemSource(), initialisation_seed=0).process.times
    3
    """
    trained = _initialised(model, initialisation_seed).train()
    releases = steps(
        trained,
        dataset,
        config,
        loss=loss,
        randomness=randomness,
        prescribed=prescribed,
        operator_log=operator_log,
    )
    executed = 0
    for release in _shown(releases, config.steps) if progress else releases:
        executed += 1
        if observer is not None:
            observer(release)
    return TrainResult(model=trained, process=config.process_after(executed), reproducible=randomness.reproducible)


def _initialised(model: nn.Module, seed: int | None) -> nn.Module:
    """Return a copy of `model`, with weights drawn anew by each module's own `reset_parameters` if there is a seed."""
    fresh = copy.deepcopy(model)
    if seed is None:
        return fresh
    with torch.random.fork_rng():
        torch.manual_seed(validate.count("train", "initialisation_seed", seed))
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise InvalidParameter(
                    f"train: every layer must have reset_parameters, but {name!r} ({type(module).__name__}) has none.\n"
                    "Initialise the model yourself and pass initialisation_seed=None."
                )
    return fresh


def _shown(releases: Iterable[Release], total: int) -> Iterator[Release]:
    from rich.console import Console
    from rich.progress import track

    yield from track(releases, description="private steps", total=total, console=Console(stderr=True))
