"""The normal distribution function and its inverse, enclosed by integers: for noise of a conditioned normal law.

All is in terms of ψ(t) = ∫_0^t e^{−z²/2} dz, which is odd, rises, and needs no π: where a law is conditioned on an
interval the normalising constant cancels.
"""

from __future__ import annotations

import math
from fractions import Fraction

from mechanisms.core.exact_reals import GUARD, circle, exp_minus

MOST_STEPS = 1000


def psi(t: Fraction, precision: int) -> tuple[int, int]:
    """Enclose 2^precision ψ(t) by integers at most 4 apart.

    ψ(t) = e^{−t²/2} Σ_k t^{2k+1}/(1·3·…·(2k + 1)) for t >= 0, a sum of positive terms. In units of 2^−w each term is
    rounded by at most 3, and t² by one, which moves the next term T by at most T; an error grows along the series to at
    most e^{t²/2} times itself, as 3·5·…·(2m + 1) >= 2^m m!. So the sum, below 1.26 e^{t²/2}, is off by at most
    (3n + 1.26 e^{t²/2}) e^{t²/2} after n terms, by thrice that with what is left once terms halve and are below one
    unit; w has as many digits more than the precision as e^{t²/2} has, and a guard. Beyond t²/2 = precision the
    integral from t on is below e^{−precision}.

    >>> low, high = psi(Fraction(1), 40)
    >>> low <= 0.8556243918921488 * 2**40 <= high <= low + 4
    True
    """
    if t < 0:
        low, high = psi(-t, precision)
        return -high, -low
    half_square = t * t / 2
    if half_square > precision:
        pi = circle(precision + GUARD)
        whole = [math.isqrt(end << precision + GUARD - 1) >> GUARD for end in pi]
        return max(whole[0] - 1, 0), whole[1] + 1
    work = precision + math.ceil(half_square * 3 / 2) + GUARD
    square = math.floor(t * t * (1 << work))
    term, total, n = math.floor(t * (1 << work)), 0, 0
    while term or 2 * n + 3 <= 4 * half_square:
        total += term
        n += 1
        term = (term * square >> work) // (2 * n + 1)
    less, more = exp_minus(half_square, work)
    return max((total * less >> 2 * work - precision) - 1, 0), (total * more >> 2 * work - precision) + 2


def psi_inverse(low: int, high: int, precision: int, least: Fraction, most: Fraction) -> tuple[Fraction, Fraction]:
    """Return numbers below and above all t in [least, most] with low <= 2^precision ψ(t) <= high.

    Newton's steps from 0 approach from one side, as ψ is concave beyond 0: they give a guess, which comparisons of ψ
    with both numbers then confirm, further apart each time until they do, or until an end is reached.

    >>> low, high = psi_inverse(0, 0, 60, Fraction(-1), Fraction(1))
    >>> low <= 0 <= high < low + 2**-50
    True
    """
    if high < 0:
        first, last = psi_inverse(-high, -low, precision, -most, -least)
        return -last, -first
    one, (guess, slope) = 1 << precision, _newton((low + high) // 2, precision)
    below = above = 8 + ((high - low) << precision) // slope  # rounding of ψ alone leaves a few units in doubt
    while guess - below > least * one and psi(Fraction(guess - below, one), precision)[1] > low:
        below *= 2
    while guess + above < most * one and psi(Fraction(guess + above, one), precision)[0] < high:
        above *= 2
    return max(Fraction(guess - below, one), least), min(Fraction(guess + above, one), most)


def _newton(target: int, precision: int) -> tuple[int, int]:
    """Return about 2^precision t for 2^precision ψ(t) = target >= 0, and about 2^precision ψ'(t)."""
    guess, slope = 0, 1
    for _ in range(MOST_STEPS):
        at = Fraction(guess, 1 << precision)
        slope = max(exp_minus(at * at / 2, precision)[0], 1)
        step = ((target - psi(at, precision)[0]) << precision) // slope
        guess += step
        if abs(step) <= 4 or guess * guess >> 2 * precision > 2 * precision:
            break
    return guess, slope
