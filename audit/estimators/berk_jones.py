"""Lower bounds of ε from bands around both empirical distributions that are as narrow in the tails as in the middle.

At every threshold the limit of an error rate is the Clopper–Pearson limit u_k of its k errors among n, at a common
level λ at which all hold together [BJ79]. With uniform order statistics U_(1) < … < U_(n) that is

    P[U_(k + 1) <= u_k for k = 0, …, n − 1] = 1 − α/2,

the probability that a Poisson process of rate n, given n points in all, has k + 1 points by u_k. It is computed by
following the number of points from one u_k to the next: all terms are positive, and cut tails only lower it, so λ is
safe.

[BJ79] R. H. Berk, D. H. Jones. Goodness-of-Fit Test Statistics that Dominate the Kolmogorov Statistics. Zeitschrift für
Wahrscheinlichkeitstheorie und verwandte Gebiete 47 (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.binomial import ROUND_OFF_PER_RUN, Array, upper_limit
from audit.core.score_bounds import ScoresEstimator
from audit.core.thresholds import (
    checked_scores,
    checked_sets,
    errors_at_thresholds,
    refuted_by_limits,
    refuting_alarms,
    some_threshold_within,
)
from audit.evidence import check_level
from mechanisms.core.errors import InvalidParameter

MOST_RUNS = 20_000  # of a kind: a quarter of a minute; it grows like runs^1.5
STEPS = 20  # of halving log λ
NEGLIGIBLE = 1e-18  # probability of the largest numbers of points, which are then dropped


def lower_bound_from_scores(*, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
    """Return the largest ε refuted at a threshold by the bands, 0 if none is.

    Args:
        included: scores of the runs with the canary in, shape (n_in,), higher the more likely it was in.
        excluded: scores of the runs with it out, shape (n_out,).
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and what scores a run was
    fixed without looking at the others; given n_in and n_out. Holds for any computation.

    Raises:
        InvalidParameter: if a class is empty, a score is not finite, there are too many, or a level breaks its rule.

    >>> scores = np.arange(200.0)
    >>> round(lower_bound_from_scores(included=scores + 100, excluded=scores, delta=0.0, confidence=0.95), 2)
    2.41
    """
    check_level("berk_jones", delta=delta, confidence=confidence)
    inside, outside = checked_scores("berk_jones", included, excluded)
    of_missed, of_alarms = (limits(len(kind), (1 - confidence) / 2) for kind in (inside, outside))
    missed, alarms = errors_at_thresholds(inside, outside)
    return refuted_by_limits(of_missed[missed], of_alarms[alarms], delta)


def rejects(
    *, included: ArrayLike, excluded: ArrayLike, epsilon: float, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, set by set, whether (ε, δ) is refuted: the test that `lower_bound_from_scores` inverts.

    The scores of several sets of runs have shapes (…, n_in) and (…, n_out); ε >= 0 is one number; the rest is as there.
    """
    epsilon = doors.loss("berk_jones", epsilon)
    check_level("berk_jones", delta=delta, confidence=confidence)
    inside, outside = checked_sets("berk_jones", included, excluded)
    tables = [limits(kind.shape[-1], (1 - confidence) / 2) for kind in (inside, outside)]
    return some_threshold_within(inside, outside, refuting_alarms(*tables, epsilon=epsilon, delta=delta))


@dataclass(frozen=True, slots=True)
class BerkJones(ScoresEstimator):
    """The bound of `lower_bound_from_scores`; the guessing rule plays no part.

    >>> BerkJones().name
    'berk_jones'
    """

    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""
        return lower_bound_from_scores(included=included, excluded=excluded, delta=delta, confidence=confidence)


@lru_cache(maxsize=16)
def limits(runs: int, level: float) -> Array:
    """Return upper limits of an error rate by the number of errors, which hold together with probability 1 − level.

    Args:
        runs: n >= 1.
        level: in (0, 1).

    Raises:
        InvalidParameter: if there are more than `MOST_RUNS` runs.

    >>> limits(1, 0.05).round(2)
    array([0.95, 1.  ])
    """
    if runs > MOST_RUNS:
        raise InvalidParameter(
            f"berk_jones: scores must be of at most {MOST_RUNS:,} runs of a kind, got {runs:,}.\n"
            "Use dkw, which loses little there and answers at once."
        )
    errors = np.arange(runs + 1)
    low, high = np.log(level / runs), np.log(level)  # by the union bound; if one limit only could fail
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if probability_that_all_hold(upper_limit(errors, runs, np.exp(middle))[:-1]) >= 1 - level:
            low = middle
        else:
            high = middle
    found = upper_limit(errors, runs, np.exp(low))
    found.flags.writeable = False
    return found


def probability_that_all_hold(bounds: Array) -> float:
    """Return P[U_(k + 1) <= bounds[k] for all k] of n = len(bounds) uniform order statistics, rounded down.

    Args:
        bounds: rising, in (0, 1], shape (n,).

    >>> round(probability_that_all_hold(np.array([0.5, 1.0])), 9)  # one of two is at most 1/2
    0.75
    """
    runs = len(bounds)
    masses = np.ones(1)  # of the numbers of points first, first + 1, …
    first = 0
    for needed, (start, end) in enumerate(zip([0.0, *bounds], [*bounds, 1.0], strict=True), start=1):
        points = runs * (end - start)
        arriving = np.arange(int(points + 10 * np.sqrt(points)) + 40)
        masses = np.convolve(masses, np.exp(special.xlogy(arriving, points) - points - special.gammaln(arriving + 1)))
        lowest = min(needed, runs)
        masses = masses[max(lowest - first, 0) : runs - first + 1]
        first = max(lowest, first)
        masses = masses[: np.searchsorted(-np.cumsum(masses[::-1])[::-1], -NEGLIGIBLE) + 1]
    of_all = np.exp(runs * np.log(runs) - runs - special.gammaln(runs + 1))
    return float(masses[0] / of_all) * (1 - ROUND_OFF_PER_RUN * (100 + runs)) if first == runs else 0.0
