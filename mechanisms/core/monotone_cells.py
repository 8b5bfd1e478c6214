"""Two laws on the line with a monotone density ratio, known by the masses of cells: pairs above and below theirs.

Let cells follow each other in the order of r = dP/dQ, cell k with masses P_k, Q_k known to intervals [P_k⁻, P_k⁺] and
[Q_k⁻, Q_k⁺]. Then in cell k

    ρ_k⁻ = max_{j<k} P_j⁻/Q_j⁺  <=  r  <=  ρ_k⁺ = min_{j>k} P_j⁺/Q_j⁻,

as the mean of r over a cell lies between its extremes there.

*Above.* H_α(P ‖ Q) = Σ_k ∫_k (r − α)₊ dQ, and (r − α)₊ is convex in r: of all laws of r in the cell with the same mean,
that on the ends ρ_k⁻, ρ_k⁺ gives most [DGKKM22], call it h_k(P_k, Q_k). With P it rises, by no more than P does; with Q
it falls; down a ray P = ρQ it falls by no more than P does. So a path from (P_k, Q_k) to (P_k⁻, Q_k⁻), along the rays
ρ_k± where it would leave the region between them, shows h_k(P_k, Q_k) <= h_k(p, q) + P_k − p at its end (p, q), with
p <= P_k⁻ and q <= Q_k⁻. What is left of P goes to an infinite loss, what is left of Q to −∞: the sum over k is H_α of a
pair of probability laws. More mass on ρ_k⁺ at the same mean, or a higher or lower end, spreads further still, which is
how numbers may be rounded to few bits.

*Below.* For every threshold t, S = {X > t} has P(S) >= A⁻ and Q(S) <= B⁺: the least concave curve above these points is
nowhere above the curve of (P, Q) (`mechanisms.core.roc_curves`), monotone or not.

[DGKKM22] V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi. Connect the Dots: Tighter Discrete Approximations
of Privacy Loss Distributions. PoPETs 2022. arXiv:2207.04380.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.roc_curves import Curve, hull

Interval = tuple[Fraction, Fraction]
Atom = tuple[Fraction, Fraction]
BITS = 64  # to which ratios and shares are rounded
ZERO = Fraction(0)


def upper_cells(
    p_band: list[Interval], q_band: list[Interval], *, rising: bool
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Return the probabilities of a pair that dominates.

    Args:
        p_band: enclosures of P(X <= t), from (0, 0) to (1, 1), both ends increasing, shape (n + 1,).
        q_band: the same of Q.
        rising: whether r increases with the outcome; it decreases otherwise.

    Raises:
        InvalidParameter: if no monotone r has such masses.
    """
    p, q = _masses(p_band, rising), _masses(q_band, rising)
    atoms: list[Atom] = []
    for cell, (low, high) in enumerate(zip(_floors(p, q), _ceilings(p, q), strict=True)):
        _check(p[cell], q[cell], low, high)
        atoms += _spread(p[cell][0], q[cell][0], low, high)
    left_p, left_q = (1 - sum((atom[side] for atom in atoms), start=ZERO) for side in (0, 1))
    atoms += [(left_p, ZERO), (ZERO, left_q)]
    return tuple(a for a, _ in atoms), tuple(b for _, b in atoms)


def lower_curve(p_band: list[Interval], q_band: list[Interval], *, rising: bool) -> Curve:
    """Return the curve of a pair that (P, Q) dominates: of {X > t}, or of {X <= t}, at every threshold."""
    if rising:
        return hull([(1 - q[0], 1 - p[1]) for p, q in zip(p_band, q_band, strict=True)])
    return hull([(q[1], p[0]) for p, q in zip(p_band, q_band, strict=True)])


def _masses(band: list[Interval], rising: bool) -> list[Interval]:
    """Enclose the masses of the cells, in the order of r."""
    found = [(max(ZERO, two[0] - one[1]), two[1] - one[0]) for one, two in itertools.pairwise(band)]
    return found if rising else found[::-1]


def _floors(p: list[Interval], q: list[Interval]) -> list[Fraction | None]:
    """Return ρ⁻ of every cell, None for ∞."""
    found: list[Fraction | None] = [ZERO]
    for (least, _), (_, most) in zip(p[:-1], q[:-1], strict=True):
        here = _rounded(least / most, up=False) if most else (None if least else ZERO)
        before = found[-1]
        found.append(None if here is None or before is None else max(before, here))
    return found


def _ceilings(p: list[Interval], q: list[Interval]) -> list[Fraction | None]:
    """Return ρ⁺ of every cell, None for ∞."""
    found: list[Fraction | None] = [None]
    for (_, most), (least, _) in zip(reversed(p[1:]), reversed(q[1:]), strict=True):
        here = _rounded(most / least, up=True) if least else None
        after = found[-1]
        found.append(after if here is None else here if after is None else min(after, here))
    return found[::-1]


def _check(p: Interval, q: Interval, low: Fraction | None, high: Fraction | None) -> None:
    """Refuse a cell whose mean of r can't lie between the bounds that its neighbours set."""
    below = q[0] > 0 if low is None else p[1] < low * q[0]
    above = high is not None and p[0] > high * q[1]
    if below or above or (high is not None and (low is None or low > high)):
        raise InvalidParameter(
            "UserSupplied: the loss must be monotone in the outcome as stated, but the masses between thresholds are "
            "not. Check the direction of loss=..., and state an accuracy that the functions have."
        )


def _spread(p: Fraction, q: Fraction, low: Fraction | None, high: Fraction | None) -> list[Atom]:
    """Return atoms with P-masses that add to p at most and Q-masses that add to q at most."""
    if low is None:
        return []
    if p < low * q:
        q = _rounded(p / low, up=False)
    if high is None:
        return [(low * q, q)]
    p = min(p, high * q)
    if not p or not q:
        return []
    top = _rounded((p - low * q) / (high - low), up=True) if high > low else ZERO
    if high * top > p or top > q:
        top = min(q, _rounded(p / high, up=False))
        return [(p, top), (ZERO, q - top)] if top else []
    return [(high * top, top), (p - high * top, q - top)]


def _rounded(value: Fraction, *, up: bool) -> Fraction:
    """Return the value to `BITS` binary places from its first one on, rounded up or down."""
    if not value:
        return ZERO
    places = BITS - (value.numerator.bit_length() - value.denominator.bit_length())
    scaled = value * Fraction(2) ** places
    return Fraction(-(-scaled.numerator // scaled.denominator) if up else scaled.numerator // scaled.denominator) / (
        Fraction(2) ** places
    )
