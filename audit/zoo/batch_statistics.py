"""Records are centred by the mean of their batch, as BatchNorm does, and then clipped one by one.

Every other record's gradient depends on the one that is added, so that clipping each bounds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "opacus#308 and #340"


def centred(rows: Rows, place: Place) -> Rows:
    """Return the sum of the clipped deviations from the mean of the batch."""
    total: Rows = clipped(rows - rows.mean(axis=0) if len(rows) else rows).sum(axis=0)
    return total


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=centred)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
