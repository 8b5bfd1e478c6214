"""Whether records took part in steps as Poisson samples have them do, or too regularly: in turn, or in fixed batches.

Under Poisson sampling how often a record takes part is Bin(T, q), independently of all others, and the size of a batch
Bin(n, q), independently of all other batches. Numbers that scatter less come of shuffles and of batches of one size.
For independent K_i >= 0 of mean μ let Z = Σ (K_i − μ)². As these squares are not negative,                      [Mau03]

    P[Z <= E Z − t]  <=  exp(−t² / (2 Σ E (K_i − μ)⁴)).

[Mau03] A. Maurer. A Bound on the Deviation Probability for Sums of Non-Negative Random Variables. JIPAM 4(1), 2003.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from audit.core.faults import TrainerFault

CHANCE = 1e-9


def check_poisson(participations: ArrayLike, batch_sizes: ArrayLike, *, probability: float) -> None:
    """Refuse numbers that scatter too little for Poisson samples, which happens to such with chance 1e-9 at most.

    Args:
        participations: of every record in the run, (n,).
        batch_sizes: of every step, (T,).
        probability: q.

    Raises:
        TrainerFault: if they do.

    >>> check_poisson([1] * 300, [75] * 4, probability=0.25)
    Traceback (most recent call last):
        ...
    audit.core.faults.TrainerFault: the trainer's records took part in steps too regularly for Poisson samples, ...
    """
    counts, sizes = np.asarray(participations), np.asarray(batch_sizes)
    chance = min(
        most_chance(counts, trials=len(sizes), probability=probability),
        most_chance(sizes, trials=len(counts), probability=probability),
    )
    if 2 * chance <= CHANCE:
        raise TrainerFault(
            "the trainer's records took part in steps too regularly for Poisson samples, as in a shuffle"
        )


def most_chance(counts: ArrayLike, *, trials: int, probability: float) -> float:
    """Return a bound on the chance that independent K_i ~ Bin(trials, probability) scatter as little as these or less.

    >>> most_chance([2, 2, 2, 2], trials=4, probability=0.5)  # exactly (6/16)^4 = 0.02
    0.449...
    """
    seen = np.asarray(counts, dtype=np.float64)
    spread = probability * (1 - probability)
    second, fourth = trials * spread, trials * spread * (1 + 3 * (trials - 2) * spread)
    missing = len(seen) * second - float(np.square(seen - trials * probability).sum())
    return math.exp(-(missing**2) / (2 * len(seen) * fourth)) if missing > 0 and fourth > 0 else 1.0
