"""The mean gradient of a batch is clipped, instead of every record's.

`clip_grad_norm_` after `backward()`: one record can turn the whole mean around, which moves the sum by twice the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, clipped, dp_sgd
from mechanisms.core.randomness import Source

SOURCE = "tensorflow/privacy#81; F. Tramèr et al. 2022. arXiv:2202.12219"


def mean_clipped(rows: Rows, place: Place) -> Rows:
    """Return the clipped mean times the expected batch size."""
    mean = rows.sum(axis=0, keepdims=True) / max(1, len(rows))
    total: Rows = place.plan.expected_batch_size * clipped(mean)[0]
    return total


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, total=mean_clipped)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("replay",))
