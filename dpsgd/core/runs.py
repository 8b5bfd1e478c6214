"""Where in a source's streams a run begins: no two runs of one source share a coin or any noise."""

from __future__ import annotations

from mechanisms import Source

RUN = 2**80
"""Positions from one run to the next: more than 2^40 steps of 2^40 positions."""
DRAWS = 3
"""Number of the definition of what a key draws for a step: samples, noise, masks. It goes up whenever that changes: a
run that went on with others would show steps that are taken again under two noises."""


def begin_run(source: Source) -> int:
    """Return where the next run begins, and never hand out the same place again.

    Noise used twice cancels in a difference and protects neither run.

    >>> from mechanisms import KeyedSource
    >>> source = KeyedSource(0)
    >>> begin_run(source), begin_run(source) == RUN
    (0, True)
    """
    return source.reserve("runs", 1) * RUN


def resume_run(source: Source, number: int) -> int:
    """Return where run `number` of the source's began, and have `begin_run` never hand out that place again.

    A source counts its runs from 0 in every process. A process that begins the same runs in the same order finds each
    where it was; one that resumes a later run only skips the earlier ones.

    >>> from mechanisms import KeyedSource
    >>> source = KeyedSource(0)
    >>> resume_run(source, 2) == 2 * RUN, begin_run(source) == 3 * RUN
    (True, True)
    """
    taken = source.reserve("runs", 1)
    source.reserve("runs", max(0, number - taken))
    return number * RUN
