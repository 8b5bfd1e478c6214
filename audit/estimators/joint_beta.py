"""Credible intervals of ε from the joint posterior of the two error rates of one test.

Under Jeffreys' prior, independent for the two rates, the posterior of x = FNR is Beta(½ + FN, ½ + TP) and that of
y = FPR is Beta(½ + FP, ½ + TN). A computation that is (ε, δ)-differentially private has (x, y) in the region

    R(ε):   x + e^ε y >= 1 − δ,   y + e^ε x >= 1 − δ,   and both for (1 − x, 1 − y)                         [KOV15]

which grows with ε, so that G(ε) = P[(x, y) in R(ε)] is the posterior's distribution function of the least such ε
[ZBWTSRPNKJ23]. At δ = 0, R(0) is a line, so that no interval from G has 0 in it, whatever the counts: the posterior
knows that two rates are never equal. Taken as evidence is therefore the first half of R alone, the test as it was fixed
and not its mirror image: it claims nothing of a test that does no better than chance.

What lies outside R(ε) are two corners, the second the mirror image of the first, and

    P[y < h(x)] = ∫_0^{1 − δ} b(x) F(h(x)) dx,      h(x) = max{1 − δ − e^ε x, e^−ε (1 − δ − x)}

with b the density of x and F the distribution function of y: one integral. In θ with x = sin² θ, where both posteriors
are about normal, b is analytic, and F ∘ h is but for the kink of h and half powers of the distances to where h is 0 or
1. Gauss–Legendre panels end at the kink, every other standard deviation of both posteriors, and ever closer to those
places by a constant factor.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
[ZBWTSRPNKJ23] S. Zanella-Béguelin, L. Wutschitz, S. Tople, A. Salem, V. Rühle, A. Paverd, M. Naseri, B. Köpf, D. Jones.
Bayesian Estimation of Differential Privacy. ICML 2023. arXiv:2206.05199.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.counts import Array, Counts, CountsEstimator
from audit.core.halving import last_refuted
from audit.evidence import Guarantee, check_level
from mechanisms.core.process import Process

Posterior = Callable[[Array, int, Array, int, Array, float], Array]
ROOTS, WEIGHTS = np.polynomial.legendre.leggauss(16)
DEVIATIONS = np.linspace(-8, 8, 9)  # from the middle of each posterior, at which panels end
NEARER = 8.0 ** -np.arange(11)  # distances to a branch point: with a factor of 8, sixteen nodes err by 1e-10 at most
ERROR = 1e-9  # absolute, of G; against 30-digit integrals it is below 1e-11
ROUND_OFF_PER_RUN = 1e-14  # the same, of log B for many runs
LARGEST = 256.0  # above what counts that fit a computer put into an interval; e^LARGEST fits a double
BATCH = 256  # of integrals at once, a few megabytes


def interval_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    delta: float,
    confidence: float,
) -> tuple[float, float]:
    """Return the ends of the equal-tailed credible interval of ε.

    Args:
        true_positives: number of runs with the canary in that the test called in.
        false_negatives: number of runs with the canary in that the test called out.
        false_positives: number of runs with the canary out that the test called in.
        true_negatives: number of runs with the canary out that the test called out.
        delta: in [0, 1).
        confidence: in (0, 1), two-sided: each tail has posterior probability (1 − confidence)/2.

    Guarantees: G is at most (1 − confidence)/2 at the lower end and at least (1 + confidence)/2 at the upper one: a
    statement about the posterior, under Jeffreys' prior. At δ = 0 and ε = 0 the lower end is always above ε.

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> lower, upper = interval_from_counts(true_positives=90, false_negatives=10, false_positives=10,
    ...                                     true_negatives=90, delta=0.0, confidence=0.9)
    >>> round(lower, 4), round(upper, 4)
    (1.913, 2.8338)
    """
    counts = Counts(
        owner="joint_beta",
        true_positives=true_positives,
        false_negatives=false_negatives,
        false_positives=false_positives,
        true_negatives=true_negatives,
    )
    check_level("joint_beta", delta=delta, confidence=confidence)
    tail, error = (1 - confidence) / 2, _error(counts.included, counts.excluded)
    return _crossing(counts, delta, tail - error, _both), _crossing(counts, delta, 1 - tail + error, _both)


def lower_bound_from_counts(
    *,
    true_positives: int,
    false_negatives: int,
    false_positives: int,
    true_negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the ε up to which the posterior of the test as it was fixed has probability 1 − confidence, 0 if none.

    Args:
        true_positives: as in `interval_from_counts`, and so the rest.
        false_negatives: as there.
        false_positives: as there.
        true_negatives: as there.
        delta: as there.
        confidence: in (0, 1), one-sided.

    Guarantees: credible, under Jeffreys' prior. False claims at 95 %, by exact enumeration over the boundary of what
    (ε, δ) allows, 50 to 1,000 runs with the canary in and as many out: up to 6 % at ε = 0, 12 % at ε = 1, 17 % at
    ε = 2, 21 % at ε = 3.5, 27 % at ε = 4: worst where both rates are 1/(1 + e^ε), at the corner of R(ε).

    Raises:
        InvalidParameter: if a count is negative or fractional, or no run had the canary in, or none out.

    >>> round(lower_bound_from_counts(true_positives=90, false_negatives=10, false_positives=10, true_negatives=90,
    ...                               delta=0.0, confidence=0.95), 4)
    1.913
    """
    counts = Counts(
        owner="joint_beta",
        true_positives=true_positives,
        false_negatives=false_negatives,
        false_positives=false_positives,
        true_negatives=true_negatives,
    )
    return _bound(counts, delta, confidence)


