"""ε itself, to 40 digits, where a formula gives it: an accountant that shares no mathematics with the package.

Gaussians, one Laplace, one sampled Gaussian, and up to `MOST_ANSWERS` randomised responses or pure mechanisms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mpmath as mp

from accountant.core.base import Accountant
from mechanisms import Adjacency, Compose, Gaussian, Process, RandomizedResponse, Repeat, Sampled, UnsupportedProcess

MOST_ANSWERS = 50
HALVINGS = 75
PADDING = 2.0**-51  # two units in the last place of a float: the value itself is right to far more
Solved = Callable[[Any], Any]
"""ε at a δ."""


@dataclass(frozen=True, slots=True)
class Truth(Accountant):
    """The number that every bracket must hold."""

    def profile(self, process: Process, *, adjacency: Adjacency) -> Any:
        """Return an object whose `epsilon` encloses the truth within two units in the last place.

        Raises:
            UnsupportedProcess: where there is no formula.
        """
        steps = tuple(_steps(process, 1))

        def epsilon(delta: float) -> SimpleNamespace:
            with mp.workdps(50):
                value = float(max(mp.mpf(0), _solved(steps, adjacency)(mp.mpf(delta))))
            return SimpleNamespace(lower=value * (1 - PADDING), upper=value * (1 + PADDING))

        return SimpleNamespace(epsilon=epsilon)


def _steps(process: Process, times: int) -> Iterator[tuple[Process, int]]:
    if isinstance(process, Compose):
        yield from itertools.chain.from_iterable(_steps(part, times) for part in process.parts)
    elif isinstance(process, Repeat):
        yield from _steps(process.part, times * process.times)
    else:
        yield process, times


def _solved(steps: tuple[tuple[Process, int], ...], adjacency: Adjacency) -> Solved:
    movement = 2 if adjacency is Adjacency.REPLACE_ONE else 1
    if all(isinstance(step, Gaussian) for step, _ in steps):
        mu = movement * mp.sqrt(mp.fsum(times / mp.mpf(step.noise_multiplier) ** 2 for step, times in steps))
        return lambda delta: _root(lambda epsilon: _gaussian(mu, epsilon), delta)
    (step, times), alone = steps[0], len(steps) == 1
    kind = type(step).__name__
    if alone and times == 1 and isinstance(step, Sampled) and isinstance(step.part, Gaussian):
        mu, rate = 1 / mp.mpf(step.part.noise_multiplier), mp.mpf(step.sampling.probability)
        return lambda delta: _root(lambda epsilon: _sampled(mu, rate, epsilon), delta)
    if alone and times == 1 and kind == "Laplace" and movement == 1:
        return lambda delta: 1 / mp.mpf(step.noise_multiplier) + 2 * mp.log1p(-delta)
    if alone and times <= MOST_ANSWERS and (isinstance(step, RandomizedResponse) or kind == "PureDP"):
        return lambda delta: _answers(mp.mpf(step.epsilon), getattr(step, "categories", 2), times, delta)
    raise UnsupportedProcess("truth: no formula for this process. Use accountant='pld'.")


def _gaussian(mu: Any, epsilon: Any) -> Any:
    """Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    return mp.ncdf(mu / 2 - epsilon / mu) - mp.exp(epsilon) * mp.ncdf(-mu / 2 - epsilon / mu)


def _sampled(mu: Any, q: Any, epsilon: Any) -> Any:
    """The larger of sup P(S) − e^ε Q(S) for the mixture (1 − q) N(0, 1) + q N(μ, 1) against N(0, 1), either way."""
    grown = mp.expm1(epsilon)
    remove = q * _gaussian(mu, mp.log1p(grown / q))
    share = 1 - (1 + grown) * (1 - q)
    return max(remove, share * _gaussian(mu, mp.log(q * (1 + grown) / share)) if share > 0 else 0)


def _root(delta_of: Callable[[Any], Any], delta: Any) -> Any:
    """Return the ε at which a falling δ(ε) is delta, by halving."""
    low, high = mp.mpf(0), mp.mpf(2) ** -40
    if delta_of(low) <= delta:
        return low
    while delta_of(high) > delta:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return high


def _answers(single: Any, categories: int, times: int, delta: Any) -> Any:
    """Invert δ(ε) = Σ_d p_d (1 − e^{ε − d·single})₊, d the true answers less those of the other record's category."""
    other = 1 / (mp.exp(single) + categories - 1)
    step = {1: mp.exp(single) * other, 0: (categories - 2) * other, -1: other}
    masses = {0: mp.mpf(1)}
    for _ in range(times):
        wider = dict.fromkeys(range(min(masses) - 1, max(masses) + 2), mp.mpf(0))
        for (d, mass), (move, share) in itertools.product(masses.items(), step.items()):
            wider[d + move] += mass * share
        masses = wider
    above, weight = mp.mpf(0), mp.mpf(0)
    for d in range(times, 0, -1):  # between (d − 1)·single and d·single, δ is above − e^ε weight
        above, weight = above + masses[d], weight + masses[d] * mp.exp(-d * single)
        if above - mp.exp((d - 1) * single) * weight > delta:
            return mp.log((above - delta) / weight)
    return mp.mpf(0)
