"""Lower bounds of ε from the best of all thresholds, at the true level.

The statistic is the largest loss that the errors at a threshold suggest (`audit.core.ordering`), over all thresholds
that the scores offer. Its p-value is the probability of one at least so large under the law of scores that makes that
likeliest among all (ε, δ)-differentially private computations. That law is known (`audit.core.least_favourable`) and
its probability computed, so the size of the test is its level, up to the jumps of a statistic of counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.least_favourable import LeastFavourable
from audit.core.ordering import LEAST, Ordering
from audit.core.score_bounds import ScoresEstimator
from audit.core.thresholds import (
    checked_scores,
    checked_sets,
    errors_at_thresholds,
    some_threshold_within,
)
from audit.evidence import check_level
from audit.scores import LabelledScores, Values
from mechanisms.core.errors import InvalidParameter

EDGE_SHARE = 0.05  # level of the limits of single rates ÷ level of the test: keeps noisy tails from drowning the rest
MOST_PAIRS = 50_000_000  # of counts, 7,000 runs a side: half a minute and 3 GB
LARGEST = 40.0  # no number of runs that fits a computer shows more
TIE = 1e-9  # points that suggest less by no more than this count as equally suggestive: far above round-off
REST = 1e-4  # of the level, given to numbers of sure answers that are too rare to be examined
CLOSE = 1e-13  # of ε
CRITICAL_STEPS, NARROW, FIRST_STEP_UP = 60, 1e-6, 0.1  # to a least statistic, from ε on
CERTAIN = 1 - 1e-12  # p-values above count as this


def lower_bound_from_scores(*, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
    """Return the largest ε whose p-value is at most 1 − confidence, 0 if none is.

    Args:
        included: scores of the runs with the canary in, shape (n_in,), higher the more likely it was in.
        excluded: scores of the runs with it out, shape (n_out,).
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and what scores a run was
    fixed without looking at the others; given n_in and n_out, so however those came about. No threshold need be fixed.
    Holds for any computation. The p-value rises with ε, as it is the largest over more and more computations; the float
    returned was itself refuted. Tables of 8 (n_in + 1) (n_out + 1) bytes are held, two for δ = 0 and more above.

    Raises:
        InvalidParameter: if a class is empty, a score is not finite, there are too many, or a level breaks its rule.

    >>> scores = np.arange(100.0)
    >>> round(lower_bound_from_scores(included=scores + 50, excluded=scores, delta=0.0, confidence=0.95), 2)
    2.15
    """
    check_level("maximal", delta=delta, confidence=confidence)
    kinds = checked_scores("maximal", included, excluded)
    order = ordering(len(kinds[0]), len(kinds[1]), delta, confidence)
    return _largest_refuted(order, largest_suggested(order, *kinds), 1 - confidence)


def rejects(
    *, included: ArrayLike, excluded: ArrayLike, epsilon: float, delta: float, confidence: float
) -> NDArray[np.bool_]:
    """Tell, set by set, whether (ε, δ) is refuted: the test that `lower_bound_from_scores` inverts.

    The scores of several sets of runs have shapes (…, n_in) and (…, n_out); ε >= 0 is one number, whose critical
    value is found once (seconds for 1,000 runs a side) and kept; the rest is as there.
    """
    check_level("maximal", delta=delta, confidence=confidence)
    inside, outside = checked_sets("maximal", included, excluded)
    if (epsilon := doors.loss("maximal", epsilon)) > LARGEST:
        return np.zeros(inside.shape[:-1], dtype=bool)
    order = ordering(inside.shape[-1], outside.shape[-1], delta, confidence)
    return some_threshold_within(inside, outside, order.region(_critical(order, float(epsilon), 1 - confidence))[::-1])


def ordering(included: int, excluded: int, delta: float, confidence: float) -> Ordering:
    """Return the order of counts that this test uses: most of the level is for the sum of both errors."""
    if included * excluded > MOST_PAIRS:
        raise InvalidParameter(
            f"maximal: scores must be of at most {MOST_PAIRS:,} pairs of a run in and a run out, got "
            f"{included * excluded:,}.\nUse held_out or dkw, which lose little where runs are so many."
        )
    level = 1 - confidence
    return Ordering(included=included, excluded=excluded, delta=delta, edge_level=EDGE_SHARE * level, sum_level=level)


def largest_suggested(order: Ordering, included: Values, excluded: Values) -> float:
    """Return the statistic: the largest loss that a threshold suggests."""
    return float(np.max(order.suggested(*errors_at_thresholds(included, excluded))))


@dataclass(frozen=True, slots=True)
class Maximal(ScoresEstimator):
    """The bound of `lower_bound_from_scores`; the guessing rule plays no part.

    >>> Maximal().name
    'maximal'
    """

    def bound(self, *, included: ArrayLike, excluded: ArrayLike, delta: float, confidence: float) -> float:
        """Return the lower bound of ε that these scores give."""
        return lower_bound_from_scores(included=included, excluded=excluded, delta=delta, confidence=confidence)

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that a threshold without any error would give."""
        order = ordering(len(data.included), len(data.excluded), delta, confidence)
        return _largest_refuted(order, float(order.suggested(0, 0)), 1 - confidence)


def _largest_refuted(order: Ordering, statistic: float, level: float) -> float:
    """Return the largest ε, to 1e-12, at which so large a statistic is refuted."""
    from scipy.optimize import brentq

    law = _law(order, statistic - TIE, level)

    def excess(epsilon: float) -> float:
        return float(special.ndtri(min(law.p_value(epsilon), CERTAIN)) - special.ndtri(level))

    if excess(0.0) > 0:
        return 0.0
    if excess(LARGEST) <= 0:
        return LARGEST
    found, step = float(brentq(excess, 0.0, LARGEST, xtol=CLOSE)), CLOSE
    while law.p_value(found) > level:
        found, step = max(found - step, 0.0), 2 * step
    return found


def _law(order: Ordering, least: float, level: float, *, only: float | None = None) -> LeastFavourable:
    return LeastFavourable.of(order.region(least), order.excluded, delta=order.delta, rest=REST * level, only=only)


@lru_cache(maxsize=256)
def _critical(order: Ordering, epsilon: float, level: float) -> float:
    """Return a least statistic, to 1e-6, from which on ε is refuted.

    The quantile of its p-value is nearly straight in it: secants, every third step a halving lest one end stay.
    """

    def excess(statistic: float) -> float:
        p_value = _law(order, statistic, level, only=epsilon).p_value(epsilon)
        return float(special.ndtri(level) - special.ndtri(min(p_value, CERTAIN)))

    low, high, step = epsilon, epsilon + FIRST_STEP_UP, FIRST_STEP_UP
    while (above := excess(high)) < 0:
        low, high, step = high, high + 2 * step, 2 * step
    while (below := excess(low)) >= 0 and low > np.log(LEAST):
        low, high, above, step = max(low - step, float(np.log(LEAST))), low, below, 2 * step
    for number in range(CRITICAL_STEPS):
        if high - low <= NARROW:
            break
        middle = low + (high - low) * (below / (below - above) if number % 3 < 2 else 0.5)
        middle = min(max(middle, low + 0.3 * NARROW), high - 0.3 * NARROW)
        found = excess(middle)
        low, below, high, above = (middle, found, high, above) if found < 0 else (low, below, middle, found)
    return high
