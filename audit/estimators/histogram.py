"""Lower bounds of ε from histograms: black-box outputs sorted into cells on a held-out half.

The best event against (ε, δ) is the union of the cells whose probability in one world is more than e^ε times that in
the other [KMRA23]. Cells are ranked by that ratio on one half of the outputs, which also says how many to take.

[KMRA23] W. Kong, A. Muñoz Medina, M. Ribero, U. Syed. DP-Auditorium: a Large Scale Library for Auditing Differential
Privacy. 2023. arXiv:2307.05608.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import Array
from audit.core.held_out import HeldOutEvent
from audit.core.rankings import Ranking, log_ratio_in_cells


def lower_bound_from_outputs(first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
    """Return the largest ε refuted by outputs of a mechanism on two neighbouring inputs, 0 if none is.

    Arguments, guarantees and errors are those of `audit.core.held_out.OutputsEstimator`.

    >>> rng = np.random.default_rng(2)
    >>> first, second = rng.integers(0, 3, 2_000), np.minimum(rng.integers(0, 4, 2_000), 2)
    >>> round(lower_bound_from_outputs(first, second, delta=0.0, confidence=0.95), 2)  # the truth is ln 3/2 = .41
    0.27
    """
    return Histogram().bound(first, second, delta=delta, confidence=confidence)


def rejects(
    *, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts."""
    return Histogram().refutes(first, second, epsilon, delta=delta, confidence=confidence)


@dataclass(frozen=True, slots=True)
class Histogram(HeldOutEvent):
    """The bound of `lower_bound_from_outputs`, of scores or of outputs.

    >>> Histogram().guarantee
    'frequentist'
    """

    def learn(self, first: Array, second: Array) -> Ranking:
        """Return the log-ratio of the two worlds' shares of each cell."""
        return log_ratio_in_cells(first, second)
