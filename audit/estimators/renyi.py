"""Lower bounds of a Rényi divergence, and of ε, from black-box outputs, by its variational form.

For any function w into [0, 1] and order α > 1, Hölder's inequality gives

    D_α(P ‖ Q)  >=  α/(α − 1) ln E_P[w^(α − 1)] − ln E_Q[w^α]                                            [BDKRW21]

with equality where w is proportional to dP/dQ. Such a w is learnt on one half of the outputs; on the other, both means
are of independent values in [0, 1], so that empirical Bernstein bounds [MP09] hold for them.

An (ε, δ)-differentially private pair is P = (1 − δ) P' + δ P'', Q = (1 − δ) Q' + δ Q'' with P', Q' within e^ε of each
other [KOV15], so E_P'[w^(α − 1)] >= (E_P[w^(α − 1)] − δ)/(1 − δ) and E_Q'[w^α] <= E_Q[w^α]/(1 − δ), while D_α(P' ‖ Q')
is at most that of randomized response,

    ρ_α(ε) = 1/(α − 1) ln{(e^{αε} + e^{(1 − α)ε}) / (1 + e^ε)}

[BDKRW21] J. Birrell, P. Dupuis, M. A. Katsoulakis, L. Rey-Bellet, J. Wang. Variational Representations and
Neural Network Estimation of Rényi Divergences. SIAM J. Math. Data Sci. 3 (2021). arXiv:2007.03814.
[MP09] A. Maurer, M. Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT 2009. arXiv:0907.3740.
[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import Array
from audit.core.held_out import Halves, OutputsEstimator
from audit.core.rankings import log_ratio_in_cells
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

TOPS = (0.2, 0.5, 0.8, 0.95, 1.0)  # quantiles of the log-ratio in the likelier world at which w may reach 1
HALVINGS = 60
ROUND_OFF = 1e-12  # relative, of the sums of at most 1e9 numbers in [0, 1] and of their logarithms


def lower_bound_from_outputs(
    first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float, order: float = 2.0
) -> float:
    """Return the largest ε refuted by outputs of a mechanism on two neighbouring inputs, 0 if none is.

    Args:
        first: outputs on one input, shape (n,) or (n, k), n >= 4, finite.
        second: on a neighbouring input, as many coordinates; n may differ.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.
        order: α > 1, fixed before the outputs were looked at.

    Guarantees: at most the true ε with probability `confidence`, for any computation, if the runs are independent.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.laplace(1.0, size=20_000), rng.laplace(0.0, size=20_000)  # ε = 1
    >>> 0.8 < lower_bound_from_outputs(first, second, delta=0.0, confidence=0.95) < 1
    True
    """
    return _epsilon(divergence_lower_bound(first, second, delta=delta, confidence=confidence, order=order), order)


def divergence_lower_bound(
    first: ArrayLike, second: ArrayLike, *, confidence: float, order: float = 2.0, delta: float = 0.0
) -> float:
    """Return a lower bound of the Rényi divergence of the two worlds, in the direction in which more is shown.

    Args:
        first: as in `lower_bound_from_outputs`, and so the rest.
        second: as there.
        confidence: as there.
        order: as there.
        delta: where above 0, the bound is of D_α(P' ‖ Q') of the parts that are within e^ε of each other.

    Guarantees: at most the larger of D_α(P ‖ Q) and D_α(Q ‖ P) with probability `confidence`, if the runs are
    independent.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.normal(1.0, size=20_000), rng.normal(0.0, size=20_000)  # D_2 = 1
    >>> 0.6 < divergence_lower_bound(first, second, confidence=0.95) < 1
    True
    """
    check_level("renyi", delta=delta, confidence=confidence)
    if validate.finite("renyi", "order", order) <= 1:
        raise InvalidParameter(f"renyi: order must be above 1, got {order}.")
    halves = Halves.of("renyi", first, second)
    if min(len(halves.first_held), len(halves.second_held)) < 2:
        raise InvalidParameter("renyi: outputs must be at least 4 of either world: variances need 2 held out.")
    return _divergence(halves, order, delta, (1 - confidence) / 2)


def rejects(
    *,
    first: ArrayLike,
    second: ArrayLike,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
    order: float = 2.0,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts."""
    shown = divergence_lower_bound(first, second, delta=delta, confidence=confidence, order=order)
    refuted: NDArray[np.bool_] = _of_randomized_response(np.asarray(epsilon, dtype=np.float64), order) < shown
    return refuted


