"""What a run knows about the private records and must tell nobody but who runs it: a file of the operator's own.

Realised batch sizes and counts of clipped or broken examples are exact functions of the records, with no noise: one
line of them can show that a person is in the data. They help to mend a run and belong where the records themselves are
kept. So they go to one file, named by the operator, that only its owner may read; never into a result, a message, a
logging framework whose lines travel, or anything that the run does next. All lines have the same length: even the size
of the file tells the number of steps alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dpsgd.core.clippers import Seen, norms
from mechanisms import InvalidParameter

WARNING = "PRIVATE: exact counts of the records of a private run. Keep with the records, publish nothing of it."
WIDTH = 16


def _examples(squares: Sequence[Tensor], factors: Sequence[Tensor]) -> int:
    return len(squares[0])


def _clipped(squares: Sequence[Tensor], factors: Sequence[Tensor]) -> int:
    least, most = functools.reduce(torch.minimum, factors), functools.reduce(torch.maximum, factors)
    return int(((least < 1) & (most > 0)).sum())


def _zeroed(squares: Sequence[Tensor], factors: Sequence[Tensor]) -> int:
    return int(((functools.reduce(torch.maximum, factors) == 0) & (norms(squares) != 0)).sum())


COUNTS: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor]], int]] = {
    "examples": _examples,
    "clipped": _clipped,
    "zeroed": _zeroed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLog:
    """A private file with one line of exact counts for every step.

    - examples: whose gradients were taken: the realised batch, as often as each was drawn.
    - clipped: of them, those scaled down, in some layer at least.
    - zeroed: those that counted as zero, as their gradient was NaN, infinite or out of range.

    Args:
        path: a file that does not exist yet.

    Raises:
        InvalidParameter: if it exists, or cannot be made.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError as error:
            raise InvalidParameter(
                f"train: operator_log must name a file that can be made, got {str(self.path)!r}: {error.strerror}.\n"
                "A log is never written over: each run has its own."
            ) from None
        with os.fdopen(handle, "w") as file:
            file.write(f"{WARNING}\n{_line('step', *COUNTS)}\n")

    def write(self, step: int, seen: Seen) -> None:
        """Add the line of a step."""
        counts = (sum(count(*part) for part in seen) for count in COUNTS.values())
        with self.path.open("a") as file:
            file.write(_line(step, *counts) + "\n")


def _line(*entries: object) -> str:
    return "".join(str(entry).rjust(WIDTH) for entry in entries)
