"""Lower bounds of ε from the two error rates of one test, by a joint test that spends the whole level.

The errors of a fixed test over independent runs are independent binomials, and (ε, δ) confines their rates to

    R(ε) = {FNR + e^ε FPR >= 1 − δ and FPR + e^ε FNR >= 1 − δ}                                               [KOV15]

Counts are ordered by the loss they suggest (`audit.core.ordering`); the p-value of ε is the largest probability over
R(ε) of counts at least as suggestive as those seen. A rectangle of two confidence limits, in contrast, spends α/2 on
each rate and wastes more than half of α.

How the largest probability over a continuum is bounded. The suggestive counts A never lose a member when errors are
taken away, so P[A] falls with both rates, and its largest value lies on the lower boundary of R(ε). On a piece of the
boundary P[A] is at most its value where FNR and FPR both take the least values they have on the piece. Pieces for
which that is above α are halved, again and again; ε is refuted when none is left.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.binomial import Array, Counts
from audit.core.counts import Counts as ErrorCounts
from audit.core.counts import CountsEstimator
from audit.core.least_rates import boundary, cuts_of
from audit.core.ordering import LEAST, Ordering
from audit.core.region_sizes import size_bound
from audit.core.thresholds import at_most
from audit.evidence import Guarantee, check_level
from audit.scores import LabelledScores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

MOST_RUNS, KEPT = 300_000, 10_000  # of a kind: ten seconds, and the rectangle loses little; critical values kept
LARGEST = 40.0  # no number of runs that fits a computer shows more
TIE = 1e-9  # counts that suggest less by no more than this count as equally suggestive: far above round-off
ROUNDS, STEPS = 24, 40  # of halving pieces, and ε
PIECES = 2048  # held at once; with more, or more rounds, what is undecided counts as not refuted
FINENESS = 1 << 16  # only whole multiples of 1/FINENESS are tried as ε, so that bound and test try the same ones
FIRST_STEP_UP, NARROW = 1e-6, 1e-12  # of suggestions: where it is certain; where two are not told apart


def lower_bound_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the largest ε whose p-value is certified to be at most 1 − confidence, 0 if none is.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the true ε with probability `confidence`, if the runs are independent and the test was fixed
    without looking at them; given the numbers of runs in and out, so however those came about. Holds for any
    computation. R(ε) grows with ε, so the p-value does, and all that is smaller than a refuted ε is refuted. The float
    returned is one, a multiple of 2^-16, less than 1e-4 below the exact solution at ε of a half or more; near ε = 0,
    where the probability is nearly level along the boundary and much of it must be cut finely, a few thousandths below.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> counts = dict(true_positives=90, false_negatives=10, false_positives=10, true_negatives=90)
    >>> round(lower_bound_from_counts(**counts, delta=0.0, confidence=0.95), 2)  # the rectangle gives 1.54
    1.73
    """
    included, excluded = _positives(true_positives, false_negatives), _positives(false_positives, true_negatives)
    check_level("calibrated", delta=delta, confidence=confidence)
    order = ordering(included, excluded, delta, confidence)
    seen = float(order.suggested(int(false_negatives), int(false_positives)))
    return _largest_refuted(order.region(seen - TIE), excluded, delta, 1 - confidence)


