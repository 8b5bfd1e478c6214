"""Lower bounds of ε from scores that are normal in either world, with means and variances of their own.

    in:  N(m1, s1²)         out:  N(m0, s0²)

is the law of isolated random canaries' scores in one run [AKOMS24], and of a Gaussian mechanism's over many. Up to
shift and scale the pair is Δ = (m1 − m0) / s0 and ρ = s1 / s0; its ε at δ is the larger of both directions'. Exact
pivots of `audit.core.moment_pivots` say which pairs the moments do not refute; the bound is the least ε among them.

[AKOMS24] G. Andrew, P. Kairouz, S. Oh, A. Oprea, H. B. McMahan, V. Suriyakumar. One-shot Empirical Privacy Estimation
for Federated Learning. ICLR 2024. arXiv:2302.03098.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accountant import Estimate
from audit.core import doors, moment_pivots, normal_pairs
from audit.core.counts import check_enough
from audit.core.deviations import deviation
from audit.core.finite import LARGEST
from audit.evidence import Estimator, Guarantee, Null, check_level
from audit.scores import Design, IndependentRuns, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
OWNER = "gaussian_pair"
FARTHEST = 1e200  # of ε, above that of all moments allowed
AT_ONCE = 64  # sets of moments that are looked at together


def epsilon_of_pair(*, distance: float, ratio: float, delta: float) -> float:
    """Return the ε at δ of N(m1, s1²) against N(m0, s0²), the larger of both directions'.

    Args:
        distance: |m1 − m0| ÷ s0.
        ratio: s1 ÷ s0, > 0.
        delta: in [0, 1); at 0 ε is infinite for any two normals that differ.

    >>> round(epsilon_of_pair(distance=1.0, ratio=1.0, delta=1e-5), 6)
    4.377178
    >>> round(epsilon_of_pair(distance=2.0, ratio=1.2, delta=1e-5), 6)
    15.36733
    """
    check_level(OWNER, delta=delta, confidence=0.5)
    away = validate.non_negative(OWNER, "distance", distance)
    ratio = validate.positive(OWNER, "ratio", ratio)
    doors.sized(OWNER, "distance, ratio or its inverse", [away, ratio, 1.0 / max(ratio, 1e-300)])

    def excess(epsilon: float) -> float:
        directions = normal_pairs.pair_delta(epsilon, np.array([away, away / ratio]), np.array([ratio, 1.0 / ratio]))
        return float(np.max(directions)) - delta

    return normal_pairs.crossing(excess, delta)


def lower_bound_from_moments(
    *,
    gap: float,
    deviation_in: float,
    deviation_out: float,
    included: int,
    excluded: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the least ε at δ of all pairs of normals that the moments do not refute.

    Args:
        gap: mean in-score − mean out-score, in any unit.
        deviation_in: standard deviation of the in-scores, with n1 − 1 in the denominator, in the same unit, >= 0.
        deviation_out: likewise of the out-scores.
        included: n1 >= 2.
        excluded: n0 >= 2.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: at most the ε of the pair of laws with probability `confidence`, if all scores are independent and
    normal in either world, with any means and variances. Where a world does not vary at all the bound is infinite,
    unless nothing varies.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> round(lower_bound_from_moments(gap=1.666, deviation_in=1.0, deviation_out=1.0, included=500, excluded=500,
    ...                                delta=1e-5, confidence=0.95), 2)
    7.29
    """
    check_level(OWNER, delta=delta, confidence=confidence)
    check_enough(OWNER, included, excluded)
    gap = validate.finite(OWNER, "gap", gap)
    deviations = [validate.non_negative(OWNER, "deviation", one) for one in (deviation_in, deviation_out)]
    if 0.0 in deviations:
        return np.inf if gap or any(deviations) else 0.0
    moments = _in_deviations(np.array([[gap], deviations[:1], deviations[1:]]))
    ratio, distance = moment_pivots.possible(moments, included, excluded, delta, confidence)

    def excess(epsilon: float) -> float:
        return float(np.min(normal_pairs.one_way(epsilon, distance, ratio))) - delta

    return normal_pairs.crossing(excess, delta)


