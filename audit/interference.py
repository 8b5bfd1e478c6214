"""How much canaries get into each other's way: what keeps one run from being as many runs.

[K25] A. Keinan, M. Shenfeld, K. Ligett. How Well Can Differential Privacy Be Audited in One Run? NeurIPS 2025.
arXiv:2503.07199.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audit.core.described import SampledGaussianRun
from audit.core.references import Array
from audit.scores import LabelledScores
from mechanisms import InvalidParameter, Process

ENTRIES = 2**22  # of the matrix of cosines that are held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Interference:
    """How much m canaries with given gradients see of each other.

    Args:
        canaries: m.
        largest_cosine: the largest |cos| between the gradients of two of them, in [0, 1].
        root_mean_square_cosine: √ of the mean cos² over all pairs.
        largest_share: of a score's variance, when its canary is out, what is due to other canaries, in [0, 1], for
            the canary that suffers most. Scores then depend on each other by as much.
        mean_share: the same, averaged over the canaries.
    """

    canaries: int
    largest_cosine: float
    root_mean_square_cosine: float
    largest_share: float
    mean_share: float


def predicted_interference(gradients: ArrayLike, process: Process) -> Interference:
    """Return how much canaries with these gradients interfere in a run of T steps with sampling rate q and noise σ.

    Canary j, in by a fair coin and then in Bin(T, q) steps, moves the score Σ_t ⟨g_i, noisy sum_t⟩ of canary i by
    ⟨g_i, g_j⟩ each time. So, with gradients that stay as they are,

        variance due to canary j    ⟨g_i, g_j⟩² (T q (1 − q)/2 + (T q)²/4)
        variance due to the noise   T σ² ‖g_i‖²

    Args:
        gradients: of the canaries, clipped, in units of the clip norm, (m, d).
        process: the run described, a Gaussian on Poisson samples.

    Raises:
        InvalidParameter: if a gradient is zero or not finite, or there is none.
        UnsupportedProcess: if the process is another.

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> run = Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.5)), 16)
    >>> predicted_interference([[1.0, 0.0], [0.6, 0.8]], run).largest_share  # .36 · 18 of that + 64
    0.0919...
    """
    rows, run = _checked(gradients), SampledGaussianRun.of(process)
    norms = np.linalg.norm(rows, axis=1)
    if np.any(norms == 0):
        raise InvalidParameter("interference: gradients must not be zero: such canaries leave no trace to look for.")
    visits = run.steps * run.probability * (1 - run.probability) / 2 + (run.steps * run.probability) ** 2 / 4
    largest, squares, others = 0.0, 0.0, np.empty(len(rows))
    for place in range(0, len(rows), at_once := max(1, ENTRIES // len(rows))):
        products = rows[place : place + at_once] @ rows.T
        products[np.arange(len(products)), place + np.arange(len(products))] = 0.0
        cosines = np.abs(products) / norms / norms[place : place + at_once, None]
        largest, squares = max(largest, float(cosines.max())), squares + float(np.sum(cosines**2))
        others[place : place + at_once] = visits * np.sum(products**2, axis=1)
    shares = _shares(others, run.steps * (run.noise_multiplier * norms) ** 2)
    return Interference(
        canaries=len(rows),
        largest_cosine=min(1.0, largest),
        root_mean_square_cosine=float(np.sqrt(squares / max(1, len(rows) * (len(rows) - 1)))),
        largest_share=float(np.max(shares)),
        mean_share=float(np.mean(shares)),
    )


def explained_share(gradients: ArrayLike, data: LabelledScores) -> float:
    """Return the share of the variance of the out-scores of one run that the other canaries' parts in it explain.

    It is R² of the regression of score_i, i out, on Σ_{j ≠ i} ⟨g_i, g_j⟩ n_j, on Σ_{j ≠ i} ⟨g_i, g_j⟩ and 1, n_j being
    how often canary j took part. What explains nothing has 2 over the smaller of d and the number out on average. For
    an attack that subtracts what canaries contribute on average it is what `predicted_interference` says, as long as
    gradients stay as they are; where they do not, this is the measurement.

    Args:
        gradients: of the canaries, at the initial or any other weights, in any unit, (m, d).
        data: scores, with the participations that the trainer revealed.

    Raises:
        InvalidParameter: if the shapes do not fit, participations were not revealed, or fewer than 4 canaries were out.

    >>> from audit.scores import OneRun, Scores, Threshold
    >>> scores = Scores(values=[0.0, 3.0, 1.0, 2.0, 9.0], design=OneRun(canaries=5), guessing_rule=Threshold(value=5.0))
    >>> data = LabelledScores(scores=scores, membership=[False] * 4 + [True], participations=[0, 0, 0, 0, 7])
    >>> round(explained_share([[0.0, 1.0], [3.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, 0.0]], data), 9)
    1.0
    """
    rows, outside = _checked(gradients), ~data.membership
    if data.participations is None or len(rows) != len(data.membership) or np.count_nonzero(outside) < 4:
        raise InvalidParameter(
            "interference: data must be of these canaries, 4 or more of them out, with participations.\n"
            "Trainers of this library reveal them when the run is over; of others, `predicted_interference` can be had."
        )
    products = rows[outside] @ rows.T
    products[np.arange(len(products)), np.flatnonzero(outside)] = 0.0
    columns = np.stack([products @ data.participations, products.sum(axis=1), np.ones(len(products))], axis=1)
    scores = data.excluded - np.mean(data.excluded)
    fitted = columns @ np.linalg.lstsq(columns, scores, rcond=None)[0]
    total = float(np.sum(scores**2))
    return float(np.clip(1 - np.sum((scores - fitted) ** 2) / total, 0.0, 1.0)) if total > 0 else 0.0


def _checked(gradients: ArrayLike) -> Array:
    rows = np.asarray(gradients, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.all(np.isfinite(rows)):
        raise InvalidParameter(f"interference: gradients must be finite of shape (m, d), got shape {rows.shape}.")
    return rows


def _shares(others: Array, noise: Array) -> Array:
    total = others + noise
    shares: Array = np.where(total > 0, others / np.where(total > 0, total, 1.0), 0.0)
    return shares
