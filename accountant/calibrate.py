"""Calibration: the least noise, the most steps or the largest sample rate that keep a promise.

δ(target_epsilon) of DP-SGD falls with the noise and rises with steps and rate, so its certified upper end is solved for
delta, by secants on logarithms inside a bracket; the end that keeps the promise is returned.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from accountant.core.ask import compute_delta, dp_sgd, named
from accountant.core.base import Accountant
from mechanisms.core import validate
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

RELATIVE_RESOLUTION = 1e-6
MOST_TRIALS = 100
LARGEST_NOISE = 1e9
LARGEST_STEPS = 2**53
LARGEST_STRIDE, LARGEST_LOGARITHM = 3.0, 700.0
NO_DELTA = "Gaussian noise of any size leaves a positive delta at every epsilon."


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

    Args:
        target_epsilon: ε >= 0 to be kept.
        delta: δ in (0, 1) to be kept.
        sample_rate: probability with which a record takes part in a step, in [0, 1].
        steps: number of steps >= 0.
        adjacency: "add_remove", "replace_one" or "zero_out".
        accountant: a name of `available()`, or an accountant.

    Guarantees: compute_delta(…, epsilon=target_epsilon) <= delta at the returned value, by the same accountant, and not
    at a value smaller by a relative 1e-6.

    Raises:
        InvalidParameter: if a value breaks its rule; no Gaussian noise gives δ = 0.
        NumericalFailure: if no noise multiplier up to 1e9 is certified to keep the promise.

    >>> round(calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5), 5)
    3.73063
    """
    promise = _Promise.checked(target_epsilon, delta, adjacency, accountant)
    dp_sgd(noise_multiplier=1.0, sample_rate=sample_rate, steps=steps)

    def process(noise: float) -> Process:
        return dp_sgd(noise_multiplier=noise, sample_rate=sample_rate, steps=steps)

    sampled = 1.0 if sample_rate == 1 else -math.expm1(steps * math.log1p(-sample_rate))
    if sampled <= 2 * promise.delta:  # a record may never be seen at all
        with contextlib.suppress(UnsupportedProcess):
            if promise.excess(process(0.0)) <= 0:
                return 0.0
    mu = _gaussian_shift(promise.epsilon, promise.delta)  # the central limit: μ = q √(T (e^{1/σ²} − 1))
    each = mu / (sample_rate * math.sqrt(steps))
    start = 1 / math.sqrt(math.log1p(each * each)) if sample_rate < 1 else 1 / each
    found = _boundary(lambda x: promise.excess(process(x)), start, safe=+1.0)
    if found is None or found > LARGEST_NOISE:
        raise NumericalFailure(
            f"calibrate: no noise multiplier up to {LARGEST_NOISE:g} is certified to keep the promise. "
            "Raise target_epsilon or delta, or take fewer steps."
        )
    return found


def calibrate_steps(
    *,
    target_epsilon: float,
    delta: float,
    noise_multiplier: float,
    sample_rate: float,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> int:
    """Return the largest number of DP-SGD steps whose certified ε is at most the target; 0 if not even one is.

    Arguments, guarantees and errors are those of `calibrate_noise_multiplier`; at most 2**53 steps are counted.

    >>> calibrate_steps(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, sample_rate=0.01)
    2666
    """
    promise = _Promise.checked(target_epsilon, delta, adjacency, accountant)

    def excess(steps: float) -> float:
        return promise.excess(dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=int(steps)))

    each = sample_rate * math.sqrt(math.expm1(min(1 / max(noise_multiplier, 1e-150) ** 2, 700.0)))
    start = (_gaussian_shift(promise.epsilon, promise.delta) / max(each, 1e-150)) ** 2  # the central limit
    found = _boundary(excess, min(max(start, 1.0), LARGEST_STEPS), safe=-1.0, snap=_whole)
    return int(found or 0)


