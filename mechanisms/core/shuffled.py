"""Shuffled batches: one uniformly random order of the records, cut into T batches of one size, one for each step.

Zero-out and replace-one neighbours. A record is in one step, which its value does not choose, so that the profile,
jointly convex, is at most the step's own. That is nearly all there is for Gaussians: if all others contribute −1, and
the record 1 against 0 (or against −1), the T sums, shifted and scaled to unit variance, are

    zero-out:     P = mean over t of N(2μ e_t, I),  Q = mean over t of N(μ e_t, I)          [CGKKMSZ24]
    replace-one:  P = mean over t of N(m e_t, I),   Q = N(0, I),   m = 2μ

of which the first is seen here through its largest coordinate alone, w = max w_t, and through which of some intervals
it lies in: P(w < c) = Φ(c − 2μ) Φ(c)^{T − 1}, Q(w < c) = Φ(c − μ) Φ(c)^{T − 1}. The second is the pair of
`mechanisms.core.balls_in_bins`, as it is for any step with all others as the record is in Q, one in a batch.

Steps that are ε₀-private, of whatever kind, do gain [FMT21]: pick a place in the batches, and think of all but the T
records in that place as known, with their order. The T records there are in uniformly random order, and with what is
known, step t is a randomiser of its one record that is ε₀-private: `mechanisms.core.clones` applies. (Whole batches
would not do as users: two batches differ in many records.) Batches of one size make every record be in each place's
step equally likely; records that are left over at the end of the order and take part in no step only help.

Add/remove neighbours: the cuts move with the number of records, so that one record more may change every batch.

[CGKKMSZ24] L. Chua, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi, A. Sinha, C. Zhang. How Private are DP-SGD
Implementations? ICML 2024. arXiv:2403.17673.
[FMT21] see `mechanisms.core.clones`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import scipy

from mechanisms.core.balls_in_bins import MOST_STEPS, collapsed_pair, representable, unamplified
from mechanisms.core.bounds import Array, Bounds, exp, expm1, intersection, log, log_ndtr
from mechanisms.core.clones import clone_pair, clone_probability
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Pairs, Process

THRESHOLDS = 1024
REACH = 13.0  # standard deviations about both means: Φ(−13) = 6e-39
WIDEST = 1e6  # μ, above which cuts that are distances of 1 apart would need more digits
MOST_PRIVATE = 500.0  # ε₀, above which shuffling changes nothing that floats could show


@runtime_checkable
class Local(Protocol):
    """A step that asks every record by itself, and knows how likely any answer is to be a clone's."""

    def clone_probability(self) -> Bounds:
        """Enclose a p with R(y) >= (p/2) (R(x) + R(x')) for all records x, x', y."""


def pairs(step: Process, times: int, adjacency: Adjacency) -> Pairs:
    """Return the pairs of `times` >= 2 steps over whose batches the records are shuffled.

    Raises:
        UnsupportedProcess: under add/remove, or if the step has no pair under this adjacency.
    """
    if adjacency is Adjacency.ADD_REMOVE:
        raise UnsupportedProcess(
            "Shuffled: no proved bound under add_remove, as one record more moves the cuts between all batches, and a "
            "bound for Poisson sampling does not hold for it. Use adjacency='zero_out' or 'replace_one'."
        )
    own = {direction: pair for direction, pair in step.pairs(adjacency).items() if direction in adjacency.directions}
    hidden = _hidden(step, own, times, adjacency)
    found: dict[Direction, DominatingPair] = {}
    for direction, pair in own.items():
        found[direction] = hidden if hidden is not None and _less(hidden, pair) else unamplified(pair)
    return {**found, **_witnesses(own, times, adjacency)}


def _less(one: DominatingPair, other: DominatingPair) -> bool:
    """Tell which of two bounds of the same profile to keep, by their total variation."""
    return bool(one.delta(Bounds.exact(0.0)).upper <= other.delta(Bounds.exact(0.0)).upper)


