"""Means of microbatches are clipped, and the noise is that for records.

One record can turn the mean of its microbatch around, which moves the sum by 2C; noise for C is half of what it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "tensorflow/privacy#620"


MICROBATCH = 2


def means_clipped(rows: Rows, place: Place) -> Rows:
    """Return the sum of the clipped means of so many rows each, the last one of those left."""
    groups = [rows[start : start + MICROBATCH] for start in range(0, len(rows), MICROBATCH)]
    means = [group.mean(axis=0) for group in groups]
    total: Rows = clipped(np.array(means).reshape(-1, rows.shape[1])).sum(axis=0)
    return total


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=means_clipped)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
