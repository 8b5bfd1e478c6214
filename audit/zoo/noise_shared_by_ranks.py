"""Two ranks add the same noise to their halves of the weights.

Each seeds its generator alike: differences of entries that are a half apart hold no noise at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, dp_sgd, gaussian
from mechanisms.core.randomness import Source

SOURCE = "jax-ml/jax#3646: one key for several parameters"


def the_same_on_both(dimension: int, place: Place) -> Rows:
    """Return noise for the first half of the entries, and the same for the other."""
    half = gaussian(-(-dimension // 2), place)
    return np.concatenate([half, half])[:dimension]


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, noise=the_same_on_both)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("noise",))
