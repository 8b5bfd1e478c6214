"""Factors of the learning rate that are a function of the step alone, and so public."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mechanisms import InvalidParameter
from mechanisms.core import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 down to 0 over the steps of a run, after a linear rise; any other function is as welcome.

        (t + 1) / warm_up                                             for t < warm_up
        (1 + cos(π (t − warm_up) / (steps − warm_up))) / 2            from there to t = steps, then 0

    Args:
        steps: at which the factor arrives at 0, >= 1: those of the configuration.
        warm_up: steps of the rise, below `steps`.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> [round(Cosine(steps=4, warm_up=2)(step), 3) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """

    steps: int
    warm_up: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", validate.count("Cosine", "steps", self.steps, least=1))
        object.__setattr__(self, "warm_up", validate.count("Cosine", "warm_up", self.warm_up))
        if self.warm_up >= self.steps:
            raise InvalidParameter(f"Cosine: warm_up must be below steps = {self.steps}, got {self.warm_up}.")

    def __call__(self, step: int) -> float:
        """Return the factor of a step, counted from 0."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / (self.steps - self.warm_up)
        return (1 + math.cos(math.pi * min(done, 1.0))) / 2
