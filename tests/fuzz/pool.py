"""Work done in processes that may hang or die: each piece has a deadline, and the pool outlives its workers.

`concurrent.futures` waits for ever for a task that never returns, and gives up when a worker is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of linear algebra: one a worker
CONTEXT = multiprocessing.get_context("spawn")  # a forked copy would share locks that its parent may hold
Work = Callable[[Any], Iterable[Any]]
Done = tuple[Any, list[Any], str]
"""A task, what it yielded, and how it ended otherwise than by itself: "", "hang", or "died" and the exit code."""


@dataclass(slots=True)
class Worker:
    """A process that does one task after the other."""

    process: BaseProcess
    pipe: Connection
    task: Any = None
    deadline: float = 0.0
    yielded: list[Any] = field(default_factory=list)


def results(work: Work, tasks: Iterable[Any], *, workers: int, deadline: float) -> Iterator[Done]:
    """Yield every task with what `work` yielded for it, in the order in which they end.

    Args:
        work: a picklable generator function of one task.
        tasks: picklable.
        workers: number of processes.
        deadline: seconds after which a task is taken to hang; its worker is killed and replaced.
    """
    os.environ.update({name: "1" for name in THREADS if name not in os.environ})
    waiting, idle, busy = iter(tasks), [], []  # type: Iterator[Any], list[Worker], list[Worker]
    try:
        while True:
            for task in itertools.islice(waiting, workers - len(busy)):
                busy.append(_given(idle.pop() if idle else _started(work), task, deadline))
            if not busy:
                return
            patience = min(worker.deadline for worker in busy) - time.monotonic()
            ready = wait([worker.pipe for worker in busy], max(0.0, patience))
            for worker in list(busy):
                ending = _heard(worker) if worker.pipe in ready else None
                if ending is None and time.monotonic() > worker.deadline:
                    ending = "hang"
                if ending is None:
                    continue
                busy.remove(worker)
                if ending:
                    _stopped(worker)
                else:
                    idle.append(worker)
                yield worker.task, worker.yielded, ending
    finally:
        for worker in (*idle, *busy):
            _stopped(worker)


def _heard(worker: Worker) -> str | None:
    """Take one message of a worker and return how its task ended, None if it goes on."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        return f"died {worker.process.exitcode}"
    if message is None:
        return ""
    worker.yielded.append(message[0])
    return None


def _started(work: Work) -> Worker:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()  # it has imported what it needs, so that the clock may start
    return Worker(process=process, pipe=ours)


def _given(worker: Worker, task: Any, deadline: float) -> Worker:
    worker.pipe.send(task)
    worker.task, worker.yielded, worker.deadline = task, [], time.monotonic() + deadline
    return worker


def _stopped(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _serve(work: Work, pipe: Connection) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError):  # the other end is gone: nobody waits for more
        pipe.send("ready")
        while True:
            task = pipe.recv()
            for item in work(task):
                pipe.send((item,))
            pipe.send(None)