def calibrate_sample_rate(
    *,
    target_epsilon: float,
    delta: float,
    noise_multiplier: float,
    steps: int,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return the largest sample rate of DP-SGD whose certified ε is at most the target.

    Arguments, guarantees and errors are those of `calibrate_noise_multiplier`.

    >>> round(calibrate_sample_rate(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=2666), 5)
    0.01
    """
    promise = _Promise.checked(target_epsilon, delta, adjacency, accountant)

    def excess(rate: float) -> float:
        return promise.excess(dp_sgd(noise_multiplier=noise_multiplier, sample_rate=min(rate, 1.0), steps=steps))

    if excess(1.0) <= 0:
        return 1.0
    return min(1.0, _boundary(excess, 0.01, safe=-1.0) or 0.0)


def calibrate_delta(
    *,
    target_epsilon: float,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return the smallest certified δ of DP-SGD at the target ε: `compute_delta` by another name.

    >>> round(calibrate_delta(target_epsilon=1.0, noise_multiplier=1.0, sample_rate=1.0, steps=1), 6)
    0.126937
    """
    return compute_delta(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        epsilon=target_epsilon,
        adjacency=adjacency,
        accountant=accountant,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """(ε, δ) to be kept, and who certifies it."""

    epsilon: float
    delta: float
    adjacency: Adjacency
    accountant: Accountant

    @classmethod
    def checked(cls, epsilon: float, delta: float, adjacency: str, accountant: str | Accountant) -> _Promise:
        return cls(
            epsilon=validate.non_negative("calibrate", "target_epsilon", epsilon),
            delta=validate.positive("calibrate", "delta", validate.probability("calibrate", "delta", delta), NO_DELTA),
            adjacency=Adjacency.parse(adjacency),
            accountant=named(accountant),
        )

    def excess(self, process: Process) -> float:
        """Return log of the certified δ over the promised one: at most 0 where the promise is kept."""
        found = self.accountant.profile(process, adjacency=self.adjacency).delta(self.epsilon).upper
        return math.log(max(found, 1e-320)) - math.log(self.delta)


def _gaussian_shift(epsilon: float, delta: float) -> float:
    """About the μ at which a Gaussian has δ(ε) = delta, by halving."""
    low, high = 1e-12, 1e6
    for _ in range(60):
        mu = math.sqrt(low * high)
        log_p = float(special.log_ndtr(mu / 2 - epsilon / mu))
        log_q = epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu))
        kept = log_q >= log_p or log_p + math.log(-math.expm1(log_q - log_p)) <= math.log(delta)
        low, high = (mu, high) if kept else (low, mu)
    return high


def _whole(steps: float) -> float:
    return float(max(1, min(math.floor(steps), LARGEST_STEPS)))


def _boundary(
    excess: Callable[[float], float], start: float, *, safe: float, snap: Callable[[float], float] = float
) -> float | None:
    """Return an x with excess(x) <= 0 next to one with excess > 0: within a relative 1e-6, or the next that `snap` has.

    `safe` is +1 if the excess falls with x and −1 if it rises: in v = safe · log x it falls, about in a straight line.
    Where no x up to e^±700 is exceeded it is the last one tried; None where none is kept.
    """
    kept: float | None = None
    broken: float | None = None
    x, slope, last, before = snap(start), -10.0, math.nan, math.nan
    for _ in range(MOST_TRIALS):
        v, value = safe * math.log(x), excess(x)
        kept, broken = (x, broken) if value <= 0 else (kept, x)
        if v != last and (value - before) * (v - last) < 0:
            slope = (value - before) / (v - last)
        stride = min(max(-value / slope, -LARGEST_STRIDE), LARGEST_STRIDE)
        if abs(stride) < 0.4 * RELATIVE_RESOLUTION:  # at the root: look just beyond it, on the side not yet seen
            stride += (-0.9 if value <= 0 else 0.05) * RELATIVE_RESOLUTION
        last, before = v, value
        x = snap(math.exp(min(max(safe * (v + stride), -LARGEST_LOGARITHM), LARGEST_LOGARITHM)))
        if kept is not None and broken is not None:
            if abs(math.log(kept / broken)) <= RELATIVE_RESOLUTION:
                break
            low, high = sorted((kept, broken))
            x = x if low < x < high else snap(math.sqrt(low) * math.sqrt(high))
            x = x if low < x < high else snap(0.5 * (low + high))
            if not low < x < high:
                break
        elif x in (kept, broken):
            break
    return kept
