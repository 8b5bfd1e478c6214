"""Advanced composition: the losses of many steps concentrate, so that ε grows with the root of their number.

[DRV10] C. Dwork, G. Rothblum, S. Vadhan. Boosting and Differential Privacy. FOCS 2010.
[DR16] C. Dwork, G. Rothblum. Concentrated Differential Privacy. 2016. arXiv:1603.01887.
[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from accountant.basic import BasicCurve
from accountant.core.base import Accountant, Steps, dominating, largest_loss
from accountant.core.curve import Curve
from accountant.core.profile import Profile
from accountant.core.splits import Rough, Split, best, splits, total
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, expm1, sqrt, up
from mechanisms.core.process import Adjacency, Process

Theorem = Literal["kov", "drift", "drv"]
E = Bounds.exact(math.e).inflate(2.0**-52)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced(Accountant):
    """δ(ε) of steps that are (ε_i, d_i)-private, by Hoeffding's inequality for the sum of their losses.

    Each step's (ε_i, d_i) is read off its dominating pair, in each order of the neighbours its own, and the best split
    taken for every ε, see `accountant.core.splits`. Where ε_i is the same in both orders, of n_i steps each,

        ε = Σ n_i ε_i (e^{ε_i} − 1)/(e^{ε_i} + 1) + s √(2 log 1/δ'),     s² = Σ n_i ε_i²      [DR16, Azuma's inequality]

    at 1 − (1 − δ') Π (1 − d_i)^{n_i}, or with log(e + s/δ') where that is smaller [KOV15], or Σ n_i ε_i at δ' = 0.
    Where they differ, ε_i (e^{ε_i} − 1)/(e^{ε_i} + 1) is the mean of the two-valued loss and ε_i half its range.

    Use it to reproduce published numbers and for lists of thousands of different guarantees, for which `optimal` takes
    long; for steps of which no more is known than (ε, d), that one is exact, and for DP-SGD use `pld` or `contour`.

    Assumes that every step has a dominating pair. Guarantees: an upper bound, never above basic composition. As it
    knows the range of a step's loss and not its variance, it is 7.8 times the truth, .946867, on the case of Abadi et
    al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5):

    Args:
        theorem: "kov"; "drift" without the logarithm of [KOV15]; "drv" with the drift Σ n_i ε_i (e^{ε_i} − 1) of
            [DRV10], to reproduce what was published with it. Not larger than basic composition in any case.

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> round(Advanced().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).upper, 2)
    7.39
    """

    theorem: Theorem = "kov"

    def __post_init__(self) -> None:
        validate.choice("Advanced", "theorem", self.theorem, ("kov", "drift", "drv"))

    cost: ClassVar[float] = 4.0
    rough: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0."""
        curves = tuple(
            (direction, AdvancedCurve(steps=parts, theorem=self.theorem))
            for direction, parts in dominating(process, adjacency).items()
            if parts
        )
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvancedCurve(Curve):
    """The smaller of basic composition and of Hoeffding's inequality at the split that is best for each ε.

    Args:
        steps: the pairs and how often each runs.
        theorem: see `Advanced`.
    """

    steps: Steps
    theorem: Theorem

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i), where no step has an infinite loss."""
        return Bounds(lower=0.0, upper=largest_loss(self.steps).upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Return the upper end; the lower one is 0."""
        upper = np.array(BasicCurve(steps=self.steps).delta(epsilon).upper)
        for split, here in best(self.steps, epsilon, lambda rough, x: tails(rough, x, self.theorem)):
            upper[here] = np.minimum(upper[here], concentrated(split, epsilon[here], self.theorem).upper)
        return Bounds(lower=np.zeros_like(upper), upper=upper)

    def guess(self, delta: float) -> float:
        """The least over the splits of Σ n c + E L + s √(2 log 1/δ'), or Σ n c + Σ n u."""
        rough = splits(self.steps).rough
        drift, reach = _scales(rough, self.theorem)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            left = (delta - rough.lost) / (1.0 - rough.lost)
            away = drift + reach * np.sqrt(-2.0 * np.log(np.where(left > 0.0, left, 0.0)))
            ends = rough.offset + np.where(left >= 0.0, np.fmin(away, rough.largest), np.inf)
        least = float(np.nanmin(ends, initial=math.inf))
        return max(least if math.isfinite(least) else BasicCurve(steps=self.steps).guess(delta), 1e-9)


def concentrated(split: Split, epsilon: Array, theorem: Theorem) -> Bounds:
    """Bound δ at every ε: with w = (ε − Σ n c − E L)/s, by e^{−w²/2}, and by s/(e^{w²/2} − e) [KOV15].

    The latter is what log(e + s/δ') comes to when solved for δ'.
    """
    scale, drift = up(split.u + split.v), split.drift
    if theorem == "drv":
        widest = Bounds.exact(np.maximum(split.u, split.v))
        scale, drift = 2.0 * widest.upper, total(split.times * widest * expm1(widest))
    reach = sqrt(total(split.times * Bounds.exact(scale) * scale).clip(0.0, np.inf)) / 2.0
    left = Bounds.exact(epsilon) - split.offset
    away = ((left - drift).clip(0.0, np.inf) / reach).clip(0.0, np.inf)
    tail = exp(-(away * away) / 2.0).upper
    if theorem == "kov":
        grown = exp(away * away / 2.0) - E
        large = grown.lower > 0.0
        tail = np.where(large, np.minimum(tail, (reach / np.where(large, grown.lower, 1.0)).upper), tail)
    tail = np.where(left.lower >= split.largest.upper, 0.0, np.minimum(tail, 1.0))
    return split.delta(Bounds(lower=np.zeros_like(tail), upper=tail))


def _scales(rough: Rough, theorem: Theorem) -> tuple[Array, Array]:
    return (rough.drift_of_widest, rough.reach_of_widest) if theorem == "drv" else (rough.drift, rough.reach)


def tails(rough: Rough, epsilon: float, theorem: Theorem) -> Array:
    """Return about what every split makes of this ε."""
    drift, reach = _scales(rough, theorem)
    left = epsilon - rough.offset
    away = np.maximum(left - drift, 0.0) / reach
    return rough.lost + (1.0 - rough.lost) * np.where(left >= rough.largest, 0.0, np.exp(-0.5 * away * away))
