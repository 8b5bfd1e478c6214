"""Clocks by which the forms of convolutions take what time a test likes."""

import os
from dataclasses import dataclass


@dataclass
class Clock:
    """One by which columns take a second, and the grouped form, which is tried after them, another time.

    Args:
        ratio: that time.
        odd: what columns take in the first try that counts.
    """

    ratio: float
    odd: float = 1.0
    calls: int = 0
    now: float = 0.0

    def __call__(self):
        turn, ends = divmod(self.calls, 2)
        columns = self.odd if turn == 2 else 1.0
        self.now += ends * (self.ratio if turn % 2 else columns)
        self.calls += 1
        return self.now


def stopped():
    """A clock that nobody may look at."""
    raise AssertionError("nothing is timed here")


def fickle():
    """Return a clock by which either form is the faster one: a coin of this process says which."""
    return Clock(ratio=0.5 if os.urandom(1)[0] % 2 else 2.0)
