"""Rankings: what tells outputs of two worlds apart, learnt from some of both. They decide power, never validity.

For that, a rank must be a function of the output alone, to the last bit: were it to depend on the array that the output
stands in, as matrix products may, then equal outputs of two worlds could fall on different sides of a threshold. So
rows are added up one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from audit.core.counts import Array

Ranking = Callable[[Array], Array]
"""Outputs (n, k) -> a number for each, (n,), higher the likelier it came of the first world."""

NEWTON_STEPS = 8
RIDGE = 1.0


def odds_of_worlds(first: Array, second: Array) -> Ranking:
    """Return a logistic regression of the world on the coordinates and their squares: its log-odds.

    Coordinates are centred and scaled by the pooled median and the spread of the middle half, and cut off at eight
    spreads. A small ridge keeps the odds finite where the worlds can be told apart without error.
    """
    pooled = np.concatenate([first, second])
    low, middle, high = np.quantile(pooled, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high > low, high - low, np.maximum(np.std(pooled, axis=0), 1e-300))

    def features(outputs: Array) -> Array:
        scaled = np.clip((outputs - middle) / spread, -8.0, 8.0)
        return np.concatenate([np.ones((len(outputs), 1)), scaled, scaled**2], axis=1)

    design = features(pooled)
    label = np.arange(len(pooled)) < len(first)
    weights = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = special.expit(design @ weights)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, design.T @ (label - chance) - RIDGE * weights)

    def ranking(outputs: Array) -> Array:
        odds: Array = np.sum(features(outputs) * weights, axis=1)
        return odds

    return ranking
