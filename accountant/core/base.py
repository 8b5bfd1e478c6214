"""What every accountant is: one method, from a process to its profile."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import numpy as np

from accountant.core.estimate import Estimate
from accountant.core.profile import Profile
from mechanisms.core.bounds import Bounds, expm1, log1p
from mechanisms.core.counting import fitting, numbers
from mechanisms.core.discover import implementations
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair
from mechanisms.core.process import Adjacency, Direction, Process, leaves
from mechanisms.core.renyi_steps import MOST_REPEATS

WITNESSES: tuple[Direction, Direction] = ("witness", "witness_reversed")
Steps = tuple[tuple[DominatingPair, int], ...]


class Accountant(ABC):
    """A route from the description of a process to a certified bound of its privacy loss.

    Subclasses are frozen dataclasses in a file of their own beside `basic.py`; the file's name is the accountant's.
    """

    __slots__ = ()

    exact: ClassVar[bool] = False
    """Whether its bracket is the truth up to the rounding of floats, so that no other can be tighter."""

    cost: ClassVar[float] = 1.0
    """About how many seconds an answer takes: `tightest` asks the cheap ones first, infinite ones never."""

    rough: ClassVar[bool] = False
    """Whether it gives upper ends only, nowhere near the truth: `tightest` asks it for want of better ones."""

    @property
    def name(self) -> str:
        """The name by which `available()` lists it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the certified profile of `process` for neighbours under `adjacency`.

        Raises:
            UnsupportedProcess: if this accountant has no theorem for it; the message names one that has.
        """

    def estimate(self, process: Process, *, delta: float, adjacency: Adjacency) -> Estimate:
        """Return about the ε of `process` at `delta`, where this accountant has an approximation and no bound.

        Raises:
            UnsupportedProcess: where it has none.
        """
        raise UnsupportedProcess(f"{self.name}: it certifies and does not estimate. Use epsilon_bounds.")

    def supports(self, process: Process, adjacency: Adjacency) -> bool:
        """Tell whether `profile` answers rather than refuses."""
        try:
            self.profile(process, adjacency=adjacency)
        except UnsupportedProcess:
            return False
        return True


def available() -> dict[str, type[Accountant]]:
    """Return every accountant there is, by name.

    >>> ", ".join(sorted(available()))
    'advanced, basic, closed_form, contour, gdp, jumps, moments, optimal, pld, prv, pure, rdp, tightest, zcdp'
    """
    return implementations("accountant", Accountant)


@lru_cache(maxsize=16)
def steps(process: Process, adjacency: Adjacency) -> dict[Direction, Steps]:
    """Return, for every direction, the dominating pair of each step and how often it runs.

    If a step has a witness, so has the run: the same two neighbours in all steps. Steps without one, or whose named
    neighbours are not of the number of records that others state, show their attained pair in that order or, as seeing
    less tells less apart, nothing. Upper ends come from the other directions alone.

    Raises:
        UnsupportedProcess: if a step has no known pair under this adjacency.
        InvalidParameter: if a step runs more often than floats can count.
    """
    inside = leaves(process)
    records = numbers(*(leaf for leaf, _ in inside))
    parts = [(fitting(leaf.pairs(adjacency), leaf, *records), times) for leaf, times in inside]
    if any(times > MOST_REPEATS for _, times in parts):
        raise InvalidParameter("Repeat: times must be at most 2**53 in all for any one step to be priced, got more.")
    found = {
        direction: tuple((pairs[direction], times) for pairs, times in parts) for direction in adjacency.directions
    }
    orders = adjacency.directions
    for witness, order in zip(WITNESSES, (orders * 2)[:2], strict=True):
        attained = [pairs[order].attained for pairs, _ in parts]
        partly = WITNESSES.index(witness) < len(orders) and any(attained) and not all(attained)
        if partly or any(witness in pairs for pairs, _ in parts):
            seen = [(pairs.get(witness, pairs[order]), times) for pairs, times in parts]
            found[witness] = tuple((pair, times) for pair, times in seen if pair.attained)
    return found


def dominating(process: Process, adjacency: Adjacency) -> dict[Direction, Steps]:
    """Return `steps` without the witnesses, for accountants that give upper ends only."""
    return {direction: parts for direction, parts in steps(process, adjacency).items() if direction not in WITNESSES}


@lru_cache(maxsize=32)
def largest_loss(parts: Steps) -> Bounds:
    """Enclose the supremum of the composed loss: Σ n_i (that of step i), infinite where a step's loss may be.

    The lower end is 0 unless every pair is attained.
    """
    lost = Bounds(lower=0.0, upper=math.inf)
    suprema = [pair.supremum if pair.infinite_mass.upper == 0 else lost for pair, _ in parts]
    attained = all(pair.attained for pair, _ in parts)
    if any(supremum.upper == math.inf for supremum in suprema):
        certain = any(pair.supremum.lower == math.inf or pair.infinite_mass.lower > 0 for pair, _ in parts)
        return Bounds(lower=math.inf if attained and certain else 0.0, upper=math.inf)
    times = np.array([float(n) for _, n in parts])
    lower, upper = (np.array([getattr(supremum, side) for supremum in suprema]) for side in ("lower", "upper"))
    terms = Bounds(lower=lower, upper=upper) * times
    slack = (len(parts) + 4) * UNIT_ROUNDOFF * float(np.sum(np.abs(terms.lower) + np.abs(terms.upper)))
    total = Bounds(lower=float(np.sum(terms.lower)), upper=float(np.sum(terms.upper))) + Bounds(
        lower=-slack, upper=slack
    )
    return Bounds(lower=max(0.0, total.lower) if attained else 0.0, upper=max(0.0, total.upper))


@lru_cache(maxsize=32)
def lost_mass(parts: Steps) -> Bounds:
    """Enclose the probability 1 − Π (1 − d_i)^{n_i} that the composed loss is infinite."""
    losing = [(pair.infinite_mass, float(times)) for pair, times in parts if pair.infinite_mass.upper > 0]
    if not losing:
        return Bounds(lower=0.0, upper=0.0)
    log_kept = sum((times * log1p(-mass) for mass, times in losing), start=Bounds.exact(0.0))
    return (-expm1(log_kept)).clip(0.0, 1.0)
