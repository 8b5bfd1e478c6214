"""Pairs with finitely many values of the loss: of discrete mechanisms and of stated guarantees.

[DR14] C. Dwork, A. Roth. The Algorithmic Foundations of Differential Privacy. 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, largest, log, log1p
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.mixtures import BoundedMixture
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins

MANY = 32  # atoms, beyond which they are added in one pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscretePair(DominatingPair):
    """A pair with finitely many values of the loss.

    Args:
        losses: the finite losses, increasing; each may be rounded by a relative 4u.
        masses: P's mass at each.
        infinite_mass: P's mass where Q has none.
        missing_mass: Q's mass where P has none.
        attained: whether named neighbours have this pair.

    >>> pair = DiscretePair.from_probabilities((0.75, 0.25), (0.25, 0.75), attained=True)
    >>> pair.delta(Bounds.exact(0.0)).contains(0.5)
    True
    """

    losses: tuple[float, ...]
    masses: tuple[Bounds, ...]
    infinite_mass: Bounds
    missing_mass: Bounds
    attained: bool

    @classmethod
    def from_probabilities(cls, p: tuple[float, ...], q: tuple[float, ...], *, attained: bool) -> DiscretePair:
        """Return the pair of two probability vectors over the same outcomes, taken as exact.

        Raises:
            InvalidParameter: if the lengths differ or a vector is no probability vector to within 1e-12.
        """
        for name, vector in (("p", p), ("q", q)):
            if len(p) != len(q) or min(vector, default=-1.0) < 0 or abs(sum(vector) - 1) > 1e-12:
                raise InvalidParameter(
                    f"DiscretePair: {name} must be a probability vector of the other's length, got {vector}."
                )
        both = sorted((_log_ratio(a, b), a) for a, b in zip(p, q, strict=True) if a > 0 and b > 0)
        return cls(
            losses=tuple(loss for loss, _ in both),
            masses=tuple(Bounds.exact(mass) for _, mass in both),
            infinite_mass=_total([a for a, b in zip(p, q, strict=True) if b == 0]),
            missing_mass=_total([b for a, b in zip(p, q, strict=True) if a == 0]),
            attained=attained,
        )

    @property
    def lattice(self) -> float:
        """The largest loss, if the others are 0 or its opposite."""
        largest = max(map(abs, self.losses), default=0.0)
        return largest if all(abs(loss) in (0.0, largest) for loss in self.losses) else 0.0

    @property
    def supremum(self) -> Bounds:
        """The largest loss."""
        return self._losses()[-1] if self.losses else Bounds.exact(0.0)

    @property
    def supremum_mass(self) -> Bounds:
        """P's mass at the largest loss, and at those that can't be told from it."""
        if not self.masses:
            return Bounds(lower=0.0, upper=1.0)
        least = self.supremum.lower
        close = [mass for loss, mass in zip(self.losses, self.masses, strict=True) if _rounded(loss).upper >= least]
        most = sum(close, start=Bounds.exact(0.0)).clip(0.0, 1.0)
        return Bounds(lower=self.masses[-1].lower, upper=most.upper)

    @property
    def mixture(self) -> BoundedMixture | None:
        """The finite losses with Q's masses, given that they are finite; None where none is."""
        kept, known = 1.0 - self.infinite_mass, 1.0 - self.missing_mass
        if not self.losses or not min(kept.lower, known.lower) > 0:
            return None
        losses, offset = self._losses(), Bounds.exact(0.0)
        masses = self._masses() * exp(-losses)
        if self.infinite_mass != self.missing_mass or self.infinite_mass.width > 0:
            offset = log1p(-self.missing_mass) - log1p(-self.infinite_mass)
        return BoundedMixture(
            losses=losses + offset if offset.upper != 0 else losses,
            masses=masses / known if known.lower < 1 else masses,
            reach=Bounds.exact(0.0),
            probability=1.0,
            reverse=False,
            lost=self.infinite_mass,
            offset=offset,
        )

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) = P(L = ∞) + Σ_i p_i (1 − e^{ε − l_i})₊."""
        if len(self.losses) > MANY:
            return self._delta_of_many(epsilon)
        total = self.infinite_mass + 0.0 * epsilon
        for loss, mass in zip(self.losses, self.masses, strict=True):
            total = total + mass * (-expm1(epsilon - _rounded(loss))).clip(0.0, 1.0)  # 0, not 1e-16, beyond the loss
        return total.clip(0.0, 1.0)

    def _delta_of_many(self, epsilon: Bounds) -> Bounds:
        """Return the same, all atoms at once; adding n terms >= 0 rounds by at most n u of their sum."""
        low, high = np.asarray(epsilon.lower)[..., None], np.asarray(epsilon.upper)[..., None]
        gap = Bounds(lower=low, upper=high) - self._losses()
        terms = self._masses() * (-expm1(gap)).clip(0.0, 1.0)
        total = Bounds(lower=np.sum(terms.lower, axis=-1), upper=np.sum(terms.upper, axis=-1))
        return (self.infinite_mass + total.inflate(2.0 * len(self.losses) * UNIT_ROUNDOFF)).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Put every atom into its bin; an atom on an edge belongs to the bin below."""
        bins = np.searchsorted(edges, self.losses, side="left") - 1
        held = (bins >= 0) & (bins < len(scale))
        at, p, losses = bins[held], self._masses()[held], self._losses()[held]
        q = p * exp(scale[at] - losses)
        p, q = (
            Bounds(
                lower=np.bincount(at, mass.lower, minlength=len(scale)),
                upper=np.bincount(at, mass.upper, minlength=len(scale)),
            )
            for mass in (p, q)
        )
        slack = 4.0 * (1 + len(self.losses)) * UNIT_ROUNDOFF
        error = 8.0 * UNIT_ROUNDOFF * max(map(abs, self.losses), default=0.0)
        return LossBins(
            p=p.inflate(slack),
            q=q.inflate(slack),
            edge_error=np.full(len(edges), error),
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return the smallest and the largest loss."""
        return (self.losses[0], self.losses[-1]) if self.losses else (0.0, 0.0)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log Σ_i q_i (1 − p + p e^{l_i})^power."""
        return self.log_mixture_moments(probability, np.array([power], dtype=np.float64))[0]

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """The same sums in one pass over arrays."""
        losses = self._losses()
        growth = losses if probability == 1.0 else log1p(probability * (exp(losses) - 1.0).clip(-1.0, np.inf))
        exponents = (log(self._masses()) - losses) + powers[:, None] * growth
        rest = log(self.missing_mass) + powers[:, None] * log1p(Bounds.exact(-probability))
        seen = bool(self.missing_mass.upper) & ((probability < 1.0) | (powers <= 0))[:, None]
        lower, upper = (
            np.hstack([getattr(exponents, end), np.where(seen, getattr(rest, end), -np.inf)])
            for end in ("lower", "upper")
        )
        return _log_sum_exp(Bounds(lower=lower, upper=upper))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """log Σ_i p_i e^{(t − 1) l_i} and its derivatives."""
        losses = np.array(self.losses)
        masses = np.array([0.5 * (mass.lower + mass.upper) for mass in self.masses])
        with np.errstate(divide="ignore"):
            exponents = np.log(masses) + (powers[:, None] - 1.0) * losses
        largest = np.max(exponents, axis=1, initial=-1e300)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = np.exp(exponents - largest[:, None])
            total = np.maximum(np.sum(weights, axis=1), 1e-300)
            mean = weights @ losses / total
            spread = np.sum(weights * (losses - mean[:, None]) ** 2, axis=1) / total
        return largest + np.log(total), mean, np.where(np.isnan(spread), np.inf, spread)

    def reverse(self) -> DiscretePair:
        """Return the pair (Q, P)."""
        losses = tuple(-loss for loss in reversed(self.losses))
        masses = tuple(mass * exp(-_rounded(loss)) for loss, mass in zip(self.losses, self.masses, strict=True))
        return DiscretePair(
            losses=losses,
            masses=masses[::-1],
            infinite_mass=self.missing_mass,
            missing_mass=self.infinite_mass,
            attained=self.attained,
        )

    def group(self, size: int) -> DiscretePair:
        """Return the (kε, δ Σ_{i<k} e^{iε}) randomised response of group privacy for k = size        [DR14].

        ε is the largest loss, δ the larger one of the infinite and the missing mass: what this pair promises.
        """
        if size == 1 or (not self.losses and self.infinite_mass.lower >= 1):
            return self
        one = self._losses()
        epsilon = float(np.max(np.abs([one.lower, one.upper]), initial=0.0))
        lost = largest([self.infinite_mass, self.missing_mass]).upper
        whole = float((float(size) * Bounds.exact(epsilon)).upper)
        growth = (
            Bounds.exact(float(size)) if epsilon == 0 else expm1(Bounds.exact(whole)) / expm1(Bounds.exact(epsilon))
        )
        delta = Bounds.exact(float((Bounds.exact(lost) * growth).clip(0.0, 1.0).upper)) if lost else Bounds.exact(0.0)
        shares = [(1.0 - delta) / (1.0 + exp(Bounds.exact(sign * whole))) for sign in (1.0, -1.0)]
        return DiscretePair(
            losses=(-whole, whole),
            masses=tuple(share.clip(0.0, 1.0) for share in shares),
            infinite_mass=delta,
            missing_mass=delta,
            attained=False,
        )

    def _losses(self) -> Bounds:
        return _rounded(np.array(self.losses))

    def _masses(self) -> Bounds:
        return Bounds(lower=np.array([m.lower for m in self.masses]), upper=np.array([m.upper for m in self.masses]))


def _log_ratio(a: float, b: float) -> float:
    """log(a/b) to a few ulps, also where a is near b or the quotient leaves the floats."""
    if b / 2 <= a <= 2 * b:
        return math.log1p((a - b) / b)
    quotient = a / b
    return math.log(quotient) if 1e-300 < quotient < 1e300 else math.log(a) - math.log(b)


def _total(masses: list[float]) -> Bounds:
    return sum((Bounds.exact(mass) for mass in masses if mass), start=Bounds.exact(0.0))


def _rounded(loss: Array | float) -> Bounds:
    return loss * Bounds(lower=1.0 - 4.0 * UNIT_ROUNDOFF, upper=1.0 + 4.0 * UNIT_ROUNDOFF)  # 0 stays exact


def _log_sum_exp(exponents: Bounds) -> Bounds:
    """Enclose log Σ e^x along the last axis."""
    largest = np.max(exponents.upper, axis=-1)
    known = np.isfinite(largest)
    centre = np.where(known, largest, 0.0)
    terms = exp(exponents - centre[..., None])
    slack = exponents.upper.shape[-1] * UNIT_ROUNDOFF * 2
    total = Bounds(lower=np.sum(terms.lower, axis=-1), upper=np.sum(terms.upper, axis=-1)).inflate(slack)
    found = centre + log(total)
    return Bounds(lower=np.where(known, found.lower, -np.inf), upper=np.where(known, found.upper, largest))
