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

from audit.core import doors
from audit.core.cells import Cells
from audit.core.counts import Array
from audit.core.held_out import Counts, Halves, OutputsEstimator
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

TOPS = (0.2, 0.5, 0.8, 0.95, 1.0)  # quantiles of the log-ratio in the likelier world at which w may reach 1
LEAST = 4  # outputs of a world: variances need two that are held out
LARGEST_ORDER, FARTHEST = 1_000_000, 1e100  # α, and an ε that nothing refutes
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
    found = divergence_lower_bound(first, second, delta=delta, confidence=confidence, order=order)
    return _epsilon(found, order)


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
    return float(_divergence(Halves.of("renyi", first, second, least=LEAST), order, delta, confidence))


def rejects(
    *,
    first: ArrayLike,
    second: ArrayLike,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
    order: float = 2.0,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether (ε, δ) is refuted: the test that `lower_bound_from_outputs` inverts.

    Outputs of several sets of runs have shape (sets, n, k), and ε is then one number.
    """
    asked = np.minimum(doors.losses("renyi", epsilon), FARTHEST)
    shown = _divergence(Halves.of("renyi", first, second, least=LEAST, sets=True), order, delta, confidence)
    refuted: NDArray[np.bool_] = _of_randomized_response(asked, order) < shown
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


def _divergence(halves: Halves, order: float, delta: float, confidence: float) -> Array:
    """Return the bound for each set of runs: on the half held out, by the w that shows most on the other half.

    There are two directions, and in each as many w as `TOPS`.
    """
    check_level("renyi", delta=delta, confidence=confidence)
    if not 1 < validate.finite("renyi", "order", order) <= LARGEST_ORDER:
        raise InvalidParameter(f"renyi: order must be above 1 and at most {LARGEST_ORDER:,}, got {order}.")
    level = (1 - confidence) / 2
    with np.errstate(over="ignore", invalid="ignore"):  # of outputs near the largest float, which share a cell
        cells = Cells.of(halves)
    ratio = np.where(np.isfinite(cells.log_ratio), cells.log_ratio, 0.0)  # cells that are not there hold nothing
    shown, found = [], []
    for sign, (likelier, rarer) in ((1, (cells.first, cells.second)), (-1, (cells.second, cells.first))):
        held_in, held_out = (cells.first_held, cells.second_held)[::sign]
        for top in _tops(cells.log_ratio, likelier, sign):
            weights = np.exp(np.minimum(sign * ratio - top[..., None], 0.0))
            shown.append(_shown(weights, likelier, rarer, order, delta, level))
            found.append(_shown(weights, held_in, held_out, order, delta, level))
    best = np.argmax(np.array(shown), axis=0)[None]
    bound: Array = np.maximum(np.take_along_axis(np.array(found), best, axis=0)[0], 0.0)
    return bound


def _tops(log_ratio: Array, counts: Counts, sign: int) -> list[Array]:
    """Return the quantiles `TOPS` of ± log-ratio among so many outputs in each cell, interpolated."""
    rising = slice(None, None, sign)
    values, reached = sign * log_ratio[..., rising], np.cumsum(counts[..., rising], axis=-1)
    places = np.array(TOPS) * (reached[..., -1:] - 1)
    low, high = (
        np.take_along_axis(values, np.sum(reached[..., None, :] <= end(places)[..., None], axis=-1), axis=-1)
        for end in (np.floor, np.ceil)
    )
    tops = low + (high - low) * (places - np.floor(places))
    return list(np.moveaxis(tops, -1, 0))


def _shown(weights: Array, likelier: Counts, rarer: Counts, order: float, delta: float, level: float) -> Array:
    """Return what w shows of D_α by its values in the cells and the outputs in them, −inf if nothing."""
    hits = (1 - _mean_at_most(1 - weights ** (order - 1), likelier, level) - delta) / (1 - delta)
    alarms = _mean_at_most(weights**order, rarer, level) / (1 - delta)
    some = np.maximum(hits, np.finfo(float).tiny)
    shown = order / (order - 1) * np.log(some) - np.log(alarms)
    shown = shown - ROUND_OFF * order / (order - 1) / np.minimum(some, alarms)
    return np.where(hits > 0, shown, -np.inf)


def _mean_at_most(values: Array, counts: Counts, level: float) -> Array:
    """Return the empirical Bernstein bound of the mean of independent values in [0, 1], at most 1   [MP09, Thm 4]."""
    n, logarithm = np.sum(counts, axis=-1), math.log(2 / level)
    mean = np.sum(counts * values, axis=-1) / n
    variance = np.sum(counts * np.square(values - mean[..., None]), axis=-1) / (n - 1)
    slack = np.sqrt(2 * variance * logarithm / n) + 7 * logarithm / (3 * (n - 1))
    bound: Array = np.minimum(1.0, mean + slack)
    return bound


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
