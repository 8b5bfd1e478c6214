"""Numbers under noise that is conditioned on a public interval: what such mechanisms have in common.

The law of value + noise, given that it lies in [lower, upper]. Its normalising constant depends on the value, and so is
part of the loss: between two values it may add to what the noise alone shows.

*Losses of one range within ±ε.* Let every loss lie in an interval of length η that itself lies in [−ε, ε],
η/2 <= ε <= η. Then the laws of two losses t and t − η, η − ε <= t <= ε, dominate (`mechanisms.core.range_pair`), and
the pointwise supremum of their profiles is that of (2) there for |α| <= 2 c, c = ε − η/2, and linear in e^α beyond, up
to ε: its t is (α + η)/2 or, at the ends, ε and η − ε. The two meet without a kink. So it is the profile of

| public choice | with probability | pair |
|---|---|---|
| losses within ±2c | sinh(c)/sinh(η/2) | that of the range 2c |
| else | the rest | randomised response of ε |

Only ε-differential privacy is left where c = 0, and the range alone where c = η/2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath as mp

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_noise import grid, number, rounded
from mechanisms.core.exact_reals import Enclosure
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency
from mechanisms.core.public_mixture import PublicMixture
from mechanisms.core.range_pair import RangePair

DIGITS = 60
LEAST_REACH, LARGEST_LOSS = mp.mpf("1e-290"), mp.mpf("1e300")  # between which a loss is told apart from 0 and from ∞
CELLS = 64
Inverse = Callable[[Fraction, Fraction, Fraction], Enclosure]
"""From value, lower and upper to what encloses the noise at an already chosen quantile of its conditioned law."""


def interval(owner: str, lower: object, upper: object) -> tuple[float, float]:
    """Return the ends of a public interval.

    Raises:
        InvalidParameter: if they are not finite numbers, the first one below the second one.
    """
    low, high = validate.finite(owner, "lower", lower), validate.finite(owner, "upper", upper)
    if not low < high:
        raise InvalidParameter(f"{owner}: lower must lie below upper, got {low} and {high}. Did you swap them?")
    return low, high


def check_declared(owner: str, declared: float, given: object) -> None:
    """Check that a release is for the sensitivity that was declared: the normalising constants depend on it.

    Raises:
        InvalidParameter: if it is another one.
    """
    if validate.positive(owner, "sensitivity", given) != declared:
        raise InvalidParameter(
            f"{owner}: sensitivity must be the declared one, {declared}, got {given!r}.\n"
            f"What it guarantees depends on width ÷ sensitivity: declare {owner}(sensitivity={given!r}, ...)."
        )


def kept_within(
    owner: str,
    value: Any,
    *,
    lower: float,
    upper: float,
    scale: Fraction,
    granularity: float | None,
    inverse: Inverse,
) -> float:
    """Return `value`, clamped to the interval, plus noise, rounded, and clamped again where rounding leaves it.

    Both are fixed functions, so that nothing is shown but what the ideal real number in [lower, upper] shows.

    Raises:
        InvalidParameter: if the value is no single finite number, or the granularity no power of two.
    """
    low, high = Fraction(lower), Fraction(upper)
    fine = grid(owner, min(scale, high - low), granularity)
    exact = min(max(number(owner, value), low), high)
    return min(max(rounded(exact, fine, inverse(exact, low, high)), lower), upper)


def scaled(
    noise_multiplier: float, lower: float, upper: float, sensitivity: float, adjacency: Adjacency
) -> tuple[mp.mpf, mp.mpf]:
    """Return the largest movement, which the interval limits, and the interval's width, both ÷ the noise's scale."""
    moved = (2 if adjacency is Adjacency.REPLACE_ONE else 1) * Fraction(sensitivity)
    width, scale = Fraction(upper) - Fraction(lower), Fraction(noise_multiplier) * Fraction(sensitivity)
    s, w = (mp.mpf(x.numerator) / x.denominator for x in (min(moved, width) / scale, width / scale))
    return s, w


def within(reach: mp.mpf, largest: mp.mpf) -> DominatingPair:
    """Return the pair that dominates losses of the range η = `reach` within ±ε = `largest`, as in the table.

    Args:
        reach: η > 0.
        largest: ε in [η/2, η].
    """
    one, none = Bounds.exact(1.0), Bounds.exact(0.0)
    if largest > LARGEST_LOSS:
        return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=False)
    answers = DiscretePair(
        losses=(-float(largest), float(largest)),
        masses=(around(1 / (1 + mp.exp(largest))), around(1 / (1 + mp.exp(-largest)))),
        infinite_mass=none,
        missing_mass=none,
        attained=False,
    )
    half = largest - reach / 2
    if half < LEAST_REACH:
        return answers
    share = mp.sinh(half) / mp.sinh(reach / 2)
    ramp = RangePair(reach=around(2 * half, most=mp.inf), attained=False)
    return PublicMixture(parts=((ramp, around(share)), (answers, around(1 - share))), attained=False)


def cells(p: Sequence[mp.mpf], q: Sequence[mp.mpf]) -> DiscretePair:
    """Return what named neighbours show of outcomes that are merged into cells of these probabilities, all above 0."""
    both = sorted((mp.log(a / b), a) for a, b in zip(p, q, strict=True))
    none = Bounds.exact(0.0)
    return DiscretePair(
        losses=tuple(float(loss) for loss, _ in both),
        masses=tuple(around(mass) for _, mass in both),
        infinite_mass=none,
        missing_mass=none,
        attained=True,
    )


def around(value: mp.mpf, most: mp.mpf = 1) -> Bounds:
    """Enclose a number >= 0 that is known to 50 digits by the floats beside it."""
    near = float(value)
    return Bounds(lower=max(float(down(near)), 0.0), upper=float(min(float(up(near)), most)))
