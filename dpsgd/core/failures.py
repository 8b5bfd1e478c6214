"""Errors that a model or a loss meets on records, told without what they say: they quote what records hold.

A class number that is none, a word beyond the table, the size of a batch: texts of torch name them, and so show exactly
what noise should hide. What fails on every record is not about any of them: it fails on zeros of their shape as well,
and is told in full. That a run ended is itself seen, without noise; no engine can go on without knowing what was added.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mechanisms import InvalidParameter
from mechanisms.core.errors import DPError


@contextlib.contextmanager
def told_without_records(attempt: Callable[[], object]) -> Iterator[None]:
    """Return a context in which errors on records are replaced by ones that say nothing of them.

    Args:
        attempt: does the same to a record of zeros.

    Raises:
        InvalidParameter: in the place of any error but those of this library.

    >>> with told_without_records(lambda: None):
    ...     [1.0, 0.0][77]
    Traceback (most recent call last):
    mechanisms.core.errors.InvalidParameter: train: model and loss must take every record, but ended with IndexError...
    """
    try:
        yield
    except DPError:
        raise
    except Exception as error:
        kind = type(error).__name__
    else:
        return
    try:
        attempt()
    except Exception as error:
        raise InvalidParameter(
            f"train: model and loss must take records of the dataset's shape, but on zeros of it: {str(error).strip()}"
        ) from None
    raise InvalidParameter(
        f"train: model and loss must take every record, but ended with {kind} on some, though not on zeros of their "
        "shape.\nWhat was said is left out, as it may quote records, and that the run ended is seen without noise. See "
        "that no value is out of range, such as a class number, before a run; if it was memory, give a "
        "largest_physical_batch."
    ) from None
