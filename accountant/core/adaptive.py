"""What filters and odometers are made of: prices of steps, sums of them without rounding, budgets.

[BS16], [CKS20], [WRRW23] see `accountant.filters`.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from operator import add
from typing import Literal

import numpy as np

from accountant.core.concentrated import concentration_of
from accountant.core.gaussian_shifts import shift_of
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, log, sqrt, up
from mechanisms.core.errors import BudgetExceeded, InvalidParameter, UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Process, leaves
from mechanisms.gaussian import GaussianPair

Conversion = Literal["cks", "bun_steinke"]
Step = Process | float | tuple[float, float]
UNIT = 1 << 1074  # every float is a whole multiple of 1/UNIT, so that sums of them are exact as integers
BOUNDLESS = UNIT << 1100  # stands for inf: more than any float
CANDIDATES = 1.0 + np.geomspace(1e-3, 1e6, 4000)  # orders that a conversion may use
REMEMBERED = 4096  # prices of processes


class Ledger(ABC):
    """What filters and odometers share: exact sums of the prices of the steps taken. For one thread at a time."""

    __slots__ = ("_spent",)

    _spent: tuple[int, ...]

    @abstractmethod
    def price(self, step: Step) -> tuple[float, ...]:
        """Return what a step costs, rounded up, in the units of the budget; the same for equal steps.

        Raises:
            InvalidParameter: if the step is no process, and no number that could be a price.
            UnsupportedProcess: if no price of the process is known.
        """

    def _after(self, step: Step) -> tuple[int, ...]:
        return tuple(map(add, self._spent, _wholes(self.price(step))))


class Filter(Ledger):
    """A budget that steps chosen as one goes cannot overspend, whatever the outputs and whoever chooses."""

    __slots__ = ("_limits",)

    _limits: tuple[int, ...]

    def allows(self, step: Step) -> bool:
        """Tell whether the step can still be afforded. Depends on prices alone, so it reveals nothing more."""
        return all(total <= limit for total, limit in zip(self._after(step), self._limits, strict=True))

    def spend(self, step: Step) -> None:
        """Pay for a step, before it runs. A cheaper step may still be affordable after one that was refused.

        Raises:
            BudgetExceeded: if the step cannot be afforded: nothing is paid, and it must not run.
        """
        after = self._after(step)
        if any(total > limit for total, limit in zip(after, self._limits, strict=True)):
            left = ", ".join(f"{one:.6g}" for one in self.left)
            raise BudgetExceeded(
                f"{type(self).__name__}: {step!r} would exceed the budget; left are {left}.\n"
                "Do not run it; a step with more noise, if one is allowed, may follow."
            )
        self._spent = after

    @property
    def left(self) -> tuple[float, ...]:
        """What is left of the budget, rounded down."""
        return tuple(-upward(spent - limit) for spent, limit in zip(self._spent, self._limits, strict=True))


def whole(value: float) -> int:
    """Return a float in units of 1/UNIT, without rounding."""
    if math.isinf(value):
        return BOUNDLESS
    numerator, denominator = value.as_integer_ratio()
    return numerator * (UNIT // denominator)


def upward(total: int) -> float:
    """Return the least float that is not below a number of units, inf beyond the floats."""
    try:
        nearest = total / UNIT
    except OverflowError:
        return math.inf if total > 0 else -math.inf
    return nearest if whole(nearest) >= total else float(up(nearest))


def square(value: float) -> float:
    """Return the square, rounded up unless it is exact.

    >>> square(0.5), square(0.1) > 0.1 * 0.1
    (0.25, True)
    """
    found = value * value
    return found if whole(found) * UNIT == whole(value) ** 2 else float(up(found))


def _total(terms: Iterable[tuple[float, int]]) -> float:
    """Return the sum of prices times their numbers, rounded up once; those below 0 are rounding's."""
    return upward(sum(times * whole(max(price, 0.0)) for price, times in terms))


