"""Random samples of the records: which records take part in a step, and what that does to a pair.

A `Sampling` is drawn anew in each step and wraps one step (`Sampled`); an `Allocation` spreads the records over
all steps of a run and wraps the repetition (`Allocated`).

Poisson sampling with probability q, add/remove neighbours: if (P, Q) dominates the step with against without
the record, and (Q', P') without against with, then                                       [ZDW22, Thm 11]

    remove:  ((1 − q) Q + q P,  Q)            L' = log(1 − q + q e^L)
    add:     (Q',  (1 − q) Q' + q P')         L' = −log(1 − q + q e^{−L})

dominate the sampled step, and are attained where the step's pair is.

[ZDW22] see `mechanisms.core.pair`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, up, where
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.mixtures import BoundedMixture, NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins


class Sampling:
    """A random sample of the records, drawn anew for every step."""

    __slots__ = ()

    def amplify(self, pair: DominatingPair, *, reverse: bool) -> DominatingPair:
        """Return the pair of the sampled step, given the step's pair in the remove (or, reversed, the add) direction.

        Raises:
            UnsupportedProcess: where no theorem gives one.
        """
        raise UnsupportedProcess(
            f"{type(self).__name__}: no proved pair for this sampling scheme yet, and a bound for Poisson sampling "
            "does not hold for it. Use Poisson(probability=...) and run exactly that."
        )


class Allocation:
    """A random spread of the records over all steps of a run."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Sampling):
    """Every record takes part with the same probability, independently of all others.

    Args:
        probability: in [0, 1].

    >>> Poisson(probability=0.01)
    Poisson(probability=0.01)
    """

    probability: float

    def __post_init__(self) -> None:
        hint = (
            "If it is an expected batch size, divide it by the number of records: "
            "Poisson(probability=batch_size / records).\n"
            "If batches have a fixed size, use FixedSize(batch_size=..., records=...): it has a different privacy "
            "analysis."
        )
        object.__setattr__(self, "probability", validate.probability("Poisson", "probability", self.probability, hint))

    def amplify(self, pair: DominatingPair, *, reverse: bool) -> DominatingPair:
        """Return the Poisson-sampled pair [ZDW22, Thm 11]."""
        kind = PoissonAdd if reverse else PoissonRemove
        if self.probability == 1.0:
            return pair
        if not isinstance(pair, kind):
            return kind(base=pair, probability=self.probability, attained=pair.attained)
        product = self.probability * pair.probability  # a sample of a sample is a sample
        if Fraction(product) == Fraction(self.probability) * Fraction(pair.probability):
            return kind(base=pair.base, probability=product, attained=pair.attained)
        return kind(base=pair.base, probability=min(1.0, float(up(product))), attained=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedPoisson(Sampling):
    """Poisson sampling whose batch, when larger than `largest_batch`, is cut to a random part of that size."""

    probability: float
    largest_batch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "probability", Poisson(probability=self.probability).probability)
        largest = validate.count("TruncatedPoisson", "largest_batch", self.largest_batch, least=1)
        object.__setattr__(self, "largest_batch", largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSize(Sampling):
    """A uniformly random batch of exactly `batch_size` out of `records` records, without replacement."""

    batch_size: int
    records: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", validate.count("FixedSize", "records", self.records, least=1))
        object.__setattr__(self, "batch_size", validate.count("FixedSize", "batch_size", self.batch_size))
        if self.batch_size > self.records:
            raise InvalidParameter(
                f"FixedSize: batch_size must be at most records, got {self.batch_size} of {self.records}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WithReplacement(Sampling):
    """`batch_size` independent uniform draws out of `records` records."""

    batch_size: int
    records: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", validate.count("WithReplacement", "records", self.records, least=1))
        object.__setattr__(self, "batch_size", validate.count("WithReplacement", "batch_size", self.batch_size))


@dataclass(frozen=True, slots=True)
class Shuffled(Allocation):
    """One random order of the records, cut into as many batches as there are steps."""


@dataclass(frozen=True, slots=True)
class BallsInBins(Allocation):
    """Every record falls into one step, uniformly and independently of all others."""


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
        return self.probability * self.base.infinite_mass

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
        inner, slope, error = _unsampled(edges, self.probability)
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
        inner, slope, error = _unsampled(-edges[::-1], self.probability)
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


def _unsampled(edges: Array, q: float) -> tuple[Array, Array, Array]:
    """Return the losses l with log(1 − q + q e^l) = edge, the slope of that map there, and its error in `edges`.

    l = log(1 + (e^x − 1)/q), −∞ where x <= log(1 − q); for large x written as x − log q + log(1 − (1−q) e^{−x}).
    The slope dx/dl = 1 − (1 − q) e^{−x} is at most 1, so that the few ulps of l come back as few ulps of x.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.expm1(np.minimum(edges, 1.0)) / q
        small = np.log1p(np.maximum(ratio, -1.0))
        large = edges - np.log(q) + np.log1p(-(1.0 - q) * np.exp(-np.maximum(edges, 1.0)))
        inner = np.where(edges > 1.0, large, small)
        slope = np.clip(1.0 - (1.0 - q) * np.exp(-edges), 0.0, 1.0)
    finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
    with np.errstate(over="ignore", divide="ignore"):
        steep = q * np.minimum(np.exp(-edges), 1.0 / (1.0 - q))  # near log(1 − q), 1 + (e^x − 1)/q cancels
    return inner, slope, 16.0 * UNIT_ROUNDOFF * (1.0 + finite - np.log(q) + steep)
