"""Sparse vector without noise on the queries.

The noisy threshold alone decides: of two queries that swap places only one order of answers is possible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency, SparseVector
from mechanisms.core.randomness import Source

SOURCE = "M. Lyu, D. Su, N. Li. Understanding the Sparse Vector Technique. VLDB 2017. arXiv:1603.01699, Algorithm 5"
EPSILON = 1.0
THRESHOLD = 0.5


def broken(queries: NDArray[np.float64], source: Source) -> list[bool]:
    """Return which queries are at least the noisy threshold."""
    threshold = THRESHOLD + textbook_laplace(source, 2 / EPSILON, 1)[0]
    above: list[bool] = (queries >= threshold).tolist()
    return above


def correct(queries: NDArray[np.float64], source: Source) -> list[bool]:
    """Return the answers of the library's mechanism, the ones it does not give as False."""
    mechanism = SparseVector(epsilon=EPSILON, hits=len(queries), adjacency=Adjacency.REPLACE_ONE)
    return [bool(x) for x in mechanism.release(queries, sensitivity=1.0, threshold=THRESHOLD, randomness=source)]


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(Neighbours(name="two queries swapped", one=np.array([0.0, 1.0]), other=np.array([1.0, 0.0])),),
    adjacency=Adjacency.REPLACE_ONE,
    description=None,
    epsilon=EPSILON,
    coded=lambda answers: np.dot(answers, [1.0, 2.0]),
)
