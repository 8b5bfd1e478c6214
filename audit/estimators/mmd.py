"""Lower bounds of ε from a kernel: black-box outputs told apart by the witness of the maximum mean discrepancy.

Of all functions in the unit ball of a kernel's space, the witness

    w(x)  ∝  mean_i k(x, a_i) − mean_j k(x, b_j)                                                        [GBRSS12]

has the largest difference of means between the two worlds. It is learnt on one half of the outputs and the event
w >= t counted on the other: the discrepancy itself, whose deviations are of order 1/√n whatever its size, would show
far less.

[GBRSS12] A. Gretton, K. M. Borgwardt, M. J. Rasch, B. Schölkopf, A. Smola. A Kernel Two-Sample Test. JMLR 13 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import Array
from audit.core.held_out import RankedEvent
from audit.core.rankings import Ranking

CENTRES, FEWER = 64, 2  # of each world, at most; one in so many tells the width. Time grows with them, power hardly


def lower_bound_from_outputs(first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
    """Return the largest ε refuted by outputs of a mechanism on two neighbouring inputs, 0 if none is.

    Arguments, guarantees and errors are those of `audit.core.held_out.OutputsEstimator`.

    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.normal(1.0, size=2_000), rng.normal(0.0, size=2_000)
    >>> lower_bound_from_outputs(first, second, delta=1e-5, confidence=0.95) > 0.5
    True
    """
    return MMD().bound(first, second, delta=delta, confidence=confidence)


def rejects(
    *, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts.

    Outputs of several sets of runs have shape (sets, n, k), and ε is then one number.
    """
    return MMD().refutes(first, second, epsilon, delta=delta, confidence=confidence)


@dataclass(frozen=True, slots=True)
class MMD(RankedEvent):
    """The bound of `lower_bound_from_outputs`, of scores or of outputs.

    >>> MMD().guarantee
    'frequentist'
    """

    def learn(self, first: Array, second: Array) -> Ranking:
        """Return the witness of the Gaussian kernel as wide as the median distance, of the first `CENTRES` outputs.

        On the line it is read off a table: straight between the centres and level beyond them.
        """
        if first.ndim == 3:
            witnesses = [self.learn(*worlds) for worlds in zip(first, second, strict=True)]
            return lambda outputs: np.array([one(those) for one, those in zip(witnesses, outputs, strict=True)])
        centres = np.concatenate([first[:CENTRES], second[:CENTRES]])
        ones = len(first[:CENTRES])
        weights = np.where(np.arange(len(centres)) < ones, 1.0 / ones, -1.0 / (len(centres) - ones))
        distances = _squared_distances(centres, centres)
        few = distances[::FEWER, ::FEWER]
        width = float(np.median(few)) or float(np.mean(distances)) or 1.0
        if centres.shape[1] == 1:
            knots, places = np.unique(centres[:, 0], return_index=True)
            heights = np.exp(-distances[places] / width) @ weights
            return lambda outputs: np.interp(outputs[:, 0], knots, heights)

        def witness(outputs: Array) -> Array:
            found: Array = np.sum(np.exp(-_squared_distances(outputs, centres) / width) * weights, axis=1)
            return found

        return witness


def _squared_distances(points: Array, centres: Array) -> Array:
    squares: Array = np.zeros((len(points), len(centres)))
    for one, other in zip(points.T, centres.T, strict=True):
        squares += (one[:, None] - other) ** 2
    return squares
