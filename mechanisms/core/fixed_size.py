"""The pairs of steps on batches of a fixed size, drawn without replacement.

Let S be the other records, R the law of the step on a random batch of S, and P_x that on a batch in which the record x
has taken the place of one of them: R and P_x are averages, over the same batches and places, of laws of datasets that
differ by one replaced record. H_α is jointly convex, so that with (P, Q) the step's pair under replace-one

    H_α(P_x ‖ R) <= H_α(P ‖ Q)    and    H_α(P_x ‖ P_x') <= H_α(P ‖ Q),    in either order.        (1)

A dataset of n records that holds x shows (1 − γ) R + γ P_x, γ = m/n.

*Add/remove*, n the larger number of records: without x the step shows R itself, so that by (1) and the theorem on
Poisson samples [ZDW22] the pairs of these with the step's pair *under replace-one* dominate. They are attained where
all others hold the second record of that pair [LRKS24]: R and P_x then are Q and P.

*Replace-one*: by advanced joint convexity [BBG18], for α >= 1, α' = 1 + γ (α − 1) and β = α'/α,

    H_α'((1 − γ) R + γ P_x ‖ (1 − γ) R + γ P_x')  <=  γ ((1 − β) H_α(P_x ‖ R) + β H_α(P_x ‖ P_x'))  <=  γ H_α(P ‖ Q),

the profile of ((1 − γ) Q + γ P, Q) at α'. Exchanging x and x' gives the same for α' < 1 and its reverse, so that both
merged dominate (`mechanisms.core.merged`) [ZDW22]. Where x' is what all others hold, that pair itself is attained.

*Zero-out*: as replace-one with an x' that contributes nothing, which is what setting a record to zero makes of it.
Where all others contribute nothing as well, the Poisson pair of the step's pair under zero-out is attained. Normal
steps that a record replaced moves twice as far as one that is zeroed have the smallest pair that dominates, of two that
are attained, in `mechanisms.core.opposed_normals`.

[BBG18] B. Balle, G. Barthe, M. Gaboardi. Privacy Amplification by Subsampling: Tight Analyses via Couplings and
Divergences. NeurIPS 2018. arXiv:1807.01647.
[LRKS24] C. J. Lebeda, M. Regehr, G. Kamath, T. Steinke. Avoiding Pitfalls for Privacy Accounting of Subsampled
Mechanisms under Composition. arXiv:2405.20769.
[ZDW22] see `mechanisms.core.pair`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.merged import Merged
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.normals_pair import NormalsPair
from mechanisms.core.opposed_normals import OpposedNormals
from mechanisms.core.pair import DominatingPair
from mechanisms.core.poisson_pairs import PoissonRemove

if TYPE_CHECKING:
    from mechanisms.core.process import Direction, Pairs

Base = Callable[[str], "Pairs"]
"""From the name of an adjacency to the pairs of the step that is sampled."""


def fixed_size_pairs(base: Base, adjacency: str, *, batch_size: int, records: int) -> Pairs:
    """Return the pairs of a step on `batch_size` of `records` records.

    Args:
        base: see `Base`.
        adjacency: its name.
        batch_size: m, at least 1.
        records: n >= m; under add/remove that of the larger dataset.

    Raises:
        UnsupportedProcess: if the step has no pair under replace-one, or a record fewer would leave too few.
    """
    if batch_size == records and adjacency == "add_remove":
        raise UnsupportedProcess(
            f"FixedSize: batch_size must be less than records under add_remove, got {batch_size} of {records}: one "
            "record fewer leaves too few for a batch. Use adjacency='replace_one'."
        )
    if batch_size == records:
        return base(adjacency)
    share = ratio(batch_size, records)
    replaced = base("replace_one")
    whole = replaced["replace"]
    if adjacency == "add_remove":
        pair = sampled(whole, share)
        return in_both_orders(pair, "remove", "add") | ({} if pair.attained else shown(alike(base, replaced), share))
    if adjacency == "replace_one":
        found: dict[Direction, DominatingPair] = {"replace": Merged.of(at_most(whole, share.upper))}
        return found | shown(alike(base, replaced), share)
    zeroed = base("zero_out")["remove"]
    found = in_both_orders(zeroed_pair(zeroed, whole, share.upper), "remove", "add")
    if not opposed(zeroed, whole) or not zeroed.attained:
        return found | shown(zeroed, share)
    shift = cast(NormalMixture, zeroed.mixture).shift
    opposite = OpposedNormals(shift=shift, probability=share.lower, attained=True)
    return found | {"witness": opposite, "witness_reversed": at_least(zeroed, share)}


def zeroed_pair(zeroed: DominatingPair, replaced: DominatingPair, probability: float) -> Merged:
    """Return the pair of a record against the same one zeroed, in the place of another, for an upper end of γ.

    With γ its profile rises, by joint convexity.
    """
    if not opposed(zeroed, replaced):
        return Merged.of(at_most(replaced, probability))
    shift = cast(NormalMixture, zeroed.mixture).shift
    ahead = OpposedNormals(shift=shift, probability=probability, attained=False)
    return Merged(ahead=ahead, behind=at_most(zeroed, probability).reverse())


def opposed(zeroed: DominatingPair, replaced: DominatingPair) -> bool:
    """Return whether these are normal steps that a record replaced moves twice as far as one that is zeroed."""
    near, far = zeroed.mixture, replaced.mixture
    if not isinstance(near, NormalMixture) or not isinstance(far, NormalMixture):
        return False
    return near.probability == far.probability == 1.0 and far.shift.upper >= 2.0 * near.shift.lower


def shown(pair: DominatingPair, share: Bounds) -> dict[Direction, DominatingPair]:
    """Return as witnesses the Poisson pair of an attained pair, none of another."""
    return in_both_orders(at_least(pair, share), "witness", "witness_reversed") if pair.attained else {}


def sampled(pair: DominatingPair, share: Bounds) -> DominatingPair:
    """Return the Poisson pair that dominates for the share γ of the records, attained where γ is a float."""
    exact = pair.attained and share.lower == share.upper and not isinstance(pair, (PoissonRemove, NormalsPair))
    return at_least(pair, share) if exact else at_most(pair, share.upper)


def alike(base: Base, replaced: Pairs) -> DominatingPair:
    """Return the pair of x against what all others in the batch hold as well, if it is an attained one.

    Opposite records attain the `NormalsPair` of a Poisson sample where all others contribute nothing, so that what x
    against nothing shows stands for it.
    """
    whole = replaced["replace"]
    return base("add_remove")["remove"] if isinstance(whole, NormalsPair) else replaced.get("witness", whole)


def at_most(pair: DominatingPair, probability: float) -> DominatingPair:
    """Return ((1 − q) Q + q P, Q), whose profile rises with q, for an upper end of q."""
    if probability == 1.0:
        return cast(DominatingPair, replace(cast(Any, pair), attained=False))
    if isinstance(pair, PoissonRemove):
        product = (Bounds.exact(probability) * pair.probability).upper
        return PoissonRemove(base=pair.base, probability=min(1.0, product), attained=False)
    return PoissonRemove(base=pair, probability=probability, attained=False)


def at_least(pair: DominatingPair, share: Bounds) -> DominatingPair:
    """Return ((1 − q) Q + q P, Q) of an attained pair for a lower end of q, so that named neighbours show more."""
    if share.lower == 1.0:
        return pair
    if isinstance(pair, PoissonRemove):
        product = (share * pair.probability).lower
        return PoissonRemove(base=pair.base, probability=product, attained=True)
    return PoissonRemove(base=pair, probability=share.lower, attained=True)


def in_both_orders(pair: DominatingPair, forth: Direction, back: Direction) -> dict[Direction, DominatingPair]:
    """Return a pair and its reverse under their names."""
    return {forth: pair, back: pair.reverse()}


def ratio(part: int, whole: int) -> Bounds:
    """Enclose part/whole in (0, 1), both ends floats there."""
    nearest = part / whole  # correctly rounded, for whole numbers of any size
    numerator, denominator = nearest.as_integer_ratio()
    missed = part * denominator - numerator * whole
    if missed > 0:
        return Bounds(lower=nearest, upper=float(up(nearest)))
    return Bounds(lower=float(down(nearest)) if missed < 0 else nearest, upper=nearest)
