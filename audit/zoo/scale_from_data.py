"""Noise is scaled by the range that the data happen to have.

The sensitivity is computed from the records: one that lies far away makes all of the noise grow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive, array_neighbours
from mechanisms import Adjacency, Laplace, Sum
from mechanisms.core.randomness import Source

SOURCE = "class of bounds inferred from private data: diffprivlib#104, #105; hazy/dpart#6; dpmm#18"
BOUND = 2.0


def broken(records: NDArray[np.float64], source: Source) -> float:
    """Return the sum plus noise for the largest record there is."""
    known = np.clip(np.nan_to_num(records), -BOUND, BOUND)
    largest = float(np.abs(known).max(initial=0.1))
    return float(Laplace(noise_multiplier=1.0).release(known.sum(), sensitivity=largest, randomness=source))


def correct(records: NDArray[np.float64], source: Source) -> float:
    """Return the sum plus noise for the largest record that is allowed."""
    query = Sum(lower=-BOUND, upper=BOUND, noise=Laplace(noise_multiplier=1.0))
    return float(query.release(records, randomness=source))


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=array_neighbours(np.linspace(-0.5, 0.5, 9), adjacency="add_remove"),
    adjacency=Adjacency.ADD_REMOVE,
    description=Additive(sensitivity=BOUND, norm=1),
    epsilon=None,
)
