"""What a trainer under audit does wrong, in words that hold nothing of the records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from audit.canaries import Canaries, InputCanaries
from mechanisms import Gaussian, Poisson, Process, Sampled, leaves
from mechanisms.core.errors import DPError, InvalidParameter, NumericalFailure

RESIZED = (
    "; if that follows from len(dataset), as with batch_size=len(dataset)//k, it changes with how many canaries are in"
)
ROUNDS = (
    "; if their noise is correlated and their records are drawn, as by CyclicPoisson, the claim is of rounds, each of "
    "several steps that share noise, and tells neither bands nor groups: such sums are not audited one by one; take an "
    "attack that sees the final model"
)


class TrainerFault(DPError):
    """The trainer did not do what every trainer must: there are no scores, and so there is no verdict."""

    exit_status = 1


class TrainerRefusal(InvalidParameter):
    """An adapter refuses what it is asked for, in words that hold nothing of the records."""


class TrainerFailure(NumericalFailure):
    """A certified number that an adapter needs could not be had, in words that hold nothing of the records."""


@contextmanager
def refusing() -> Iterator[None]:
    """Make what the library refuses inside a refusal of the adapter, and what fails in numbers a failure of its.

    Their words hold nothing of the records.

    >>> with refusing():
    ...     raise DPError("steps: model must have parameters, got none.")
    Traceback (most recent call last):
    audit.core.faults.TrainerRefusal: steps: model must have parameters, got none.
    """
    try:
        yield
    except (TrainerFault, TrainerRefusal, TrainerFailure):
        raise
    except NumericalFailure as error:
        raise TrainerFailure(str(error)) from None
    except DPError as error:
        raise TrainerRefusal(str(error)) from None


@contextmanager
def blamed(doing: str) -> Iterator[None]:
    """Blame on the trainer whatever is raised inside; of the error only its type is told, for its text may hold data.

    Refusals and failures of adapters go on as they are; another error of the library may be the user's own, with any
    text.

    A process that the trainer has made by forking ends here: two that went on would both report.

    Args:
        doing: what the trainer is at, in words.

    >>> with blamed("training"):
    ...     raise ValueError("record 17 is 3.5")
    Traceback (most recent call last):
    audit.core.faults.TrainerFault: the trainer raised ValueError in training
    """
    process = os.getpid()
    try:
        yield
    except (TrainerFault, TrainerRefusal, TrainerFailure):
        raise
    except (Exception, SystemExit) as error:  # a loop that ends the process ends its own run alone
        raise TrainerFault(f"the trainer raised {type(error).__name__} in {doing}") from None
    finally:
        if os.getpid() != process:
            os._exit(1)


def rounds(process: Process | None) -> str:
    """Return what explains more steps than are claimed where the claim may be of sampled rounds, else nothing.

    >>> from mechanisms import MatrixMechanism
    >>> claim = MatrixMechanism(noise_multiplier=1.0, coefficients=(1.0, 0.5), steps=9).amplified(probability=0.1)
    >>> rounds(claim) == ROUNDS, rounds(Gaussian(noise_multiplier=1.0))
    (True, '')
    """
    if process is None:
        return ""
    drawn = [
        isinstance(leaf, Sampled) and isinstance(leaf.sampling, Poisson) and isinstance(leaf.part, Gaussian)
        for leaf, _ in leaves(process)
    ]
    return ROUNDS if drawn and all(drawn) else ""


def resized(canaries: Canaries) -> str:
    """Return what explains another number of steps where canaries are records that are there or not, else nothing."""
    return RESIZED if isinstance(canaries, InputCanaries) and canaries.replaced is None else ""