def _hidden(step: Process, own: Pairs, times: int, adjacency: Adjacency) -> DominatingPair | None:
    """Return the pair of the clones, if the step is ε₀-private."""
    if any(pair.infinite_mass.upper > 0 for pair in own.values()):
        return None
    epsilon = max(float(pair.supremum.upper) for pair in own.values())
    if not 0 < epsilon <= MOST_PRIVATE:
        return None
    probability = clone_probability(epsilon, zeroed=adjacency is Adjacency.ZERO_OUT)
    if isinstance(step, Local):
        probability = max(probability, float(step.clone_probability().lower))
    return clone_pair(epsilon, probability, times)


def _witnesses(own: Pairs, times: int, adjacency: Adjacency) -> Pairs:
    """Return the pairs of named neighbours: all others as the record is in Q, or, for zeroed Gaussians, opposite."""
    pair = own["replace" if adjacency is Adjacency.REPLACE_ONE else "remove"]
    kind = pair.mixture
    gaussian = isinstance(kind, NormalMixture) and kind.probability == 1.0 and kind.shift.upper <= WIDEST
    if not pair.attained or times > MOST_STEPS or not (representable(pair) or gaussian):
        return {}
    if adjacency is Adjacency.ZERO_OUT and isinstance(kind, NormalMixture) and gaussian:
        return {
            "witness": largest_coordinate(kind.shift, times, reverse=False),
            "witness_reversed": largest_coordinate(kind.shift, times, reverse=True),
        }
    if not representable(pair):
        return {}
    return {"witness": collapsed_pair(pair, times, False), "witness_reversed": collapsed_pair(pair, times, True)}


@lru_cache(maxsize=32)
def largest_coordinate(shift: Bounds, times: int, *, reverse: bool) -> DiscretePair:
    """Return what the largest coordinate of `times` shows of N(2μ e_t, I) against N(μ e_t, I), t uniform.

    Args:
        shift: enclosure of μ > 0.
        times: T >= 2.
        reverse: whether to return the pair the other way round.

    >>> seen = largest_coordinate(Bounds.exact(2.0), 10_000, reverse=False)
    >>> bool(seen.delta(Bounds.exact(10.99)).lower > 1e-6)
    True
    """
    cuts = _cuts(float(shift.upper), times)
    p, q = (_masses(cuts, moved * shift, times) for moved in (2.0, 1.0))
    shown, hidden = (q, p) if reverse else (p, q)
    held = shown.lower > 1e-280
    losses = log(Bounds.exact(shown.lower[held]) / Bounds.exact(hidden.upper[held])).lower
    order = np.argsort(losses)
    return DiscretePair(
        losses=tuple(losses[order].tolist()),
        masses=tuple(Bounds.exact(mass) for mass in shown.lower[held][order].tolist()),
        infinite_mass=Bounds.exact(0.0),
        missing_mass=Bounds.exact(0.0),
        attained=True,
    )


def _cuts(shift: float, times: int) -> Array:
    """Return where to cut: about the largest of the noises, and about one that is moved by μ or 2μ."""
    noise = np.linspace(-REACH, REACH, 4 * THRESHOLDS)
    least = float(noise[np.searchsorted((times - 1.0) * scipy.special.log_ndtr(noise), -REACH * REACH)])
    pieces = [np.linspace(max(least, at - REACH), at + REACH, THRESHOLDS) for at in (0.0, shift, 2.0 * shift)]
    return np.unique(np.concatenate(pieces))


def _masses(cuts: Array, moved: Bounds, times: int) -> Bounds:
    """Enclose the probabilities of the intervals between cuts, both ends open, where one of the noises is moved."""
    at = Bounds.exact(cuts)
    log_below = log_ndtr(at - moved) + (times - 1.0) * log_ndtr(at)
    below, above = exp(log_below), -expm1(log_below)
    nothing = np.zeros(1)
    by_below = _joined(below, nothing, 1.0 + nothing)
    by_above = _joined(above, 1.0 + nothing, nothing)
    left = (by_below[1:] - by_below[:-1]).clip(0.0, 1.0)
    right = (by_above[:-1] - by_above[1:]).clip(0.0, 1.0)
    return intersection([left, right])


def _joined(middle: Bounds, first: Array, last: Array) -> Bounds:
    return Bounds(lower=np.concatenate([first, middle.lower, last]), upper=np.concatenate([first, middle.upper, last]))
