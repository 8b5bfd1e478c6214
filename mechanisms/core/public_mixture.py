"""A pair chosen at random from several, the choice being public: what "reveal it" bounds in proofs.

δ(ε) = Σ w_i δ_i(ε) + lost,    the weights' rest being lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.binned_law import cumulants
from mechanisms.core.bounds import Array, Bounds, exp, largest, log
from mechanisms.core.mixtures import NONE
from mechanisms.core.pair import DominatingPair, LossBins


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMixture(DominatingPair):
    """(P_i, Q_i) with probability w_i, and i.

    Args:
        parts: (pair, enclosure of its weight).
        lost: enclosure of what the weights leave, taken as an infinite loss.
        attained: whether named neighbours have this pair.
    """

    parts: tuple[tuple[DominatingPair, Bounds], ...]
    attained: bool
    lost: Bounds = NONE

    @property
    def supremum(self) -> Bounds:
        """The largest of the parts'."""
        return largest([pair.supremum for pair, _ in self.parts])

    @property
    def infinite_mass(self) -> Bounds:
        """Σ w_i P_i(L = ∞), and what the weights leave."""
        return self._mean([pair.infinite_mass for pair, _ in self.parts], self.lost).clip(0.0, 1.0)

    @property
    def missing_mass(self) -> Bounds:
        """Σ w_i Q_i(L = −∞), and what the weights leave."""
        return self._mean([pair.missing_mass for pair, _ in self.parts], self.lost).clip(0.0, 1.0)

    def delta(self, epsilon: Bounds) -> Bounds:
        """Σ w_i δ_i(ε), and what the weights leave."""
        return self._mean([pair.delta(epsilon) for pair, _ in self.parts], self.lost).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Σ w_i times the parts' bins."""
        bins = [pair.loss_bins(edges, scale) for pair, _ in self.parts]
        return LossBins(
            p=self._mean([one.p for one in bins], NONE),
            q=self._mean([one.q for one in bins], NONE),
            edge_error=np.max([one.edge_error for one in bins], axis=0),
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return what holds every part's range; a rare part's leaves out as little of the whole."""
        ranges = [pair.loss_range(min(tail / max(float(w.upper), tail), 0.5)) for pair, w in self.parts]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log Σ w_i E_{Q_i}[(1 − p + p e^L)^t], and (1 − p)^t times what the weights leave."""
        moments = [pair.log_mixture_moment(probability, power) for pair, _ in self.parts]
        most = max([0.0, *(float(moment.upper) for moment in moments if moment.upper < np.inf)])
        rest = NONE
        if self.lost.upper > 0:
            rest = self.lost * exp(power * log(1.0 - Bounds.exact(probability)) - most)
        return most + log(self._mean([exp(moment - most) for moment in moments], rest))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> PublicMixture:
        """Return the mixture of the reversed pairs."""
        parts = tuple((pair.reverse(), weight) for pair, weight in self.parts)
        return PublicMixture(parts=parts, attained=self.attained, lost=self.lost)

    def _mean(self, values: list[Bounds], rest: Bounds) -> Bounds:
        if all(np.all(np.equal(value.upper, 0.0)) for value in (*values, rest)):
            return 0.0 * values[0]  # exactly
        return sum((weight * value for value, (_, weight) in zip(values, self.parts, strict=True)), start=rest)
