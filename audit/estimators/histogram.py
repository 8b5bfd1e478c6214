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

from audit.core.cells import Cells
from audit.core.held_out import LEAST_GAP, Counts, Halves, HeldOutEvent, threshold_shows


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
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts.

    Outputs of several sets of runs have shape (sets, n, k), and ε is then one number.
    """
    return Histogram().refutes(first, second, epsilon, delta=delta, confidence=confidence)


@dataclass(frozen=True, slots=True)
class Histogram(HeldOutEvent):
    """The bound of `lower_bound_from_outputs`, of scores or of outputs.

    >>> Histogram().guarantee
    'frequentist'
    """

    def errors(self, halves: Halves, *, delta: float, level: float) -> tuple[Counts, Counts]:
        """Return how many outputs held out lie in the wrong cells, in either world; the best of them are taken.

        Cells whose ratios differ by no more than rounding stand and fall together. Where all do, none is taken.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # of outputs near the largest float
            cells = Cells.of(halves)
        ranks = np.where(np.isfinite(cells.log_ratio), cells.log_ratio, np.nan)
        gaps = np.diff(ranks, axis=-1)
        apart = gaps > LEAST_GAP * np.nanmax(np.abs(ranks), axis=-1, keepdims=True)
        missed, alarms = np.cumsum(cells.first, axis=-1), np.cumsum(cells.second[..., ::-1], axis=-1)[..., ::-1]
        trials = halves.first.shape[-2], halves.second.shape[-2]
        shown = threshold_shows(missed[..., :-1], alarms[..., 1:], trials, delta, level)
        best = np.argmax(np.where(apart, shown, -np.inf), axis=-1)[..., None]
        taken = (np.arange(ranks.shape[-1]) > best) & np.any(apart, axis=-1, keepdims=True)
        errors = np.where(taken, 0, cells.first_held), np.where(taken, cells.second_held, 0)
        return np.sum(errors[0], axis=-1), np.sum(errors[1], axis=-1)
