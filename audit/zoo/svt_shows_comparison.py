"""Sparse vector that releases the number it compared.

A number with its noise that was above the threshold shows how low that was, and with it what was below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency
from mechanisms.core.randomness import Source

SOURCE = "M. Lyu, D. Su, N. Li. Understanding the Sparse Vector Technique. VLDB 2017. arXiv:1603.01699, Algorithm 3"
EPSILON, BELOW, LOW = 3.0, 4, 0.75
NOTHING = -1e3


def answers(queries: NDArray[np.float64], source: Source, epsilon: float) -> tuple[int, float, float]:
    """Return how many queries were below, the first one above, and that with its noise."""
    threshold = textbook_laplace(source, 2 / epsilon, 1)[0]
    noisy = queries + textbook_laplace(source, 2 / epsilon, len(queries))
    above = np.flatnonzero(noisy >= threshold)
    return (int(above[0]), queries[above[0]], noisy[above[0]]) if len(above) else (len(queries), NOTHING, NOTHING)


def broken(queries: NDArray[np.float64], source: Source) -> tuple[int, float]:
    """Return how many queries were below, and the number that was compared."""
    below, _, compared = answers(queries, source, EPSILON)
    return below, compared


def correct(queries: NDArray[np.float64], source: Source) -> tuple[int, float]:
    """Return the same at half of ε, the number with noise of its own for the other half."""
    below, number, _ = answers(queries, source, EPSILON / 2)
    return below, number + textbook_laplace(source, 2 / EPSILON, 1)[0]


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(
        Neighbours(
            name="all queries moved",
            one=np.append(np.full(BELOW, -0.5), 0.0),
            other=np.append(np.full(BELOW, 0.5), -1.0),
        ),
    ),
    adjacency=Adjacency.REPLACE_ONE,
    description=None,
    epsilon=EPSILON,
    coded=lambda released: float(released[0] == BELOW and released[1] <= LOW),
    runs=40_000,
)
