"""Gradients of physical batches are accumulated, and clipped when the step is taken.

What is clipped is the sum over a physical batch, at the bound times its size: one record may be all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "tensorflow/privacy#46, which asks for it; class of gradient accumulation"


PHYSICAL = 3


def accumulated(rows: Rows, place: Place) -> Rows:
    """Return physical batches' sums, each clipped to the bound times its size."""
    total = np.zeros(rows.shape[1])
    for start in range(0, len(rows), PHYSICAL):
        part = rows[start : start + PHYSICAL]
        total += clipped(part.sum(axis=0, keepdims=True), bound=float(len(part)))[0]
    return total


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=accumulated)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
