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
OUTPUTS_PER_CELL = 50  # of both worlds together: enough for the ratio of a cell to mean something
MOST_CELLS = 24  # on the line: of 8, 16, 24, 32 and 64 the best over Laplace and Gaussian pairs at 500 and 10,000


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


def log_ratio_in_cells(first: Array, second: Array) -> Ranking:
    """Return the logarithm of the ratio of the two worlds' shares of the cell that an output lies in.

    A cell is a value where there are few, else a stretch between quantiles of both worlds together, on the line: of
    more than one coordinate, cells are of their `odds_of_worlds`. Each count is raised by half.
    """
    project = odds_of_worlds(first, second) if first.shape[1] > 1 else _only_coordinate
    ones, others = project(first), project(second)
    pooled = np.concatenate([ones, others])
    cells = max(2, len(pooled) // OUTPUTS_PER_CELL)
    values = np.unique(pooled)
    if len(values) > cells:
        shares = np.linspace(0.0, 1.0, min(cells, MOST_CELLS), endpoint=False)
        values = np.unique(np.quantile(pooled, shares, method="inverted_cdf"))

    def cell(outputs: Array) -> np.ndarray:
        return np.maximum(np.searchsorted(values, outputs, side="right") - 1, 0)

    counts = [np.bincount(cell(world), minlength=len(values)) + 0.5 for world in (ones, others)]
    log_ratio = np.log(counts[0] / len(ones)) - np.log(counts[1] / len(others))

    def ranking(outputs: Array) -> Array:
        found: Array = log_ratio[cell(project(outputs))]
        return found

    return ranking


def _only_coordinate(outputs: Array) -> Array:
    return outputs[:, 0]
