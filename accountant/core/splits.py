"""Splits: every step as a guarantee of two numbers, read off its dominating pair in both orders of the neighbours.

For any ε₊, ε₋ >= 0 a step's pair (P, Q) satisfies, by the definition of its privacy profile,

    P(S) <= e^{ε₊} Q(S) + d₊   and   Q(S) <= e^{ε₋} P(S) + d₋   for all S,     d₊ = δ(ε₊), d₋ that of (Q, P) at ε₋,

and the pair with these masses dominates whatever does (of all with these constraints it has the smallest trade-off
function; ε₊ = ε₋ is the pair of [KOV15]):

    loss      ε₊      −ε₋      infinite under P     −∞ under Q
    mass      a        b             d₊                 d₋           a + b = 1 − d₊,  a e^{−ε₊} + b e^{ε₋} = 1 − d₋

Given that nothing is infinite, the losses are u = ε₊ − c and −v = −(ε₋ + c), c = log((1 − d₊)/(1 − d₋)), and
P(u) = (1 − e^{−v})/(1 − e^{−u−v}). A composition loses 1 − Π (1 − d₊)^n, and e^{Σ n c} goes into its e^ε. So d₋ costs
no δ, just n d₋ of ε, and may be much larger than d₊.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from accountant.core.base import Steps
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log1p, where
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

LARGEST = 1e300
CLOSE_TO_ZERO, PER_NAT = 1e-300, 128.0
LEAST_TAIL = 1e-305
FEW_KINDS = 32
LEVELS = np.concatenate([np.linspace(0.3, 20.0, 120), np.linspace(22.0, 300.0, 40)])
"""−log₁₀ of what all steps together may lose."""
SHIFTS = np.append(np.linspace(-3.0, 3.0, 25), [4.0, 6.0, 12.0])
"""−log₁₀ of the same of the pairs in reverse, which d₋ of theirs is much less than."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The splits that are looked at: each of `up` with each of `down`, arrays of shape (kinds, levels).

    Args:
        times: how often each kind of step runs, shape (kinds,).
        up: ε₊.
        lost: d₊, rounded up.
        down: ε₋.
        missing: d₋, rounded up.
    """

    times: Array
    up: Array
    lost: Array
    down: Array
    missing: Array

    @classmethod
    def of(cls, parts: Steps) -> Splits:
        """Return the splits of one direction's steps."""
        runs = float(sum(times for _, times in parts))
        sparse = slice(None, None, 1 if len(parts) <= FEW_KINDS else 4)
        ends = [_ends(pair, 10.0 ** -LEVELS[sparse] / runs) for pair, _ in parts]
        back = [_ends(pair.reverse(), 10.0 ** -SHIFTS[sparse] / runs) for pair, _ in parts]
        return cls(
            times=np.array([float(times) for _, times in parts]),
            up=np.array([up for up, _ in ends]),
            lost=np.array([lost for _, lost in ends]),
            down=np.array([down for down, _ in back]),
            missing=np.array([missing for _, missing in back]),
        )

    @cached_property
    def rough(self) -> Rough:
        """What all of them come to, in plain floats."""
        times = self.times[:, None, None]
        up, lost = self.up[:, :, None], self.lost[:, :, None]
        down, missing = self.down[:, None, :], self.missing[:, None, :]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            offset = np.log1p(-lost) - np.log1p(-missing)
            u, v = np.maximum(up - offset, 0.0), np.maximum(down + offset, 0.0)
            width, widest = u + v, np.maximum(u, v)
            chance = np.where(width > 0.0, np.expm1(-v) / np.expm1(-width), 0.0)
            return Rough(
                lost=-np.expm1(np.sum(times * np.log1p(-lost) + 0.0 * missing, axis=0)),
                offset=np.sum(times * offset, axis=0),
                drift=np.sum(times * (chance * width - v), axis=0),
                reach=0.5 * np.sqrt(np.sum(times * width**2, axis=0)),
                spread=np.sqrt(np.sum(times * chance * (1.0 - chance) * width**2, axis=0)),
                largest=np.sum(times * u + 0.0 * v, axis=0),
                drift_of_widest=np.sum(times * widest * np.expm1(widest), axis=0),
                reach_of_widest=np.sqrt(np.sum(times * widest**2, axis=0)),
            )

    def chosen(self, level: int, shift: int) -> Split:
        """Return one of them, certified."""
        lost, missing = Bounds.exact(self.lost[:, level]), Bounds.exact(self.missing[:, shift])
        log_kept, nothing = log1p(-lost), Bounds.exact(np.zeros_like(self.times))
        offset = where(lost.upper == missing.upper, nothing, log_kept - log1p(-missing))
        return Split(
            times=self.times,
            u=(Bounds.exact(self.up[:, level]) - offset).upper.clip(0.0, LARGEST),
            v=(Bounds.exact(self.down[:, shift]) + offset).upper.clip(0.0, LARGEST),
            lost=_complement(lost.upper, total(self.times * log_kept)),
            offset=total(self.times * offset),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One split of the steps: the two finite losses of each kind and what the composition loses.

    Args:
        times: how often each kind runs, shape (kinds,).
        u: the larger loss of each, given that it is finite; rounded up.
        v: the smaller one, negated; rounded up.
        lost: 1 − Π (1 − d₊)^n.
        offset: Σ n c, what ε is lessened by.
    """

    times: Array
    u: Array
    v: Array
    lost: Bounds
    offset: Bounds

    def delta(self, of_finite: Bounds) -> Bounds:
        """Return the composition's δ, `of_finite` being what its finite losses have at ε − Σ n c."""
        return (self.lost + (1.0 - self.lost).clip(0.0, 1.0) * of_finite).clip(0.0, 1.0)

    @property
    def kinds(self) -> tuple[tuple[float, float, int], ...]:
        """(u, v, n) of every kind, as `accountant.core.two_losses` takes them."""
        return tuple(zip(self.u.tolist(), self.v.tolist(), map(int, self.times), strict=True))

    @property
    def chance(self) -> Bounds:
        """P(u) = (1 − e^{−v})/(1 − e^{−u−v}) of each kind; between 0 and 1 where there is no loss at all."""
        width = Bounds.exact(self.u) + self.v
        return (expm1(Bounds.exact(-self.v)) / expm1(-width)).clip(0.0, 1.0)

    @property
    def drift(self) -> Bounds:
        """E L = Σ n (P(u) u − P(−v) v), at most Σ n u, where P(−v) = e^{−v} (1 − e^{−u})/(1 − e^{−u−v})."""
        width = Bounds.exact(self.u) + self.v
        other = (exp(Bounds.exact(-self.v)) * expm1(Bounds.exact(-self.u)) / expm1(-width)).clip(0.0, 1.0)
        return total(self.times * (self.chance * self.u - other * self.v))

    @property
    def largest(self) -> Bounds:
        """Σ n u."""
        return total(self.times * Bounds.exact(self.u))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rough:
    """What all splits come to, about: arrays of shape (levels of `up`, levels of `down`).

    Args:
        lost: 1 − Π (1 − d₊)^n.
        offset: Σ n c.
        drift: E L of the finite losses.
        reach: √(Σ n (u + v)²)/2, the scale in Hoeffding's inequality.
        spread: their standard deviation.
        largest: Σ n u.
        drift_of_widest: Σ n w (e^w − 1), w the larger of u and v.
        reach_of_widest: √(Σ n w²).
    """

    lost: Array
    offset: Array
    drift: Array
    reach: Array
    spread: Array
    largest: Array
    drift_of_widest: Array
    reach_of_widest: Array


@lru_cache(maxsize=16)
def splits(parts: Steps) -> Splits:
    """Return the splits of one direction's steps."""
    return Splits.of(parts)


def best(parts: Steps, epsilon: Array, delta: Callable[[Rough, float], Array]) -> list[tuple[Split, Array]]:
    """Return the splits that make about the least of these ε, each with the places of its own.

    Any split is valid, so that ε which lie close together share one.

    Args:
        parts: one direction's steps.
        epsilon: shape (n,).
        delta: what every split makes of an ε, about.
    """
    found, answers = splits(parts), []
    places = np.round(np.log(np.maximum(epsilon, CLOSE_TO_ZERO)) * PER_NAT)
    for place in np.unique(places):
        with np.errstate(all="ignore"):
            guessed = np.nan_to_num(delta(found.rough, float(np.exp(place / PER_NAT))), nan=np.inf)
        level, shift = np.unravel_index(int(np.argmin(guessed)), guessed.shape)
        answers.append((found.chosen(int(level), int(shift)), places == place))
    return answers


def total(terms: Bounds) -> Bounds:
    """Enclose the sum of the terms, shape (n,)."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [float(np.sum(end)) for end in (terms.lower, terms.upper)]
        slack = (np.size(terms.upper) + 2) * UNIT_ROUNDOFF * float(np.sum(np.abs(terms.lower) + np.abs(terms.upper)))
    if not np.isfinite(slack):
        return Bounds(lower=-np.inf, upper=np.inf)
    return Bounds(lower=sums[0], upper=sums[1]) + Bounds(lower=-slack, upper=slack)


def _complement(lost: Array, log_kept: Bounds) -> Bounds:
    """Enclose 1 − Π (1 − d)^n: 0 or 1 where they are certain, else by the logarithm."""
    if not np.any(lost) or np.max(lost) == 1.0:
        return Bounds.exact(float(np.max(lost)))
    return -expm1(log_kept.clip(-np.inf, 0.0))


def _ends(pair: DominatingPair, tails: Array) -> tuple[Array, Array]:
    """Return ε and δ(ε), rounded up, where the loss exceeds ε with about these probabilities; its supremum last."""
    supremum = float(min(pair.supremum.upper, LARGEST))
    reach = [pair.loss_range(float(np.clip(tail, LEAST_TAIL, 0.5)))[1] for tail in tails]
    epsilon = np.append(np.clip(np.nan_to_num(reach, nan=LARGEST), 0.0, max(supremum, 0.0)), max(supremum, 0.0))
    delta = np.where(epsilon >= pair.supremum.upper, pair.infinite_mass.upper, pair.delta(Bounds.exact(epsilon)).upper)
    return epsilon, np.clip(delta, pair.infinite_mass.upper, 1.0)
