"""Probabilities of binomials for exact tests: all counts near the mean at once, with a bound on what is left out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
Counts = NDArray[np.intp]
INVERSE_ERROR = 1e-12  # relative, of scipy's inverse, which errs by some ulps of itself
SMALLEST_ERROR = 1e-15  # or of 1: at a million runs and more that is the larger
OUTSIDE = 1e-20  # probability farther than 10 standard deviations + 50 from the mean: 1e-26 by Bernstein's inequality
ROUND_OFF_PER_RUN = 1e-14  # relative: log C(n, k) in floats errs by 4e-15 n, measured to n = 1e7


def near_mean(trials: int, rates: Array) -> tuple[Counts, Array]:
    """Return the counts within 10 standard deviations + 50 of the mean and their probabilities, shape (p, width).

    Args:
        trials: n >= 0.
        rates: probabilities of success, shape (p,).

    >>> counts, masses = near_mean(2, np.array([0.5]))
    >>> masses.round(2)
    array([[0.25, 0.5 , 0.25]])
    """
    reach = 50 + 10 * np.sqrt(trials * np.max(rates * (1 - rates)))
    width = min(trials, int(2 * reach) + 1) + 1
    first = np.clip(np.floor(trials * rates - reach), 0, trials + 1 - width).astype(np.intp)
    counts = first[:, None] + np.arange(width)
    logs = special.xlogy(counts, rates[:, None]) + special.xlog1py(trials - counts, -rates[:, None])
    return counts, np.exp(_log_ways(trials)[counts] + logs)


def upper_limit(successes: ArrayLike, trials: ArrayLike, level: float) -> Array:
    """Return u with P[Bin(trials, u) <= successes] = level [CP34], rounded up; 1 where all trials are successes.

    [CP34] C. J. Clopper, E. S. Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial. Biometrika 26 (1934).

    >>> upper_limit([0, 1], 1, 0.05).round(2)
    array([0.95, 1.  ])
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    limit = special.betainccinv(k + 1, np.maximum(n - k, 0.5), level) * (1 + INVERSE_ERROR) + SMALLEST_ERROR
    return np.where(k >= n, 1.0, np.minimum(limit, 1.0))


def probability_at_most(successes: ArrayLike, trials: int, rates: Array) -> Array:
    """Return P[Bin(trials, rate) <= successes] to some ulps; scipy's bdtr errs by 4e-8 of it at ten million trials.

    >>> probability_at_most([0, 2], 2, np.array([0.5, 0.5]))
    array([0.25, 1.  ])
    """
    k = np.asarray(successes, dtype=np.float64)
    tail: Array = np.where(k >= trials, 1.0, special.betaincc(k + 1, np.maximum(trials - k, 0.5), rates))
    return tail


def rounded_up(probability: Array, runs: int) -> Array:
    """Return probabilities of products of binomials of together `runs` trials, raised by what floats may have lost."""
    raised: Array = probability * (1 + ROUND_OFF_PER_RUN * (100 + runs)) + 2 * OUTSIDE
    return raised


@lru_cache(maxsize=16)
def _log_ways(trials: int) -> Array:
    """Return log C(trials, k), k = 0, …, trials."""
    counts = np.arange(trials + 1.0)
    ways: Array = -special.betaln(counts + 1, trials - counts + 1) - np.log(trials + 1.0)
    ways.flags.writeable = False
    return ways
