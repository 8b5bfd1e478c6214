"""The pairs of steps on Poisson samples that are cut to a largest size B, uniformly at random.

Reveal the size c of the sample of the other records, which does not depend on x. With c < B nothing is cut, and the
step is a Poisson-sampled one. With c >= B a dataset without x shows R, a random batch of B of these c; one with x shows
x with probability q B/(c + 1) <= q, in the place of one of them: (1 − q') R + q' P_x, q' <= q, as in
`mechanisms.core.fixed_size`, with its pairs for a share of q at most. So

    with probability P(c < B) the pair of the Poisson sample, else that of a batch of fixed size with γ = q

dominates. Where the number of records is not stated, c may be anything, and the second pair, which is the worse one,
stands alone. This is sharper than adding (1 + e^ε) P(c >= B) to δ at every step [CGK+24].

Below, in a dataset of one record nothing is ever cut, which is a witness unless a scheme around or beside this one
states more records (`mechanisms.core.counting`). In one of n, x stays with a probability of P(c < B) and of B/n at
least, so that where all others contribute nothing a Poisson sample of that probability times q is seen.

[CGK+24] L. Chua et al. Scalable DP-SGD: Shuffling vs. Poisson Subsampling. NeurIPS 2024. arXiv:2411.04205.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import mpmath as mp

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.fixed_size import Base, at_most, in_both_orders, ratio, shown
from mechanisms.core.merged import Merged
from mechanisms.core.public_mixture import PublicMixture

if TYPE_CHECKING:
    from mechanisms.core.pair import DominatingPair
    from mechanisms.core.process import Pairs

MOST_RECORDS = 10**9


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
        UnsupportedProcess: if the step lacks a pair under replace-one, or there are too many records.
    """
    if records is not None and records <= largest:
        return poisson(base)
    whole, cut = base("replace_one")["replace"], cut_chance(probability, largest, records)
    fixed = at_most(whole, probability)
    below = base("add_remove" if adjacency == "replace_one" else adjacency)["remove"]
    seen = Bounds.exact(probability)
    if records is not None:
        seen = seen * max(float(down(1.0 - cut)), ratio(largest, records).lower)
    witnesses = shown(below, seen) if seen.lower > 0 else {}
    plain = poisson(base)
    if adjacency == "replace_one":
        return {"replace": _either(plain["replace"], Merged(half=fixed), cut), **witnesses}
    pair = _either(plain["remove"], fixed if adjacency == "add_remove" else Merged(half=fixed), cut)
    return in_both_orders(pair, "remove", "add") | witnesses


def cut_chance(probability: float, largest: int, records: int | None) -> float:
    """Bound the probability that at least `largest` of the other records are sampled; 1 where that is likely.

    Σ_{k >= B} of binomial probabilities that fall by a ratio which falls itself.

    Raises:
        UnsupportedProcess: if there are more than a billion records.
    """
    if records is None or (records - 1) * probability >= largest - 1 or probability == 1.0:
        return 1.0
    if records > MOST_RECORDS:
        raise UnsupportedProcess(f"TruncatedPoisson: records must be at most {MOST_RECORDS}, got {records}.")
    others = records - 1
    with mp.workdps(50):
        odds = mp.mpf(probability) / (1 - mp.mpf(probability))
        weight = mp.binomial(others, largest) * odds**largest * (1 - mp.mpf(probability)) ** others
        total = mp.mpf(0)
        for k in range(largest, others + 1):
            ratio = odds * (others - k) / (k + 1)
            total += weight
            weight *= ratio
            if weight < total * mp.mpf("1e-25"):
                total += weight / (1 - ratio)
                break
        return min(1.0, float(up(float(total * (1 + mp.mpf("1e-20"))))))


def _either(plain: DominatingPair, worse: DominatingPair, cut: float) -> DominatingPair:
    """Return the worse pair with probability `cut`, else the plain one, the choice being public."""
    if cut == 1.0:
        return worse
    weights = Bounds(lower=float(down(1.0 - cut)), upper=float(up(1.0 - cut))), Bounds.exact(cut)
    return PublicMixture(parts=((plain, weights[0]), (worse, weights[1])), attained=False)
