"""Gradients are not set to zero between two steps.

What a step's records contributed is added to the next one's too: one record is in two sums under the noise for one.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped_sum, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "reviews of opacus PR#203 and PR#264"


class _Kept:
    """The rows of the step before, which nobody forgot."""

    def __init__(self, none: Rows) -> None:
        self.left = none

    def total(self, rows: Rows, place: Place) -> Rows:
        """Return the sum over this step's records and the last one's."""
        kept, self.left = self.left, rows
        return clipped_sum(rows, place) + clipped_sum(kept, place)


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=_Kept(rows[:0]).total)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
