"""Where in a source's streams a run begins: no two runs of one source share a coin or any noise."""

from __future__ import annotations

from mechanisms import Source

RUN = 2**80
"""Positions from one run to the next: more than 2^40 steps of 2^40 positions."""


def begin_run(source: Source) -> int:
    """Return where the next run begins, and never hand out the same place again.

    Noise used twice cancels in a difference and protects neither run.

    >>> from mechanisms import KeyedSource
    >>> source = KeyedSource(0)
    >>> begin_run(source), begin_run(source) == RUN
    (0, True)
    """
    return source.reserve("runs", 1) * RUN
