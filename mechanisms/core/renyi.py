"""Rényi bounds: what is known of a process that has no usable pair, or less than its pair says.

[Mir17] I. Mironov. Rényi Differential Privacy. CSF 2017. arXiv:1702.07476.
[BS16] M. Bun, T. Steinke. Concentrated Differential Privacy: Simplifications, Extensions, and Lower Bounds. TCC 2016.
arXiv:1605.02065.
[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, log
from mechanisms.core.pair import DominatingPair


class RenyiBound(ABC):
    """A bound of the Rényi divergence of every order between the outputs for neighbours [Mir17, Def 4]."""

    __slots__ = ()

    @abstractmethod
    def divergence(self, order: float) -> float:
        """Bound D_order(M(x) ‖ M(x')) from above, neighbours in either order; inf where no bound is known.

        Args:
            order: α > 1, may be inf.
        """

    def divergences(self, orders: Array) -> Array:
        """Bound the divergences of many orders, shape (n,)."""
        return np.array([self.divergence(float(order)) for order in orders])


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDivergence(RenyiBound):
    """The Rényi divergences of a pair, D_α = log E_Q[e^{αL}] / (α − 1): of the neighbours that it dominates, in order.

    Args:
        pair: (P, Q).

    >>> from mechanisms.gaussian import GaussianPair
    >>> pair = GaussianPair(shift=Bounds.exact(1.0), attained=True)
    >>> 0 <= PairDivergence(pair=pair).divergence(4.0) - 2.0 < 1e-14  # α μ²/2
    True
    """

    pair: DominatingPair

    def divergence(self, order: float) -> float:
        """Bound D_order(P ‖ Q) from above; inf where P shows what Q never does."""
        if math.isinf(order):
            return math.inf if self.pair.infinite_mass.upper > 0 else max(float(self.pair.supremum.upper), 0.0)
        return float(self.divergences(np.array([order]))[0])

    def divergences(self, orders: Array) -> Array:
        """Bound D_α(P ‖ Q) from above at many finite orders, shape (n,)."""
        if self.pair.infinite_mass.upper > 0:
            return np.full(len(orders), math.inf)
        found = self.pair.log_mixture_moments(1.0, orders) / (Bounds.exact(orders) - 1.0)
        return np.asarray(np.maximum(found.upper, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearDivergence(RenyiBound):
    """D_α <= α ρ at every order α > 1: ρ-zero-concentrated differential privacy [BS16, Def 1.1].

    Args:
        rho: ρ >= 0, may be inf.

    >>> 1.5 <= LinearDivergence(rho=0.5).divergence(3.0) < 1.5000001
    True
    """

    rho: float

    def divergence(self, order: float) -> float:
        """Return α ρ, rounded up."""
        return float((Bounds.exact(order) * self.rho).upper)

    def divergences(self, orders: Array) -> Array:
        """Return α ρ for every α, rounded up."""
        return np.asarray((Bounds.exact(orders) * self.rho).upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirroredDivergence(LinearDivergence):
    """The same, where an exchange of outputs, its own inverse, turns the laws of any two neighbours into each other.

    For noise that is symmetric around 0, added to a query: reflection at the middle of the two answers.

    >>> MirroredDivergence(rho=0.5).divergence(3.0) == LinearDivergence(rho=0.5).divergence(3.0)
    True
    """


def log_gain(orders: Bounds) -> Bounds:
    """Enclose log of c in δ(ε) <= c e^{(α − 1)(D − ε)}, c = (1 − 1/α)^α / (α − 1), for α > 1       [CKS20, Prop 12].

    >>> log_gain(Bounds.exact(2.0)).contains(-2.0 * math.log(2.0))
    True
    """
    return orders * log(1.0 - 1.0 / orders) - log(orders - 1.0)
