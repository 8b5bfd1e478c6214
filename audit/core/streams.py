"""The streams of one run of a trainer: a source of its own, made from the audit's."""

from __future__ import annotations

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.randomness import Source

KEY_WORDS = 8


class RunStreams(Source):
    """A source under a key drawn from another one: fresh for each number, and the same again for the same number.

    A trainer that always draws the same words of it still draws fresh ones in every run.

    Args:
        source: of the key; the new source is reproducible exactly if this one is.
        number: of the run, handed out by `reserve_run`.

    >>> from mechanisms import KeyedSource
    >>> first, again, second = (RunStreams(KeyedSource(0), number).fingerprint() for number in (0, 0, 1))
    >>> first == again, first == second
    (True, False)
    """

    def __init__(self, source: Source, number: int) -> None:
        super().__init__(source.words("runs of a trainer", KEY_WORDS * number, KEY_WORDS).astype("<u4").tobytes())
        self._reproducible = source.reproducible

    @property
    def reproducible(self) -> bool:
        """That of the source it was made from."""
        return self._reproducible


def reserve_run(source: Source) -> int:
    """Return the number of the next run of a source, never the same again."""
    return source.reserve("runs of a trainer", KEY_WORDS) // KEY_WORDS


def check_source(owner: str, randomness: object) -> None:
    """Refuse, before anything runs, what is no source of randomness.

    Raises:
        InvalidParameter: naming what it is instead.

    >>> check_source("audit", 0)
    Traceback (most recent call last):
    mechanisms.core.errors.InvalidParameter: audit: randomness must be a Source, got int.
    Use SystemSource(), or KeyedSource(0) for a result that is reproducible and not private.
    """
    if not isinstance(randomness, Source):
        raise InvalidParameter(
            f"{owner}: randomness must be a Source, got {type(randomness).__name__}.\n"
            "Use SystemSource(), or KeyedSource(0) for a result that is reproducible and not private."
        )
