"""The lines of one sum of losses: made when they are asked for, kept for the next question about the same steps."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from accountant.core.base import Steps, largest_loss
from accountant.core.ladder import BLOCK, NATS, Ladder
from accountant.core.loss_sums import LossSum
from accountant.core.vertical_line import Line, line
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure

FEW, LONG = 8, 32  # kinds of steps whose cumulant is as soon asked for so many entries of a ladder
ALIASED = 1e-8  # relative to δ: where the aliases of a line count
MOST_REFINED, MOST_LOWERED = 4, 12
MOST_KEPT = 2**18  # nodes of lines, 24 bytes each


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
    _kept: dict[tuple[int, int, bool], Line | str] = field(default_factory=dict)

    @cached_property
    def ladder(self) -> Ladder:
        """Where lines may stand."""
        return Ladder.of(self.loss.plan, LONG if self.loss.kinds <= FEW else BLOCK)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose the δ of what `LossSum` composes, each ε on the line that suits it; from 0 to 1 where there is none.

        Raises:
            NumericalFailure: if no ε has a line within its budget.
        """
        lower, upper = np.zeros_like(epsilon), np.ones_like(epsilon)
        plans, failure, known = self.ladder.for_epsilon(epsilon), None, False
        for plan in dict.fromkeys(plans):
            chosen = np.array([one == plan for one in plans])
            try:
                bounds = self.line(*plan, epsilon[chosen]).delta(epsilon[chosen])
            except NumericalFailure as error:
                failure = error
                continue
            lower[chosen], upper[chosen], known = bounds.lower, bounds.upper, True
        if failure and not known:
            raise failure
        return Bounds(lower=lower, upper=upper)

    def epsilon(self, delta: float) -> float:
        """Solve the integral for ε, on the line that suits δ and then on the one that suits that ε: no guarantee.

        Raises:
            NumericalFailure: if there is no such line within its budget.
        """
        plan, start = self.ladder.for_delta(delta)
        used = self.line(*plan, np.zeros(0))
        epsilon = used.epsilon(delta, start)
        point = np.array([epsilon])
        if epsilon >= self.supremum.upper:
            return epsilon
        better = self.line(*self.ladder.for_epsilon(point)[0], point)
        return epsilon if better is used else better.epsilon(delta, epsilon)

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
        """Return the line of this rung, or of the next below that has one within its budget."""
        last = max(0, rung - MOST_LOWERED)
        for lower in range(rung, last, -1):
            with contextlib.suppress(NumericalFailure):
                return self._line(lower, level, leave=lower == rung)
        return self._line(last, level, leave=rung == last)

    def _line(self, rung: int, level: int, *, leave: bool) -> Line:
        """Return a line; on one that loses digits anyhow, atoms may leave nothing. What failed once is not tried again.

        Raises:
            NumericalFailure: if there is no such line within its budget.
        """
        key = rung, level, leave
        if key not in self._kept:
            if sum(len(one.frequencies) for one in self._kept.values() if isinstance(one, Line)) > MOST_KEPT:
                self._kept.clear()
            try:
                self._kept[key] = line(self.loss, self.ladder.layout(rung, level), leave=leave)
            except NumericalFailure as failure:
                self._kept[key] = str(failure)
        found = self._kept[key]
        if isinstance(found, str):
            raise NumericalFailure(found)
        return found


@lru_cache(maxsize=32)
def lines(parts: Steps, nats: float) -> Lines:
    """Return the lines for these steps, outcomes of probability e^{−nats} or so left out.

    Raises:
        UnsupportedProcess: if the transform of a step is not known.
    """
    loss, attained = LossSum.of(parts, nats), all(pair.attained for pair, _ in parts)
    return Lines(loss=loss, supremum=largest_loss(parts), attained=attained)
