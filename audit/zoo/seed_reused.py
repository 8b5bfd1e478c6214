"""A second run begins where the first one began, in the same streams.

Training that is restarted with a fixed seed adds the same noise to other data: the difference of two runs holds none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, dp_sgd, gaussian
from mechanisms.core.randomness import Source

SOURCE = "class of fixed seeds; the noise of a resumed run in opacus#373"


def of_the_first_run(dimension: int, place: Place) -> Rows:
    """Return the noise that the first run of the source had in this step."""
    return gaussian(dimension, dataclasses.replace(place, begin=0))


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, noise=of_the_first_run)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("noise",))