def rejects(
    *,
    false_negatives: ArrayLike,
    included: int,
    false_positives: ArrayLike,
    excluded: int,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether the posterior up to ε is at most 1 − confidence: what the lower bound inverts.

    The two counts of errors and `epsilon` >= 0 are arrays that broadcast; `included` and `excluded` are the numbers of
    runs with the canary in and out, both >= 1; δ and the confidence are as in `lower_bound_from_counts`.
    """
    doors.check_errors(
        "joint_beta",
        false_negatives=false_negatives,
        included=included,
        false_positives=false_positives,
        excluded=excluded,
        delta=delta,
        confidence=confidence,
    )
    asked = np.minimum(doors.losses("joint_beta", epsilon), LARGEST)
    missed, alarms, points = np.broadcast_arrays(false_negatives, false_positives, asked)
    if not missed.size:
        return np.zeros(missed.shape, dtype=bool)
    triples = np.stack([missed.ravel(), alarms.ravel(), points.ravel()], axis=1).astype(np.float64)
    unique, back = np.unique(triples, axis=0, return_inverse=True)
    batches = np.array_split(unique, -(-len(unique) // BATCH))
    inside = [_as_fixed(part[:, 0], included, part[:, 1], excluded, part[:, 2], delta) for part in batches]
    refuted: NDArray[np.bool_] = (np.concatenate(inside) <= 1 - confidence - _error(included, excluded))[back]
    return refuted.reshape(missed.shape)


@dataclass(frozen=True, slots=True)
class JointBeta(CountsEstimator):
    """The bound of `lower_bound_from_counts`, the guesses being the test; the process plays no part.

    >>> JointBeta().guarantee
    'credible'
    """

    guarantee: ClassVar[Guarantee] = "credible"

    def bound(self, counts: Counts, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound that these counts give."""
        return _bound(counts, delta, confidence)

    def refutes(
        self, counts: Counts, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether the posterior has at most probability 1 − confidence up to ε."""
        return rejects(**counts.errors, epsilon=epsilon, delta=delta, confidence=confidence)


def _bound(counts: Counts, delta: float, confidence: float) -> float:
    check_level(counts.owner, delta=delta, confidence=confidence)
    return _crossing(counts, delta, 1 - confidence - _error(counts.included, counts.excluded), _as_fixed)


def _error(included: int, excluded: int) -> float:
    return ERROR + ROUND_OFF_PER_RUN * (included + excluded)


def _crossing(counts: Counts, delta: float, level: float, posterior: Posterior) -> float:
    """Return the last ε found where a posterior is below the level: 0 if it is not at 0, inf if still at `LARGEST`."""
    missed, alarms = np.array([float(counts.false_negatives)]), np.array([float(counts.false_positives)])

    def below(epsilon: float) -> bool:
        found = posterior(missed, counts.included, alarms, counts.excluded, np.array([epsilon]), delta)
        return bool(found[0] < level)

    high = 2.0
    while below(high):
        if high >= LARGEST:
            return np.inf
        high *= 2
    return last_refuted(below, 0.0, high)


def _both(missed: Array, included: int, alarms: Array, excluded: int, epsilon: Array, delta: float) -> Array:
    """Return G at counts of errors and ε, all of shape (n,)."""
    mirrored = _corner(included - missed, missed, excluded - alarms, alarms, epsilon, delta)
    return _as_fixed(missed, included, alarms, excluded, epsilon, delta) - mirrored


def _as_fixed(missed: Array, included: int, alarms: Array, excluded: int, epsilon: Array, delta: float) -> Array:
    """Return the posterior that the test as it was fixed shows no more than ε, all of shape (n,)."""
    return 1.0 - _corner(missed, included - missed, alarms, excluded - alarms, epsilon, delta)


def _corner(x_hits: Array, x_rest: Array, y_hits: Array, y_rest: Array, epsilon: Array, delta: float) -> Array:
    """Return P[y < h(x)] for x ~ Beta(½ + x_hits, ½ + x_rest) and y likewise, all of shape (n,)."""
    x_hits, x_rest, y_hits, y_rest = (counts[:, None] for counts in (x_hits, x_rest, y_hits, y_rest))
    growth, top = np.exp(epsilon)[:, None], 1 - delta
    bulk = np.sin(_around(y_hits, y_rest)) ** 2
    cuts = [
        np.maximum(top - growth * bulk, (top - bulk) / growth),  # where h is there: h is its own inverse
        top * NEARER**2 / growth,
        top * np.minimum((1 - NEARER) / growth, 1 / (1 + growth)),
        top * (1 - NEARER) + 0 * growth,
    ]
    angles = np.arcsin(np.sqrt(np.clip(np.concatenate(cuts, axis=1), 0.0, top)))
    last = np.full_like(growth, np.arcsin(np.sqrt(top)))
    ends = np.concatenate([angles, np.minimum(_around(x_hits, x_rest), last), 0 * last, last], axis=1)
    ends.sort(axis=1)
    halves = 0.5 * np.diff(ends, axis=1)[:, :, None]
    angle = (ends[:, :-1, None] + halves * (1 + ROOTS)).reshape(len(epsilon), -1)
    x = np.sin(angle) ** 2
    height = np.clip(np.maximum(top - growth * x, (top - x) / growth), 0.0, 1.0)
    log_density = special.xlogy(x_hits, x) + special.xlog1py(x_rest, -x) - special.betaln(x_hits + 0.5, x_rest + 0.5)
    terms = 2 * np.exp(log_density) * special.betainc(y_hits + 0.5, y_rest + 0.5, height)
    total: Array = np.sum(terms * (halves * WEIGHTS).reshape(angle.shape), axis=1)
    return total


def _around(hits: Array, rest: Array) -> Array:
    """Return angles every other standard deviation about the middle of arcsin √Beta(½ + hits, ½ + rest)."""
    runs = hits + rest
    middle = np.arcsin(np.sqrt((hits + 0.25) / (runs + 0.5)))
    around: Array = np.clip(middle + DEVIATIONS / (2 * np.sqrt(runs)), 0.0, np.pi / 2)
    return around
