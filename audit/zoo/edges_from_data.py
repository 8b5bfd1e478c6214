"""A histogram whose bins span what is in the data.

The edges are released without noise, and a far record moves all others to another bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive, array_neighbours
from mechanisms import Adjacency, Gaussian, Histogram
from mechanisms.core.randomness import Source

SOURCE = (
    "IBM/differential-privacy-library, PrivacyLeakWarning on bounds taken from the data; spring-epfl dpart#6, dpmm#18"
)
SIGMA = 2.0
EDGES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def broken(records: NDArray[np.float64], source: Source) -> NDArray[np.float64]:
    """Return noisy counts between the smallest and the largest record."""
    known = records[np.isfinite(records)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    counts = np.histogram(known / 2, bins=np.linspace(low / 2, high / 2 + 1e-9, len(EDGES)))[0].astype(np.float64)
    noisy: NDArray[np.float64] = Gaussian(noise_multiplier=SIGMA).release(counts, sensitivity=1.0, randomness=source)
    return noisy


def correct(records: NDArray[np.float64], source: Source) -> NDArray[np.float64]:
    """Return noisy counts between declared edges."""
    query = Histogram(edges=EDGES, noise=Gaussian(noise_multiplier=SIGMA))
    noisy: NDArray[np.float64] = query.release(records, randomness=source)
    return noisy


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=array_neighbours(np.linspace(-1.5, 1.5, 9), adjacency="add_remove"),
    adjacency=Adjacency.ADD_REMOVE,
    description=Additive(sensitivity=1.0),
    epsilon=None,
)
