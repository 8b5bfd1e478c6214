"""Poisson samples are accounted for, and shuffled batches run.

Every record takes part exactly once in an epoch, in batches of always the same size: no coin is tossed, and the
amplification that the accountant grants isn't there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import STEP, Mask, Place, Plan, Rows, Step, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "M. S. M. S. Annamalai et al. To Shuffle or not to Shuffle. 2024. arXiv:2411.10614; opacus#80"


def batch_of_an_epoch(n: int, place: Place) -> Mask:
    """Return a batch of an order of the records that is drawn anew for every epoch."""
    batches = round(1 / place.plan.probability)
    epoch, batch = divmod(place.step, batches)
    keys = place.source.words("order", place.begin + epoch * STEP, n)
    mask: Mask = np.argsort(np.argsort(keys)) % batches == batch
    return mask


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, sample=batch_of_an_epoch)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("participations", "replay"))
