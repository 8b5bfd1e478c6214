"""Sparse vector that any number of hits may not end.

Noise on the queries is that for one hit: every further hit costs as much again, and nothing stops it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency, SparseVector
from mechanisms.core.randomness import Source

SOURCE = "M. Lyu, D. Su, N. Li. Understanding the Sparse Vector Technique. VLDB 2017. arXiv:1603.01699, Algorithm 6"
EPSILON = 1.0
EACH = 200


def broken(queries: NDArray[np.float64], source: Source) -> int:
    """Return by how many more of the second half of the queries than of the first are above."""
    threshold = textbook_laplace(source, 2 / EPSILON, 1)[0]
    above = queries + textbook_laplace(source, 2 / EPSILON, len(queries)) >= threshold
    return int(above[EACH:].sum()) - int(above[:EACH].sum())


def correct(queries: NDArray[np.float64], source: Source) -> int:
    """Return the same of the library's mechanism, which stops at the first hit."""
    mechanism = SparseVector(epsilon=EPSILON, hits=1, adjacency=Adjacency.REPLACE_ONE)
    answers = mechanism.release(iter(queries), sensitivity=1.0, randomness=source)
    above = np.resize([bool(answer) for answer in answers] + [False] * len(queries), len(queries))
    return int(above[EACH:].sum()) - int(above[:EACH].sum())


RISING = np.repeat([0.0, 1.0], EACH)
SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(Neighbours(name="all queries moved", one=RISING, other=1.0 - RISING),),
    adjacency=Adjacency.REPLACE_ONE,
    description=None,
    epsilon=EPSILON,
)
