"""T equal answers to two categories: their privacy profile as a sum of positive terms of the binomial law.

With S the number of answers that point to P's category, under P binomial (T, p), p = 1/(1 + e^{−l}), the loss is
l (2S − T), and [KOV15, Thm 3.3]

    δ(ε) = Σ_{k >= k₀} P(S = k) (1 − e^{ε − l (2k − T)})        k₀ the first k whose loss exceeds ε.

P(S >= k₀) − e^ε Q(S >= k₀) is the same and cancels. One term, the largest or the first beyond it, is had in 40 digits,
the others from it by the ratio of neighbours, e^{±l} (T − k)/(k + 1), until a geometric series bounds the rest.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np
import scipy

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF

MOST_ANSWERS = 2**40  # 5 million terms matter there
NEGLIGIBLE = 46.0  # −log of what is left to the geometric series
DIGITS = Context(prec=40, Emin=-(10**9), Emax=10**9, traps=[])
LOG_TWO_PI = DIGITS.create_decimal("1.83787706640934548356065947281123527972279494727556682563430")
EXACT_FACTORIALS = 40
STIRLING = tuple(
    DIGITS.divide(Decimal(numerator), Decimal(denominator * 2 * m * (2 * m - 1)))
    for m, (numerator, denominator) in enumerate(
        [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798)], start=1
    )
)
"""B_2m / (2m (2m − 1)): the series envelops ln n!, so from n = 40 on it errs by less than 530/380/40^19 < 1e-30."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """The terms of the sum for one k₀, as far as they do not depend on ε.

    Args:
        mass: P(S = centre).
        weights: P(S = k) over that, of the k that matter.
        losses: l (2k − T) less that of k₀.
        ulps: what multiplies UNIT_ROUNDOFF in the relative error of each.
        rest: bound of the weights left out.
    """

    mass: float
    weights: Array
    losses: Array
    ulps: Array
    rest: float


def excess(times: int, loss: float, epsilon: float) -> Bounds:
    """Enclose δ(ε) of `times` answers of loss ±`loss`, all three taken as exact.

    Guarantees: 1e-12 relative up to 10^7 answers; the bounds count every rounding (`validated` for e^x and e^x − 1).

    >>> excess(1, 1.0, 0.0).contains(0.46211715726000976)
    True
    """
    if math.isinf(epsilon):
        return Bounds.exact(0.0)
    (a, b), (c, d) = epsilon.as_integer_ratio(), loss.as_integer_ratio()
    point, largest = a * d, b * c * times  # ε and T l, over b d
    if point >= largest:  # where l is 0, too
        return Bounds.exact(0.0)
    first = (point + largest) // (2 * b * c) + 1
    gap = (b * c * (2 * first - times) - point) / (b * d)  # exact but for one rounding
    found = _terms(times, loss, first)
    terms = found.weights * -np.expm1(-(gap + found.losses))
    total = float(np.sum(terms))
    error = UNIT_ROUNDOFF * float(np.sum(terms * found.ulps)) + 1e-300 * len(terms)
    subnormal = 1e-320 * (1.0 + total)  # what the product may lose beyond its relative error
    low = found.mass * max(0.0, total - error) - subnormal
    high = found.mass * (total + error + found.rest) + subnormal
    return Bounds(lower=max(0.0, low), upper=high).inflate(16.0 * UNIT_ROUNDOFF).clip(0.0, 1.0)


def inverse(times: int, loss: float, delta: float) -> float:
    """Return about the ε with δ(ε) = delta, to 12 digits for most and without any guarantee: where to start looking.

    Between neighbouring losses l (2k − T) δ is A − e^ε B, A and B sums over S >= k: one pass over the terms near the
    quantile of a normal law gives both for every k, and tells the k. Losses within ±300 of that quantile and, below it,
    within four deviations of it are looked at.
    """
    spread = math.sqrt(times) / math.cosh(min(loss / 2, 300.0))
    quantile = times * math.tanh(loss / 2) - spread * float(scipy.special.ndtri_exp(math.log(delta)))  # S − (T − S)
    middle = int(0.5 * (min(max(quantile, 0.0), times) + times))
    near = min(150.0 / loss, float(times))  # e^{2 l near} is a float then, and times a weight, too
    above, _ = _weights(times - middle, times - middle, middle + 1, loss)
    below, _ = _weights(min(middle, int(min(near, 100 + 2 * math.sqrt(times)))), middle, times - middle + 1, -loss)
    weights = np.concatenate([above[::-1], below[1:]])
    far = max(0, len(above) - 1 - int(near))
    shift = 2.0 * loss * np.arange(len(above) - 1 - far, -len(below), -1)
    with np.errstate(under="ignore"):
        p, q = np.cumsum(weights)[far:], np.cumsum(weights[far:] * np.exp(-shift))
        falls = p - np.exp(shift - 2.0 * loss) * q  # δ at the loss just below each k, over P(S = middle)
    sought = delta / max(_mass(times, loss, middle), 1e-300)
    at = int(np.searchsorted(falls, sought))
    if at == len(falls) or not p[at] > sought:
        return max(0.0, min(quantile, times * (1 - 1e-9))) * loss
    return max(0.0, loss * (2 * middle - times) + math.log((p[at] - sought) / q[at]))


@lru_cache(maxsize=2)  # both ends of the loss
def _terms(times: int, loss: float, first: int) -> Terms:
    """Lay out the terms around the largest."""
    centre = max(first, min(times, int((times + 1) / (1 + math.exp(-loss)))))
    above, rest_above = _weights(times - centre, times - centre, centre + 1, loss)
    below, rest_below = _weights(centre - first, centre, times - centre + 1, -loss)
    steps = np.concatenate([np.arange(len(above)), -1 - np.arange(len(below) - 1)])
    return Terms(
        mass=_mass(times, loss, centre),
        weights=np.concatenate([above, below[1:]]),
        losses=2.0 * loss * (centre - first + steps),
        ulps=64.0 + 8.0 * np.abs(steps),
        rest=rest_above + rest_below,
    )


def _weights(most: int, above: int, below: int, tilt: float) -> tuple[Array, float]:
    """Return the weights, relative to the centre, of the 1 + `most` terms from there on, and a bound of those left out.

    The ratio of neighbours is e^tilt (above − j)/(below + j), j = 0, 1, …. Its logarithm −c at j = 0 falls by
    4/(above + below) or more at every step, so that n steps away the weight is at most e^{−c n − 2 n²/(above + below)}.
    """
    if most <= 0:
        return np.ones(1), 0.0
    slope = max(0.0, -tilt - math.log(above / below))
    curvature = 8 * NEGLIGIBLE / (above + below)
    n = min(most, int(2 * NEGLIGIBLE / (slope + math.sqrt(slope * slope + curvature))) + 2)
    j = np.arange(n, dtype=np.float64)
    with np.errstate(under="ignore"):
        ratios = (above - j) / (below + j) * math.exp(tilt)
        weights = np.append(1.0, np.cumprod(ratios))
    if n == most:
        return weights, 0.0
    last = float(ratios[-1])
    return weights, float(weights[-1]) * last / (1.0 - last) * (1 + 1e-6) if last < 1 else math.inf


@lru_cache(maxsize=256)
def _mass(times: int, loss: float, k: int) -> float:
    """P(S = k) to 8u: T!/(k! (T − k)!) e^{−l (T − k)} (1 + e^{−l})^{−T}."""
    with localcontext(DIGITS):
        log_choices = log_factorial(times) - log_factorial(k) - log_factorial(times - k)
        exponent = log_choices - Decimal(loss) * (times - k) - times * _log_one_more(loss)
        whole = float(exponent)
        rest = float(exponent - Decimal(whole))
    return math.exp(whole) * (1.0 + rest)


@lru_cache(maxsize=256)
def _log_one_more(loss: float) -> Decimal:
    """ln(1 + e^{−l}); what 40 digits of 1 + e^{−l} lose is below 1e-27 of any answer."""
    with localcontext(DIGITS):
        return (1 + (-Decimal(loss)).exp()).ln()


@lru_cache(maxsize=256)
def log_factorial(n: int) -> Decimal:
    """ln n! to 1e-24: ln of the product for small n, else by Stirling's series."""
    with localcontext(DIGITS):
        if n < EXACT_FACTORIALS:
            return Decimal(math.factorial(n)).ln()
        series = sum((c / Decimal(n) ** (2 * m + 1) for m, c in enumerate(STIRLING)), Decimal(0))
        return (n + Decimal("0.5")) * Decimal(n).ln() - n + LOG_TWO_PI / 2 + series
