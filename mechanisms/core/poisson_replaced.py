"""The pairs of Poisson-sampled steps under replace-one.

Let R be the law of the step on a Poisson sample of the other records and P_x that with x added to it, so that a dataset
with x shows (1 − q) R + q P_x.

*Normals*: with |x|, |x'| <= μ, as it is where leaving a record out moves a query by at most μ, the pair

    (1 − q) N(0, 1) + q N(μ, 1)    against    (1 − q) N(0, 1) + q N(−μ, 1)                      [KJH20, S pair]

dominates by the theorem of `mechanisms.core.normals_pair`, and opposite records of norm μ attain it. A sample of a
sample is one with the product of the probabilities.

*Other steps*: H_α(P_x ‖ R) and H_α(P_x ‖ P_x') are at most H_α(P ‖ Q), (P, Q) the step's pair under replace-one: to
leave a record out of a query is to replace it by one that contributes nothing. So the merged pair of
`mechanisms.core.fixed_size` dominates, with q in the place of γ, and a record replaced by one that contributes nothing
has the Poisson pair. What opposite records show is in `mechanisms.core.opposed_records`.

[KJH20] A. Koskela, J. Jälkö, A. Honkela. Computing Tight Differential Privacy Guarantees Using FFT. AISTATS 2020.
arXiv:1906.03049.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechanisms.core.bounds import Bounds
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.fixed_size import Base, at_most, shown
from mechanisms.core.merged import Merged
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.normals_pair import NormalsPair

if TYPE_CHECKING:
    from mechanisms.core.pair import DominatingPair
    from mechanisms.core.process import Direction, Pairs


def poisson_replaced(base: Base, probability: float) -> Pairs:
    """Return the pairs under replace-one of a step on a Poisson sample.

    Args:
        base: from the name of an adjacency to the pairs of the step.
        probability: q in (0, 1).

    Raises:
        UnsupportedProcess: if the step has no pair under add/remove, or none under replace-one.
    """
    replaced = base("replace_one")
    try:
        removed = base("add_remove")["remove"]
    except UnsupportedProcess as error:
        raise UnsupportedProcess(
            "Poisson: under replace_one the step needs a pair under add_remove too, as a sample may lack the record. "
            f"{error}"
        ) from None
    whole, left_out = replaced["replace"], removed.mixture
    normal = isinstance(whole, NormalsPair) or isinstance(whole.mixture, NormalMixture)
    if normal and isinstance(left_out, NormalMixture) and not left_out.reverse:
        inner = whole.above[-1][1] if isinstance(whole, NormalsPair) else Bounds.exact(left_out.probability)
        share = probability * inner
        parts = ((0.0, (1.0 - share).clip(0.0, 1.0)), (1.0, share.clip(0.0, 1.0)))
        attained = whole.attained
        return {"replace": NormalsPair(unit=left_out.shift, above=parts, below=parts, attained=attained)}
    found: dict[Direction, DominatingPair] = {"replace": Merged.of(at_most(whole, probability))}
    return found | shown(removed, Bounds.exact(probability))
