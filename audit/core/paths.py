"""What happened along a run, kept in bounded memory for a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from audit.pictures import JawsPath, Pictures, WealthPath

Row = tuple[float, ...]
MOST = 400


@dataclass(slots=True, kw_only=True)
class ThinnedPath:
    """Rows of numbers that come one by one: all of them, or evenly spread ones and the last, `most` + 1 at most.

    Args:
        most: >= 2.

    >>> path = ThinnedPath(most=4)
    >>> for number in range(10):
    ...     path.add((number,))
    >>> path.rows
    ((0,), (4,), (8,), (9,))
    """

    most: int = MOST
    _rows: list[Row] = field(default_factory=list, init=False, repr=False)
    _every: int = field(default=1, init=False, repr=False)
    _taken: int = field(default=0, init=False, repr=False)
    _last: Row = field(default=(), init=False, repr=False)

    def add(self, row: Row) -> None:
        """Take in one more row."""
        if self._taken % self._every == 0:
            self._rows.append(row)
        if len(self._rows) > self.most:
            self._rows, self._every = self._rows[::2], 2 * self._every
        self._taken, self._last = self._taken + 1, row

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those that are kept, in order."""
        left = (self._taken - 1) % self._every != 0 if self._taken else False
        return (*self._rows, self._last) if left else tuple(self._rows)


def stream_pictures(rows: tuple[Row, ...], *, claimed: float, against: float | None, confidence: float) -> Pictures:
    """Return both jaws over the steps of a stream, and the wealth over its looks; nothing before the first step.

    Args:
        rows: (number of steps, number of looks, evidence, log wealth) after a step.
        claimed: upper end of ε for one step.
        against: the ε that is bet against, or None where there is no such bet.
        confidence: of all bounds together.
    """
    if not rows:
        return Pictures()
    jaws = JawsPath(
        steps=tuple(int(row[0]) for row in rows),
        claimed=(claimed,) * len(rows),
        evidence=tuple(row[2] for row in rows),
    )
    looked = {int(row[1]): row[3] for row in rows if row[1]}
    if against is None or not looked:
        return Pictures(jaws=jaws)
    wealth = WealthPath(looks=tuple(looked), log_wealth=tuple(looked.values()), epsilon=against, confidence=confidence)
    return Pictures(jaws=jaws, wealth=wealth)
