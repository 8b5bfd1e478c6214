"""What is timed: one row a bar, our answer and the peers' to the same question.

Every function takes a factor close to 1 by which the noise (or the target) is multiplied: no timed call repeats an
earlier one, so that no cache answers for the mathematics.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mechanisms
from accountant import (
    ApproximateDPFilter,
    GDPFilter,
    Odometer,
    RenyiFilter,
    ZCDPFilter,
    calibrate_noise_multiplier,
    dp_sgd,
    epsilon_bounds,
)
from accountant.core.profile import Claim
from mechanisms import Compose, Gaussian, Poisson, Process, PureDP, RandomizedResponse, Repeat, Sampled
from tests.benchmarks import peers

Timed = Callable[[float], Any]
MOST_MEGABYTES = 500.0
PEERS_MOST_STEPS = 1_000_000
DECADES = (2, 3, 4, 5, 6, 7, 8, 9)
MNIST = {"sample_rate": 256 / 60_000, "steps": 14_062}
SMOKE = ("DP-SGD, T=1e2, δ=1e-5", "Gaussian, σ=.02")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What must be reached.

    Args:
        milliseconds: median of our time, at most.
        relative: width of the bracket ÷ its upper end, at most.
        absolute: width of the bracket, at most.
        speedup: the time of the peer that it is held against ÷ ours, at least.
        against: that peer, by default dp_accounting with privacy loss distributions.
    """

    milliseconds: float
    relative: float = math.inf
    absolute: float = math.inf
    speedup: float = 0.0
    against: str = peers.PLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        name: its question.
        ours: our answer.
        bars: what must be reached.
        bracket: (lower, upper) of our answer at factor 1; of a calibration, ε reached and the target.
        peers: their answers.
    """

    name: str
    ours: Timed
    bars: Bars
    bracket: Callable[[Any], tuple[float, float]] = lambda bounds: (float(bounds.lower), float(bounds.upper))
    peers: Mapping[str, Timed] = field(default_factory=dict)


def rows() -> dict[str, Row]:
    """Return every row whose mechanism this version has, by name."""
    found = [_steps(decade, delta, bars) for delta, bars in DP_SGD.items() for decade in DECADES]
    found += [_hard(), _calibration(), _thousand(), *(_rounded(decade) for decade in (2, 4, 5))]
    found += [*(_moments(decade) for decade in (2, 4, 6)), *(_adaptive(name) for name in ADAPTIVE)]
    found += [_closed(*each) for each in (GAUSSIAN, RESPONSE)]
    if hasattr(mechanisms, "Laplace"):
        found.append(_closed(*LAPLACE))
    return {row.name: row for row in found}


DP_SGD = {
    "1e-5": Bars(milliseconds=10, relative=1e-6, speedup=100),
    "1e-30": Bars(milliseconds=50, relative=1e-5),
}


def _steps(decade: int, delta_text: str, bars: Bars) -> Row:
    steps, delta = 10**decade, float(delta_text)
    rate = steps**-0.5
    within = steps <= PEERS_MOST_STEPS
    asked = {name: ask for name, ask in peers.EPSILON.items() if within or name == peers.PLD}
    return Row(
        name=f"DP-SGD, T=1e{decade}, δ={delta_text}",
        ours=lambda k: epsilon_bounds(dp_sgd(noise_multiplier=k, sample_rate=rate, steps=steps), delta=delta),
        bars=bars,
        peers={name: functools.partial(ask, rate=rate, steps=steps, delta=delta) for name, ask in asked.items()},
    )


def _hard() -> Row:
    rate, steps, delta = 1e-5, 1_000_000, 1e-8
    return Row(
        name="hard jumps: q=1e-5, T=1e6, δ=1e-8",
        ours=lambda k: epsilon_bounds(dp_sgd(noise_multiplier=k, sample_rate=rate, steps=steps), delta=delta),
        bars=Bars(milliseconds=300, relative=1e-3),
        peers={
            name: functools.partial(ask, rate=rate, steps=steps, delta=delta) for name, ask in peers.EPSILON.items()
        },
    )


def _rounded(decade: int) -> Row:
    """`prv` at its default ε_error of .01, against its authors' program at .1."""
    steps, delta = 10**decade, 1e-5
    rate = steps**-0.5

    def ours(k: float) -> Claim:
        return epsilon_bounds(dp_sgd(noise_multiplier=k, sample_rate=rate, steps=steps), delta=delta, accountant="prv")

    return Row(
        name=f"prv, T=1e{decade}",
        ours=ours,
        bars=Bars(milliseconds=3000, absolute=0.0202, speedup=1, against=peers.PRV),
        peers={peers.PRV: functools.partial(peers.EPSILON[peers.PRV], rate=rate, steps=steps, delta=delta)},
    )


