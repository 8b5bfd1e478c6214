"""A privacy filter that ends the run by what the records themselves have spent.

How many releases there are then tells how large the private contributions were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive, array_neighbours
from mechanisms import Adjacency, Gaussian
from mechanisms.core.randomness import Source

SOURCE = "class; V. Feldman, T. Zrnic. Individual Privacy Accounting via a Rényi Filter. 2020. arXiv:2008.11193"
ROUNDS, BUDGET = 6, 20.0
NOISE = Gaussian(noise_multiplier=1.0)


def rounds(records: NDArray[np.float64], source: Source, budget: float) -> list[float]:
    """Return noisy sums of clipped records until the budget of squared contributions is used up."""
    clipped, spent, released = np.clip(np.nan_to_num(records), -1.0, 1.0), 0.0, list[float]()
    for _ in range(ROUNDS):
        spent += float(np.square(clipped).sum())
        if spent > budget:
            break
        released.append(float(NOISE.release(clipped.sum(), sensitivity=1.0, randomness=source)))
    return released


def broken(records: NDArray[np.float64], source: Source) -> list[float]:
    """Return the releases until the records have used up the budget."""
    return rounds(records, source, BUDGET)


def correct(records: NDArray[np.float64], source: Source) -> list[float]:
    """Return a number of releases that was fixed before."""
    return rounds(records, source, float("inf"))


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=array_neighbours(np.linspace(-0.9, 0.9, 9), adjacency="add_remove"),
    adjacency=Adjacency.ADD_REMOVE,
    description=Additive(sensitivity=ROUNDS**0.5),
    epsilon=None,
)
