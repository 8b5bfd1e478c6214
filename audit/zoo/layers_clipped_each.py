"""Every layer is clipped to the bound of the whole gradient.

L layers at C each have norm √L · C together; noise and accountant know of C.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "class; H. B. McMahan et al. 2018. arXiv:1812.06210; opacus#202 on the norm of the bounds of all layers"
LAYERS = 4


def clipped_by_layer(rows: Rows, place: Place) -> Rows:
    """Return the sum of rows whose parts are clipped to 1 each."""
    parts = np.array_split(rows, LAYERS, axis=1)
    return np.concatenate([clipped(part).sum(axis=0) for part in parts])


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=clipped_by_layer)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
