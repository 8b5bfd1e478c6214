"""Laplace noise in floats tells what it was added to.

The sum of a float and noise has the low bits of the larger one: most outputs near 0 are impossible where the value is
1.
"""

from __future__ import annotations

import math

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.core.toy_training import textbook_laplace
from mechanisms import Adjacency, Laplace
from mechanisms.core.randomness import Source

SOURCE = "I. Mironov. On Significance of the Least Significant Bits for Differential Privacy. CCS 2012; diffprivlib#94"
EPSILON = 1.0


def broken(value: float, source: Source) -> float:
    """Return the value plus noise by the inverse of the distribution."""
    return float(value + textbook_laplace(source, 1 / EPSILON, 1)[0])


def correct(value: float, source: Source) -> float:
    """Return the exactly rounded release of the library."""
    return float(Laplace(noise_multiplier=1 / EPSILON).release(value, sensitivity=1.0, randomness=source))


def finer_than_sums(released: float) -> float:
    """Tell whether a number near 0 has bits that no sum of noise and 1 has: it is no multiple of 2^-53."""
    return float(abs(released) < 0.25 and not math.ldexp(released, 53).is_integer())


SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("black_box",),
    neighbours=(Neighbours(name="0 or 1", one=0.0, other=1.0),),
    adjacency=Adjacency.ADD_REMOVE,
    description=None,
    epsilon=EPSILON,
    coded=finer_than_sums,
)
