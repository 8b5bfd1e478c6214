"""Calibration: the least noise that keeps a promise."""

from __future__ import annotations

import math
from collections.abc import Callable

from accountant.core.ask import dp_sgd, named
from accountant.core.base import Accountant
from accountant.rdp import RDP
from mechanisms.core import validate
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.process import Adjacency

RELATIVE_RESOLUTION = 1e-6
MOST_STEPS = 60
LARGEST_NOISE = 1e9
QUICK_ORDERS = tuple(1.0 + 2.0 ** (k / 4) for k in range(-16, 49))


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    delta: float,
    sample_rate: float = 1.0,
    steps: int = 1,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return the smallest noise multiplier of DP-SGD whose certified ε is at most the target.

    δ(target_epsilon) falls with the noise, so its certified upper end is solved for delta, by the regula falsi on
    logarithms; the end that meets the promise is returned, within a relative 1e-6 of one that does not.

    Args:
        target_epsilon: ε >= 0 to be kept.
        delta: δ in (0, 1) to be kept.
        sample_rate: probability with which a record takes part in a step, in [0, 1].
        steps: number of steps >= 1.
        adjacency: "add_remove", "replace_one" or "zero_out".
        accountant: a name of `available()`, or an accountant.

    Guarantees: compute_delta(…, epsilon=target_epsilon) <= delta at the returned value, by the same accountant.

    Raises:
        InvalidParameter: if a value breaks its rule; no Gaussian noise gives δ = 0.
        NumericalFailure: if no noise multiplier up to 1e9 is certified to keep the promise.

    >>> round(calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5), 6)
    3.730632
    """
    target = validate.non_negative("calibrate", "target_epsilon", target_epsilon)
    hint = "Gaussian noise of any size leaves a positive delta at every epsilon."
    delta = validate.positive("calibrate", "delta", validate.probability("calibrate", "delta", delta), hint)
    neighbours, chosen = Adjacency.parse(adjacency), named(accountant)
    dp_sgd(noise_multiplier=1.0, sample_rate=sample_rate, steps=steps)

    def excess(by: Accountant) -> Callable[[float], float]:
        def log_ratio(noise: float) -> float:
            process = dp_sgd(noise_multiplier=noise, sample_rate=sample_rate, steps=steps)
            found = by.profile(process, adjacency=neighbours).delta(target).upper
            return math.log(max(found, 1e-320)) - math.log(delta)

        return log_ratio

    if excess(chosen)(0.0) <= 0:
        return 0.0
    start = _least(excess(RDP(orders=QUICK_ORDERS)), 1e-3, 1.0)
    return _least(excess(chosen), RELATIVE_RESOLUTION, start)


def _least(excess: Callable[[float], float], resolution: float, start: float) -> float:
    """Return an x with excess(x) <= 0, within a relative `resolution` of one with excess > 0."""
    factor, high = 1.05 if start != 1.0 else 2.0, start
    above = excess(high)
    while above > 0:
        high, factor = high * factor, factor * factor
        if high > LARGEST_NOISE:
            raise NumericalFailure(
                f"calibrate: no noise multiplier up to {LARGEST_NOISE:g} is certified to keep the promise. "
                "Raise target_epsilon or delta, or take fewer steps."
            )
        above = excess(high)
    low, factor = high / factor if high > start else high / 1.05, 1.1
    below = excess(low)
    while below <= 0:
        high, above, low, factor = low, below, low / factor, factor * factor
        if low < 1e-300:
            return high
        below = excess(low)
    return _narrowed(excess, low, below, high, above, resolution)


def _narrowed(
    excess: Callable[[float], float], low: float, below: float, high: float, above: float, resolution: float
) -> float:
    """Regula falsi on log x with halved weights (Illinois), nudged beyond the root so that both ends close in on it."""
    nudge = 0.4 * resolution
    for step in range(MOST_STEPS):
        if high - low <= resolution * high:
            break
        share = below / (below - above) if math.isfinite(below - above) and step % 8 < 7 else 0.5
        root = low * (high / low) ** share
        middle = min(max(root * (1 + nudge), low * (1 + resolution / 4)), high * (1 - resolution / 4))
        value = excess(middle)
        if value > 0:
            low, below, above, nudge = middle, value, 0.5 * above, 0.4 * resolution
        else:
            high, above, below, nudge = middle, value, 0.5 * below, -0.4 * resolution
    return high
