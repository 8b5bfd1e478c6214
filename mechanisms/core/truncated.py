"""The pairs of steps on Poisson samples that are cut to a largest size B, uniformly at random.

Reveal the batch T that the other records give, which does not depend on x. With |T| < B nothing is cut, and the step is
a Poisson-sampled one. With |T| = B there are c >= B of these in the sample, T being a random batch of them; a dataset
with x shows x with probability q B/(c + 1) in the place of one of T, so that given T it shows (1 − q') R + q' P_x
against R,

    q' = q E[B/(c + 1) | c >= B],              as in `mechanisms.core.fixed_size`, with its pairs for a share of q'

under every adjacency: a record that is set to zero takes its place as before.

With probability P(c < B) the pair of the Poisson sample, else that of a batch of fixed size with γ = q', dominates.
Where the number of records is not stated, c may be anything, and the second pair, with γ = q, stands alone. This is
sharper than adding (1 + e^ε) P(c >= B) to δ at every step [CGK+24].

Below, in a dataset of one record nothing is ever cut, which is a witness unless a scheme around or beside this one
states more records (`mechanisms.core.counting`). In one of n, x is in the batch with probability q P(c < B) +
q' P(c >= B), so that where all others contribute nothing a Poisson sample of that probability is seen.

[CGK+24] L. Chua et al. Scalable DP-SGD: Shuffling vs. Poisson Subsampling. NeurIPS 2024. arXiv:2411.04205.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import mpmath as mp

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.fixed_size import Base, at_most, in_both_orders, ratio, shown, zeroed_pair
from mechanisms.core.merged import Merged
from mechanisms.core.public_mixture import PublicMixture

if TYPE_CHECKING:
    from mechanisms.core.pair import DominatingPair
    from mechanisms.core.process import Pairs

ONE = Bounds(lower=1.0, upper=1.0)
WIDEST = 2e4  # records, of the deviation of their number, beyond which there are too many terms
FAR = 12.0  # deviations, and as many squared, below the mean, before which lie e^{-72} by Bernstein's inequality
NEGLIGIBLE, SKIPPED = mp.mpf("1e-20"), mp.mpf("1e-30")


def truncated_pairs(
    base: Base,
    adjacency: str,
    poisson: Callable[[Base], Pairs],
    *,
    probability: float,
    largest: int,
    records: int | None,
) -> Pairs:
    """Return the pairs of a step on a Poisson sample cut to `largest` records.

    Args:
        base: from the name of an adjacency to the pairs of the step.
        adjacency: its name.
        poisson: from the base to its pairs on a Poisson sample that is not cut.
        probability: q in (0, 1].
        largest: B >= 1.
        records: the number of records, under add/remove that of the larger dataset; None where it is not stated.

    Raises:
        UnsupportedProcess: if the step lacks a pair under replace-one.
    """
    if records is not None and records <= largest:
        return poisson(base)
    cut, stays = cut_chance(probability, largest, records)
    share = (probability * stays / cut).upper if cut.lower > 0.0 else probability
    whole, share = base("replace_one")["replace"], min(share, probability)
    below = base("add_remove" if adjacency == "replace_one" else adjacency)["remove"]
    seen = probability * ((1.0 - cut).clip(0.0, 1.0) + stays).clip(0.0, 1.0) if records else Bounds.exact(probability)
    witnesses = shown(below, seen) if seen.lower > 0 else {}
    plain = poisson(base)
    if adjacency == "replace_one":
        return {"replace": _either(plain["replace"], Merged.of(at_most(whole, share)), cut), **witnesses}
    fixed = at_most(whole, share) if adjacency == "add_remove" else zeroed_pair(below, whole, share)
    pair = _either(plain["remove"], fixed, cut)
    return in_both_orders(pair, "remove", "add") | witnesses


def cut_chance(probability: float, largest: int, records: int | None) -> tuple[Bounds, Bounds]:
    """Enclose P(c >= B) and E[B/(c + 1); c >= B], c of the other records being sampled.

    Where c may be anything, or takes too many values, (1, 1 at most): every batch is taken for a cut one.
    """
    if records is None:
        return ONE, ONE
    others, exact = records - 1, mp.mpf(probability)
    if probability == 1.0:
        return ONE, ratio(largest, records)
    deviation = math.sqrt(others * probability * (1.0 - probability))
    if deviation > WIDEST:
        return ONE, Bounds(lower=ratio(largest, records).lower, upper=1.0)
    with mp.workdps(50):
        odds = exact / (1 - exact)
        start = max(largest, math.floor(others * probability - FAR * deviation - FAR * FAR))
        weight = mp.exp(
            mp.loggamma(others + 1) - mp.loggamma(start + 1) - mp.loggamma(others - start + 1)
            + start * mp.log(odds) + others * mp.log1p(-exact)
        )  # fmt: skip
        total, stays = mp.mpf(0), mp.mpf(0)
        for k in range(start, others + 1):
            total, stays = total + weight, stays + weight * largest / (k + 1)
            fall = odds * (others - k) / (k + 1)
            weight *= fall
            if 2 * fall < 1 + fall and weight < (1 - fall) * total * NEGLIGIBLE:
                break
        return _enclosed(total, start > largest), _enclosed(stays, start > largest)


def _enclosed(value: mp.mpf, missing: bool) -> Bounds:
    """Enclose a sum of which 1e-20 of itself may be missing, or of which the first terms, all small, are."""
    lower, upper = float(value * (1 - mp.mpf("1e-18"))), value * (1 + mp.mpf("1e-18")) + (SKIPPED if missing else 0)
    return Bounds(lower=float(down(lower)), upper=min(1.0, float(up(float(upper)))))


def _either(plain: DominatingPair, worse: DominatingPair, cut: Bounds) -> DominatingPair:
    """Return the worse pair with probability `cut`, else the plain one, the choice being public."""
    if cut.lower == 1.0:
        return worse
    return PublicMixture(parts=((plain, (1.0 - cut).clip(0.0, 1.0)), (worse, cut)), attained=False)
