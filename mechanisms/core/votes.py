"""What the very votes that were cast let a noisy aggregator show: Rényi divergences that depend on the data.

Where teachers agree, the answer is nearly certain, with the record and without it. With q >= P(another answer than the
likeliest) the divergence from this dataset to any neighbour is then far below that of the worst votes.

[PAEGT17], [PSMRTE18] see `mechanisms.pate`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, log_ndtr, where
from mechanisms.core.errors import InvalidParameter

ORDERS = 1.0 + 2.0 ** (np.arange(-12.0, 43.0) / 3.0)


class Votes(ABC):
    """A noisy aggregator, as far as its answer to given counts of votes goes."""

    __slots__ = ()

    @abstractmethod
    def divergences(self, votes: Array, order: float) -> Array:
        """Bound D_order(answer ‖ answer of any neighbour) from above, for counts of shape (queries, classes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDependentRenyi:
    """Divergences of the answers to these very votes from those for any neighbour: NOT a guarantee, and NOT private.

    No process and no bound that an accountant takes: it says nothing of other votes, of neighbours it is not even the
    divergence in the other order, and its value tells of the votes as much as they differ. Publish nothing of it but
    through `mechanisms.core.smooth_sensitivity`.

    Args:
        kind: the aggregator.
        votes: the counts, one row a query; never shown.

    >>> DataDependentRenyi(kind=GaussianVotes(noise_multiplier=40.0), votes=((250, 0),))
    DataDependentRenyi(<not private: depends on the votes>)
    """

    kind: Votes = field(repr=False)
    votes: tuple[tuple[int, ...], ...] = field(repr=False)

    def __repr__(self) -> str:
        return "DataDependentRenyi(<not private: depends on the votes>)"

    def divergence(self, order: float) -> float:
        """Return Σ over the queries, rounded up.

        Args:
            order: α > 1, finite.

        Raises:
            InvalidParameter: if it is not.
        """
        alpha = validate.finite("DataDependentRenyi", "order", order)
        if alpha <= 1.0:
            raise InvalidParameter(f"DataDependentRenyi: order must be above 1, got {alpha}.")
        if not self.votes:
            return 0.0
        each = self.kind.divergences(np.array(self.votes, dtype=np.float64), alpha)
        slack = 1.0 + 2.0 * len(each) * 2.0**-53
        return float((Bounds.exact(float(np.sum(each))) * slack).upper)

    def epsilon(self, delta: float) -> float:
        """Return min D_α + log(1/δ)/(α − 1) over a grid of orders, as papers quote it: as private as the votes.

        Raises:
            InvalidParameter: if δ is not in (0, 1].
        """
        given = validate.probability("DataDependentRenyi", "delta", delta)
        if given == 0.0:
            raise InvalidParameter("DataDependentRenyi: delta must be above 0, got 0.")
        return min(self.divergence(float(a)) - math.log(given) / (float(a) - 1.0) for a in ORDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianVotes(Votes):
    """GNMax of noise σ                                                                         [PSMRTE18].

    >>> float(GaussianVotes(noise_multiplier=40.0).divergences(np.array([[250.0, 0.0]]), 20.0)[0]) < 1e-3
    True
    """

    noise_multiplier: float

    def divergences(self, votes: Array, order: float) -> Array:
        """Bound them by the theorem of [PSMRTE18], and by α/σ²."""
        return gaussian_divergences(self.log_errors(votes), self.noise_multiplier, order)

    def log_errors(self, votes: Array) -> Array:
        """Bound log q from above: Σ Φ(−gap/(√2 σ)) over the other classes, and 1 − 1/classes."""
        if self.noise_multiplier == 0.0:
            return np.zeros(len(votes))
        gaps = Bounds.exact(_gaps(votes)) / self.noise_multiplier * math.sqrt(0.5)
        return _capped(log_ndtr(-gaps.inflate(2.0**-51)), votes.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LaplaceVotes(Votes):
    """LNMax of noise 1/γ                                                                        [PAEGT17].

    >>> float(LaplaceVotes(noise_multiplier=20.0).divergences(np.array([[250.0, 0.0]]), 20.0)[0]) < 1e-3
    True
    """

    noise_multiplier: float

    def divergences(self, votes: Array, order: float) -> Array:
        """Bound them by the moment bound of [PAEGT17] for 2γ-private answers, by α (2γ)²/2 and by 2γ.

        e^{(α − 1) D} <= (1 − q)((1 − q)/(1 − e^{2γ} q))^{α − 1} + q e^{2γ (α − 1)}    where  q < 1/(e^{2γ} + 1)
        """
        if self.noise_multiplier == 0.0:
            return np.full(len(votes), math.inf)
        epsilon = 2.0 / Bounds.exact(self.noise_multiplier)
        worst = min(float(epsilon.upper), float((epsilon * epsilon * order / 2.0).upper))
        log_q = Bounds.exact(self.log_errors(votes))
        fits = np.asarray((log_q + log1p(exp(epsilon))).upper) < 0.0
        log_q = where(fits, log_q, Bounds.exact(np.full(len(votes), -800.0)))
        rest, further = log1p(-exp(log_q)), Bounds.exact(order) - 1.0
        kept = rest + further * (rest - log1p(-exp(log_q + epsilon)))
        found = _log_add(kept, log_q + further * epsilon) / further
        return np.where(fits, np.clip(found.upper, 0.0, worst), worst)

    def log_errors(self, votes: Array) -> Array:
        """Bound log q from above: Σ (2 + γ gap)/(4 e^{γ gap}) over the other classes, and 1 − 1/classes."""
        gaps = Bounds.exact(_gaps(votes)) / self.noise_multiplier
        return _capped(log((2.0 + gaps) / 4.0) - gaps, votes.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentVotes(Votes):
    """ConfidentGNMax: exactly what the threshold shows, and GNMax only where it is reached.

    With p = P(reached) here and p' at a neighbour, whose largest count is the same or one more or less, and D₂ that of
    GNMax:  e^{(α − 1) D} = (1 − p)^α (1 − p')^{1 − α} + p^α p'^{1 − α} e^{(α − 1) D₂}.
    """

    threshold: float
    threshold_noise_multiplier: float
    noise_multiplier: float

    def divergences(self, votes: Array, order: float) -> Array:
        """Bound them by the largest of the three neighbours."""
        second = GaussianVotes(noise_multiplier=self.noise_multiplier).divergences(votes, order)
        if self.threshold_noise_multiplier == 0.0:
            return np.full(len(votes), math.inf)
        most, further = votes.max(axis=1), Bounds.exact(order) - 1.0
        reached, missed = self._log_chances(most)
        found = np.zeros(len(votes))
        for moved in (-1.0, 0.0, 1.0):
            there, not_there = self._log_chances(most + moved)
            yes = Bounds.exact(order) * reached - further * there + further * Bounds.exact(second)
            no = Bounds.exact(order) * missed - further * not_there
            found = np.maximum(found, (_log_add(yes, no) / further).upper)
        return found

    def _log_chances(self, most: Array) -> tuple[Bounds, Bounds]:
        """log p and log(1 − p)."""
        place = (Bounds.exact(most) - self.threshold) / self.threshold_noise_multiplier
        return log_ndtr(place), log_ndtr(-place)


def gaussian_divergences(log_q: Array, sigma: float, order: float) -> Array:
    """Bound D_order of GNMax from above, given upper ends of log q, shape (n,).

    The smaller of α/σ² and, where it holds,

        e^{(α − 1) D} <= (1 − q) A^{α − 1} + q B^{α − 1},
        A = (1 − q)/(1 − (q e^{ε₂})^{1 − 1/μ₂}),  B = e^{ε₁} q^{−1/(μ₁ − 1)},  ε_i = μ_i/σ²            [PSMRTE18, Thm 6]

    with μ₂ = σ √log(1/q) and μ₁ = μ₂ + 1, for α <= μ₁, 1 < μ₂, q e^{ε₂} < 1 and
    q <= e^{(μ₂ − 1) ε₂} (μ₁/(μ₁ − 1) · μ₂/(μ₂ − 1))^{−μ₂}.
    """
    if sigma == 0.0:
        return np.full(len(log_q), math.inf)
    worst = float((Bounds.exact(order) / sigma / sigma).upper)
    second = sigma * np.sqrt(np.maximum(-log_q, 0.0))
    first = second + 1.0
    fits = (second > 1.0) & (order <= first) & np.isfinite(second)
    second, first, exponent = (np.where(fits, x, x0) for x, x0 in ((second, 2.0), (first, 3.0), (log_q, -1.0)))
    mu, nu, q = Bounds.exact(first), Bounds.exact(second), Bounds.exact(exponent)
    high, low = mu / sigma / sigma, nu / sigma / sigma
    allowed = (nu - 1.0) * low - nu * (log(mu / (mu - 1.0)) + log(nu / (nu - 1.0)))
    fits &= (exponent <= allowed.lower) & ((q + low).upper < 0.0)
    low = where(fits, low, Bounds.exact(np.zeros(len(log_q))))
    rest, further = log1p(-exp(q)), Bounds.exact(order) - 1.0
    likely = rest + further * (rest - _log_complement((q + low) * (1.0 - 1.0 / nu)))
    rare = q + further * (high - q / (mu - 1.0))
    found = _log_add(likely, rare) / further
    return np.where(fits, np.clip(found.upper, 0.0, worst), worst)


def _gaps(votes: Array) -> Array:
    """Return by how much the largest count exceeds every other one, shape (queries, classes − 1)."""
    ordered = np.sort(votes, axis=1)
    return np.asarray(ordered[:, -1:] - ordered[:, :-1])


def _capped(logs: Bounds, classes: int) -> Array:
    """Bound log of the sum of a row, at most 1 − 1/classes, from above."""
    most = np.max(logs.upper, axis=1)
    total = np.sum(exp(logs - most[:, None]).upper, axis=1) * (1.0 + 2.0 * classes * 2.0**-53)
    cap = log1p(-1.0 / Bounds.exact(float(classes))).upper
    return np.asarray(np.minimum((Bounds.exact(most) + log(Bounds.exact(total))).upper, cap))


def _log_complement(x: Bounds) -> Bounds:
    """Enclose log(1 − e^x) for x < 0, with the digits of e^x where that is small."""
    return where(np.asarray(x.upper) < -1.0, log1p(-exp(x)), log(-expm1(x)))


def _log_add(one: Bounds, other: Bounds) -> Bounds:
    """Bound log(e^one + e^other) from above: both ends of the result are the upper end."""
    high, low = np.maximum(one.upper, other.upper), np.minimum(one.upper, other.upper)
    return Bounds.exact(high) + log1p(exp(Bounds.exact(low) - high))
