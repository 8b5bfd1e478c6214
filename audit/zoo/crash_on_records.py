"""A quantile that ends in an error for some records.

Whether it does depends on what is in the data, and an error is an output like any other. Here one record out of bounds
does it; there one more than 1,491 records, by an underflow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.specimens import MechanismSpecimen
from audit.replay import array_neighbours
from mechanisms import Adjacency, Quantile
from mechanisms.core.randomness import Source

SOURCE = "opendp/smartnoise-sdk#572"
LOWER, UPPER = -1.0, 1.0


def correct(records: NDArray[np.float64], source: Source) -> float:
    """Return the private median of values, those outside the bounds moved to them."""
    query = Quantile(quantile=0.5, lower=LOWER, upper=UPPER, epsilon=1.0)
    return float(query.release(records, randomness=source))


def broken(records: NDArray[np.float64], source: Source) -> float:
    """Return the same, after a check of the records."""
    if not np.all((records >= LOWER) & (records <= UPPER)):
        raise ValueError("values must lie within the bounds")
    return correct(records, source)


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=array_neighbours(np.linspace(-0.5, 0.5, 9), adjacency="add_remove"),
    adjacency=Adjacency.ADD_REMOVE,
    description=None,
    epsilon=None,
)
