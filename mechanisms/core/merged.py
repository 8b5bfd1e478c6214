"""One pair that dominates two, of which one is the larger from α = 1 on and the other below.

Let (A, B) and (A', B') have the same H_1, A(L > 0) − B(L > 0) = B'(L' < 0) − A'(L' < 0), and losses that leave room
for each other: A(L > 0) + A'(L' < 0) <= 1. The profile

    H_α(A ‖ B) for α >= 1,    H_α(A' ‖ B') for α < 1,        H_α(P ‖ Q) = sup_S P(S) − α Q(S),

is that of the pair with the losses L > 0 of (A, B), the losses L' < 0 of (A', B'), and the loss 0 with the rest of the
mass:

| loss | mass under P | mass under Q |
|---|---|---|
| l in (0, ∞] | A(L ∈ dl) | B(L ∈ dl) |
| 0 | 1 − A(L > 0) − A'(L' < 0) | 1 − B(L > 0) − B'(L' < 0), the same |
| −l | A'(L' ∈ −dl) | B'(L' ∈ −dl) |

*Either order.* Under replace-one an adversary may take (A, B) in one step and (B, A) in the next, so that no maximum
after composition is sound. Merged first, with (A', B') = (B, A), their profile is the pointwise maximum where (A, B) is
the larger one from α = 1 on, as H_α(B ‖ A) = 1 − α + α H_{1/α}(A ‖ B). Such a pair is its own reverse.
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
    """The pair with the losses above 0 of one pair, those below 0 of another.

    Args:
        ahead: the pair (A, B).
        behind: the pair (A', B').
        attained: whether named neighbours have the merged pair itself.
    """

    ahead: DominatingPair
    behind: DominatingPair
    attained: bool = False

    @classmethod
    def of(cls, half: DominatingPair) -> Merged:
        """Return the pair that dominates both (A, B) and (B, A), (A, B) being the larger one from α = 1 on."""
        return cls(ahead=half, behind=half.reverse())

    @property
    def supremum(self) -> Bounds:
        """That of the pair ahead, 0 at least."""
        return self.ahead.supremum.clip(0.0, np.inf)

    @property
    def supremum_mass(self) -> Bounds:
        """That of the pair ahead, if it is above 0."""
        return self.ahead.supremum_mass if self.ahead.supremum.lower > 0 else Bounds(lower=0.0, upper=1.0)

    @property
    def infinite_mass(self) -> Bounds:
        """That of the pair ahead."""
        return self.ahead.infinite_mass

    @property
    def missing_mass(self) -> Bounds:
        """That of the pair behind."""
        return self.behind.missing_mass

    def delta(self, epsilon: Bounds) -> Bounds:
        """That of the pair ahead, as ε >= 0."""
        return self.ahead.delta(epsilon)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Take the losses above 0 from one pair, those below from the other, the rest of the masses to 0.

        Bins begin at a t > 0 that is more than the edges of either pair may be off, so that none reaches across 0: an
        edge in [0, t) is t to them, one in (−t, 0) is −t, and the bin that holds 0 holds what is between.

        Raises:
            UnsupportedProcess: if A(L > 0) + A'(L' < 0) > 1, where one pair isn't the larger one on all of its side.
        """
        least = 4.0 * max(
            float(self.ahead.loss_bins(np.array([0.0, 1.0, np.inf]), np.zeros(2)).edge_error[0]),
            float(self.behind.loss_bins(np.array([-np.inf, -1.0, 0.0]), np.zeros(2)).edge_error[-1]),
        )
        ends = np.append(scale, 0.0), np.append(0.0, scale)
        ahead = self.ahead.loss_bins(np.append(np.maximum(edges, least), np.inf), ends[0])
        behind = self.behind.loss_bins(np.append(-np.inf, np.minimum(edges, -least)), ends[1])
        held = np.where((edges[:-1] < 0) & (edges[1:] >= 0), 1.0, 0.0)
        above, below = np.where(edges[1:] >= 0, 1.0, 0.0), np.where(edges[:-1] < 0, 1.0, 0.0)
        back = [exp(Bounds.exact(-one)) for one in ends]
        rest = self._rest(ahead.p, behind.p, self.infinite_mass)
        held_q = self._rest(ahead.q * back[0], behind.q * back[1], self.missing_mass)
        there = exp(Bounds.exact(np.where(held > 0, scale, 0.0)))
        return LossBins(
            p=above * ahead.p[:-1] + below * behind.p[1:] + held * rest,
            q=above * ahead.q[:-1] + below * behind.q[1:] + held * held_q * there,
            edge_error=np.maximum(ahead.edge_error[:-1], behind.edge_error[1:])
            + np.where(np.abs(edges) < least, 2.0 * least, 0.0),
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return the lower end of the one range and the upper end of the other."""
        return min(self.behind.loss_range(tail)[0], 0.0), max(self.ahead.loss_range(tail)[1], 0.0)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log (E_B[r^t] − E_B[f(e^L); L < 0] + E_B'[f(e^L'); L' < 0] + …), r = 1 − p + p e^L.

        f = r^t − 1 − t p (e^L − 1) is of one sign and of second order at L = 0, so that a few thousand bins tell the
        sums; they are small beside E_B[r^t]. Where losses are infinite, − t p A(L = ∞) + t p P(L = ∞) cancel, and Q has
        B'(L' = −∞) in the place of B(L = −∞) where r = 1 − p. For p = 1 the moment at t < 1/2 is that of the reverse at
        1 − t.
        """
        lost, missing = self.infinite_mass, self.missing_mass
        if power in (0.0, 1.0) and lost.upper == missing.upper == 0:
            return Bounds.exact(0.0)
        if probability == 1.0 and power < 0.5:
            known = missing.upper == 0 or power > 0
            return self.reverse().log_mixture_moment(1.0, 1.0 - power) if known else Bounds(lower=-np.inf, upper=np.inf)
        sign = float(np.sign(power * (power - 1.0)))

        def bent(loss: Array) -> Bounds:
            return log_excess(loss, probability, power)

        taken, given = (convex_sum(binned_law(pair).below, bent, 0.0) for pair in (self.ahead, self.behind))
        added = sign * (given - taken)
        if missing.upper > 0 or self.ahead.missing_mass.upper > 0:
            added = added + sign * (missing - self.ahead.missing_mass) * exp(bent(np.array([-np.inf])))[0]
        whole = self.ahead.log_mixture_moment(probability, power)
        return whole + log1p(added * exp(-whole))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> Merged:
        """Return the merged pair of both reversed, which is this one where they are each other's reverse."""
        if self.behind == self.ahead.reverse():
            return self
        return Merged(ahead=self.behind.reverse(), behind=self.ahead.reverse(), attained=self.attained)

    def _rest(self, ahead: Bounds, behind: Bounds, lost: Bounds) -> Bounds:
        """Enclose what the losses above 0, those below, and the infinite ones leave of 1."""
        lower = float(np.sum(ahead.lower) + np.sum(behind.lower))
        upper = float(np.sum(ahead.upper) + np.sum(behind.upper))
        slack = UNIT_ROUNDOFF * (32.0 + 2.0 * np.log2(2.0 * len(ahead.lower)))
        found = 1.0 - lost - Bounds(lower=lower, upper=upper).clip(0.0, np.inf).inflate(slack)
        if found.upper < 0:
            raise UnsupportedProcess(
                "Merged: the mirror image of a pair must not be the larger one beyond α = 1, which this one's is.\n"
                "Use a base whose pair under replace_one is its own mirror image, as that of Gaussian(...) is."
            )
        return found.clip(0.0, 1.0)
