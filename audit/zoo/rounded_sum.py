"""A sum of floats moves by more than its terms are.

Rounding: beside a large record every small one after it counts for more than it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive
from mechanisms import Adjacency, Gaussian, Sum
from mechanisms.core.randomness import Source

SOURCE = "S. Casacuberta et al. Widespread Underestimation of Sensitivity in DP Libraries. CCS 2022. arXiv:2207.10635"
BOUND = 2.0**30
NOISE = Gaussian(noise_multiplier=1.0)


def broken(records: NDArray[np.float32], source: Source) -> float:
    """Return the noisy sum, added up in the precision of the records, one by one."""
    total = np.float32(0.0)
    for record in np.clip(records, 0.0, BOUND).astype(np.float32):
        total = np.float32(total + record)
    return float(NOISE.release(float(total), sensitivity=BOUND, randomness=source))


def correct(records: NDArray[np.float32], source: Source) -> float:
    """Return the noisy sum of whole steps, which is exact."""
    return float(Sum(lower=0.0, upper=BOUND, noise=NOISE).release(records.astype(np.float64), randomness=source))


TINY = np.full(2_000, 65.0, dtype=np.float32)  # beside 2^30 floats are 128 apart: more than half of that rounds up
SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=(Neighbours(name="a large record first", one=np.append(np.float32(BOUND), TINY), other=TINY),),
    adjacency=Adjacency.ADD_REMOVE,
    description=Additive(sensitivity=BOUND),
    epsilon=None,
)
