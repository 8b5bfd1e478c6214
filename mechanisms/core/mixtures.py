"""What a pair may say it is, so that accountants that integrate its moments need not ask for its type."""

from __future__ import annotations

from dataclasses import dataclass

from mechanisms.core.bounds import Bounds

NONE = Bounds(lower=0.0, upper=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalMixture:
    """What a pair may be: ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)), or that reversed.

    Args:
        shift: enclosure of μ > 0.
        probability: q in (0, 1].
        reverse: whether the mixture is Q rather than P; where q = 1 it makes no difference.
    """

    shift: Bounds
    probability: float
    reverse: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundedMixture:
    """What a pair may be: ((1 − q) Q + q P, Q), or that reversed, where l = log dP/dQ is bounded on either side.

    Under Q, l has finitely many atoms and, between −s and s, the density e^{−(s + l)/2}/4 of a Laplace mechanism's.
    Where a pair has infinite losses, d = P(L = ∞) and m = Q(L = −∞), this is the pair given that its loss is finite, so
    that l = L + log((1 − m)/(1 − d)), and the pair's own profile is

        δ(ε) = d + (1 − d) δ'(ε + log((1 − m)/(1 − d))).

    Args:
        losses: enclosures of the atoms, shape (a,).
        masses: enclosures of Q's masses there.
        reach: enclosure of s >= 0; 0 where there are atoms only.
        probability: q in (0, 1].
        reverse: whether the mixture is Q rather than P.
        lost: enclosure of d.
        offset: enclosure of log((1 − m)/(1 − d)).
    """

    losses: Bounds
    masses: Bounds
    reach: Bounds
    probability: float
    reverse: bool
    lost: Bounds = NONE
    offset: Bounds = NONE
