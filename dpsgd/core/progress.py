"""How far a run is, on stderr: a bar in a terminal, else a line whenever the meter is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dpsgd.meter import Meter
from mechanisms.core.command_line import at_most

LABEL = "private steps"
DIGITS = 4


class _Bars(Progress):
    """Bars with lines of text under them."""

    lines: Sequence[str] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars, then the lines."""
        yield from super().get_renderables()
        yield from map(Text, self.lines)


class ProgressBar:
    """A context in which every step taken is shown.

    Args:
        steps: that the run is to have.
        meter: what the ε shown means; None to show none.
    """

    def __init__(self, steps: int, meter: Meter | None) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._unit = f" at delta={meter.delta} {meter.adjacency}" if meter else ""
        spent = TextColumn("{task.fields[spent]}", markup=False)
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(), spent)  # fit 80 characters
        self._bar = _Bars(LABEL, *columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(LABEL, total=steps, spent="")
        self._steps, self._spent = steps, ""

    def advance(self, executed: int, *, epsilon: float | None, report: bool) -> None:
        """Show that so many steps are done.

        Args:
            executed: their number.
            epsilon: of these steps, where it was asked for; shown rounded up.
            report: whether this is one of the few steps that are worth a line of their own.
        """
        if epsilon is not None:
            self._spent = f"epsilon {at_most(epsilon, DIGITS)} of {executed}"
        self._bar.update(self._task, completed=executed, spent=self._spent)
        if report and not self._console.is_terminal:
            told = f", {self._spent}{self._unit}" if self._spent else ""
            self._console.print(f"{LABEL} {executed}/{self._steps}{told}", highlight=False)

    def tell(self, lines: Sequence[str], *, report: bool) -> None:
        """Show lines under the bar.

        Args:
            lines: such as what callbacks show.
            report: as in `advance`.
        """
        self._bar.lines = tuple(lines)
        if report and not self._console.is_terminal:
            for line in lines:
                self._console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Self:
        if self._unit and self._console.is_terminal:
            self._console.print(f"{LABEL}: epsilon{self._unit}", highlight=False)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
