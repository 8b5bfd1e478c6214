"""Sparse vector whose noise forgets the number of hits.

The queries' noise is that for one hit where c are allowed: the ε that is claimed holds times (1 + 6c)/4 only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency
from mechanisms.core.randomness import Source

SOURCE = "M. Lyu, D. Su, N. Li. Understanding the Sparse Vector Technique. VLDB 2017. arXiv:1603.01699, Algorithm 4"
EPSILON, HITS = 1.0, 200


def hits(queries: NDArray[np.float64], source: Source, scale: float) -> int:
    """Return by how many more of the second half of the queries than of the first are above, up to the last hit."""
    threshold = textbook_laplace(source, 4 / EPSILON, 1)[0]
    above = queries + textbook_laplace(source, scale, len(queries)) >= threshold
    above &= np.cumsum(above) <= HITS
    return int(above[HITS:].sum()) - int(above[:HITS].sum())


def broken(queries: NDArray[np.float64], source: Source) -> int:
    """Return the answers under noise for one hit, of queries that all move in one direction."""
    return hits(queries, source, 4 / (3 * EPSILON))


def correct(queries: NDArray[np.float64], source: Source) -> int:
    """Return the answers under noise for all hits, of queries that move in any direction."""
    return hits(queries, source, 2 * HITS * 4 / (3 * EPSILON))


RISING = np.repeat([0.0, 1.0], HITS)
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