def _moments(decade: int) -> Row:
    """`rdp`, an upper end alone."""
    steps, delta = 10**decade, 1e-5
    rate = steps**-0.5

    def ours(k: float) -> Claim:
        return epsilon_bounds(dp_sgd(noise_multiplier=k, sample_rate=rate, steps=steps), delta=delta, accountant="rdp")

    return Row(
        name=f"rdp, T=1e{decade}",
        ours=ours,
        bars=Bars(milliseconds=20),
        peers={
            name: functools.partial(ask, rate=rate, steps=steps, delta=delta)
            for name, ask in peers.EPSILON.items()
            if name.endswith("rdp")
        },
    )


def _adaptive(name: str) -> Row:
    """A million steps one by one, of two kinds in turns."""
    kind, step, read = ADAPTIVE[name]

    def ours(k: float) -> float:
        counted, choices = kind(), (step(k), step(2.0 * k))
        for turn in range(1_000_000):
            counted.spend(choices[turn % 2])
        return float(read(counted))

    return Row(
        name=f"{name}, a million steps", ours=ours, bars=Bars(milliseconds=10_000), bracket=lambda read: (0.0, read)
    )


def _noisy(k: float) -> Process:
    return Gaussian(noise_multiplier=1e4 * k)


def _bounded(k: float) -> Process:
    return PureDP(epsilon=1e-7 * k, adjacency="add_remove")


BUDGET = {"epsilon": 2.0, "delta": 1e-5, "adjacency": "add_remove"}
ADAPTIVE: Mapping[str, tuple[Callable[[], Any], Callable[[float], Process], Callable[[Any], float]]] = {
    "RenyiFilter": (lambda: RenyiFilter(budget=1.0, order=8.0, adjacency="add_remove"), _noisy, lambda f: f.left[0]),
    "ZCDPFilter": (lambda: ZCDPFilter(**BUDGET), _noisy, lambda f: f.left[0]),
    "GDPFilter": (lambda: GDPFilter(**BUDGET), _noisy, lambda f: f.left[0]),
    "ApproximateDPFilter": (lambda: ApproximateDPFilter(slack=5e-6, **BUDGET), _bounded, lambda f: f.left[0]),
    "Odometer": (lambda: Odometer(adjacency="add_remove"), _noisy, lambda o: o.epsilon(1e-5)),
}


def _calibration() -> Row:
    def reached(noise: float) -> tuple[float, float]:
        return float(epsilon_bounds(dp_sgd(noise_multiplier=noise, **MNIST), delta=1e-5).upper), 3.0

    return Row(
        name="calibration: ε=3, δ=1e-5, q=256/60000, T=14062",
        ours=lambda k: calibrate_noise_multiplier(target_epsilon=3.0 * k, delta=1e-5, **MNIST),
        bars=Bars(milliseconds=50, absolute=1e-4),
        bracket=reached,
        peers=peers.CALIBRATION,
    )


def _thousand() -> Row:
    def process(k: float) -> Process:
        shares = [i / 999 for i in range(1000)]
        return Compose(
            tuple(
                Sampled(Gaussian(noise_multiplier=k * 0.8 * 4.0**x), Poisson(probability=0.005 * 10.0 ** (1 - x)))
                for x in shares
            )
        )

    return Row(
        name="1,000 distinct mechanisms",
        ours=lambda k: epsilon_bounds(process(k), delta=1e-5),
        bars=Bars(milliseconds=1000, absolute=1e-4),
    )


GAUSSIAN = (SMOKE[1], lambda k: Gaussian(noise_multiplier=0.02 * k), "add_remove", peers.GAUSSIAN)
RESPONSE = (
    "randomised response ×1e6",
    lambda k: Repeat(RandomizedResponse(epsilon=0.5 * k), 10**6),
    "replace_one",
    peers.RESPONSE,
)
LAPLACE = ("Laplace", lambda k: mechanisms.Laplace(noise_multiplier=k), "add_remove", peers.LAPLACE)


def _closed(name: str, process: Callable[[float], Process], adjacency: str, others: Mapping[str, Timed]) -> Row:
    return Row(
        name=name,
        ours=lambda k: epsilon_bounds(process(k), delta=1e-5, adjacency=adjacency),
        bars=Bars(milliseconds=1, relative=1e-6),
        peers=others,
    )
