"""The noise of a training run whose scheme has no calibration of its own: by secants on the accountants' answers."""

from __future__ import annotations

import math
from collections.abc import Callable

from mechanisms import NumericalFailure, Process
from mechanisms.core import validate

UNUSED = 1e-3  # of the budget: answers for these schemes cost seconds each
NARROWEST = 1e-9  # brackets of log noise
MOST_TRIALS = 60
LONGEST, LARGEST_LOGARITHM = 3.0, 20.7  # a stride, and about log 1e9
LEAST_DELTA = 1e-320
FIRST_STRIDE = 4e-6  # a little more than the calibration of Poisson samples leaves


def checked_budget(epsilon: object, delta: object) -> tuple[float, float]:
    """Return both as floats.

    Raises:
        InvalidParameter: unless epsilon > 0 and 0 < delta <= 1.
    """
    checked = validate.positive("for_budget", "epsilon", epsilon)
    return checked, validate.positive("for_budget", "delta", validate.probability("for_budget", "delta", delta))


def least_noise(process: Callable[[float], Process], *, epsilon: float, delta: float, adjacency: str) -> float:
    """Return a noise multiplier at which the certified ε at `delta` is at most `epsilon`, and 0.1 % less at most.

    log ε falls about in a straight line with log noise.

    Args:
        process: of the noise multiplier; its ε falls with it.
        epsilon: budget, > 0.
        delta: in (0, 1).
        adjacency: which datasets are neighbours.

    Guarantees: compute_epsilon(process(noise), delta=delta, adjacency=adjacency) <= epsilon at the noise returned. Less
    of the budget may be used where ε jumps, or where next to no noise does, which is 1e-9 then.

    Raises:
        InvalidParameter: if epsilon or delta is out of range.
        UnsupportedProcess: if no accountant has a theorem for the process.
        NumericalFailure: if no noise multiplier up to 1e9 is certified to keep the budget.

    >>> from mechanisms import Gaussian
    >>> found = least_noise(lambda noise: Gaussian(noise_multiplier=noise), epsilon=1.0, delta=1e-5,
    ...                     adjacency="add_remove")
    >>> 3.7306 <= found <= 3.735
    True
    """
    epsilon, delta = checked_budget(epsilon, delta)
    kept: tuple[float, float] | None = None
    broken: tuple[float, float] | None = None
    x, slope = 0.0, -1.0
    for _ in range(MOST_TRIALS):
        excess = excess_of(process(math.exp(x)), epsilon, delta, adjacency)
        if excess <= 0:
            kept = (x, excess)
        else:
            broken = (x, excess)
        if kept and (
            kept[1] >= -UNUSED or kept[0] <= -LARGEST_LOGARITHM or (broken and kept[0] - broken[0] < NARROWEST)
        ):
            return math.exp(kept[0])
        if kept and broken:
            slope = (kept[1] - broken[1]) / (kept[0] - broken[0])
            x = _inside(kept[0] - (kept[1] + UNUSED / 2) / slope, broken[0], kept[0])
            continue
        if x >= LARGEST_LOGARITHM:
            break
        stride = min(max((excess + UNUSED / 2) / -slope, -LONGEST), LONGEST)
        x = min(max(x + stride, -LARGEST_LOGARITHM), LARGEST_LOGARITHM)
    if kept:
        return math.exp(kept[0])
    raise NumericalFailure(
        f"for_budget: no noise multiplier up to 1e9 is certified to keep epsilon = {epsilon} at delta = {delta}. "
        "Raise one of them, or take fewer steps."
    )


def lessened(
    process: Callable[[float], Process], noise: float, *, epsilon: float, delta: float, adjacency: str
) -> float:
    """Return a noise multiplier <= `noise` that keeps the budget too, and all but 0.1 % of it is used if floats allow.

    Next to the δ that noise has at ε = 0 a small ε is a matter of the last digits of the noise, which a search in steps
    of a millionth does not tell apart. It is asked for by the δ at shares of ε, which is quicker to have than an ε, by
    false position; what is returned keeps the budget in ε as well.

    Args:
        process: of the noise multiplier.
        noise: that keeps the budget.
        epsilon: budget, > 0.
        delta: in (0, 1).
        adjacency: which datasets are neighbours.
    """

    def over(at: float, unused: float) -> float:
        return _log_delta(process(at), epsilon * (1.0 - unused), adjacency) - math.log(delta)

    if not noise or over(noise, UNUSED) > 0.0:
        return noise
    least, kept = noise, over(noise, UNUSED / 2)
    broken, excess, stride = 0.0, math.inf, FIRST_STRIDE
    while not broken and stride < 1.0:
        lower = noise * (1.0 - stride)
        found = over(lower, UNUSED / 2)
        if found > 0.0:
            broken, excess = lower, found
        else:
            least, kept, stride = lower, found, 4.0 * stride
    while broken and over(least, UNUSED) <= 0.0:
        middle = _inside(broken + (least - broken) * excess / (excess - kept), broken, least)
        if not broken < middle < least:
            break
        found = over(middle, UNUSED / 2)
        if found > 0.0:
            broken, excess = middle, found
        else:
            least, kept = middle, found
    return least if excess_of(process(least), epsilon, delta, adjacency) <= 0.0 else noise


def _log_delta(process: Process, epsilon: float, adjacency: str) -> float:
    """Return log of the certified δ at `epsilon`, 0 where none is certified."""
    from accountant import compute_delta

    try:
        found = compute_delta(process, epsilon=epsilon, adjacency=adjacency)
    except NumericalFailure:
        return 0.0
    return math.log(max(found, LEAST_DELTA))


def _inside(x: float, low: float, high: float) -> float:
    """Return x, or the nearest point that leaves a tenth of the bracket on either side of it at least."""
    margin = (high - low) / 10
    return min(max(x, low + margin), high - margin)


def excess_of(process: Process, epsilon: float, delta: float, adjacency: str) -> float:
    """Return log of the certified ε over `epsilon`, between −3 and 3: above 0 unless it is certified to be kept.

    Raises:
        UnsupportedProcess: if no accountant has a theorem for the process.
    """
    from accountant import compute_epsilon

    try:
        found = compute_epsilon(process, delta=delta, adjacency=adjacency)
    except NumericalFailure:
        found = math.inf
    if found <= epsilon:
        return math.log(found / epsilon) if found > epsilon * math.exp(-LONGEST) else -LONGEST
    return min(math.log(found / epsilon), LONGEST)
