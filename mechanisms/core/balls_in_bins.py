"""Balls in bins: every record falls into one of T steps, uniformly and independently of all others.

Zero-out and add/remove neighbours. Given where the other records fell, let r_t be the likelihood ratio of step t with
the record against without it. Then P, with the record, is the mean over t of the runs whose step t has it, so that its
ratio to Q, without it, is X = (r_1 + … + r_T)/T. If (P_1, Q_1) dominates a step, then given all that was published
before, E_Q φ(r_t) <= E_{Q_1} φ(r) for every convex φ, r = dP_1/dQ_1: replaced from the last step backwards by
independent copies of r, which keeps the function of the others' sum convex, the r_t become what they are for Gaussian
steps and orthogonal directions: P = mean over t of N(μ e_t, I), Q = N(0, I)               [CGHKKLMSZ24]. A bin with a
zeroed record must show what it shows without: see `mechanisms.core.counting` for schemes that do not. So, with the
laws of `mechanisms.core.ratio_laws`, both directions have a dominating pair and, where the step has an attained pair or
a witness (with and without the record), a pair that is no more telling than that of named neighbours.

Replace-one. The two runs fall into the same step with probability 1/T each, so that the profile, jointly convex, is at
most the step's own: a bound without amplification. One record and none are such neighbours too: the witnesses.

[CGHKKLMSZ24] L. Chua, B. Ghazi, C. Harrison, E. Leeman, P. Kamath, R. Kumar, P. Manurangsi, A. Sinha, C. Zhang.
Balls-and-Bins Sampling for DP-SGD. arXiv:2412.16802.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

from mechanisms.core.counting import check_schemes
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Pairs, Process
from mechanisms.core.ratio_laws import NARROWEST, RARE, WIDEST, Kind, ratio_pair, summed_ratios
from mechanisms.core.sampling import BallsInBins

ORDERS: tuple[Direction, Direction] = ("witness", "witness_reversed")
MOST_STEPS = 10**8  # beyond which roundings would add up; the mean of more ratios is less in the convex order


def pairs(step: Process, times: int, adjacency: Adjacency) -> Pairs:
    """Return the pairs of `times` >= 2 steps over which the records are spread.

    Raises:
        UnsupportedProcess: if the step has no pair under this adjacency, or counts records.
    """
    own = step.pairs(adjacency)
    if adjacency is Adjacency.REPLACE_ONE:
        return {"replace": unamplified(own["replace"]), **_zeroed(step, times)}
    found: dict[Direction, DominatingPair] = {}
    for direction, order in zip(adjacency.directions, ORDERS, strict=True):
        reverse = direction == "add"
        pair, seen = own[direction], own.get(order, own[direction])
        base, shown = (pair.reverse(), seen.reverse()) if reverse else (pair, seen)
        found[direction] = (
            spread_pair(base, min(times, MOST_STEPS), reverse) if representable(base) else unamplified(pair)
        )
        if shown.attained and representable(shown) and times <= MOST_STEPS:
            found[order] = collapsed_pair(shown, times, reverse)
    return found


def _zeroed(step: Process, times: int) -> Pairs:
    """Return the witnesses under replace-one: a record against one that contributes nothing, where that may be."""
    try:
        check_schemes(BallsInBins(), step, Adjacency.ZERO_OUT)
        own = step.pairs(Adjacency.ZERO_OUT)
    except UnsupportedProcess:
        return {}
    pair = own["remove"]
    if not pair.attained or not representable(pair) or times > MOST_STEPS:
        return {}
    return {"witness": collapsed_pair(pair, times, False), "witness_reversed": collapsed_pair(pair, times, True)}


def spread_pair(pair: DominatingPair, times: int, reverse: bool) -> DiscretePair:
    """Return a pair that dominates X of this step's pair, or its reverse."""
    return _pair(pair, times, "spread", reverse)


def collapsed_pair(pair: DominatingPair, times: int, reverse: bool) -> DiscretePair:
    """Return a pair that X of this step's pair, or its reverse, dominates."""
    return _pair(pair, times, "collapse", reverse)


@lru_cache(maxsize=32)
def _pair(pair: DominatingPair, times: int, kind: Kind, reverse: bool) -> DiscretePair:
    return ratio_pair(summed_ratios(pair, times, kind), times, reverse=reverse)


def unamplified(pair: DominatingPair) -> DominatingPair:
    """Return the step's own pair as a bound; it is still attained where it tells all for certain."""
    return pair if pair.infinite_mass.lower == 1.0 else cast(DominatingPair, replace(cast(Any, pair), attained=False))


def representable(pair: DominatingPair) -> bool:
    """Tell whether the ratios are floats, and not all 1 to nearly as many digits as floats have."""
    if pair.infinite_mass.upper == 1.0:
        return False
    low, high = pair.loss_range(RARE)
    return NARROWEST < max(-low, high) < WIDEST
