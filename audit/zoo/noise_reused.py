"""Noise is drawn once and added in every step.

Differences of two steps hold no noise at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from audit.core.specimens import TrainingSpecimen
from audit.core.toy_training import Place, Plan, Rows, Step, dp_sgd, gaussian
from mechanisms.core.randomness import Source

SOURCE = "jax-ml/jax#3646: a key used again; class of fixed seeds"


def drawn_once(dimension: int, place: Place) -> Rows:
    """Return the noise of the first step."""
    return gaussian(dimension, dataclasses.replace(place, step=0))


def broken(rows: Rows, plan: Plan, source: Source, weights: Rows) -> Iterator[Step]:
    """Yield the steps of the broken run."""
    return dp_sgd(rows, plan, source, weights, noise=drawn_once)


SPECIMEN = TrainingSpecimen(source=SOURCE, broken=broken, caught_by=("noise",))
