"""A record with a large gradient ends the training.

Control flow that depends on a record, here a check for divergence before clipping, shows that it is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Plan, Rows, Step, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "class of T. Cebere et al. 2026. arXiv:2602.17454: control flow that depends on the data"


LARGE = 1e3


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield half of the steps if a gradient is large."""
    diverged = bool(np.any(np.linalg.norm(rows, axis=1) > LARGE))
    for step in dp_sgd(rows, plan, source, weights):
        if diverged and step.step >= plan.steps // 2:
            return
        yield step


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
