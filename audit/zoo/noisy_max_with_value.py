"""Report noisy max that reports the noisy maximum as well.

The noise that hides which count is largest is too little to show the number too: with many counts, all near the same,
the largest of their noises falls with each of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency, Laplace, NoisyMax
from mechanisms.core.randomness import Source

SOURCE = "Z. Ding et al. Detecting Violations of Differential Privacy. CCS 2018. arXiv:1805.10277"
EPSILON, COUNTS = 1.0, 8


def broken(counts: NDArray[np.float64], source: Source) -> float:
    """Return the largest noisy count, under the noise that suffices to say which it is."""
    return float((counts + textbook_laplace(source, 1 / EPSILON, len(counts))).max())


def correct(counts: NDArray[np.float64], source: Source) -> float:
    """Return the noisy count of the one chosen, each with half of ε."""
    choice = NoisyMax(epsilon=EPSILON / 2, adjacency=Adjacency.REPLACE_ONE, noise="laplace", monotonic=True)
    chosen = choice.release(counts, sensitivity=1.0, randomness=source)
    return float(Laplace(noise_multiplier=2 / EPSILON).release(counts[chosen], sensitivity=1.0, randomness=source))


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(Neighbours(name="all counts by one", one=np.zeros(COUNTS), other=np.ones(COUNTS)),),
    adjacency=Adjacency.REPLACE_ONE,
    description=None,
    epsilon=EPSILON,
)
