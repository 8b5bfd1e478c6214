"""Averages of the weights that a run went through: they cost no privacy and smooth out the noise of single steps.

[DBH+22] S. De, L. Berrada, J. Hayes, S. L. Smith, B. Balle. Unlocking High-Accuracy Differentially Private Image
Classification through Scale. 2022. arXiv:2204.13650.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpsgd.core.saved import State
from dpsgd.core.updates import OTHER_STATE
from mechanisms import InvalidParameter
from mechanisms.core import validate


class Average(ABC):
    """Which average of the weights after every step to take."""

    __slots__ = ()

    @abstractmethod
    def share(self, step: int, *, steps: int) -> float:
        """Return how much of the average so far the weights after a step make up, in [0, 1]; 0 leaves them out.

        Args:
            step: its number, from 0.
            steps: that the run is to have.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialAverage(Average):
    """Every step's weights count `decay` times as much as those of the next: Σ decay^(n−k) w_k / Σ decay^(n−k).

    This is the moving average of [DBH+22] and others without what it keeps of its beginning.

    Args:
        decay: in [0, 1); about 1 / (1 − decay) steps count.

    Raises:
        InvalidParameter: if decay is out of range.

    >>> [round(ExponentialAverage(decay=0.5).share(step, steps=3), 3) for step in range(3)]
    [1.0, 0.667, 0.571]
    """

    decay: float

    def __post_init__(self) -> None:
        decay = validate.probability("ExponentialAverage", "decay", self.decay)
        if decay == 1:
            raise InvalidParameter("ExponentialAverage: decay must be below 1, got 1. Use TailAverage(steps=...).")
        object.__setattr__(self, "decay", decay)

    def share(self, step: int, *, steps: int) -> float:
        """Return 1 / (1 + decay + … + decay^step)."""
        return (1 - self.decay) / (1 - self.decay ** (step + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TailAverage(Average):
    """The mean of the weights after each of the last steps that the run is to have.

    Args:
        steps: how many, >= 1; all if the run is to have fewer.

    Raises:
        InvalidParameter: if it is no such number.

    >>> [TailAverage(steps=2).share(step, steps=4) for step in range(4)]
    [0.0, 0.0, 1.0, 0.5]
    """

    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", validate.count("TailAverage", "steps", self.steps, least=1))

    def share(self, step: int, *, steps: int) -> float:
        """Return 1 / (how many of the last steps there have been with this one), 0 before them."""
        counted = step + 1 - max(0, steps - self.steps)
        return 1 / counted if counted > 0 else 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class RunningAverage:
    """The average so far, taken up step by step.

    Args:
        average: which one.
        steps: that the run is to have.
    """

    average: Average
    steps: int
    _values: list[Tensor] = field(default_factory=list)

    def add(self, step: int, parameters: Sequence[Tensor]) -> None:
        """Take up the weights after a step; steps come in order."""
        share = self.average.share(step, steps=self.steps)
        with torch.no_grad():
            if share == 1:
                self._values = [parameter.detach().clone() for parameter in parameters]
            elif share > 0:
                pairs = zip(self._values, parameters, strict=True)  # a file brings values to the CPU
                self._values = [value.to(parameter.device).lerp_(parameter, share) for value, parameter in pairs]

    @property
    def values(self) -> list[Tensor]:
        """The average in the parameters' shapes, of no parameters before there is any."""
        return self._values

    def state_dict(self) -> State:
        """Return what `load_state_dict` needs to go on in the same way, bit for bit; its tensors are no copies."""
        return {f"average.{index}": value for index, value in enumerate(self._values)}

    def load_state_dict(self, state: State) -> None:
        """Take over what `state_dict` has returned in a run of the same arguments.

        Raises:
            InvalidParameter: if it is no state of an average.
        """
        names = [f"average.{index}" for index in range(len(state))]
        values = [state.get(name) for name in names]
        if not all(isinstance(value, Tensor) for value in values):
            raise InvalidParameter(f"RunningAverage: state must hold {names}, got {sorted(state)}.\n{OTHER_STATE}")
        self._values = [value.clone() for value in values if isinstance(value, Tensor)]
