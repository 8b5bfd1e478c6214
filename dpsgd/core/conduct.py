"""How a run is carried out, beside what its configuration says: nothing here changes what it costs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from os import PathLike

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from dpsgd.augmentation import Augmentation
from dpsgd.averaging import Average
from dpsgd.checkpoint import Checkpoint
from dpsgd.config import DPSGD
from dpsgd.core.once import refused
from dpsgd.core.updates import MakeOptimizer, Schedule, rate_factor
from dpsgd.core.whole import WHOLE
from dpsgd.datasets import Dataset
from dpsgd.losses import Loss, of_torch
from dpsgd.prescribed import Prescribed
from mechanisms import InvalidParameter, Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conduct:
    """The keywords of `dpsgd.steps`, which tells what they are, and what `dpsgd.train` has besides.

    Args:
        loss: as there, and so the rest.
        randomness: as there.
        prescribed: as there.
        present: as there.
        augmentation: as there.
        largest_physical_batch: as there.
        optimizer: as there.
        schedule: as there.
        checkpoint: as there.
        operator_log: as there.
        compiled: as there.
        average: that `dpsgd.train` keeps of the weights, or None.
        fresh: whether it drew the weights afresh that the run begins at.

    Raises:
        InvalidParameter: if one is of another kind.
    """

    loss: Loss
    randomness: Source
    prescribed: Prescribed | None = None
    present: Tensor | None = None
    augmentation: Augmentation | None = None
    largest_physical_batch: int | None = None
    optimizer: MakeOptimizer | None = None
    schedule: Schedule | None = None
    checkpoint: Checkpoint | None = None
    operator_log: str | PathLike[str] | None = None
    compiled: bool = False
    average: Average | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InvalidParameter(f"train: {name} must be of {kind.__name__}, got {_kind(value)}.{_hint(name)}")
        if not isinstance(self.randomness, Source):
            raise InvalidParameter(f"train: randomness must be a Source, got {_kind(self.randomness)}.\n{SOURCES}")
        repeatable = self.prescribed is None or self.prescribed.repeatable
        if self.checkpoint is not None and self.checkpoint.every > 1 and not repeatable:
            raise InvalidParameter(
                "train: checkpoint must have every=1 with prescribed gradients that are drawn anew in every step, got "
                f"every={self.checkpoint.every}.\nA step taken again would lead to other weights, and the steps after "
                "it be shown at both under the same noise: the difference of their sums bare."
            )
        for name, takes in FUNCTIONS.items():
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "loss"):
                raise InvalidParameter(f"train: {name} must be a function of {takes}, got {_kind(value)}.")
        if self.operator_log is not None and not isinstance(self.operator_log, (str, PathLike)):
            raise InvalidParameter(f"train: operator_log must be a path, got {_kind(self.operator_log)}.")
        if not isinstance(self.compiled, bool):
            raise InvalidParameter(f"train: compiled must be True or False, got {_kind(self.compiled)}.")

    @property
    def of_torch(self) -> bool:
        """Whether all beside the model is torch's own code, whose draws show in where generators stand."""
        return self.augmentation is None and of_torch(self.loss)


def check_kinds(model: object, dataset: object, config: object) -> None:
    """Refuse a run of other things than a model, a dataset and a configuration.

    Raises:
        InvalidParameter: naming the first that is another thing.
    """
    for name, value, kind in (("model", model, nn.Module), ("dataset", dataset, Dataset), ("config", config, DPSGD)):
        if not isinstance(value, kind):
            raise InvalidParameter(f"train: {name} must be a {kind.__name__}, got {_kind(value)}.")


KINDS = {"checkpoint": Checkpoint, "augmentation": Augmentation, "prescribed": Prescribed}
FUNCTIONS = {
    "loss": "(outputs, targets)",
    "optimizer": "(parameters, config) that returns an optimiser of torch",
    "schedule": "the number of a step",
}
SOURCES = "Noise comes from SystemSource(), or for studies from KeyedSource(seed), never from an int or a generator."


def _kind(value: object) -> str:
    return type(value).__name__


def _hint(name: str) -> str:
    return "\nWrite checkpoint=Checkpoint(path=...)." if name == "checkpoint" else ""


def check_compiled(config: DPSGD, conduct: Conduct) -> None:
    """Refuse a run whose sums are to be compiled and are not all of batches of records.

    Raises:
        InvalidParameter: if it is one.
    """
    if not conduct.compiled:
        return
    if conduct.augmentation is not None or config.unit == "user":
        raise refused("a unit must be one record without copies, got copies or users")
    if isinstance(config.noise, WHOLE):
        raise refused(f"noise must be of sums of floats, got {config.noise!r}, which takes a pass for each record")


MOST_FACTORS = 2**16
"""Of a schedule that are compared: of a longer run so many of its steps, evenly spread."""


def told_apart(conduct: Conduct, optimizer: Optimizer | None, *, steps: int) -> dict[str, str]:
    """Return what tells this conduct of a run from another, by which steps that are taken again, or an average, differ.

    Under the same noise other weights would show the difference of two sums bare.

    Args:
        conduct: of a run.
        optimizer: that it made.
        steps: of the run.

    Raises:
        InvalidParameter: if a factor of the schedule is none.

    >>> from mechanisms import KeyedSource
    >>> plain = Conduct(loss=lambda outputs, targets: outputs[:, 0], randomness=KeyedSource(0))
    >>> told_apart(plain, None, steps=9)
    {'optimizer': 'plain steps', 'schedule': 'none', 'augmentation': 'none', 'compiled': 'no', 'average': 'none'}
    """
    copies = conduct.augmentation
    return {
        "optimizer": "plain steps" if optimizer is None else _optimizer(optimizer),
        "schedule": "none" if conduct.schedule is None else _schedule(conduct.schedule, steps),
        "augmentation": "none" if copies is None else f"{copies.copies} copies of {copies.draws} draws",
        "compiled": "sums and noise" if conduct.compiled else "no",
        "average": "none" if conduct.average is None else repr(conduct.average),
    }


def _optimizer(optimizer: Optimizer) -> str:
    """Return its kind and the settings of its groups as they were made."""
    kind = type(optimizer)
    groups = [
        ", ".join(f"{name}={_setting(value)}" for name, value in sorted(group.items()) if name != "params")
        for group in optimizer.param_groups
    ]
    return f"{kind.__module__}.{kind.__qualname__}({'; '.join(groups)})"


def _setting(value: object) -> str:
    return repr(float(value)) if isinstance(value, Tensor) and value.numel() == 1 else repr(value)


def _schedule(schedule: Schedule, steps: int) -> str:
    """Return a digest of its factors, rounded so that machines which round otherwise agree."""
    stride = -(-steps // MOST_FACTORS)
    factors = np.array([rate_factor(schedule, step) for step in range(0, steps, stride)], dtype="<f4")
    return f"factors {hashlib.blake2b(factors.tobytes(), digest_size=16).hexdigest()}"
