"""About how much noise gives a δ: where calibration begins to search. No guarantee rests on a guess."""

from __future__ import annotations

import math

import numpy as np
import scipy

MOST_COUNTS = 24
"""Of steps that a record takes part in, of which the noise is guessed."""
LEAST_DELTA, LARGEST_LOGARITHM = 1e-320, -1e-300


def gaussian_shift(epsilon: float, log_delta: float) -> float:
    """About the μ at which log δ(ε) of a Gaussian is this, by halving.

    >>> round(1 / gaussian_shift(1.0, math.log(1e-5)), 5)
    3.73063
    """
    low, high = 1e-12, 1e6
    for _ in range(60):
        mu = math.sqrt(low * high)
        log_p = float(scipy.special.log_ndtr(mu / 2 - epsilon / mu))
        log_q = epsilon + float(scipy.special.log_ndtr(-mu / 2 - epsilon / mu))
        kept = log_q >= log_p or log_p + math.log(-math.expm1(log_q - log_p)) <= log_delta
        low, high = (mu, high) if kept else (low, mu)
    return high


def noise_of_jumps(epsilon: float, log_delta: float, *, rate: float, steps: int, most: int = MOST_COUNTS) -> float:
    """About the noise multiplier with this log δ(ε) where every step that has the record stands out.

    As k of these are a Gaussian step of shift √k / σ, of whose odds r sampling leaves 1 + qᵏ (r − 1): the largest over
    `most` counts k, with the chance of k steps or more, of the σ at which that is the δ there is.

    Args:
        epsilon: ε > 0.
        log_delta: log δ.
        rate: probability q in (0, 1) of a record in a step.
        steps: number of steps >= 1.
        most: counts that are looked at.

    >>> noise_of_jumps(1.0, math.log(1e-5), rate=1e-4, steps=1) < 1.0
    True
    """
    counts = np.unique(np.round(np.geomspace(1, steps, MOST_COUNTS)))[:most]
    logs = np.log(np.maximum(scipy.special.bdtrc(counts - 1, steps, rate), LEAST_DELTA))
    odds = math.log(-math.expm1(-epsilon)) + epsilon  # log(e^ε − 1)
    found = [
        math.sqrt(k)
        / gaussian_shift(float(np.logaddexp(0.0, odds - k * math.log(rate))), min(log_delta - log, LARGEST_LOGARITHM))
        for k, log in zip(counts.tolist(), logs.tolist(), strict=True)
        if log_delta < log
    ]
    return max(found, default=1.0)


def stands_out(epsilon: float, log_delta: float, *, noise: float, rate: float, steps: int) -> bool:
    """Return whether a step that has the record stands out by itself, or the one there is gives δ away.

    Args:
        epsilon: ε >= 0.
        log_delta: log δ.
        noise: about the noise multiplier of the central limit.
        rate: probability of a record in a step, in [0, 1].
        steps: number of steps >= 0.

    >>> stands_out(1.0, math.log(1e-5), noise=1.0, rate=0.01, steps=1000)
    False
    """
    if not (steps and epsilon > 0.0 and 0.0 < rate < 1.0):
        return False
    if noise**-2 > math.log1p(1.0 / rate):
        return True
    return steps * rate < 1.0 and noise_of_jumps(epsilon, log_delta, rate=rate, steps=steps, most=1) > noise