@dataclass(frozen=True, slots=True)
class Renyi(OutputsEstimator):
    """The bound of `lower_bound_from_outputs` at order 2, of scores or of outputs.

    >>> Renyi().guarantee
    'frequentist'
    """

    def bound(self, first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
        """Return the largest ε refuted, 0 if none is."""
        return lower_bound_from_outputs(first, second, delta=delta, confidence=confidence)

    def refutes(
        self, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, *, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted."""
        return rejects(first=first, second=second, epsilon=epsilon, delta=delta, confidence=confidence)


def _divergence(halves: Halves, order: float, delta: float, level: float) -> float:
    """Return the bound on the held-out half, in the direction and with the cut of w that show most on the other."""
    with np.errstate(over="ignore", invalid="ignore"):  # of outputs near the largest float, which share a cell
        log_ratio = log_ratio_in_cells(halves.first, halves.second)
        known = log_ratio(halves.first), log_ratio(halves.second)
        held = log_ratio(halves.first_held), log_ratio(halves.second_held)
    choices = [
        (sign, float(top)) for sign, world in ((1, known[0]), (-1, known[1])) for top in np.quantile(sign * world, TOPS)
    ]
    shown = [_shown(*known, sign, top, order, delta, level) for sign, top in choices]
    return max(0.0, _shown(*held, *choices[int(np.argmax(shown))], order, delta, level))


def _shown(first: Array, second: Array, sign: int, top: float, order: float, delta: float, level: float) -> float:
    """Return what w = min(1, e^(± log-ratio − top)) shows of D_α, −inf if nothing."""
    worlds = (first, second) if sign > 0 else (second, first)
    likelier, rarer = (np.exp(np.minimum(sign * world - top, 0.0)) for world in worlds)
    hits = (1 - _mean_at_most(1 - likelier ** (order - 1), level) - delta) / (1 - delta)
    alarms = _mean_at_most(rarer**order, level) / (1 - delta)
    if hits <= 0:
        return -math.inf
    shown = order / (order - 1) * math.log(hits) - math.log(alarms)
    return shown - ROUND_OFF * order / (order - 1) / min(hits, alarms)


def _mean_at_most(values: Array, level: float) -> float:
    """Return the empirical Bernstein bound of the mean of independent values in [0, 1], at most 1   [MP09, Thm 4]."""
    n, logarithm = len(values), math.log(2 / level)
    slack = math.sqrt(2 * float(np.var(values, ddof=1)) * logarithm / n) + 7 * logarithm / (3 * (n - 1))
    return min(1.0, float(np.mean(values)) + slack)


def _of_randomized_response(epsilon: Array, order: float) -> Array:
    """Return ρ_α(ε)."""
    moment = np.logaddexp(order * epsilon, (1 - order) * epsilon) - np.logaddexp(0.0, epsilon)
    divergence: Array = moment / (order - 1)
    return divergence


def _epsilon(divergence: float, order: float) -> float:
    """Return the largest ε with ρ_α(ε) below the divergence, 0 if none is; ρ_α(ε) >= ε − ln 2 α/(α − 1)."""
    low, high = 0.0, divergence + order / (order - 1)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = bool(_of_randomized_response(np.asarray(middle), order) < divergence)
        low, high = (middle, high) if below else (low, middle)
    return low
