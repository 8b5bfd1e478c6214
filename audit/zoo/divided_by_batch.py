"""Noisy sums are divided by the actual size of the batch.

Under Poisson sampling the size is private: one record more rescales the noise and all other records' gradients. Where
a scheme makes all batches of one size, it is public, and nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import RUN, Place, Plan, Rows, Step, clipped, gaussian
from mechanisms.core.randomness import Source

SOURCE = "opacus#420, which asks for it; opacus#571"


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield steps whose sums are those means times the expected size, as an adversary reads them off the weights."""
    begin = source.reserve("runs", 1) * RUN
    for step in range(plan.steps):
        place = Place(plan=plan, source=source, begin=begin, step=step)
        batch = rows[plan.sample(len(rows), place)]
        noisy_mean = (clipped(batch).sum(axis=0) + gaussian(rows.shape[1], place)) / max(1, len(batch))
        before = weights.copy()
        weights -= 0.1 * noisy_mean
        yield Step(step=step, weights_before=before, noisy_sum=plan.expected_batch_size * noisy_mean)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
