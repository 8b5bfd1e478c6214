"""How a run is carried out, beside what its configuration says: nothing here changes what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from torch import Tensor

from dpsgd.augmentation import Augmentation
from dpsgd.checkpoint import Checkpoint
from dpsgd.core.updates import MakeOptimizer, Schedule
from dpsgd.losses import Loss
from dpsgd.prescribed import Prescribed
from mechanisms import Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conduct:
    """The keywords of `dpsgd.steps`, which tells what they are.

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
