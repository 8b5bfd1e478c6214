"""Lower bounds of ε from the two error rates of one test, against the trade-off curves of a family of processes.

A run whose trade-off function lies above f has FNR >= f(FPR) for every test of "in" against "out" [DRS22], f being that
of the claimed process with some factor times its noise. The least factor whose curve the counts of errors refute, by
the nested tests of `audit.core.boundary`, is turned into ε by the accountant. As the tests are nested, any refuted
factor is a valid bound, however it was found.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import boundary, doors
from audit.core.counts import Counts, CountsEstimator
from audit.evidence import About, Guarantee, Null, check_level
from audit.noise_families import NoiseFamily, TradeoffCurve
from mechanisms.core import validate
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.process import Adjacency, Process

NARROW = 5e-7  # relative, by which the factor may lie above the least that the test refutes
MOST, LARGEST = 60, 20.0  # factors asked; their logarithm at which to give up
LESS_AT_ONCE = 0.35  # by which the noise's logarithm is lowered: accountants take long where there is little noise
AT_ONCE = 512  # pairs of counts that are looked at together


def lower_bound_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    process: Process,
    adjacency: Adjacency,
    delta: float,
    confidence: float,
) -> float:
    """Return the accountant's ε of the claimed process with the least noise that the counts refute, 0 if none is.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        process: the description claimed, whose noise is varied: see `audit.noise_families.NoiseFamily`.
        adjacency: which datasets are neighbours; in and out must be such.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Guarantees: with probability `confidence` at most the ε at δ of every process of the family whose trade-off
    function the run's own lies above, if the runs are independent and the test was fixed without looking at them;
    whatever the computation. That is the least ε that this family can honestly claim for the run. The run's own ε it
    is only as far as the run's trade-off function is the family's: a pure 1-differentially private run lies above no
    Gaussian's curve with ε(1e-5) near 1.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.
        UnsupportedProcess: if no such family, or no accountant for it, is known.

    >>> from mechanisms import Gaussian
    >>> round(lower_bound_from_counts(true_positives=400, false_negatives=100, false_positives=100, true_negatives=400,
    ...     process=Gaussian(noise_multiplier=0.6), adjacency="add_remove", delta=1e-5, confidence=0.95), 1)
    7.2
    """
    counts = Counts(
        owner="tradeoff",
        true_positives=true_positives,
        false_negatives=false_negatives,
        false_positives=false_positives,
        true_negatives=true_negatives,
    )
    check_level("tradeoff", delta=delta, confidence=confidence)
    family = NoiseFamily(process=process, adjacency=adjacency)
    factor = noise_factor_upper_bound(counts, family, confidence=confidence)
    return 0.0 if factor == np.inf else family.epsilon(factor, delta=delta)


def noise_factor_upper_bound(counts: Counts, family: NoiseFamily, *, confidence: float) -> float:
    """Return the least factor of the claimed noise that the counts refute, to a millionth.

    It is inf if they refute none. The factor returned was itself refuted, and with it every larger one.
    """
    if boundary.margin(counts, TradeoffCurve.perfect(), family.shift, confidence) > 0:
        return np.inf

    def margin(factor: float) -> float:
        try:
            return boundary.margin(counts, family.curve(factor), family.shift, confidence)
        except NumericalFailure:
            return np.inf  # what no accountant can treat is not refuted

    return _least_refuted(margin, *_guess(counts, family.shift, confidence))


def rejects(
    *,
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    process: Process,
    adjacency: Adjacency,
    factor: float = 1.0,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether the counts refute that the run's trade-off function lies above the process's.

    That is the claim itself, all its ε and δ at once, and needs no family. The two counts of errors are arrays that
    broadcast; `factor` > 0 multiplies the noise; the rest is as in `lower_bound_from_counts`, which inverts this test
    in the factor.
    """
    doors.check_errors(
        "tradeoff",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        confidence=confidence,
    )
    factor = validate.positive("tradeoff", "factor", factor)
    missed, alarms = np.broadcast_arrays(np.asarray(false_negatives), np.asarray(false_positives))
    family = NoiseFamily(process=process, adjacency=adjacency)
    pairs, back = np.unique(np.stack([missed.ravel(), alarms.ravel()]), axis=1, return_inverse=True)
    curve = family.curve(factor)
    margins = [
        boundary.margins(
            pairs[0, k : k + AT_ONCE], pairs[1, k : k + AT_ONCE], included, excluded, curve, family.shift, confidence
        )
        for k in range(0, pairs.shape[1], AT_ONCE)
    ]
    refuted: NDArray[np.bool_] = np.concatenate([np.zeros(0), *margins])[back].reshape(missed.shape) <= 0
    return refuted


