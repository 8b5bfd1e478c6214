"""What a trainer under audit does wrong, in words that hold nothing of the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mechanisms.core.errors import DPError, InvalidParameter


class TrainerFault(DPError):
    """The trainer did not do what every trainer must: there are no scores, and so there is no verdict."""


class TrainerRefusal(InvalidParameter):
    """An adapter refuses what it is asked for, in words that hold nothing of the records."""


@contextmanager
def blamed(doing: str) -> Iterator[None]:
    """Blame on the trainer whatever is raised inside; of the error only its type is told, for its text may hold data.

    >>> with blamed("training"):
    ...     raise ValueError("record 17 is 3.5")
    Traceback (most recent call last):
    audit.core.faults.TrainerFault: the trainer raised ValueError in training
    """
    try:
        yield
    except (TrainerFault, TrainerRefusal):
        raise
    except (Exception, SystemExit) as error:  # a loop that ends the process ends its own run alone
        raise TrainerFault(f"the trainer raised {type(error).__name__} in {doing}") from None