def rejects(
    *,
    gap: ArrayLike,
    deviation_in: ArrayLike,
    deviation_out: ArrayLike,
    included: int,
    excluded: int,
    epsilon: float,
    delta: float,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether every pair of normals with no more than this ε at δ is refuted.

    Arguments are those of `lower_bound_from_moments`, which inverts this test; the three moments are arrays that
    broadcast. Most sets that are not refuted leave a ratio near 1 possible: the others are looked at for the rest only.
    """
    check_level(OWNER, delta=delta, confidence=confidence)
    check_enough(OWNER, included, excluded)
    epsilon = min(doors.loss(OWNER, epsilon), FARTHEST)
    given = (
        doors.sized(OWNER, "gap", gap),
        doors.sized(OWNER, "deviation_in", deviation_in, least=0.0),
        doors.sized(OWNER, "deviation_out", deviation_out, least=0.0),
    )
    moments = np.array(np.broadcast_arrays(*given))
    sets = _in_deviations(moments.reshape(3, -1))
    still = np.any(sets[1:] == 0.0, axis=0)
    refuted: NDArray[np.bool_] = still & np.any(sets != 0.0, axis=0) & bool(epsilon < FARTHEST)
    left = np.flatnonzero(~still)
    for near in (True, False):
        for some in np.split(left, range(AT_ONCE, len(left), AT_ONCE)):
            ratio, distance = moment_pivots.possible(sets[:, some], included, excluded, delta, confidence, near=near)
            refuted[some] = np.min(normal_pairs.one_way(epsilon, distance, ratio), axis=1, initial=np.inf) > delta
        left = left[refuted[left]]
    return refuted.reshape(moments.shape[1:])


def estimate_from_moments(*, gap: float, deviation_in: float, deviation_out: float, delta: float) -> Estimate:
    """Return the ε of the pair of normals with these moments: an estimate, to either side of the truth, no evidence.

    >>> estimate_from_moments(gap=2.0, deviation_in=1.2, deviation_out=1.0, delta=1e-5).method
    'gaussian_pair'
    """
    ratio = validate.positive(OWNER, "deviation_in", deviation_in) / validate.positive(
        OWNER, "deviation_out", deviation_out
    )
    away = max(0.0, validate.finite(OWNER, "gap", gap)) / deviation_out
    return Estimate(
        value=epsilon_of_pair(distance=away, ratio=ratio, delta=delta),
        method=OWNER,
        validity="for many independent normal scores in either world; it errs to either side, and is no bound",
    )


@dataclass(frozen=True, slots=True)
class GaussianPair(Estimator):
    """The bound of `lower_bound_from_moments`; the process plays no part.

    It needs normal scores in either world, independent of each other: in one run, canaries so isolated that none moves
    another's score.

    >>> GaussianPair().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns, OneRun)
    guarantee: ClassVar[Guarantee] = "parametric"
    null: ClassVar[Null] = "normal"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound.

        Raises:
            InvalidParameter: if fewer than two scores were in, or out.
        """
        return lower_bound_from_moments(
            **moments(data),
            included=len(data.included),
            excluded=len(data.excluded),
            delta=delta,
            confidence=confidence,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether every pair of normals with no more than this ε at δ is refuted."""
        found = self.epsilon(data, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) < found
        return refuted

    def estimate(self, data: LabelledScores, *, delta: float) -> Estimate:
        """Return the ε of the pair with the moments seen: an estimate, no evidence."""
        return estimate_from_moments(**moments(data), delta=delta)


def _in_deviations(moments: Array) -> Array:
    """Return moments, shape (3, n), in units of the deviation out, where that is not 0.

    Raises:
        InvalidParameter: if they are then too large, or too small, for their squares to be floats.
    """
    unit = np.where(moments[2] > 0, moments[2], 1.0)
    with np.errstate(over="ignore"):
        scaled: Array = moments / unit
    ratio = np.where((moments[1] > 0) & (moments[2] > 0), scaled[1], 1.0)
    if not np.all((np.abs(scaled) <= LARGEST) & (ratio >= 1 / LARGEST)):
        raise InvalidParameter(
            f"{OWNER}: gap and deviation_in must be within {LARGEST:g} times deviation_out, and deviation_in not below "
            "it by more, got others.\nDid training diverge?"
        )
    return scaled


def moments(data: LabelledScores) -> dict[str, float]:
    """Return gap and deviations.

    Raises:
        InvalidParameter: if fewer than two scores were in, or out.
    """
    inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
    check_enough(OWNER, len(inside), len(outside))
    return {
        "gap": float(np.mean(inside) - np.mean(outside)),
        "deviation_in": deviation(inside),
        "deviation_out": deviation(outside),
    }
