"""Logs of a run: step, learning rate, length of the noisy sum and ε, all of them public; never what a batch held."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from dpsgd.meter import Meter
from mechanisms import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a log says of one step.

    Args:
        step: its number, from 0.
        learning_rate: in this step.
        noisy_norm: Euclidean norm of the noisy sum: noise_multiplier · max_grad_norm · √d of it is noise.
        epsilon: of all steps up to this one, where it was asked for.
    """

    step: int
    learning_rate: float
    noisy_norm: float
    epsilon: float | None


class Log(ABC):
    """Where the rows of one run go, in the order of steps."""

    __slots__ = ()

    @abstractmethod
    def begin(self, meter: Meter | None) -> None:
        """Get ready before the first step of a run, or refuse.

        Args:
            meter: what the rows' ε means; None if they have none.
        """

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write the row of the step just taken."""

    @abstractmethod
    def end(self) -> None:
        """Close what is open; called after every run, whatever ended it."""


@dataclass(slots=True, kw_only=True, eq=False)
class CsvLog(Log):
    """A file of comma-separated values, one line for every step, complete whenever the run is killed.

    A run that goes on from a checkpoint replaces the lines from its first step on, and so what a killed one wrote after
    that checkpoint; a run from step 0 replaces them all.

    Args:
        path: of the file, in a folder that exists.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.csv"
    >>> log = CsvLog(path=path)
    >>> log.begin(None)
    >>> log.write(Row(step=0, learning_rate=0.5, noisy_norm=3.25, epsilon=None))
    >>> log.end()
    >>> print(path.read_text())
    step,learning_rate,noisy_norm
    0,0.5,3.25
    <BLANKLINE>
    """

    path: str | Path
    _header: str = field(default="", init=False)
    _file: TextIO | None = field(default=None, init=False)

    def begin(self, meter: Meter | None) -> None:
        """Refuse a file that is no log of these columns, or a folder that is none.

        Raises:
            InvalidParameter: naming the path.
        """
        spent = f",epsilon at delta={meter.delta} {meter.adjacency}" if meter else ""
        self._header = f"step,learning_rate,noisy_norm{spent}\n"
        path = Path(self.path)
        if not path.parent.is_dir():
            raise InvalidParameter(f"CsvLog: path must lie in a folder that exists, got {path}.")
        if path.exists() and not self._is_own(path):
            raise InvalidParameter(
                f"CsvLog: path must hold no file but a log of the same columns, got {path}, which is another.\n"
                "Give every run a path of its own."
            )

    def _is_own(self, path: Path) -> bool:
        """Return whether there is a log of these columns, or the beginning of one that a killed run has left."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        lines = text.splitlines(keepends=True)
        steps = [line.partition(",")[0] for line in lines[1:] if line.endswith("\n")]
        return self._header.startswith("".join(lines[:1])) and all(step.isdecimal() for step in steps)

    def write(self, row: Row) -> None:
        """Append one line."""
        if self._file is None:
            self._file = self._opened(row.step)
        spent = "" if row.epsilon is None else repr(row.epsilon)
        columns = [str(row.step), repr(row.learning_rate), repr(row.noisy_norm), spent]
        self._file.write(",".join(columns[: self._header.count(",") + 1]) + "\n")

    def _opened(self, first: int) -> TextIO:
        """Return the file for appending, with the lines of all steps before `first` in it."""
        path = Path(self.path)
        lines = _complete_lines(path)[1:] if path.exists() else []
        before = [line for line in lines if int(line.partition(",")[0]) < first]
        fresh = path.with_name(path.name + ".new")
        fresh.write_text("".join([self._header, *before]), encoding="utf-8")
        os.replace(fresh, path)
        return path.open("a", buffering=1, encoding="utf-8")  # line by line

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _complete_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]  # a killed run may have left the beginning of one


@dataclass(slots=True, kw_only=True, eq=False)
class TensorBoardLog(Log):
    """Curves for TensorBoard, which the extra `tracking` installs, with every step taken whenever the run is killed.

    A run that goes on from a checkpoint has its points shown in the place of those that a killed one drew after it. All
    points of a process bear the time at which it began: how long steps take tells how many records they held.

    Args:
        directory: of the event files; made if there is none.
    """

    directory: str | Path
    _tag: str = field(default="", init=False)
    _writer: Any = field(default=None, init=False)
    _began: float = field(default=0.0, init=False)

    def begin(self, meter: Meter | None) -> None:
        """Refuse where TensorBoard is not installed.

        Raises:
            InvalidParameter: with what to install.
        """
        _summary_writer()
        self._began = time.time()
        self._tag = f"privacy/epsilon at delta={meter.delta} {meter.adjacency}" if meter else ""

    def write(self, row: Row) -> None:
        """Add one point to every curve; points of later steps, from a run that was killed, are dropped."""
        if self._writer is None:
            self._writer = _summary_writer()(str(self.directory), purge_step=row.step)
        points = {"training/learning_rate": row.learning_rate, "training/noisy_norm": row.noisy_norm}
        if row.epsilon is not None:
            points[self._tag] = row.epsilon
        for tag, value in points.items():
            self._writer.add_scalar(tag, value, row.step, walltime=self._began)
        self._writer.flush()  # else up to ten points would wait for a thread, and a checkpoint not for them

    def end(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InvalidParameter(
            'TensorBoardLog: tensorboard must be installed, and is not: pip install "dp-calipers[tracking]".\n'
            "CsvLog(path=...) needs nothing."
        ) from None
    return SummaryWriter
