"""Calibration: the least noise, the most steps or the largest sample rate that keep a promise.

δ(target_epsilon) of DP-SGD falls with the noise and rises with steps and rate, so its certified upper end is solved for
delta: by secants against the δ of the central limit, to which log δ is nearly parallel, or against that of the steps
that a record takes part in, where each of them stands out, else on logarithms inside a bracket. What is returned keeps
the promise in both ways of asking: δ at target_epsilon and ε at delta.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from accountant.core.ask import dp_sgd, named
from accountant.core.base import Accountant, available
from accountant.core.guesses import LEAST_DELTA, gaussian_shift, noise_of_jumps, stands_out
from accountant.core.root import RELATIVE_RESOLUTION, boundary, secants
from accountant.pld import PLD
from mechanisms.core import validate
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

MOST_NUDGES = 24
LARGEST_NOISE = 1e9
ROUGH_POINTS, ROUGH_STRIDE = 3 * 2**12, 1e-3  # of a first search where answers take long; of log noise, for its slope
LEAST_RATE = 1e-12
LARGEST_STEPS = 2**53
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

    Guarantees: compute_epsilon(…, delta=delta) <= target_epsilon and compute_delta(…, epsilon=target_epsilon) <= delta
    at the returned value, by the same accountant. By the slope of its δ, not at a value smaller by a relative 2e-6.

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
            if promise.kept(process(0.0)):
                return 0.0

    def limit(mu: float) -> float:  # μ = q √(T (e^{1/σ²} − 1))
        each = mu / (sample_rate * math.sqrt(steps))
        log = math.log1p(each * each) if each < 1e100 else 2 * math.log(each)
        return 1 / math.sqrt(log) if sample_rate < 1 else 1 / each

    def jumps(w: float) -> float:
        return noise_of_jumps(promise.epsilon, promise.log_delta + w, rate=sample_rate, steps=steps)

    first = limit(gaussian_shift(promise.epsilon, promise.log_delta))
    jumping = stands_out(promise.epsilon, promise.log_delta, noise=first, rate=sample_rate, steps=steps)
    found = _solved(promise, process, limit, safe=+1.0, place=jumps if jumping else None)
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

    def process(steps: float) -> Process:
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=int(steps))

    each = sample_rate * math.sqrt(math.expm1(min(1 / max(noise_multiplier, 1e-150) ** 2, 700.0)))
    start = (gaussian_shift(promise.epsilon, promise.log_delta) / max(each, 1e-150)) ** 2  # the central limit
    found = boundary(lambda x: promise.excess(process(x)), min(max(start, 1.0), LARGEST_STEPS), safe=-1.0, snap=_whole)
    return int(_nudged(promise, process, found, safe=-1.0, snap=_whole) or 0)


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

    def process(rate: float) -> Process:
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=min(rate, 1.0), steps=steps)

    if promise.kept(process(1.0)):
        return 1.0
    each = math.sqrt(steps * math.expm1(min(1 / max(noise_multiplier, 1e-150) ** 2, 700.0)))
    return min(
        1.0, _solved(promise, process, lambda mu: min(max(mu / max(each, 1e-150), LEAST_RATE), 1.0), safe=-1.0) or 0.0
    )


def calibrate_delta(
    *,
    target_epsilon: float,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    adjacency: str = "add_remove",
    accountant: str | Accountant = "tightest",
) -> float:
    """Return the smallest certified δ of DP-SGD at the target ε: that of `compute_delta`, or hardly more.

    Guarantees: compute_epsilon(…, delta=δ) <= target_epsilon, by the same accountant.

    >>> round(calibrate_delta(target_epsilon=1.0, noise_multiplier=1.0, sample_rate=1.0, steps=1), 6)
    0.126937
    """
    target = validate.non_negative("calibrate", "target_epsilon", target_epsilon)
    process = dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    profile = named(accountant).profile(process, adjacency=Adjacency.parse(adjacency))
    found = float(profile.delta(target).upper)
    for nudge in range(MOST_NUDGES):
        if profile.epsilon(found).upper <= target:
            break
        found = min(1.0, max(found, LEAST_DELTA) * (1.0 + 1e-9 * 4.0**nudge))
    return found


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

    @property
    def log_delta(self) -> float:
        return math.log(self.delta)

    def excess(self, process: Process) -> float:
        """Return log of the certified δ over the promised one: at most 0 where the promise is kept."""
        found = self.accountant.profile(process, adjacency=self.adjacency).delta(self.epsilon).upper
        return math.log(max(found, LEAST_DELTA)) - self.log_delta

    def takes_long(self, process: Process) -> bool:
        """Tell whether the quick accountants among several have no answer, so that each takes about a second."""
        if self.accountant != named("tightest"):
            return False
        with contextlib.suppress(NumericalFailure):
            method = self.accountant.profile(process, adjacency=self.adjacency).delta(self.epsilon).method
            return available()[method].cost >= PLD.cost
        return False

    def kept(self, process: Process) -> bool:
        """Tell whether the promise is kept, in whatever way it is asked for."""
        profile = self.accountant.profile(process, adjacency=self.adjacency)
        return bool(profile.epsilon(self.delta).upper <= self.epsilon and self.excess(process) <= 0)


def _solved(
    promise: _Promise,
    process: Callable[[float], Process],
    limit: Callable[[float], float],
    *,
    safe: float,
    place: Callable[[float], float] | None = None,
) -> float | None:
    """Return the x at which the promise is only just kept, None where there is none.

    Args:
        promise: what is to be kept.
        process: of x.
        limit: the x at which the central limit is a Gaussian of shift μ.
        safe: +1 if a larger x is safer, −1 if a smaller one is.
        place: the x at which log δ is about log delta + w, by default that of the central limit.
    """

    def excess(x: float) -> float:
        return promise.excess(process(x))

    def central(w: float) -> float:
        return limit(gaussian_shift(promise.epsilon, min(promise.log_delta + w, -1e-300)))

    place = place or central
    if promise.takes_long(process(place(0.0))):
        place = _roughly(replace(promise, accountant=PLD(most_points=ROUGH_POINTS)), process, place, safe)
    near, accepted = secants(excess, place, safe=safe)
    found = near if accepted else boundary(excess, near, safe=safe)
    return _nudged(promise, process, found, safe=safe)


def _roughly(
    promise: _Promise, process: Callable[[float], Process], place: Callable[[float], float], safe: float
) -> Callable[[float], float]:
    """Return a better `place`: a straight line through the x at which this promise is kept, on logarithms."""

    def excess(x: float) -> float:
        return promise.excess(process(x))

    with contextlib.suppress(NumericalFailure):
        near = boundary(excess, place(0.0), safe=safe)
        if near is not None:
            fall = excess(near) - excess(near * math.exp(safe * ROUGH_STRIDE))
            if fall > 0.0:
                return lambda w: near * math.exp(max(min(-safe * w * ROUGH_STRIDE / fall, 700.0), -700.0))
    return place


def _nudged(
    promise: _Promise,
    process: Callable[[float], Process],
    x: float | None,
    *,
    safe: float,
    snap: Callable[[float], float] = float,
) -> float | None:
    """Return x, or one a little safer, where the promise is kept; None where there is none."""
    for nudge in range(MOST_NUDGES):
        if x is None or promise.kept(process(x)):
            return x
        nearer, x = x, snap(x * math.exp(safe * RELATIVE_RESOLUTION * 2.0 ** (nudge - 2)))
        if x == nearer:
            break
    return None


def _whole(steps: float) -> float:
    return float(max(1, min(math.floor(steps), LARGEST_STEPS)))
