"""How many copies of a record a batch holds: binomial weights, and the pairs of steps on drawings with replacement.

A record is drawn k times with probability b_k = C(m, k) n^{−k} (1 − 1/n)^{m − k}. Let R be the law of the step on m
draws from the other records, P_k that with k of them replaced by x: laws of datasets that differ in k replaced records,
whose pair (P, Q)_k is that of a group. A dataset of n records with x shows b_0 R + Σ b_k P_k.

*Add/remove*, n the larger number of records: without x the step shows R. With η = 1 − b_0, by the Poisson theorem for a
sample of probability η [ZDW22] and joint convexity, ((1 − η) Q + η P, Q) and its reverse dominate, (P, Q) being
(P, Q)_k with probability b_k / η and k public. For Gaussians Σ b_k N(kν, 1) against N(0, 1), ν the shift under
replace-one, dominates: given the draws y_i from the others, x moves them by u_T = Σ_{i in T} (x − y_i), |u_T| <= |T| ν
(`mechanisms.core.normals_pair`). It is attained where all others hold the second record.

*Replace-one*: as for fixed-size batches (`mechanisms.core.fixed_size`), H_α' <= Σ b_k H_α((P, Q)_k) with
α' = 1 + η (α − 1), for α >= 1: the same pair, merged. Where x' is what all others hold, the Gaussian pair is attained.
*Zero-out*: as replace-one with an x' that contributes nothing; where nobody contributes, with the shift under zero-out.

[ZDW22] see `mechanisms.core.pair`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import mpmath as mp

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.fixed_size import Base, in_both_orders
from mechanisms.core.merged import Merged
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.normals_pair import NormalsPair
from mechanisms.core.pair import DominatingPair
from mechanisms.core.poisson_pairs import PoissonRemove
from mechanisms.core.public_mixture import PublicMixture

if TYPE_CHECKING:
    from mechanisms.core.process import Direction, Pairs

NEGLIGIBLE, MOST_COPIES = 1e-32, 250
ONE = Bounds(lower=1.0, upper=1.0)


def binomial_weights(owner: str, trials: int, share: Fraction) -> tuple[tuple[Bounds, ...], Bounds]:
    """Return enclosures of the binomial probabilities of 0, …, K, and of what is beyond K, below 1e-32 or so.

    Args:
        owner: who asks, for the message.
        trials: m >= 1.
        share: the probability of one success, in (0, 1).

    Raises:
        UnsupportedProcess: if K would be beyond 250.
    """
    with mp.workdps(60):
        chance = mp.mpf(share.numerator) / share.denominator
        weights, weight, odds = [], (1 - chance) ** trials, chance / (1 - chance)
        for k in range(min(trials, MOST_COPIES) + 1):
            weights.append(_enclosed(weight))
            ratio = odds * (trials - k) / (k + 1)
            weight = weight * ratio
            if weight == 0 or (2 * ratio < 1 and weight < NEGLIGIBLE):
                return tuple(weights), Bounds(lower=0.0, upper=float(up(float(2 * weight))) if weight else 0.0)
    raise UnsupportedProcess(
        f"{owner}: of {trials} chances of {float(share):.3g} at most {MOST_COPIES} may come true but for a probability "
        f"of {NEGLIGIBLE}. Use smaller batches or groups."
    )


def with_replacement_pairs(base: Base, adjacency: str, *, batch_size: int, records: int) -> Pairs:
    """Return the pairs of a step on `batch_size` draws, with replacement, of `records` records.

    Args:
        base: from the name of an adjacency to the pairs of the step.
        adjacency: its name.
        batch_size: m >= 1.
        records: n >= 1; under add/remove that of the larger dataset.

    Raises:
        UnsupportedProcess: if the step has no pair for groups under replace-one, or no record would be left to draw.
    """
    if records == 1 and adjacency == "add_remove":
        raise UnsupportedProcess(
            "WithReplacement: records must be at least 2 under add_remove, got 1: without it there is none to draw. "
            "Use adjacency='replace_one'."
        )
    if records == 1:
        pairs = base(adjacency).items()
        return {one: pair.group(batch_size) for one, pair in pairs if not one.startswith("witness")}
    weights, beyond = binomial_weights("WithReplacement", batch_size, Fraction(1, records))
    whole = base("replace_one")["replace"]
    shown = copies_of_a_normal(whole, weights, beyond)
    if adjacency == "add_remove" and shown is not None:
        return in_both_orders(shown, "remove", "add")
    half = some_copies(whole, weights, beyond)
    if adjacency == "add_remove":
        return in_both_orders(half, "remove", "add")
    merged = Merged.of(half)
    if adjacency == "zero_out":
        shown = copies_of_a_normal(base("zero_out")["remove"], weights, beyond)
    found: dict[Direction, DominatingPair] = {"replace": merged}
    if adjacency == "zero_out":
        found = {"remove": merged, "add": merged}
    return found | (in_both_orders(shown, "witness", "witness_reversed") if shown and shown.attained else {})


def copies_of_a_normal(pair: DominatingPair, weights: tuple[Bounds, ...], beyond: Bounds) -> NormalsPair | None:
    """Return Σ b_k N(kν, 1) against N(0, 1) for the pair of a Gaussian step, None for others."""
    mixture = pair.mixture
    if not isinstance(mixture, NormalMixture) or mixture.probability < 1.0:
        return None
    above = tuple((float(k), weight) for k, weight in enumerate(weights) if weight.upper > 0)
    return NormalsPair(unit=mixture.shift, above=above, below=((0.0, ONE),), lost=beyond, attained=pair.attained)


def some_copies(pair: DominatingPair, weights: tuple[Bounds, ...], beyond: Bounds) -> DominatingPair:
    """Return ((1 − η) Q + η P, Q), (P, Q) the pair of a group of k with probability b_k / η, k >= 1 public."""
    some = 1.0 - weights[0]
    parts = tuple((pair.group(k), weight / some) for k, weight in enumerate(weights) if k and weight.upper > 0)
    mixed = PublicMixture(parts=parts, lost=beyond / some, attained=False)
    return PoissonRemove(base=mixed, probability=float(some.upper), attained=False) if some.upper < 1 else mixed


def _enclosed(value: mp.mpf) -> Bounds:
    nearest = float(value)
    return Bounds(lower=max(float(down(nearest)), 0.0), upper=float(up(nearest)))