@dataclass(frozen=True, slots=True)
class Tradeoff(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test and the claimed process the family.

    Frequentist in what it refutes: the claim that the run's trade-off function lies above that of a process of the
    family. If the bound lies above the claim's ε, the claimed process's own curve is refuted, without an assumption on
    the run. Below it, the bound says which smaller claims of the same family would be false; it measures the run's
    own ε as far as the run is of that family.

    >>> Tradeoff().name
    'tradeoff'
    """

    guarantee: ClassVar[Guarantee] = "frequentist"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "curve"

    def bound(self, counts: Counts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound that these counts give.

        Raises:
            UnsupportedProcess: if no family of the process, or no accountant for it, is known.
        """
        return lower_bound_from_counts(
            true_positives=counts.true_positives,
            false_negatives=counts.false_negatives,
            false_positives=counts.false_positives,
            true_negatives=counts.true_negatives,
            process=process,
            adjacency=Adjacency.ADD_REMOVE,
            delta=delta,
            confidence=confidence,
        )

    def refutes(
        self, counts: Counts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether every process of the family with no more than this ε at δ is refuted."""
        found = self.bound(counts, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) < found
        return refuted


def _least_refuted(margin: Callable[[float], float], factor: float, slope: float) -> float:
    """Return the least factor found whose margin is at most 0, by secants in its logarithm from a first slope.

    The first factor asked is the one given, or the claimed noise where that is larger.
    """
    x, unrefuted, refuted = float(np.log(max(factor, 1.0))), -np.inf, np.inf
    before: tuple[float, float] | None = None
    for _ in range(MOST):
        found = margin(float(np.exp(x)))
        unrefuted, refuted = (x, refuted) if found > 0 else (unrefuted, x)
        if slope * NARROW <= found <= 0 or refuted - unrefuted < NARROW or x > LARGEST:
            break
        if before is not None and np.isfinite(found) and np.isfinite(before[1]):
            secant = (found - before[1]) / (x - before[0])
            slope = secant if secant < 0 else slope
        before = (x, found)
        x += float(np.clip(0.4 * NARROW - found / slope, -LESS_AT_ONCE, 1.0))
        x = x if unrefuted < x < refuted else 0.5 * (unrefuted + refuted)
    return float(np.exp(refuted))


def _guess(counts: Counts, shift: float, confidence: float) -> tuple[float, float]:
    """Return a factor near the least that is refuted, and how the margin's slope in its logarithm is about there."""
    right = (counts.true_negatives + 1) / (counts.excluded + 2), (counts.true_positives + 1) / (counts.included + 2)
    u, v = special.ndtri(np.array(right))
    trials = np.array([counts.excluded, counts.included])
    spread = np.exp(boundary.log_spread(np.array([u, v]))) * np.sqrt(2 * np.pi / trials)
    deviation = float(np.hypot(*spread))
    refuted = max(u + v + 1.05 * special.ndtri(1 - confidence) * deviation, 0.1 * (u + v), 1e-3 * deviation)
    return float(shift / refuted), float(-refuted / deviation)
