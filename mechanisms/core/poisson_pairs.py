"""The pairs of Poisson-sampled steps, in both directions; where they come from is in `mechanisms.core.sampling`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, where
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.mixtures import BoundedMixture, NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonRemove(DominatingPair):
    """The pair ((1 − q) Q + q P, Q): a Poisson-sampled step with the record against without it.

    Args:
        base: the pair (P, Q) of the step.
        probability: the sampling probability q, in (0, 1).
        attained: whether named neighbours have this pair.
    """

    base: DominatingPair
    probability: float
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """log(1 − q + q e^s), s the supremum of the step's loss."""
        if self.base.supremum.lower == np.inf:
            return self.base.supremum
        return log1p(self.probability * expm1(self.base.supremum))

    @property
    def supremum_mass(self) -> Bounds:
        """(1 − q) Q(L = s) + q P(L = s), where Q(L = s) = e^{−s} P(L = s)."""
        rest = (1.0 - Bounds.exact(self.probability)) * exp(-self.base.supremum)
        return ((rest + self.probability) * self.base.supremum_mass).clip(0.0, 1.0)

    @property
    def infinite_mass(self) -> Bounds:
        """q P(L = ∞)."""
        return (self.probability * self.base.infinite_mass).clip(0.0, 1.0)

    @property
    def mixture(self) -> NormalMixture | BoundedMixture | None:
        """The mixture of the step's laws, where they are of a kind that has one."""
        return _mixed(self.base, self.probability, reverse=False)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ'(ε) = q δ(ε'), with e^{ε'} = 1 + (e^ε − 1)/q."""
        near = log1p(expm1(epsilon.clip(0.0, 1.0)) / self.probability)
        far = epsilon + log1p((self.probability - 1.0) * exp(-epsilon)) - log(Bounds.exact(self.probability))
        inner = where(np.asarray(epsilon.upper) <= 1.0, near, far)
        return (self.probability * self.base.delta(inner)).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Ask the step for the bins that its loss must lie in, then mix the masses."""
        inner, slope, error = unsampled(edges, self.probability)
        bins = self.base.loss_bins(inner, scale)
        lost = _at(int(np.searchsorted(inner, -np.inf, side="right")) - 1, len(scale))  # L = −∞ is L' = log(1 − q)
        q = bins.q + lost * self.base.missing_mass * exp(Bounds.exact(scale))
        p = (1.0 - Bounds.exact(self.probability)) * exp(-Bounds.exact(scale)) * q + self.probability * bins.p
        return LossBins(p=p, q=q, edge_error=error + slope * bins.edge_error)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Map the step's range."""
        low, high = self.base.loss_range(tail)
        least = -np.inf if self.base.missing_mass.upper > 0 else low  # L = −∞ is L' = log(1 − q)
        return _sampled(least, self.probability), _sampled(high, self.probability)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """Since 1 − p + p e^{L'} = 1 − pq + pq e^L, it is the step's at pq."""
        return self.base.log_mixture_moment(probability * self.probability, power)

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """The step's at pq."""
        return self.base.log_mixture_moments(probability * self.probability, powers)

    def reverse(self) -> PoissonAdd:
        """Return (Q, (1 − q) Q + q P)."""
        return PoissonAdd(base=self.base.reverse(), probability=self.probability, attained=self.attained)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonAdd(DominatingPair):
    """The pair (P, (1 − q) P + q Q): a Poisson-sampled step without the record against with it.

    Args:
        base: the pair (P, Q) of the step, P without the record.
        probability: the sampling probability q, in (0, 1).
        attained: whether named neighbours have this pair.
    """

    base: DominatingPair
    probability: float
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """−log(1 − q + q e^{−s}), s the supremum of the step's loss."""
        lost = self.base.infinite_mass.upper > 0
        smallest = Bounds.exact(-np.inf) if lost else -self.base.supremum
        return -log1p(self.probability * expm1(smallest))

    @property
    def supremum_mass(self) -> Bounds:
        """That of the step."""
        lost = self.base.infinite_mass
        return lost if lost.lower > 0 else Bounds(lower=0.0, upper=1.0) if lost.upper > 0 else self.base.supremum_mass

    @property
    def infinite_mass(self) -> Bounds:
        """0: whatever P shows, the mixture shows too."""
        return Bounds.exact(0.0)

    @property
    def mixture(self) -> NormalMixture | BoundedMixture | None:
        """The reversed mixture of the step's laws, where they are of a kind that has one."""
        return _mixed(self.base.reverse(), self.probability, reverse=True)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ'(ε) = c δ(ε'), with c = 1 − e^ε (1 − q) and e^{ε'} = q e^ε / c; 0 where c <= 0."""
        q = Bounds.exact(self.probability)
        share = q - expm1(epsilon) * (1.0 - q)
        inner = epsilon + log(q) - log(share.clip(0.0, 1.0))
        return (share.clip(0.0, 1.0) * self.base.delta(inner.clip(0.0, np.inf))).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Ask the step for the bins that its loss must lie in, then mix the masses."""
        inner, slope, error = unsampled(-edges[::-1], self.probability)
        inner = -inner[::-1]
        bins = self.base.loss_bins(inner, scale)
        lost = _at(int(np.searchsorted(inner, np.inf, side="left")) - 1, len(scale))  # L = ∞ is L' = −log(1 − q)
        p = bins.p + lost * self.base.infinite_mass
        q = (1.0 - Bounds.exact(self.probability)) * exp(Bounds.exact(scale)) * p + self.probability * bins.q
        return LossBins(p=p, q=q, edge_error=error[::-1] + slope[::-1] * bins.edge_error)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Map the step's range."""
        low, high = self.base.loss_range(tail)
        most = np.inf if self.base.infinite_mass.upper > 0 else high  # L = ∞ is L' = −log(1 − q)
        return -_sampled(-low, self.probability), -_sampled(-most, self.probability)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log E_P[(1 − q + q e^{−L})^{1 − power}], for p = 1.

        Raises:
            UnsupportedProcess: for other p, which a sample of a sample never needs (its probabilities multiply).
        """
        if probability != 1.0:
            raise UnsupportedProcess("PoissonAdd: samples of samples multiply their probabilities first.")
        if power < 0 and self.base.missing_mass.lower > 0:
            return Bounds.exact(np.inf)  # what only the mixture shows has L' = −∞
        return self.base.reverse().log_mixture_moment(self.probability, 1.0 - power)

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """Those at the powers 1 − t of the reversed step, where neither of the exceptions is met."""
        if probability != 1.0 or self.base.missing_mass.lower > 0:
            return DominatingPair.log_mixture_moments(self, probability, powers)
        return self.base.reverse().log_mixture_moments(self.probability, 1.0 - powers)

    def reverse(self) -> PoissonRemove:
        """Return ((1 − q) P + q Q, P)."""
        return PoissonRemove(base=self.base.reverse(), probability=self.probability, attained=self.attained)


def _mixed(base: DominatingPair, probability: float, *, reverse: bool) -> NormalMixture | BoundedMixture | None:
    whole = base.mixture
    if whole is None or whole.probability < 1.0 or (isinstance(whole, BoundedMixture) and whole.lost.upper > 0):
        return None
    return replace(whole, probability=probability, reverse=reverse)


def _at(index: int, size: int) -> Array:
    """Return the unit vector of that index, or zeros where the index lies outside."""
    unit = np.zeros(size)
    unit[index : index + 1] = 1.0 if 0 <= index < size else 0.0
    return unit


def _sampled(loss: float, q: float) -> float:
    """log(1 − q + q e^loss), in floats."""
    return float(np.logaddexp(np.log1p(-q), np.log(q) + loss)) if loss > 1 else float(np.log1p(q * np.expm1(loss)))


def unsampled(edges: Array, q: float) -> tuple[Array, Array, Array]:
    """Return the losses l with log(1 − q + q e^l) = edge, the slope of that map there, and its error in `edges`.

    l = log(1 + (e^x − 1)/q), −∞ where x <= log(1 − q); for large x written as x − log q + log(1 − (1−q) e^{−x}).
    A few ulps of l come back as few of them times the slope dx/dl = 1 − (1 − q) e^{−x} = (1 − e^{−x}) + q e^{−x}, and
    those of e^x − 1 as few of 1 − e^{−x}; both are hardly more than x and q where these are small.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.expm1(np.minimum(edges, 1.0)) / q
        small = np.log1p(np.maximum(ratio, -1.0))
        large = edges - np.log(q) + np.log1p(-(1.0 - q) * np.exp(-np.maximum(edges, 1.0)))
        inner = np.where(edges > 1.0, large, small)
        reached = np.maximum(edges, np.log1p(-q))
        grown, mixed = -np.expm1(-reached), q * np.exp(-reached)
        finite = np.where(np.isfinite(inner), np.abs(inner), 0.0)
    return inner, np.clip(grown + mixed, 0.0, 1.0), 16.0 * UNIT_ROUNDOFF * (np.abs(grown) + mixed) * (1.0 + finite)
