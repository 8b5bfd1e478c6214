"""The μ of the Gaussian that keeps a target, and of the one that a bounded loss is worth: for `accountant.filters`."""

from __future__ import annotations

import math

import scipy

from mechanisms.core.bounds import Bounds, exp, log1p, log_ndtr
from mechanisms.gaussian import GaussianPair

SMALLEST, LARGEST, HALVINGS = 1e-150, 1e150, 53  # μ whose squares are floats; until two of them are neighbours
SLACKS = (1e-14, 1e-12, 1e-9, 1e-6, 1e-3)


def gaussian_square(*, epsilon: float, delta: float) -> float:
    """Return about the largest μ² of a Gaussian that keeps (ε, δ), rounded down: bisected, then certified.

    >>> round(gaussian_square(epsilon=1.0, delta=0.1269367375066439458), 9)
    1.0
    """

    def kept(shift: float) -> bool:
        pair = GaussianPair(shift=Bounds.exact(shift), attained=False)
        return bool(pair.delta(Bounds.exact(epsilon)).upper <= delta)

    low = 1.0
    while low < LARGEST and kept(2.0 * low):
        low *= 2.0
    while low > SMALLEST and not kept(low):
        low /= 2.0
    if not kept(low):
        return 0.0
    high = 2.0 * low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) else (low, middle)
    return max(0.0, float((Bounds.exact(low) * low).lower))


def shift_of(epsilon: float) -> float:
    """Return a μ with Φ(−μ/2) <= 1/(1 + e^ε), rounded up.

    >>> round(shift_of(1.0), 6)
    1.232035
    """
    if epsilon == 0.0:
        return 0.0
    log_kink = -(epsilon + log1p(exp(Bounds.exact(-epsilon))))
    shift = max(0.0, -2.0 * float(scipy.special.ndtri_exp(log_kink.lower)))
    for slack in SLACKS:
        wider = shift * (1.0 + slack) + slack * 1e-3
        if log_ndtr(Bounds.exact(-wider / 2.0)).upper <= log_kink.lower:
            return wider
    return math.inf
