"""A source that writes down what is drawn from it: streams, positions and sizes, never the words."""

from __future__ import annotations

from typing import NamedTuple

from mechanisms.core.randomness import KeyedSource, Reader, Words


class Draw(NamedTuple):
    """One call of a source.

    Args:
        stream: its name.
        counter: position of the first word; of `reserve` the one handed out.
        words: their number.
    """

    stream: str
    counter: int
    words: int


class RecordingSource(KeyedSource):
    """The streams of a `KeyedSource`, each draw of which is added to `draws`.

    >>> source = RecordingSource(0)
    >>> source.words("noise", source.reserve("noise", 4), 4).shape
    (4,)
    >>> source.draws[-1], len(source.draws)
    (Draw(stream='noise', counter=0, words=4), 2)
    """

    def __init__(self, key: bytes | int | str) -> None:
        super().__init__(key)
        self.draws: list[Draw] = []

    def words(self, stream: str, counter: int, n: int) -> Words:
        """Return the words, written down."""
        self.draws.append(Draw(stream, int(counter), int(n)))
        return super().words(stream, counter, n)

    def reserve(self, stream: str, n: int) -> int:
        """Return the counter, written down as a draw of a stream of its own."""
        start = super().reserve(stream, n)
        self.draws.append(Draw(f"{stream} (reserved)", start, n))
        return start

    def reader(self, stream: str, *, most: int) -> Reader:
        """Return a reader each part of which is written down."""
        return _RecordedReader(self, stream, self._stream_key(stream), most)


class _RecordedReader(Reader):
    def __init__(self, source: RecordingSource, stream: str, key: bytes, most: int) -> None:
        super().__init__(source, key, most)
        self._log, self._stream = source.draws, stream

    def read(self, n: int) -> Words:
        assert self._next is not None
        self._log.append(Draw(self._stream, self._next, n))
        return super().read(n)


def first_difference(one: list[Draw], other: list[Draw], per_record: tuple[str, ...]) -> Draw | None:
    """Return the first draw in which two runs differ, None if there is none.

    Args:
        one: draws of a run.
        other: of another one.
        per_record: streams, by how their names begin, of which a larger dataset may draw more at once.

    >>> first_difference([Draw("coins", 0, 4)], [Draw("coins", 0, 6)], ("coins",)) is None
    True
    >>> first_difference([Draw("noise", 0, 4)], [], ())
    Draw(stream='noise', counter=0, words=4)
    """
    for mine, theirs in zip(one, other, strict=False):
        sizes_are_public = not (per_record and mine.stream.startswith(per_record))
        if mine[:2] != theirs[:2] or (sizes_are_public and mine.words != theirs.words):
            return mine
    longer = max(one, other, key=len)
    return longer[min(len(one), len(other))] if len(one) != len(other) else None


def replayed(seed: int, key: int) -> RecordingSource:
    """Return the source number `key` of a replay: the same words whenever it is made."""
    return RecordingSource(f"replay {seed} {key}")
