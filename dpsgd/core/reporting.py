"""What a run tells while it runs: progress bar, logs and the meter that both of them read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dpsgd.averaging import Average
from dpsgd.callbacks import Callback
from dpsgd.config import DPSGD
from dpsgd.core.progress import ProgressBar
from dpsgd.core.updates import Schedule, rate_factor
from dpsgd.descent import Release
from dpsgd.logs import Log, Row
from dpsgd.meter import Meter, is_due
from mechanisms import InvalidParameter
from mechanisms.core import validate


@dataclass(slots=True, kw_only=True, eq=False)
class Reporting:
    """A context in which every release is reported; it closes logs and bar, whatever ends the run.

    Args:
        config: what is run.
        steps: that the run is to have, at most `config.steps`.
        schedule: of the learning rate.
        meter: when to ask for ε; None for never.
        logs: where rows go.
        progress: whether to show the number of steps done on stderr.

    Raises:
        InvalidParameter: on entering, if a log cannot be written or the meter's neighbours are not the scheme's.
        UnsupportedProcess: on entering, if there is no theorem for the meter's neighbours.
    """

    config: DPSGD
    steps: int
    schedule: Schedule | None
    meter: Meter | None
    logs: Sequence[Log]
    progress: bool
    _bar: ProgressBar | None = field(default=None, init=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        if self.meter and (self.logs or self.progress):
            self.meter.check(self.config)  # here, and not after hours
        with self._open as opened:
            for log in self.logs:
                opened.callback(log.end)
                log.begin(self.meter)
            if self.progress:
                self._bar = opened.enter_context(ProgressBar(self.steps, self.meter))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def report(self, release: Release) -> None:
        """Report a step that has been taken."""
        if not self.logs and self._bar is None:
            return
        executed, due = release.step + 1, self._is_due(release)
        epsilon = self._epsilon(executed) if due else None
        if self.logs:
            rate = self.config.learning_rate * rate_factor(self.schedule, release.step)
            norm = float(release.noisy_sum.norm())
            row = Row(step=release.step, learning_rate=rate, noisy_norm=norm, epsilon=epsilon)
            for log in self.logs:
                log.write(row)
        if self._bar is not None:
            self._bar.advance(executed, epsilon=epsilon, report=due)

    def tell(self, lines: Sequence[str], release: Release) -> None:
        """Show lines under the bar, once the callbacks have seen the release."""
        if self._bar is not None:
            self._bar.tell(lines, report=self._is_due(release))

    def _is_due(self, release: Release) -> bool:
        return is_due(release.step + 1, every=self.meter.every if self.meter else None, steps=self.steps)

    def _epsilon(self, executed: int) -> float | None:
        if self.meter is None:
            return None
        last = executed == self.steps
        return self.meter.epsilon(self.config, executed) if last else self.meter.quick_epsilon(self.config, executed)


def checked_reports(
    *, callbacks: object, logs: object, meter: object, progress: object, average: object
) -> tuple[tuple[Callback, ...], tuple[Log, ...]]:
    """Return callbacks and logs, once nothing of what is to be told of a run is refused; before it begins.

    Args:
        callbacks: as in `train`, and so the rest.
        logs: as there.
        meter: as there.
        progress: as there.
        average: as there.

    Raises:
        InvalidParameter: naming the first that is of another kind.
    """
    called = tuple(map(_callback, validate.sequence("train", "callbacks", callbacks, "Write callbacks=[...].")))
    written = tuple(map(_log, validate.sequence("train", "logs", logs, "Write logs=[CsvLog(path=...)].")))
    for name, value, kind in (("meter", meter, Meter), ("average", average, Average)):
        if value is not None and not isinstance(value, kind):
            raise InvalidParameter(f"train: {name} must be of {kind.__name__}, got {type(value).__name__}.")
    if not isinstance(progress, bool):
        raise InvalidParameter(f"train: progress must be True or False, got {type(progress).__name__}.")
    return called, written


def _callback(one: object) -> Callback:
    if callable(one):
        return one
    raise InvalidParameter(f"train: callbacks must be functions of a Release, got {type(one).__name__}.")


def _log(one: object) -> Log:
    if isinstance(one, Log):
        return one
    raise InvalidParameter(f"train: logs must be of Log, such as CsvLog, got {type(one).__name__}.")
