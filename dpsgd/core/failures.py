"""Errors that a model or a loss meets on records, told without what they say: they quote what records hold.

A class number that is none, a word beyond the table, the size of a batch: texts of torch name them, and so show exactly
what noise should hide. Its warnings do as well, one line for every size that a batch has: on records they are dropped.
What fails on every record is not about any of them: it fails on zeros of their shape as well. That is seen before the
first step, whatever records there are, and told in full, warnings too. That a run ended later is itself seen, without
noise; no engine can go on without knowing what was added.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

from dpsgd.core.generators import set_apart
from mechanisms import InvalidParameter
from mechanisms.core.errors import DPError

IGNORED = ("ignore", None, Warning, None, 0)
"""What `warnings.simplefilter("ignore")` puts before all other filters."""


class _Silence:
    """Nothing is warned, by any thread, from when the first begins until the last that did has ended.

    Filters are the process's: each thread by itself would bring back those that it found, and show what another's
    records make a model warn of. They are exchanged here by hand, once a batch: `warnings.catch_warnings` costs a small
    step more than a hundredth, and makes every warning that is shown but once be shown in each step again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: Any = None

    def begin(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, warnings.filters = warnings.filters, [IGNORED]  # a list of its own: code may add to it
            self._inside += 1

    def end(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                warnings.filters = self._before


SILENCE = _Silence()


class told_without_records:
    """A context in which errors on records are replaced by ones that say nothing of them, and nothing is warned.

    Args:
        attempt: does the same to a record of zeros.
        device: on which it draws numbers, if it does.

    Raises:
        InvalidParameter: in the place of any error but those of this library.

    >>> with told_without_records(lambda: None, device=torch.device("cpu")):
    ...     [1.0, 0.0][77]
    Traceback (most recent call last):
    mechanisms.core.errors.InvalidParameter: train: model and loss must take every record, but ended with IndexError...
    """

    __slots__ = ("_attempt", "_device")

    def __init__(self, attempt: Callable[[], object], *, device: torch.device) -> None:
        self._attempt, self._device = attempt, device

    def __enter__(self) -> None:
        SILENCE.begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        SILENCE.end()
        if kind is None or not issubclass(kind, Exception) or issubclass(kind, DPError):
            return
        check_attempt(self._attempt, device=self._device)
        raise InvalidParameter(
            f"train: model and loss must take every record, but ended with {kind.__name__} on some, though not on "
            "zeros of their shape.\nWhat was said is left out, as it may quote records, and that the run ended is seen "
            "without noise. See that no value is out of range, such as a class number, before a run; if it was memory, "
            "give a largest_physical_batch."
        ) from None


def check_attempt(attempt: Callable[[], object], *, device: torch.device) -> None:
    """Refuse a model or a loss that cannot do on a record of zeros what it is to do on records.

    Args:
        attempt: does it; torch's generators are afterwards as they were.
        device: on which it draws numbers, if it does.

    Raises:
        InvalidParameter: saying what went wrong.
    """
    try:
        with set_apart(device):
            attempt()
    except DPError:
        raise
    except Exception as error:
        raise InvalidParameter(
            f"train: model and loss must take records of the dataset's shape, but on zeros of it: {str(error).strip()}"
        ) from None
