"""Where the jobs of a sweep run: processes of this machine, or the workers of a Dask scheduler."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Generator, Sequence
from typing import Any

from audit.core.jobs import Failure, Job
from audit.report import AuditReport
from mechanisms import DPError, InvalidParameter
from mechanisms import __version__ as library

BACKENDS = ("loky", "dask")
Outcome = AuditReport | Failure
Done = tuple[int, Outcome]
PAUSE = 0.05  # seconds between two looks at what has ended
LOOKS = 4  # at the cluster in the time that it may be silent or empty


class ClusterLost(DPError):
    """The scheduler or all of its workers were lost before the last job: what has come is kept."""


def run(
    jobs: Sequence[Job], left: Sequence[int], *, scheduler: str | None, workers: int, patience: float
) -> Generator[Done, None, None]:
    """Run the jobs whose numbers are left over where they are to run, see the next two; nowhere if none are left."""
    if not left:
        return
    if scheduler is None:
        yield from on_this_machine(jobs, left, workers=workers)
    else:
        yield from on_dask(jobs, left, scheduler=scheduler, patience=patience)


def on_this_machine(jobs: Sequence[Job], left: Sequence[int], *, workers: int) -> Generator[Done, None, None]:
    """Run the jobs left over on processes of this machine, and return what comes of them, as it comes.

    The jobs of a worker that died are run once more, each by itself.

    Args:
        jobs: of the sweep.
        left: the numbers of those to run.
        workers: processes, −1 for all cores, 1 for this process itself.

    Raises:
        InvalidParameter: before the first job, if joblib is not installed.
    """
    try:
        from joblib import Parallel, delayed, parallel_config
    except ImportError:
        raise _not_installed("joblib", "train") from None
    with parallel_config(backend="loky", n_jobs=workers):
        parallel: Any = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
        done = set()
        with contextlib.suppress(Exception):  # jobs catch their own: it is a worker that died, or could not be told
            for number, outcome in parallel(delayed(_numbered)(number, jobs[number]) for number in left):
                done.add(number)
                yield number, outcome
        for number in left:
            if number not in done:
                try:
                    yield from parallel([delayed(_numbered)(number, jobs[number])])
                except Exception as error:
                    yield number, Failure.of(error)


def on_dask(
    jobs: Sequence[Job], left: Sequence[int], *, scheduler: str, patience: float
) -> Generator[Done, None, None]:
    """Run the jobs left over on the workers of a scheduler, and return what comes of them, as it comes.

    The scheduler hands the jobs of a worker that died to another, as often as its `allowed-failures` says.

    Args:
        jobs: of the sweep.
        left: the numbers of those to run.
        scheduler: its address.
        patience: seconds for which it may be silent, or without workers.

    Raises:
        InvalidParameter: before the first job, if Dask is not installed, the scheduler does not answer or has no
            workers.
        ClusterLost: if the connection is lost, or the scheduler is silent or without workers for too long.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise _not_installed("dask", "cluster") from None
    try:
        client = _client(distributed, scheduler, patience)
    except (OSError, ValueError) as error:
        raise InvalidParameter(
            f"sweep: scheduler must be one that answers within {patience:g} s, got {scheduler!r}: "
            f"{type(error).__name__}."
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=patience)
        except (TimeoutError, OSError):
            raise InvalidParameter(
                f"sweep: scheduler must have a worker within {patience:g} s, got none at {scheduler!r}.\n"
                f"Start some with: dask worker {scheduler}"
            ) from None
        yield from _ended(distributed, client, jobs, left, _Cluster(client, scheduler, patience))


def _client(distributed: Any, scheduler: str, patience: float) -> Any:
    """Return a client that is connected; one that cannot be is closed at once.

    Left to the garbage collector, it may be closed while the next one holds Dask's lock, which both would wait for.
    """
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(scheduler, set_as_default=False, timeout=patience)
    except BaseException:
        with contextlib.suppress(Exception):  # one that failed early has nothing to close
            client.close()
        raise
    return client


def _ended(
    distributed: Any, client: Any, jobs: Sequence[Job], left: Sequence[int], cluster: _Cluster
) -> Generator[Done, None, None]:
    """Submit the jobs, and return their outcomes as they end; a batch is asked for without waiting.

    Waiting for one would last for ever if the last worker dies, for then the scheduler keeps the jobs for another.
    """
    numbers = {client.submit(_by_version, jobs[number], pure=False): number for number in left}
    ended = distributed.as_completed(list(numbers), loop=client.loop)
    while numbers:
        batch = ended.next_batch(block=False)
        for future in batch:
            if future.cancelled():
                raise cluster.lost("was lost")
            try:
                outcome = _here(*future.result(timeout=cluster.patience))
            except (TimeoutError, distributed.CancelledError):  # its worker died meanwhile: it is run once more
                ended.add(future)
                continue
            except Exception as error:
                outcome = Failure.of(error)
            yield numbers.pop(future), outcome
        if not batch:
            cluster.check()
            time.sleep(PAUSE)


class _Cluster:
    """Tells whether a scheduler still answers and has workers.

    A connection that breaks cancels all futures, which tells by itself; that a scheduler hangs, or that its workers are
    gone, nothing tells unless it is asked.
    """

    def __init__(self, client: Any, address: str, patience: float) -> None:
        self._client, self._address, self.patience = client, address, patience
        self._seen = self._asked = time.monotonic()

    def check(self) -> None:
        """Ask, unless that was done just now.

        Raises:
            ClusterLost: if there is no scheduler, or there were no workers for as long as patience lasts.
        """
        if time.monotonic() < self._asked + self.patience / LOOKS:
            return
        try:
            threads = self._client.sync(self._client.scheduler.ncores, callback_timeout=self.patience)
        except TimeoutError:
            raise self.lost(f"said nothing for {self.patience:g} s") from None
        except (OSError, AttributeError):  # without a connection a client may have no scheduler to ask
            raise self.lost("was lost") from None
        self._asked = time.monotonic()
        if threads:
            self._seen = self._asked
        elif self._asked > self._seen + self.patience:
            raise self.lost(f"had no workers for {self.patience:g} s")

    def lost(self, told: str) -> ClusterLost:
        """Return the error that says so."""
        return ClusterLost(
            f"sweep: scheduler must be there, with workers, until the last job has ended, and {self._address!r} {told}."
            "\nThe results that had come are kept: the same call goes on from them."
        )


def _numbered(number: int, job: Job) -> Done:
    return number, job.done()


def _by_version(job: Job) -> tuple[str, Outcome]:
    return library, job.done()


def _here(version: str, outcome: Outcome) -> Outcome:
    """Return the outcome, if it is of the version that its name says."""
    if version == library:
        return outcome
    reason = f"sweep: workers must have version {library} of the library, as this machine has, got {version}."
    return Failure(kind=InvalidParameter.__name__, reason=reason)


def _not_installed(package: str, extra: str) -> InvalidParameter:
    return InvalidParameter(f'sweep: {package} must be installed, and is not: pip install "dp-calipers[{extra}]".')
