"""Half the noise that is claimed.

The standard deviation is C/2 · σ where C · σ is accounted: a factor lost between the configuration, the batch and the
noise. In a released network it was a factor of the batch's size, and ε was 13 times what was claimed.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, dp_sgd, gaussian
from mechanisms.core.randomness import Source

SOURCE = "F. Tramèr et al. Debugging Differential Privacy: A Case Study for Privacy Auditing. 2022. arXiv:2202.12219"


def half(dimension: int, place: Place) -> Rows:
    """Return noise of half the standard deviation."""
    return 0.5 * gaussian(dimension, place)


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, noise=half)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("inversion", "noise"))
