"""The law of scores that makes the best threshold look best, among all that (ε, δ) allows.

Sort independent runs by score, highest first, and walk a lattice: a step right for a run with the canary in, a step up
for one with it out. The points (true positives, false positives) passed are those of all thresholds. Let a statistic be
the largest value at a point passed, of an order that rises with true positives and falls with false ones.

Every (ε, δ)-differentially private computation is a random function of a randomised response of four answers [KOV15],
and so is every score. With p = 1 / (1 + e^−ε) the answers' probabilities and odds of "in" against "out" are

    canary in     δ     (1 − δ) p           (1 − δ) (1 − p)     0
    canary out    0     (1 − δ) (1 − p)     (1 − δ) p           δ
    odds          ∞     e^ε                 e^−ε                0

*No law of scores makes the statistic larger, in distribution, than scores that sort the runs by these odds.*

Proof. Fix the numbers of runs in and out. How often each answer occurs does not depend on the scores' law. Let the
answers be sorted by score, and let two neighbours have odds o < o′, in this order. Given all answers and the other
labels, theirs are equal, or (in, out) and (out, in) with odds o : o′. Exchange the two answers, and it becomes o′ : o,
all else staying the same. The walk with (in, out) passes the same points as that with (out, in) but for one, which has
one true positive more and one false positive less. So the exchange lets the statistic grow in distribution, and
exchanges end in sorted answers. Tied scores, which leave points out, only lower it. ∎

The largest probability over all computations is therefore that of one law, with a constant likelihood ratio, and is
computed. Given the answers, the walk goes right J times, then on to (J + B, B′), all ways being equally likely; and in
the same manner from there to (n_in, n_out − J′) and up. With u and v the probabilities that the two middle parts pass a
point of the region, P = E[u + v − u v] over binomial J, J′, B and B′.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from audit.core.binomial import Array, Counts, near_mean, rounded_up

TAILS = (0.95, 0.75, 0.5, 0.25, 0.05, 0.005)  # P[J > end] at the ends of blocks where J has many values
FEW = 8  # values of J that get a block each


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeastFavourable:
    """The probability that the walk under sorted answers passes a region, for every ε.

    Args:
        sure_ins: (J, probability) of the numbers of runs with answer ∞, each standing for all below it in its block.
        sure_outs: the same of the answer with odds 0.
        unlisted: probability that there are more of either.
        firsts: by J, probability u that the walk from (J, 0) passes the region by (J + B, B').
        lasts: by J', probability v that the walk from there to (n_in, n_out − J') does.
    """

    sure_ins: tuple[tuple[int, float], ...]
    sure_outs: tuple[tuple[int, float], ...]
    unlisted: float
    firsts: tuple[Array, ...]
    lasts: tuple[Array, ...]

    @classmethod
    def of(cls, region: Counts, excluded: int, *, delta: float, rest: float) -> LeastFavourable:
        """Return the law of passing a region.

        Args:
            region: how many false positives it allows, by true positives, shape (n_in + 1,), never falling.
            excluded: n_out.
            delta: in [0, 1).
            rest: probability that may be counted as passing, unexamined.
        """
        sure_ins, more_ins = _blocks(len(region) - 1, delta, 0.5 * rest)
        sure_outs, more_outs = _blocks(excluded, delta, 0.5 * rest)
        return cls(
            sure_ins=sure_ins,
            sure_outs=sure_outs,
            unlisted=more_ins + more_outs,
            firsts=tuple(passing(region[sure:], excluded) for sure, _ in sure_ins),
            lasts=tuple(_passing_back(region, excluded - sure) for sure, _ in sure_outs),
        )

    def p_value(self, epsilon: float) -> float:
        """Return the probability of the region, rounded up."""
        total = self.unlisted + sum(
            chance_in * chance_out * self._given(sure_in, sure_out, first, last, epsilon)
            for (sure_in, chance_in), first in zip(self.sure_ins, self.firsts, strict=True)
            for (sure_out, chance_out), last in zip(self.sure_outs, self.lasts, strict=True)
        )
        runs = self.firsts[0].shape[0] + self.firsts[0].shape[1]
        return float(rounded_up(np.array(total), runs))

    @staticmethod
    def _given(sure_in: int, sure_out: int, first: Array, last: Array, epsilon: float) -> float:
        """Return E[u + v − u v] for so many sure answers."""
        high, low = special.expit(epsilon), special.expit(-epsilon)
        hits, hit_mass = near_mean(first.shape[0] - 1, np.array([high]))
        alarms, alarm_mass = near_mean(first.shape[1] - 1 - sure_out, np.array([low]))
        rows, columns = slice(hits[0, 0], hits[0, -1] + 1), slice(alarms[0, 0], alarms[0, -1] + 1)
        u = first[rows, columns]
        v = last[sure_in:][rows, columns]
        return float(hit_mass[0] @ (u + v - u * v) @ alarm_mass[0])


def _passing_back(region: Counts, outs: int) -> Array:
    """Return the probability that a random walk from (i, j) to (ins, outs) passes the region.

    Walked backwards, with up and right exchanged, it is a walk from (0, 0) to (outs − j, ins − i) again.
    """
    mirrored = len(region) - np.searchsorted(region, outs - np.arange(outs + 1), side="right")
    return passing(mirrored, len(region) - 1)[::-1, ::-1].T


def passing(region: Counts, outs: int) -> Array:
    """Return the probability that a random walk to (i, j) passes the region, shape (len(region), outs + 1).

    Args:
        region: the walk passes it where j < region[i]; never falling, shape (ins + 1,).
        outs: largest j.

    All ways from (0, 0) to (i, j) are equally likely, so the last step is right with probability i / (i + j).

    >>> passing(np.array([0, 1]), 1)  # half of the ways to (1, 1) pass (1, 0)
    array([[0. , 0. ],
           [1. , 0.5]])
    """
    rights = np.arange(len(region))
    reached = rights + region
    now = np.zeros(len(region))
    table = np.zeros((len(region), outs + 1))
    table[0, 0] = now[0] = float(region[0] > 0)
    for step in range(1, len(region) + outs):
        low, high = max(0, step - outs), min(step, len(region) - 1) + 1
        right = rights[low:high]
        last_up = (step - right) * now[low:high]
        last_right = right * (now[low - 1 : high - 1] if low else np.concatenate([[0.0], now[: high - 1]]))
        now[low:high] = np.where(reached[low:high] > step, 1.0, (last_right + last_up) / step)
        table[right, step - right] = now[low:high]
    return table


def _blocks(trials: int, delta: float, rest: float) -> tuple[tuple[tuple[int, float], ...], float]:
    """Return (J, probability) for blocks of J ~ Bin(trials, δ), each by its largest value, and P[J above all of them].

    More sure answers only enlarge the statistic, as one more is a run moved to the top (or bottom) of all, so the
    largest stands for its block. Where there are few values each has a block, and nothing is lost.
    """
    counts, masses = near_mean(trials, np.array([delta]))
    above = np.append(np.cumsum(masses[0][::-1])[::-1][1:], 0.0)
    kept = int(np.argmax(above <= rest)) + 1
    ends = np.arange(kept) if kept <= FEW else np.unique([*(np.argmax(above <= tail) for tail in TAILS), kept - 1])
    chances = -np.diff(above[ends], prepend=1.0)
    return tuple((int(counts[0, end]), float(chance)) for end, chance in zip(ends, chances, strict=True)), float(
        above[ends[-1]]
    )
