"""Turns: which canaries take part in which step, where that is public, as the trainer tells it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audit.attack import Turns
from audit.core.faults import TrainerFault, blamed
from audit.scores import Coins, Counts

NEVER = -(2**62)  # far enough before the first step


def guarded_turns(turns: Turns, canaries: int) -> Turns:
    """Return the trainer's turns, what is ill-formed in them blamed on the trainer.

    Args:
        turns: as the trainer tells them.
        canaries: m.
    """

    def guarded(step: int) -> Coins:
        with blamed("its turns"):
            told = np.array(turns(step))
        if told.dtype != np.bool_ or told.shape != (canaries,):
            raise TrainerFault(f"the trainer's turns are no bool of shape ({canaries},) in every step")
        return told

    return guarded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """The turns that canaries have had.

    Args:
        last: the step of the last one, int64 (m,), `NEVER` where there was none.
        counts: how many, int64 (m,).
    """

    last: Counts
    counts: Counts

    @classmethod
    def none(cls, canaries: int) -> Taken:
        """Return those before the first step."""
        return cls(last=np.full(canaries, NEVER), counts=np.zeros(canaries, dtype=np.int64))

    def after(self, step: int, told: Coins, *, participations: int, separation: int) -> Taken:
        """Return those after one more step.

        Args:
            step: its number.
            told: whose turn it is.
            participations: how many turns a record has at most, by the description.
            separation: how far apart they lie at least.

        Raises:
            TrainerFault: if there are more turns, or they lie closer together, than is described.
        """
        counts = self.counts + told
        if np.any(step - self.last[told] < separation) or np.any(counts > participations):
            raise TrainerFault(
                f"the trainer tells of more turns of a canary than the {participations} claimed, or of turns that lie "
                f"less than {separation} steps apart"
            )
        return Taken(last=np.where(told, step, self.last), counts=counts)