@lru_cache(maxsize=REMEMBERED)
def _wholes(values: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(whole(value) for value in values)


def number(owner: str, step: object) -> float:
    """Return the price that is given as a number, finite and at least 0."""
    return validate.non_negative(owner, "step", step, "A step is a process or its price.")


def order(owner: str, value: object) -> float:
    """Return a Rényi order: a finite number above 1."""
    alpha = validate.finite(owner, "order", value)
    if alpha <= 1:
        raise InvalidParameter(f"{owner}: order must be above 1, got {alpha}.")
    return alpha


def target(owner: str, epsilon: object, delta: object, name: str = "delta") -> tuple[float, float]:
    """Return the (ε, δ) to be kept: ε >= 0 and 0 < δ < 1."""
    level = validate.positive(owner, name, delta)
    if level >= 1:
        raise InvalidParameter(f"{owner}: {name} must be below 1, got {level}.")
    return validate.non_negative(owner, "epsilon", epsilon), level


def room(alpha: Array, epsilon: float, delta: float) -> Bounds:
    """Enclose the Rényi divergence of each order that keeps (ε, δ):  ε − log(1 − 1/α) + log(δ α) / (α − 1).

    This is [CKS20, Prop 12] solved for the divergence.
    """
    orders = Bounds.exact(alpha)
    return epsilon - log(1.0 - 1.0 / orders) + (log(Bounds.exact(delta)) + log(orders)) / (orders - 1.0)


def concentration(*, epsilon: float, delta: float, conversion: Conversion = "cks") -> float:
    """Return a ρ such that ρ-zCDP keeps (ε, δ), rounded down.

        cks             max over α of (ε − log(1 − 1/α) + log(δ α) / (α − 1)) / α           [CKS20, Prop 12]
        bun_steinke     the root of  ρ + 2 (ρ log 1/δ)^½ = ε                                [BS16]

    >>> [round(concentration(epsilon=2.0, delta=1e-5, conversion=name), 4) for name in ("cks", "bun_steinke")]
    [0.1083, 0.08]
    """
    if conversion == "cks":
        return max(0.0, float(np.max((room(CANDIDATES, epsilon, delta) / Bounds.exact(CANDIDATES)).lower)))
    width = -log(Bounds.exact(delta))
    root = epsilon / (sqrt(width + epsilon) + sqrt(width))
    return max(0.0, float((root * root).lower))


@lru_cache(maxsize=REMEMBERED)
def gaussian_squares(process: Process, adjacency: Adjacency) -> float:
    """Return Σ μ_i² of a process whose steps are μ_i-GDP, rounded up: Gaussians, and losses within ±ε.

    The latter have −μ/2 = Φ⁻¹(1/(1 + e^ε)), as the trade-off function of a randomised response is the least of theirs
    and lies above the Gaussian one, which is convex and meets it at its kink and at both ends            [DRS22].

    Raises:
        UnsupportedProcess: if a step is neither.
    """
    squares = []
    for leaf, times in leaves(process):
        pairs = _pairs(leaf, adjacency)
        if all(isinstance(pair, GaussianPair) for pair in pairs):
            shift = max(float(pair.shift.upper) for pair in pairs if isinstance(pair, GaussianPair))
        else:
            epsilon, lost = _largest(leaf, pairs)
            if lost:
                raise UnsupportedProcess(_unpriced(leaf, "GDPFilter", "it may lose everything"))
            shift = shift_of(epsilon)
        squares.append((square(shift), times))
    return _total(squares)


@lru_cache(maxsize=REMEMBERED)
def divergences(process: Process, adjacency: Adjacency, orders: tuple[float, ...]) -> tuple[float, ...]:
    """Return bounds of the Rényi divergences of a process, one for each order: the worst direction, rounded up."""
    parts = leaves(process)
    return tuple(_total((_leaf_divergence(leaf, adjacency, alpha), times) for leaf, times in parts) for alpha in orders)


@lru_cache(maxsize=REMEMBERED)
def rho(process: Process, adjacency: Adjacency) -> float:
    """Return a ρ for which a process is ρ-zCDP, rounded up: the sum of its steps'.

    Raises:
        UnsupportedProcess: if that of a step is not known.
    """
    return _total((concentration_of(leaf, adjacency), times) for leaf, times in leaves(process))


@lru_cache(maxsize=REMEMBERED)
def guarantee(process: Process, adjacency: Adjacency) -> tuple[float, float]:
    """Return Σ ε_i² and Σ δ_i of a process whose steps are (ε_i, δ_i)-differentially private, rounded up.

    Raises:
        UnsupportedProcess: if the loss of a step has no bound, so that no (ε_i, δ_i) is singled out.
    """
    found = [(*_largest(leaf, _pairs(leaf, adjacency)), times) for leaf, times in leaves(process)]
    return _total((square(epsilon), times) for epsilon, _, times in found), _total((d, times) for _, d, times in found)


def _leaf_divergence(leaf: Process, adjacency: Adjacency, alpha: float) -> float:
    found = []
    with contextlib.suppress(UnsupportedProcess):
        found.append(leaf.renyi(adjacency).divergence(alpha))
    try:
        pairs = _pairs(leaf, adjacency)
    except UnsupportedProcess:
        if not found:
            raise
        return found[0]
    found.append(max(_pair_divergence(pair, alpha) for pair in pairs))
    return min(found)


def _pair_divergence(pair: DominatingPair, alpha: float) -> float:
    if pair.infinite_mass.upper > 0:
        return math.inf
    return float((pair.log_mixture_moment(1.0, alpha) / (Bounds.exact(alpha) - 1.0)).upper)


def _pairs(leaf: Process, adjacency: Adjacency) -> list[DominatingPair]:
    """Return the pairs of all directions, without witnesses: those give lower ends only."""
    pairs = leaf.pairs(adjacency)
    return [pairs[direction] for direction in adjacency.directions]


def _largest(leaf: Process, pairs: list[DominatingPair]) -> tuple[float, float]:
    """Return the largest finite loss and the largest mass of infinite losses."""
    epsilon = max(float(pair.supremum.upper) for pair in pairs)
    if math.isinf(epsilon):
        raise UnsupportedProcess(_unpriced(leaf, "this filter", "its loss has no bound"))
    return max(epsilon, 0.0), max(float(pair.infinite_mass.upper) for pair in pairs)


def _unpriced(leaf: Process, owner: str, why: str) -> str:
    return (
        f"{type(leaf).__name__}: {owner} has no price for it, as {why}.\n"
        "Use RenyiFilter, or give its guarantee: ApproximateDP(epsilon=..., delta=..., adjacency=...)."
    )
