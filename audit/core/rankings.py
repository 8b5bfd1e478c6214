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
"""Outputs (…, n, k) -> a number for each, (…, n), higher the likelier it came of the first world."""

NEWTON_STEPS = 8
RIDGE = 1.0


def odds_of_worlds(first: Array, second: Array) -> Ranking:
    """Return a logistic regression of the world on the coordinates and their squares, for each set: its log-odds.

    Coordinates are centred and scaled by the pooled median and the spread of the middle half, and cut off at eight
    spreads. A small ridge keeps the odds finite where the worlds can be told apart without error.

    Args:
        first: outputs of the first world, shape (n, k), or (sets, n, k).
        second: of the second world.
    """
    pooled = np.concatenate([first, second], axis=-2)
    low, middle, high = np.quantile(pooled, [0.25, 0.5, 0.75], axis=-2, keepdims=True)
    spread = np.where(high > low, high - low, np.maximum(np.std(pooled, axis=-2, keepdims=True), 1e-300))

    def features(outputs: Array) -> Array:
        scaled = np.clip((outputs - middle) / spread, -8.0, 8.0)
        return np.concatenate([np.ones((*scaled.shape[:-1], 1)), scaled, scaled**2], axis=-1)

    label = np.arange(pooled.shape[-2]) < first.shape[-2]
    design = features(pooled)
    weights = _logistic(design.reshape(-1, *design.shape[-2:]), label).reshape(*design.shape[:-2], 1, -1)

    def ranking(outputs: Array) -> Array:
        odds: Array = np.sum(features(outputs) * weights, axis=-1)
        return odds

    return ranking


def _logistic(design: Array, label: np.ndarray) -> Array:
    """Return the weights of each regression, shape (sets, p), on a design (sets, n, p)."""
    transposed = np.ascontiguousarray(np.swapaxes(design, 1, 2))
    ridge = RIDGE * np.eye(design.shape[2])
    weights = np.zeros((len(design), design.shape[2], 1))
    for _ in range(NEWTON_STEPS):
        chance = special.expit(design @ weights)
        curvature = (transposed * np.swapaxes(chance * (1 - chance), 1, 2)) @ design + ridge
        weights = weights + np.linalg.solve(curvature, transposed @ (label[:, None] - chance) - RIDGE * weights)
    return weights[..., 0]
