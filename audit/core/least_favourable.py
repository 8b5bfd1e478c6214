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

Span = tuple[int, int]  # first, and one behind the last
TAILS = (0.95, 0.75, 0.5, 0.25, 0.05, 0.005)  # P[J > end] at the ends of blocks where J has many values
FEW = 8  # values of J that get a block each


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Probabilities by numbers of steps right and up, where they are asked for.

    Args:
        rows: of steps right; values are of shape (rows, columns).
        columns: of steps up.
        values: the probabilities.
    """

    rows: Span
    columns: Span
    values: Array

    def at(self, rows: Span, columns: Span) -> Array:
        """Return a part."""
        return self.values[
            rows[0] - self.rows[0] : rows[1] - self.rows[0], columns[0] - self.columns[0] : columns[1] - self.columns[0]
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeastFavourable:
    """The probability that the walk under sorted answers passes a region, for every ε, or for one.

    Args:
        runs: (n_in, n_out).
        sure_ins: (J, probability) of the numbers of runs with answer ∞, each standing for all below it in its block.
        sure_outs: the same of the answer with odds 0.
        unlisted: probability that there are more of either.
        firsts: by J, probability u that the walk from (J, 0) passes the region by (J + B, B').
        lasts: by J', probability v that the walk from there to (n_in, n_out − J') does.
    """

    runs: tuple[int, int]
    sure_ins: tuple[tuple[int, float], ...]
    sure_outs: tuple[tuple[int, float], ...]
    unlisted: float
    firsts: tuple[Table, ...]
    lasts: tuple[Table, ...]

    @classmethod
    def of(
        cls, region: Counts, excluded: int, *, delta: float, rest: float, only: float | None = None
    ) -> LeastFavourable:
        """Return the law of passing a region.

        Args:
            region: how many false positives it allows, by true positives, shape (n_in + 1,), never falling.
            excluded: n_out.
            delta: in [0, 1).
            rest: probability that may be counted as passing, unexamined.
            only: ε that alone will be asked about: tables are then of what is likely there.
        """
        included = len(region) - 1
        sure_ins, more_ins = _blocks(included, delta, 0.5 * rest)
        sure_outs, more_outs = _blocks(excluded, delta, 0.5 * rest)
        rows = [_likely(included - sure, only, 1.0) for sure, _ in sure_ins]
        columns = [_likely(excluded - sure, only, -1.0) for sure, _ in sure_outs]
        every_row = _around([(sure + one[0], sure + one[1]) for (sure, _), one in zip(sure_ins, rows, strict=True)])
        return cls(
            runs=(included, excluded),
            sure_ins=sure_ins,
            sure_outs=sure_outs,
            unlisted=more_ins + more_outs,
            firsts=tuple(
                passing(region[sure:], rows=one, columns=_around(columns))
                for (sure, _), one in zip(sure_ins, rows, strict=True)
            ),
            lasts=tuple(
                _passing_back(region, excluded - sure, rows=every_row, columns=one)
                for (sure, _), one in zip(sure_outs, columns, strict=True)
            ),
        )

    def p_value(self, epsilon: float) -> float:
        """Return the probability of the region, rounded up."""
        total = self.unlisted + sum(
            chance_in * chance_out * self._given(sure_in, sure_out, first, last, epsilon)
            for (sure_in, chance_in), first in zip(self.sure_ins, self.firsts, strict=True)
            for (sure_out, chance_out), last in zip(self.sure_outs, self.lasts, strict=True)
        )
        return float(rounded_up(np.array(total), sum(self.runs) + 2))

    def _given(self, sure_in: int, sure_out: int, first: Table, last: Table, epsilon: float) -> float:
        """Return E[u + v − u v] for so many sure answers."""
        high, low = special.expit(epsilon), special.expit(-epsilon)
        hits, hit_mass = near_mean(self.runs[0] - sure_in, np.array([high]))
        alarms, alarm_mass = near_mean(self.runs[1] - sure_out, np.array([low]))
        rows, columns = (int(hits[0, 0]), int(hits[0, -1]) + 1), (int(alarms[0, 0]), int(alarms[0, -1]) + 1)
        u = first.at(rows, columns)
        v = last.at((rows[0] + sure_in, rows[1] + sure_in), columns)
        return float(hit_mass[0] @ (u + v - u * v) @ alarm_mass[0])


def _likely(trials: int, epsilon: float | None, sign: float) -> Span:
    """Return the numbers of answers, right (sign 1) or wrong (−1) ones, that `near_mean` sums over; all, without ε."""
    if epsilon is None:
        return 0, trials + 1
    counts, _ = near_mean(trials, np.array([special.expit(sign * epsilon)]))
    return int(counts[0, 0]), int(counts[0, -1]) + 1


def _around(spans: list[Span]) -> Span:
    return min(start for start, _ in spans), max(end for _, end in spans)


def _passing_back(region: Counts, outs: int, *, rows: Span, columns: Span) -> Table:
    """Return the probability that a random walk from (i, j) to (ins, outs) passes the region.

    Walked backwards, with up and right exchanged, it is a walk from (0, 0) to (outs − j, ins − i) again.
    """
    ins = len(region) - 1
    mirrored = len(region) - np.searchsorted(region, outs - np.arange(outs + 1), side="right")
    found = passing(
        mirrored, rows=(outs + 1 - columns[1], outs + 1 - columns[0]), columns=(ins + 1 - rows[1], ins + 1 - rows[0])
    )
    return Table(rows=rows, columns=columns, values=found.values[::-1, ::-1].T)


def passing(region: Counts, *, rows: Span, columns: Span) -> Table:
    """Return the probability that a random walk to (i, j) passes the region, for i of `rows` and j of `columns`.

    Args:
        region: the walk passes it where j < region[i]; never falling, shape (ins + 1,).
        rows: from 0 to ins + 1.
        columns: from 0 on.

    All ways from (0, 0) to (i, j) are equally likely, so the last step is right with probability i / (i + j).

    >>> passing(np.array([0, 1]), rows=(0, 2), columns=(0, 2)).values  # half of the ways to (1, 1) pass (1, 0)
    array([[0. , 0. ],
           [1. , 0.5]])
    """
    ins, outs = rows[1] - 1, columns[1] - 1
    reached = np.arange(ins + 1) + region[: ins + 1]
    now = np.zeros(ins + 2)  # behind a 0, which no walk comes from
    table = np.zeros((rows[1] - rows[0], columns[1] - columns[0]))
    now[1] = float(region[0] > 0)
    if rows[0] == 0 == columns[0]:
        table[0, 0] = now[1]
    right = np.arange(ins + 1.0)
    for step in range(1, ins + outs + 1):
        low, high = max(0, step - outs), min(step, ins) + 1
        last_right, last_up = right[low:high] * now[low:high], (step - right[low:high]) * now[low + 1 : high + 1]
        now[low + 1 : high + 1] = np.where(reached[low:high] > step, 1.0, (last_right + last_up) / step)
        first, last = max(low, rows[0]), min(high, rows[1], step - columns[0] + 1)
        if first < last:
            kept = np.arange(first, last)
            table[kept - rows[0], step - kept - columns[0]] = now[first + 1 : last + 1]
    return Table(rows=rows, columns=columns, values=table)


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
