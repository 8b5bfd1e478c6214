"""Votes are checked for consensus without noise.

Whether the largest count reaches the threshold is answered from the votes as they are: one vote decides it for sure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from mechanisms import Adjacency, Laplace, LNMax
from mechanisms.core.randomness import Source

SOURCE = (
    "class; N. Papernot et al. Scalable Private Learning with PATE. ICLR 2018. arXiv:1802.08908, whose check has noise"
)
THRESHOLD, SCALE = 8, 4.0
EPSILON = 1 / SCALE + 2 / SCALE  # of the check, which a vote moves by 1, and of the choice, where two counts move
NO_ANSWER = -1


def broken(votes: NDArray[np.int64], source: Source) -> int:
    """Return the noisy plurality where the largest count reaches the threshold, and no answer elsewhere."""
    return answered(votes, source) if votes.max() >= THRESHOLD else NO_ANSWER


def correct(votes: NDArray[np.int64], source: Source) -> int:
    """Return the same after a check with noise."""
    noisy = votes.max() + source_laplace(source)
    return answered(votes, source) if noisy >= THRESHOLD else NO_ANSWER


def answered(votes: NDArray[np.int64], source: Source) -> int:
    """Return the noisy plurality."""
    return int(LNMax(noise_multiplier=SCALE).release(votes, randomness=source))


def source_laplace(source: Source) -> float:
    """Return noise for a count that one record may change by one."""
    return float(Laplace(noise_multiplier=SCALE).release(0.0, sensitivity=1.0, randomness=source))


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(Neighbours(name="a vote moved", one=np.array([8, 0]), other=np.array([7, 1])),),
    adjacency=Adjacency.REPLACE_ONE,
    description=None,
    epsilon=EPSILON,
)
