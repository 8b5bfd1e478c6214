"""Optimal composition: what (ε, δ)-guarantees say about their composition, no more and no less.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
[MV16] J. Murtagh, S. Vadhan. The Complexity of Computing the Optimal Composition of Differential Privacy. TCC 2016.
arXiv:1507.03113.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from accountant.advanced import AdvancedCurve, tails
from accountant.closed_form import AnswersCurve, is_answer
from accountant.core.base import Accountant, Steps, dominating, largest_loss, lost_mass
from accountant.core.binomial import MOST_ANSWERS
from accountant.core.curve import Curve
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.profile import Profile
from accountant.core.splits import FEW_KINDS, Rough, Split, best, splits
from accountant.core.two_losses import COARSE, sum_of
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency, Process

MOST_EQUAL = 2**28
FLAT = 300.0  # cosh of more leaves the floats


@dataclass(frozen=True, slots=True)
class Optimal(Accountant):
    """δ(ε) of steps of which no more is known than that they are (ε_i, d_i)-private, also between multiples of ε_i.

        δ(ε) = 1 − Π (1 − d_i) (1 − H),    H = Σ_S max(e^{ε(S)} − e^ε e^{ε(S')}, 0) / Π (1 + e^{ε_i})      [KOV15; MV16]

    ε(S) the sum of ε_i over a set S of steps, S' its complement: a binomial sum for equal steps, and for unequal ones a
    law of at most 2^18 atoms, moved to a grid where there are more (the problem is #P-hard [MV16]). Steps of another
    kind are taken for (ε_i, d_i)-private ones, in each order of the neighbours, with the split that is about the best
    for every ε, see `accountant.core.splits`.

    Guarantees: for compositions of `PureDP`, `ApproximateDP` and `RandomizedResponse` of two categories a bracket: up
    to rounding if the steps are equal, up to 2^40 of them, or if there are at most 18 that differ. Otherwise an upper
    bound, never above `basic` nor `advanced`.

    Use it where no more is known of steps than their guarantees. For DP-SGD use `pld` or `contour`: as two losses have
    a larger variance than all between them, it is 4.8 times the truth, .946867, on the case of Abadi et al. (σ = 4,
    q = .01, 10,000 steps, δ = 1e-5):

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> round(Optimal().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).upper, 2)
    4.5
    """

    cost: ClassVar[float] = 5.0

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile of guarantees, the upper one of other steps."""
        curves = tuple((d, _curve(parts)) for d, parts in dominating(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteesCurve(Curve):
    """δ(ε) of several kinds of guarantees.

    Args:
        steps: their pairs and how often each runs.
    """

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i ε_i, infinite where a step may give everything away."""
        return largest_loss(self.steps)

    @property
    def lost(self) -> Bounds:
        """1 − Π (1 − d_i)."""
        return lost_mass(self.steps)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, which rises with every ε_i, between the laws at both ends of what is known of them."""
        above, below = (sum_of(self._kinds(sign), above=sign > 0) for sign in (1.0, -1.0))
        upper, lower = np.ones_like(epsilon), np.zeros_like(epsilon)
        if above is not None and below is not None:
            upper = np.where(epsilon >= self._sum_of_finite, 0.0, np.minimum(above.upper(epsilon), 1.0))
            lower = np.clip(below.lower(epsilon), 0.0, upper)
        lost = self.lost
        return (lost + (1.0 - lost) * Bounds(lower=lower, upper=upper)).clip(0.0, 1.0)

    def guess(self, delta: float) -> float:
        """Solve for ε as if the losses summed to a normal one."""
        losses, times = self._losses, np.array([float(n) for _, n in self.steps])
        lost = float(self.lost.lower)
        doubt = (delta - lost) / (1.0 - lost) if lost < 1.0 else 0.0
        mean, spread = (
            times @ (losses * np.tanh(losses / 2)),
            times @ (losses / np.cosh(np.minimum(losses / 2, FLAT))) ** 2,
        )
        return max(1e-9, float(mean - math.sqrt(spread) * scipy.special.ndtri(doubt))) if 0.0 < doubt < 1.0 else 1.0

    def ledger(self, epsilon: float) -> Ledger:
        """Return the width of the enclosure of δ."""
        width = float(self.delta(np.array([epsilon])).width[0])
        source = "atoms of the loss moved to a grid where they are many, rounding of floats"
        return (ErrorLine(source=source, bound=width, unit="delta", basis="validated"),)

    @property
    def _losses(self) -> Array:
        return np.array([pair.supremum.upper for pair, _ in self.steps])

    @property
    def _sum_of_finite(self) -> float:
        bounded = Bounds.exact(self._losses) * np.array([float(n) for _, n in self.steps])
        return math.fsum(bounded.upper) * (1.0 + 4.0 * UNIT_ROUNDOFF)

    def _kinds(self, sign: float) -> tuple[tuple[float, float, int], ...]:
        ends = [pair.supremum.upper if sign > 0 else pair.supremum.lower for pair, _ in self.steps]
        return tuple((end, end, times) for end, (_, times) in zip(ends, self.steps, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCurve(Curve):
    """An upper end for steps of any kind, at the split of `advanced` and, for few kinds, what a normal law suggests.

    Args:
        steps: the pairs and how often each runs.
    """

    steps: Steps

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i), where no step has an infinite loss."""
        return Bounds(lower=0.0, upper=largest_loss(self.steps).upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Return the upper end, at most that of `advanced`; the lower one is 0."""
        upper = np.array(self._advanced.delta(epsilon).upper)
        suggestions = (lambda rough, x: tails(rough, x, "kov"), _normal)
        for rule in suggestions if len(self.steps) <= FEW_KINDS else suggestions[:1]:
            for split, here in best(self.steps, epsilon, rule):
                upper[here] = np.minimum(upper[here], _composed(split, epsilon[here]))
        return Bounds(lower=np.zeros_like(upper), upper=upper)

    def guess(self, delta: float) -> float:
        """Solve for ε as if the losses of a split summed to a normal one, with the best split."""
        rough = splits(self.steps).rough
        with np.errstate(all="ignore"):
            doubt = (delta - rough.lost) / (1.0 - rough.lost)
            ends = rough.offset + rough.drift - rough.spread * scipy.special.ndtri(np.where(doubt > 0.0, doubt, 0.0))
        return max(min(float(np.nanmin(ends, initial=math.inf)), self._advanced.guess(delta)), 1e-9)

    @property
    def _advanced(self) -> AdvancedCurve:
        return AdvancedCurve(steps=self.steps, theorem="kov")


def _curve(parts: Steps) -> Curve:
    if all(isinstance(pair, DiscretePair) and is_answer(pair) and pair.attained for pair, _ in parts):
        (pair, times), *others = parts
        if not others and times <= MOST_ANSWERS and isinstance(pair, DiscretePair):
            loss = max(pair.losses, default=0.0)
            return AnswersCurve(loss=loss, times=times, one_lost=pair.infinite_mass, attained=True)
        if all(times <= MOST_EQUAL for _, times in parts):
            return GuaranteesCurve(steps=parts)
    return SplitCurve(steps=parts)


def _composed(split: Split, epsilon: Array) -> Array:
    """Return the upper end of the composition's δ with this split."""
    law = sum_of(split.kinds, above=True, work=COARSE)
    if law is None:
        return np.ones_like(epsilon)
    left = (Bounds.exact(epsilon) - split.offset).lower
    found = np.where(left >= split.largest.upper, 0.0, np.clip(law.upper(left), 0.0, 1.0))
    return np.asarray(split.delta(Bounds(lower=np.zeros_like(found), upper=found)).upper)


def _normal(rough: Rough, epsilon: float) -> Array:
    """Return about what every split makes of this ε: its δ if the sum of its losses were normal."""
    left = epsilon - rough.offset - rough.drift
    point = -left / rough.spread
    other = np.exp(left + 0.5 * rough.spread**2 + scipy.special.log_ndtr(point - rough.spread))
    doubt: Array = np.maximum(scipy.special.ndtr(point) - other, 0.0)
    return rough.lost + (1.0 - rough.lost) * doubt