def rejects(
    *,
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    epsilon: float,
    delta: float,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_counts` inverts.

    The two counts of errors are arrays that broadcast, the rest as there; ε >= 0 is one number. The next multiple of
    2^-16 is tried, whose critical value is found once (a second for 1,000 runs a side) and kept,
    up to 10,000 of a kind.
    """
    doors.check_errors(
        "calibrated",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    if doors.loss("calibrated", epsilon) > LARGEST:
        return np.zeros(np.broadcast_shapes(np.shape(false_negatives), np.shape(false_positives)), dtype=bool)
    for name, runs in (("included", included), ("excluded", excluded)):
        doors.trials("calibrated", name, runs, most=MOST_RUNS)
    order = ordering(int(included), int(excluded), delta, confidence)
    tried = max(1, math.ceil(epsilon * FINENESS))
    suggested = np.asarray(order.suggested(false_negatives, false_positives))
    kept = max(order.included, order.excluded) <= KEPT
    refuted: NDArray[np.bool_] = suggested >= (
        _critical(order, tried) if kept else _least_seen(order, tried, suggested)
    )
    return refuted


def ordering(included: int, excluded: int, delta: float, confidence: float) -> Ordering:
    """Return the order of counts that this test uses: all three limits at the level of the test."""
    level = 1 - confidence
    return Ordering(included=included, excluded=excluded, delta=delta, edge_level=level, sum_level=level)


@dataclass(frozen=True, slots=True)
class Calibrated(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test; the process plays no part.

    >>> Calibrated().name
    'calibrated'
    """

    guarantee: ClassVar[Guarantee] = "frequentist"

    def bound(self, counts: ErrorCounts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound that these counts give."""
        return lower_bound_from_counts(
            true_positives=counts.true_positives,
            false_negatives=counts.false_negatives,
            false_positives=counts.false_positives,
            true_negatives=counts.true_negatives,
            delta=delta,
            confidence=confidence,
        )

    def refutes(
        self, counts: ErrorCounts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted: whether it is at most the bound, as p-values rise with ε."""
        return at_most(epsilon, self.bound(counts, process=process, delta=delta, confidence=confidence))

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that no error at all would give."""
        return lower_bound_from_counts(
            true_positives=len(data.included),
            false_negatives=0,
            false_positives=0,
            true_negatives=len(data.excluded),
            delta=delta,
            confidence=confidence,
        )


def _positives(called: object, missed: object) -> int:
    both = validate.count("calibrated", "count", called) + validate.count("calibrated", "count", missed)
    total = doors.trials("calibrated", "count", both, least=0, most=MOST_RUNS)
    if total == 0:
        raise InvalidParameter(
            "calibrated: counts must hold runs with the canary in and runs with it out, got none of one kind."
        )
    return total


def _largest_refuted(region: Counts, excluded: int, delta: float, level: float) -> float:
    """Return the largest ε tried that is certified as refuted by the counts in `region`.

    Points of the boundary, by their share of its length, tell cheaply how large ε may be at most. From there on down
    the whole boundary is tried; a point found there that reaches the level joins the others.
    """
    shares = np.array([0.25, 0.5, 0.75, 1.0])
    tried = int(_crossing(region, excluded, delta, level, shares) * FINENESS)
    unrefuted, step = tried + 1, 1
    while tried > 0:
        refuted, share = _refuted(region, excluded, tried / FINENESS, delta, level)
        if refuted:
            break
        unrefuted = tried
        if share is None or share in shares:
            tried, step = tried - step, 2 * step
        else:
            shares = np.append(shares, share)
            tried = min(tried - 1, int(_crossing(region, excluded, delta, level, shares) * FINENESS))
    tried = max(tried, 0)
    while unrefuted - tried > 1:
        middle = (tried + unrefuted) // 2
        holds = _refuted(region, excluded, middle / FINENESS, delta, level)[0]
        tried, unrefuted = (middle, unrefuted) if holds else (tried, middle)
    return tried / FINENESS


def _crossing(region: Counts, excluded: int, delta: float, level: float, shares: Array) -> float:
    """Return the ε at which the first of these points of the boundary reaches the level."""
    low, high = 0.0, LARGEST
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        missed, alarms = boundary(shares, middle, delta)
        if np.max(size_bound(region, excluded, missed, alarms)) <= level:
            low = middle
        else:
            high = middle
    return low


def _refuted(region: Counts, excluded: int, epsilon: float, delta: float, level: float) -> tuple[bool, float | None]:
    """Tell whether P[region] <= level on all of the boundary, else a share at which it is above, if one was found."""
    cuts = cuts_of(max(len(region) - 1, excluded), epsilon, delta)
    low, high = cuts[:-1], cuts[1:]
    for _ in range(ROUNDS):
        far, near = boundary(low, epsilon, delta), boundary(high, epsilon, delta)
        bound = size_bound(region, excluded, np.minimum(far[0], near[0]), np.minimum(far[1], near[1]))
        open_pieces = np.max(bound.reshape(2, -1), axis=0) > level
        low, high = low[open_pieces], high[open_pieces]
        if len(low) == 0:
            return True, None
        if len(low) > PIECES:
            return False, None
        middle = 0.5 * (low + high)
        reached = size_bound(region, excluded, *boundary(middle, epsilon, delta)).reshape(2, -1).max(axis=0)
        if np.max(reached) > level:
            return False, float(middle[np.argmax(reached)])
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    return False, None


def _least_seen(order: Ordering, tried: int, suggested: Array) -> float:
    """Return the least of these losses whose region of counts refutes tried / FINENESS, inf if none does."""
    seen = np.unique(suggested)
    low, high = 0, len(seen)
    while low < high:
        middle = (low + high) // 2
        region = order.region(float(seen[middle]) - TIE)
        holds, _ = _refuted(region, order.excluded, tried / FINENESS, order.delta, order.sum_level)
        low, high = (low, middle) if holds else (middle + 1, high)
    return float(seen[low]) if low < len(seen) else math.inf


@lru_cache(maxsize=256)
def _critical(order: Ordering, tried: int) -> float:
    """Return a suggested loss from which on, and below which not, the region of counts refutes tried / FINENESS.

    A region within another refutes what that does, so the regions that refute are those from some loss on.
    """
    epsilon, level = tried / FINENESS, order.sum_level
    missed, alarms = boundary(np.linspace(0.0, 1.0, 33), epsilon, order.delta)

    def possible(region: Counts) -> bool:
        return bool(np.max(size_bound(region, order.excluded, missed, alarms)) <= level)

    def certain(region: Counts) -> bool:
        return _refuted(region, order.excluded, epsilon, order.delta, level)[0]

    low = _least_whose(order, possible, float(np.log(LEAST)), LARGEST)
    high, step = low + FIRST_STEP_UP, FIRST_STEP_UP
    while not certain(order.region(high - TIE)):
        low, high, step = high, high + 2 * step, 2 * step
    return _least_whose(order, certain, low, high)


def _least_whose(order: Ordering, holds: Callable[[Counts], bool], low: float, high: float) -> float:
    """Return a loss that as few counts suggest as the least one whose region `holds`, where that at `high` does."""
    least, most = order.region(high - TIE), order.region(low - TIE)
    while high - low > NARROW and not np.array_equal(least, most):
        middle = 0.5 * (low + high)
        region = order.region(middle - TIE)
        low, high, least, most = (low, middle, region, most) if holds(region) else (middle, high, least, region)
    return high
