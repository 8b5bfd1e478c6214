"""Rényi divergences of symmetric noise on a Poisson sample.

Let Q be the law of the step without the record, P that with it, r = P/Q, and M = (1 − q) Q + q P that of the sampled
step. For whole orders α >= 2, where E_Q r^k <= e^{(k − 1) D_k} with D_k the step's divergence,          [ZW19, MTZ19]

    E_Q[(M/Q)^α] = Σ_k C(α, k) (1 − q)^{α − k} q^k E_Q r^k
                <= 1 + Σ_{k=2..α} C(α, k) (1 − q)^{α − k} q^k (e^{(k − 1) D_k} − 1)

bounds e^{(α − 1) D_α(M ‖ Q)}; for D_k = k ρ it is the moment of sampled normal noise. In between, (α − 1) D_α lies
below the chord, as it is convex and 0 at α = 1 [EH14].

*The other direction*, D_α(Q ‖ M), is never larger where an exchange of outputs turns P into Q and Q into P [MTZ19].
For E_Q g(r) = E_P g(1/r) = E_Q[r g(1/r)] then, so that it is enough that h(r) = a^α − a^{1 − α}, a = 1 − q + q r, has

    h(r) + r h(1/r) >= 0    for r >= 1.

Write a = e^x and 1 − q + q/r = e^{−y}. As a e^{−y} = 1 + q (1 − q) (r + 1/r − 2) >= 1, it is x >= y >= 0. With
c = α − 1/2, h(r) = 2 e^{x/2} sinh(c x) and −r h(1/r) = 2 r e^{−y/2} sinh(c y). At c = 1/2 both are q (r − 1); and
sinh(c x)/sinh(c y) rises with c, as t coth t does with t.

*Replace-one*: with M' that of the other record, by way of Q and the weak triangle inequality         [Mir17, Prop 11]

    D_α(M ‖ M') <= (α − 1/2)/(α − 1) D_{2α}(M ‖ Q) + D_{2α − 1}(Q ‖ M').

[ZW19] Y. Zhu, Y.-X. Wang. Poisson Subsampled Rényi Differential Privacy. ICML 2019.
[MTZ19] I. Mironov, K. Talwar, L. Zhang. Rényi Differential Privacy of the Sampled Gaussian Mechanism. 2019.
arXiv:1908.10530.
[EH14] see `mechanisms.core.fixed_size_renyi`.
[Mir17] see `mechanisms.core.renyi`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Bounds, log, log1p, log_sub_exp
from mechanisms.core.fixed_size_renyi import LARGEST_ORDER, log_counts, log_sum
from mechanisms.core.renyi import MirroredDivergence, RenyiBound


def poisson_bound(base: Callable[[str], RenyiBound], adjacency: str, probability: float) -> RenyiBound | None:
    """Return the bound of a Poisson-sampled step; None where its noise is not known to be symmetric.

    Args:
        base: from the name of an adjacency to the bound of the step.
        adjacency: the name of the one that is asked for.
        probability: q in [0, 1].

    Raises:
        UnsupportedProcess: if the step has none.

    >>> bound = poisson_bound(lambda name: MirroredDivergence(rho=0.5), "add_remove", 0.01)
    >>> round(bound.divergence(2.0), 9)  # log(1 + .01² (e − 1))
    0.000171813
    """
    whole = base(adjacency)
    if not isinstance(whole, MirroredDivergence):
        return None
    if adjacency != "replace_one":
        return PoissonRenyi(base=whole, probability=probability)
    apart = base("add_remove")
    if not isinstance(apart, MirroredDivergence):
        return None
    return _Replaced(base=whole, apart=PoissonRenyi(base=apart, probability=probability))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonRenyi(RenyiBound):
    """Both directions' bound of a record more or less: the sum above, and never above the step's own.

    Args:
        base: of the step with the record against without it, in either order.
        probability: q in [0, 1].
    """

    base: MirroredDivergence
    probability: float

    def divergence(self, order: float) -> float:
        """Bound D_order(M ‖ Q) and D_order(Q ‖ M) from above."""
        whole = self.base.divergence(order)
        if self.probability == 0.0 or whole == 0.0:
            return 0.0
        if self.probability == 1.0 or order > LARGEST_ORDER or math.isinf(whole):
            return whole
        below, above = math.floor(order), math.ceil(order)
        share = Bounds.exact(order) - float(below)
        low, high = (Bounds.exact(_log_moment(self.base, self.probability, end)) for end in (below, above))
        chord = low if below == above else (1.0 - share) * low + share * high
        return min(whole, float((chord / (Bounds.exact(order) - 1.0)).upper))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replaced(RenyiBound):
    """The weak triangle inequality, or the step's own bound: both laws are mixtures, alike but for the record."""

    base: MirroredDivergence
    apart: PoissonRenyi

    def divergence(self, order: float) -> float:
        whole = self.base.divergence(order)
        if self.apart.probability == 0.0:
            return 0.0
        if 2.0 * order > LARGEST_ORDER:
            return whole
        alpha = Bounds.exact(order)
        there, back = (Bounds.exact(self.apart.divergence(end)) for end in (2.0 * order, 2.0 * order - 1.0))
        return min(whole, float(((alpha - 0.5) / (alpha - 1.0) * there + back).upper))


@lru_cache(maxsize=4096)
def _log_moment(base: MirroredDivergence, probability: float, order: int) -> float:
    """Bound log E_Q[(M/Q)^order] from above."""
    if order <= 1:
        return 0.0
    k = np.arange(2.0, order + 1.0)
    exponents = (k - 1.0) * Bounds.exact(base.divergences(k))
    q = Bounds.exact(probability)
    weights = k * log(q) + (order - k) * log1p(-q) + log_counts(order, 2)
    return log_sum(Bounds.exact(0.0), np.asarray((weights + log_sub_exp(exponents, Bounds.exact(0.0 * k))).upper))
