"""What a caller may do with the releases of a run while it runs.

A callback is shown every release: it may keep it, attack it, or evaluate the weights on public data. What it sees is
what the accountants' adversary sees, so that nothing it does costs more, with one exception: **when to stop**. The
number of steps is then chosen by what they showed, and the price of so many steps, which is one for a number fixed
before the run, does not hold for it [RRUV16]. What holds is the price of all the steps planned: to stop is to look no
further at a run that has it. To pay for less, plan less (a `Budget`), or see `accountant.Odometer`, whose ε holds at
all times at once.

[RRUV16] R. Rogers, A. Roth, J. Ullman, S. Vadhan. Privacy Odometers and Filters: Pay-as-you-Go Composition.
NeurIPS 2016. arXiv:1605.08294.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final, Literal

from dpsgd.descent import Release
from mechanisms import InvalidParameter


class Answer(enum.Enum):
    """What a callback may answer, beside None for going on."""

    STOP = "stop"


STOP: Final = Answer.STOP
Callback = Callable[[Release], Literal[Answer.STOP] | None]


def shown_by(callbacks: Sequence[Callback]) -> list[str]:
    """Return the lines to show under the progress bar: the attribute `shown` of every callback that has one.

    >>> shown_by([lambda release: None])
    []
    """
    return [str(callback.shown) for callback in callbacks if hasattr(callback, "shown")]


def asked_to_stop(callbacks: Sequence[Callback], release: Release) -> bool:
    """Return whether one of the callbacks answers `STOP`; all of them are shown the release.

    Raises:
        InvalidParameter: if one answers anything but `STOP` or None, such as True.

    >>> import torch
    >>> release = Release(step=0, weights_before=torch.zeros(1), noisy_sum=torch.zeros(1), max_grad_norm=1.0)
    >>> asked_to_stop([lambda release: STOP if release.step == 0 else None], release)
    True
    """
    answers = [callback(release) for callback in callbacks]
    for answer in answers:
        if answer is not None and answer is not STOP:
            raise InvalidParameter(f"train: callbacks must return None or STOP, got {answer!r}.")
    return STOP in answers
