"""The waist: pairs (P, Q) of distributions that dominate a mechanism, seen through their privacy loss.

The privacy loss is L = log dP/dQ. A pair dominates a mechanism in one direction (x to its neighbour x') when
its hockey-stick divergence is nowhere smaller than theirs:

    δ(ε) = sup_S P(S) − e^ε Q(S)  >=  sup_S Pr[M(x) ∈ S] − e^ε Pr[M(x') ∈ S]        for all real ε.   [ZDW22, Def 7]

It is `attained` when named neighbours of a mechanism that fits the description have exactly this pair at every
step: only then does it give lower ends too.

[ZDW22] Y. Zhu, J. Dong, Y.-X. Wang. Optimal Accounting of Differential Privacy via Characteristic Function.
AISTATS 2022. arXiv:2106.08567.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.mixtures import BoundedMixture, NormalMixture

UNIT_ROUNDOFF = 2.0**-53
NO_CLOSED_PAIR = (
    "{}: it has no closed pair together with {} inside one sample.\n"
    "If each mechanism draws its own sample, put the sampling inside: Compose((Sampled(a, ...), Sampled(b, ...)))."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBins:
    """The masses of a pair on bins (x_k, x_{k+1}] of its loss, infinite losses left out.

    Args:
        p: enclosure of P(L ∈ bin k), shape (n,).
        q: enclosure of e^{scale_k} Q(L ∈ bin k), shape (n,): scaled, because Q's mass may underflow where P's counts.
        edge_error: shape (n + 1,); the bins are exact for edges that differ from those asked for by at most this.
    """

    p: Bounds
    q: Bounds
    edge_error: Array


class DominatingPair(ABC):
    """A pair (P, Q) of distributions, given by the law of its privacy loss under both."""

    __slots__ = ()

    attained: bool

    @property
    @abstractmethod
    def supremum(self) -> Bounds:
        """The largest finite value that the loss comes up to, inf where it is unbounded."""

    @property
    def supremum_mass(self) -> Bounds:
        """P(L ∈ `supremum`): how likely losses are that can't be told from the largest, if it is reached at all."""
        return Bounds(lower=0.0, upper=1.0)

    @property
    @abstractmethod
    def infinite_mass(self) -> Bounds:
        """P(L = ∞): what P may show and Q never does."""

    @property
    def missing_mass(self) -> Bounds:
        """Q(L = −∞): what Q may show and P never does."""
        return self.reverse().infinite_mass

    @property
    def mixture(self) -> NormalMixture | BoundedMixture | None:
        """This pair as a mixture of normals, or of laws whose losses are bounded, where it is one."""
        return None

    @property
    def lattice(self) -> float:
        """A number of which every finite loss is −1, 0 or 1 times, 0 where there is none."""
        return 0.0

    @abstractmethod
    def delta(self, epsilon: Bounds) -> Bounds:
        """Enclose the hockey-stick divergence δ(ε) of the single pair, for ε >= 0, elementwise."""

    @abstractmethod
    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Return the masses between increasing `edges`, shape (n + 1,), Q's multiplied by e^scale, shape (n,)."""

    @abstractmethod
    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return finite (low, high) such that P and Q have mass of about `tail` at most on either side."""

    @abstractmethod
    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """Enclose log E_Q[(1 − p + p e^L)^power], the outcomes with L = ∞ left out.

        With p = 1 it is the logarithm of the moment generating function of L under Q at `power`, so that
        log_mixture_moment(1, α) / (α − 1) is the Rényi divergence of order α of P from Q when L is finite.
        With p < 1 it is the same for Poisson samples, see `mechanisms.core.sampling`.
        """

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """Enclose `log_mixture_moment` at many powers, shape (n,): the same bounds, or ones as good in less time."""
        found = [self.log_mixture_moment(probability, float(power)) for power in powers]
        lower, upper = (np.array([getattr(one, end) for one in found]) for end in ("lower", "upper"))
        return Bounds(lower=lower, upper=upper)

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}] at many real t and its first two derivatives, L = ∞ left out, shape (n,) each.

        For plans, not for bounds: by differences of `log_mixture_moment`.
        """
        step = 0.1 * np.abs(powers - 1.0)

        def at(shifted: Array) -> Array:
            found = [self.log_mixture_moment(1.0, float(power)) for power in shifted]
            return np.array([0.5 * (bounds.lower + bounds.upper) for bounds in found])

        left, here, right = at(powers - step), at(powers), at(powers + step)
        with np.errstate(invalid="ignore", over="ignore"):
            slope, bend = (right - left) / (2 * step), (right - 2 * here + left) / step**2
            lost = ~np.isfinite(left + here + right)
        found = here, slope, np.maximum(bend, 0.0)
        return np.where(lost, np.inf, found[0]), np.where(lost, np.inf, found[1]), np.where(lost, np.inf, found[2])

    @abstractmethod
    def reverse(self) -> DominatingPair:
        """Return the pair (Q, P)."""

    def power(self, times: int) -> DominatingPair:
        """Return the pair of `times` independent copies, where it has a closed form.

        Raises:
            UnsupportedProcess: where it has none.
        """
        if times == 1:
            return self
        raise UnsupportedProcess(
            f"{type(self).__name__}: several steps inside one sample have no closed pair; only Gaussians do.\n"
            "If each step draws its own sample, put the sampling inside: Repeat(Sampled(mechanism, ...), times)."
        )

    def group(self, size: int) -> DominatingPair:
        """Return a pair for neighbours that differ by `size` records where this one is for those that differ by one.

        Raises:
            UnsupportedProcess: where none is known.
        """
        if size == 1:
            return self
        raise UnsupportedProcess(
            f"{type(self).__name__}: no pair for groups of records is known. Use a base that has one: Gaussian(...), "
            "Laplace(...), or a guarantee such as PureDP(...)."
        )

    def times(self, other: DominatingPair) -> DominatingPair:
        """Return the pair of this one and `other`, independent, where it has a closed form.

        Raises:
            UnsupportedProcess: where it has none.
        """
        raise UnsupportedProcess(NO_CLOSED_PAIR.format(type(self).__name__, type(other).__name__))
