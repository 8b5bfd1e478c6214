"""The lines of one sum of losses: made when they are asked for, kept for the next question about the same steps."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from accountant.core.base import Steps, largest_loss
from accountant.core.ladder import NATS, Ladder
from accountant.core.loss_sums import LossSum
from accountant.core.vertical_line import Line, line
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure

ALIASED = 1e-8  # relative to δ: where the aliases of a line count
MOST_REFINED = 4
MOST_KEPT = 64


@dataclass(eq=False, kw_only=True)
class Lines:
    """Lines for the composition of one direction's steps.

    Args:
        loss: the sum of the steps' losses.
        supremum: enclosure of the largest loss.
        attained: whether every step's pair is.
    """

    loss: LossSum
    supremum: Bounds
    attained: bool
    _kept: dict[tuple[int, int, bool], Line] = field(default_factory=dict)

    @cached_property
    def ladder(self) -> Ladder:
        """Where lines may stand."""
        return Ladder.of(self.loss.plan)

    def line(self, rung: int, level: int, epsilon: Array) -> Line:
        """Return a line of this rung whose aliases do not count at these ε; of a lower one where it has none.

        Raises:
            NumericalFailure: if there is no such line within its budget.
        """
        found = self._lowered(rung, level)
        for _ in range(MOST_REFINED):
            missing = found.missing(epsilon, ALIASED)
            if missing <= 0:
                break
            level += math.ceil(min(missing, 700.0) / NATS)
            found = self._lowered(rung, level)
        return found

    def _lowered(self, rung: int, level: int) -> Line:
        for lower in range(rung, 0, -1):
            with contextlib.suppress(NumericalFailure):
                return self._line(lower, level, leave=lower == rung)
        return self._line(0, level, leave=rung == 0)

    def _line(self, rung: int, level: int, *, leave: bool) -> Line:
        """Return a line; on one that loses digits anyhow, atoms may leave nothing."""
        if (rung, level, leave) not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[rung, level, leave] = line(self.loss, self.ladder.layout(rung, level), leave=leave)
        return self._kept[rung, level, leave]


@lru_cache(maxsize=32)
def lines(parts: Steps) -> Lines:
    """Return the lines for these steps.

    Raises:
        UnsupportedProcess: if the transform of a step is not known.
    """
    loss, attained = LossSum.of(parts), all(pair.attained for pair, _ in parts)
    return Lines(loss=loss, supremum=largest_loss(parts), attained=attained)
