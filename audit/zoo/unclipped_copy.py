"""The covariance is computed on a copy that was not clipped.

Records are bounded for the sensitivity, and the product is taken of those from before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive, array_neighbours
from mechanisms import Adjacency, Covariance, Gaussian
from mechanisms.core.randomness import Source

SOURCE = "opendp/smartnoise-sdk#622"
NORM, COLUMNS = 1.0, 3
NOISE = Gaussian(noise_multiplier=1.0)


def broken(records: NDArray[np.float64], source: Source) -> NDArray[np.float64]:
    """Return the noisy second moments of the records as they are, but for those that are not finite or huge."""
    known = records[np.isfinite(records).all(axis=1) & (np.abs(records) < 1e9).all(axis=1)]
    noisy: NDArray[np.float64] = NOISE.release(known.T @ known, sensitivity=NORM**2, randomness=source)
    return noisy


def correct(records: NDArray[np.float64], source: Source) -> NDArray[np.float64]:
    """Return the noisy second moments of records within the ball."""
    query = Covariance(max_norm=NORM, dimensions=COLUMNS, noise=NOISE)
    noisy: NDArray[np.float64] = query.release(records, randomness=source)
    return noisy


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=array_neighbours(np.linspace(-0.5, 0.5, 12).reshape(4, COLUMNS), adjacency="add_remove"),
    adjacency=Adjacency.ADD_REMOVE,
    description=Additive(sensitivity=NORM**2),
    epsilon=None,
)
