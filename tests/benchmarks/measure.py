"""Times taken so that their ratios mean something: warm, interleaved, medians, each call a new question."""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NUDGE = 1e-9
HEAVY = ("torch", "scipy.stats")


@dataclass(slots=True)
class Timing:
    """What one contestant did: its answer at factor 1, the seconds of its later calls, and why it stopped."""

    answer: Any = None
    seconds: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def milliseconds(self) -> float | None:
        """The median."""
        return 1e3 * statistics.median(self.seconds) if self.seconds else None


def interleaved(
    contestants: Mapping[str, Callable[[float], Any]], *, rounds: int, patience: float, limit: float
) -> dict[str, Timing]:
    """Return the timings of all: one call each to warm up, then in turns.

    Args:
        contestants: functions of a factor close to 1, a different one in every call.
        rounds: timed calls each, at most.
        patience: seconds after which a contestant has been timed enough.
        limit: seconds a call may take.
    """
    timings = {name: Timing() for name in contestants}
    for turn in range(rounds + 1):
        for name, ask in contestants.items():
            timing = timings[name]
            if timing.note or sum(timing.seconds) > patience:
                continue
            start = time.perf_counter()
            try:
                with _quiet(), _limited(limit):
                    answer = ask(1.0 + NUDGE * turn)
            except TimeoutError:
                timing.note = f"> {limit:g} s"
            except Exception as error:  # a peer that raises says so in the table
                timing.note = f"{type(error).__name__}: {error}".splitlines()[0][:80]
            else:
                timing.answer = timing.answer if turn else answer
                timing.seconds += [time.perf_counter() - start] if turn else []
    return timings


def megabytes() -> float:
    """Return the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def imports(modules: list[str], rounds: int) -> dict[str, tuple[float, list[str]]]:
    """Return for every module the median of the milliseconds that importing it takes, and what heavy it loaded."""
    code = (
        "import sys, time; start = time.perf_counter(); import {0}; print(time.perf_counter() - start);"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    loaded: dict[str, list[str]] = {}
    for _ in range(rounds):
        for module in modules:
            command = [sys.executable, "-W", "ignore", "-c", code.format(module)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            first, second = done.stdout.splitlines()[-2:]
            seconds[module].append(float(first))
            loaded[module] = second.split()
    return {module: (1e3 * statistics.median(seconds[module]), loaded[module]) for module in modules}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the peers' warnings to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after that many seconds, as soon as Python gets control back."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
