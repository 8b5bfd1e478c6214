"""A gradient of NaN passes the clip.

min(1, C/‖g‖) is NaN where the norm is; one record then turns all weights into NaN, for everyone to see.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "T. Cebere et al. 2026. arXiv:2602.17454: found in five libraries"


def by_its_norm(rows: Rows, place: Place) -> Rows:
    """Return the sum of rows times min(1, 1/norm)."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    total: Rows = (rows / np.maximum(1.0, norms)).sum(axis=0)
    return total


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=by_its_norm)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
