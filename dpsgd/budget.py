"""A budget for a run: how many of its steps fit, known before the first is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dpsgd.config import DPSGD
from dpsgd.core.calibration import excess_of
from dpsgd.core.schemes import check_neighbours
from mechanisms import BudgetExceeded
from mechanisms.core import validate
from mechanisms.core.process import Adjacency
from mechanisms.core.sampling import Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """(ε, δ) that a run must keep: the step that would exceed it is not taken.

    Args:
        epsilon: > 0.
        delta: in (0, 1).
        adjacency: which datasets are neighbours; "add_remove" unless another is named.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> from mechanisms import Poisson
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=600, steps=10_000, learning_rate=0.5)
    >>> Budget(epsilon=3.0, delta=1e-5).steps_within(config)
    2666
    """

    epsilon: float
    delta: float
    adjacency: str = "add_remove"

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.positive("Budget", "epsilon", self.epsilon))
        delta = validate.positive("Budget", "delta", validate.probability("Budget", "delta", self.delta))
        object.__setattr__(self, "delta", delta)
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency).value)

    def steps_within(self, config: DPSGD) -> int:
        """Return the largest number of steps of `config` whose certified ε at δ is at most the budget's.

        It is a number fixed by what is public, so that a run which ends there has the guarantee of a run of so many
        steps. Epochs of Shuffled and BallsInBins count as wholes: with the first step of one all others are free. Those
        of Cyclic do not, and need not be whole: every step is priced.

        Guarantees: compute_epsilon(config.process_after(number), …) <= epsilon, and one step more is not certified to
        keep the budget, or there is none.

        Raises:
            BudgetExceeded: if the first step, or epoch, already costs more.
            InvalidParameter: if these neighbours differ in a number that is public.
            UnsupportedProcess: if there is no theorem for the scheme and these neighbours.
        """
        check_neighbours("Budget", config.process(), self.adjacency)
        unit = (config.steps_per_epoch or 1) if isinstance(config.sampling, Allocation) else 1
        excesses: dict[int, float] = {}

        def excess(units: int) -> float:
            if units not in excesses:
                process = config.process_after(units * unit)
                excesses[units] = excess_of(process, self.epsilon, self.delta, self.adjacency)
            return excesses[units]

        total = config.steps // unit
        if excess(total) <= 0:
            return config.steps
        if total == 1 or excess(1) > 0:
            raise BudgetExceeded(
                f"Budget: epsilon must be at least that of the first {'epoch' if unit > 1 else 'step'} of {config!r}, "
                f"which is above {self.epsilon} at delta = {self.delta} ({self.adjacency}).\n"
                "No step can be taken. Raise noise_multiplier, or use DPSGD.for_budget(...)."
            )
        return unit * _last_kept(excess, total)


def _last_kept(excess: Callable[[int], float], total: int) -> int:
    """Return the n with excess(n) <= 0 < excess(n + 1), where excess(1) <= 0 < excess(total), in few calls.

    By false position on log n, on which the excess is about straight, halving an end that stays (Illinois).
    """
    low, high = 1, total
    at_low, at_high, moved = excess(low), excess(high), 0
    while high - low > 1:
        share = at_low / (at_low - at_high)
        guess = round(math.exp(math.log(low) + share * math.log(high / low)))
        middle = min(max(guess, low + 1), high - 1)
        found = excess(middle)
        if found <= 0:
            low, at_low, at_high, moved = middle, found, at_high / (2 if moved == 1 else 1), 1
        else:
            high, at_high, at_low, moved = middle, found, at_low / (2 if moved == -1 else 1), -1
    return low
