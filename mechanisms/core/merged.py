"""One pair that dominates a pair (A, B) and its reverse (B, A): where either may be met in every step.

Under replace-one an adversary may take (A, B) in one step and (B, A) in the next, so that no maximum after composition
is sound. Merged first, their profile is the pointwise maximum where (A, B) is the larger one from α = 1 on:

    H_α(A ‖ B) for α >= 1,    H_α(B ‖ A) = 1 − α + α H_{1/α}(A ‖ B) for α < 1,        H_α(P ‖ Q) = sup_S P(S) − α Q(S).

Such a pair has the losses L > 0 of (A, B), their mirror images, and the loss 0 with the rest of the mass:

| loss | mass under P | mass under Q |
|---|---|---|
| l in (0, ∞] | A(L ∈ dl) | B(L ∈ dl) |
| 0 | 1 − A(L > 0) − B(L > 0) | the same |
| −l | B(L ∈ dl) | A(L ∈ dl) |

It is its own reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.binned_law import binned_law, convex_sum, cumulants, log_excess
from mechanisms.core.bounds import Array, Bounds, exp, log1p
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(DominatingPair):
    """The pair that dominates both (A, B) and (B, A), (A, B) being the larger one from α = 1 on.

    Args:
        half: the pair (A, B).
        attained: whether named neighbours have the merged pair itself.
    """

    half: DominatingPair
    attained: bool = False

    @property
    def supremum(self) -> Bounds:
        """That of the half, 0 at least."""
        return self.half.supremum.clip(0.0, np.inf)

    @property
    def supremum_mass(self) -> Bounds:
        """That of the half, if it is above 0."""
        return self.half.supremum_mass if self.half.supremum.lower > 0 else Bounds(lower=0.0, upper=1.0)

    @property
    def infinite_mass(self) -> Bounds:
        """That of the half."""
        return self.half.infinite_mass

    def delta(self, epsilon: Bounds) -> Bounds:
        """That of the half, as ε >= 0."""
        return self.half.delta(epsilon)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Take the losses above 0 from the half, those below from its reverse, the rest of the masses to 0.

        Bins of the half begin at a t > 0 that is more than their edges may be off, so that none reaches below 0: an
        edge in [0, t) is t to them, one in (−t, 0) is −t, and the bin that holds 0 holds what is between.

        Raises:
            UnsupportedProcess: if A(L > 0) + B(L > 0) > 1, where the mirror image is the larger one beyond α = 1.
        """
        least = 4.0 * float(self.half.loss_bins(np.array([0.0, 1.0, np.inf]), np.zeros(2)).edge_error[0])
        ahead = self.half.loss_bins(np.append(np.maximum(edges, least), np.inf), np.append(scale, 0.0))
        behind = self.half.reverse().loss_bins(np.minimum(edges, -least), scale)
        held = np.where((edges[:-1] < 0) & (edges[1:] >= 0), 1.0, 0.0)
        rest = self._rest(ahead, np.append(scale, 0.0))
        above, below = np.where(edges[1:] >= 0, 1.0, 0.0), np.where(edges[:-1] < 0, 1.0, 0.0)
        there = exp(Bounds.exact(np.where(held > 0, scale, 0.0)))
        return LossBins(
            p=above * ahead.p[:-1] + below * behind.p + held * rest,
            q=above * ahead.q[:-1] + below * behind.q + held * rest * there,
            edge_error=np.maximum(ahead.edge_error[:-1], behind.edge_error)
            + np.where(np.abs(edges) < least, 2.0 * least, 0.0),
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return ± the upper end of the half's range."""
        high = max(self.half.loss_range(tail)[1], 0.0)
        return -high, high

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log (E_B[r^t] − E_B[f(e^L); L <= 0] + E_A[f(e^{−L}); L > 0] + A(L = ∞) f(0)), r = 1 − p + p e^L.

        f = r^t − 1 − t p (e^L − 1) is of one sign and of second order at L = 0, so that a few thousand bins tell the
        sums; they are small beside E_B[r^t]. For p = 1 the moment is symmetric about t = 1/2.
        """
        lost = self.infinite_mass
        if power in (0.0, 1.0) and lost.upper == 0:
            return Bounds.exact(0.0)
        if probability == 1.0 and power < 0.5:
            known = lost.upper == 0 or power > 0
            return self.log_mixture_moment(1.0, 1.0 - power) if known else Bounds(lower=-np.inf, upper=np.inf)
        sign = float(np.sign(power * (power - 1.0)))

        def bent(loss: Array) -> Bounds:
            return log_excess(loss, probability, power)

        below, ahead = (
            convex_sum(law.below, bent, 0.0) for law in (binned_law(self.half), binned_law(self.half.reverse()))
        )
        added = sign * (ahead - below)
        if lost.upper > 0 or self.half.missing_mass.upper > 0:
            added = added + sign * (lost - self.half.missing_mass) * exp(bent(np.array([-np.inf])))[0]
        whole = self.half.log_mixture_moment(probability, power)
        return whole + log1p(added * exp(-whole))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> Merged:
        """Return the pair itself."""
        return self

    def _rest(self, ahead: LossBins, scale: Array) -> Bounds:
        """Enclose 1 − A(L > 0) − B(L > 0)."""
        size, lost = len(scale), self.half.infinite_mass
        q = ahead.q * exp(Bounds.exact(-scale))
        seen = Bounds(
            lower=float(np.sum(ahead.p.lower) + np.sum(q.lower)), upper=float(np.sum(ahead.p.upper) + np.sum(q.upper))
        )
        found = 1.0 - lost - seen.clip(0.0, np.inf).inflate(UNIT_ROUNDOFF * (32.0 + 2.0 * np.log2(size)))
        if found.upper < 0:
            raise UnsupportedProcess(
                "Merged: the mirror image of a pair must not be the larger one beyond α = 1, which this one's is.\n"
                "Use a base whose pair under replace_one is its own mirror image, as that of Gaussian(...) is."
            )
        return found.clip(0.0, 1.0)
