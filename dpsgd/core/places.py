"""A step's own part of a source's streams, for releases that reserve what they draw: a function of the step alone."""

from __future__ import annotations

from mechanisms import Source
from mechanisms.core.randomness import Words


class Place(Source):
    """A source seen from a place of its own: all that is reserved begins there, in streams of a name of its own.

    >>> from mechanisms import KeyedSource
    >>> Place(KeyedSource(0), "count", 2**40).reserve("words", 3) == 2**40
    True
    """

    def __init__(self, source: Source, name: str, start: int) -> None:
        super().__init__(b"")  # its own key is never used
        self._source, self._name, self._start = source, name, start

    @property
    def reproducible(self) -> bool:
        """That of the source."""
        return self._source.reproducible

    def words(self, stream: str, counter: int, n: int) -> Words:
        """Return words of the source's stream of that name after this one's."""
        return self._source.words(f"{self._name} {stream}", counter, n)

    def reserve(self, stream: str, n: int) -> int:
        """Return the counter of the next n words from this place on."""
        return self._start + super().reserve(stream, n)
