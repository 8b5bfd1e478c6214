"""Whether records took part in steps as Poisson samples have them do, or too regularly: in turn, or in fixed batches.

Under Poisson sampling how often a record takes part is Bin(T, q), independently of all others, and the size of a batch
Bin(n, q), independently of all other batches. Numbers that scatter less come of shuffles and of batches of one size.
For independent K_i of mean μ let Z = Σ X_i, X_i = (K_i − μ)². By Chernoff's argument, for every λ >= 0,

    P[Z <= z]  <=  e^{λz} Π E e^{−λX_i},

of which the least over a grid of λ is taken: each of them holds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audit.core.faults import TrainerFault

CHANCE = 1e-9
RATES = np.arange(-8.0, 13.0)  # log2 of λ times the variance
ROUND_OFF = 1e-13  # more than sums err by, relatively, and the logarithm of a mass for each trial


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

    >>> most_chance([2, 2, 2, 2], trials=4, probability=0.5)  # exactly (6/16)^4 = 0.01977...
    0.01977...
    """
    seen, numbers = np.asarray(counts, dtype=np.float64), np.arange(trials + 1)
    if not 0 < probability < 1 or trials < 1:
        return 1.0
    logs = (special.gammaln(trials + 1) - special.gammaln(numbers + 1) - special.gammaln(trials - numbers + 1)) + (
        special.xlogy(numbers, probability) + special.xlog1py(trials - numbers, -probability)
    )
    squares, found = np.square(numbers - trials * probability), float(np.square(seen - trials * probability).sum())
    rates = np.exp2(RATES) / (trials * probability * (1 - probability))
    means = [special.logsumexp(logs - rate * squares) + ROUND_OFF * trials for rate in rates]
    bounds = [rate * found * (1 + ROUND_OFF) + len(seen) * mean for rate, mean in zip(rates, means, strict=True)]
    return math.exp(min(0.0, *bounds))
