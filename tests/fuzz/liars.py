"""Accountants that are wrong on purpose, so that a fuzz run can be seen to find them."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from accountant.core.base import Accountant
from accountant.gdp import GDP
from mechanisms import Adjacency, NumericalFailure, Process

Lie = Literal["low", "nan", "negative", "inverted", "wide", "raises", "warns", "fails", "hangs", "dies"]
ENDS = {
    "low": (0.98, 0.99),
    "nan": (float("nan"), float("nan")),
    "negative": (-2.0, 1.0),
    "inverted": (1.001, 1.0),
    "wide": (0.9, 1.1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Liar(Accountant):
    """What `gdp` says, wrong in one way: `low` takes 1 % off every ε, the other lies say it themselves."""

    lie: Lie

    def profile(self, process: Process, *, adjacency: Adjacency) -> Any:
        """Return what looks like a profile, or worse."""
        match self.lie:
            case "raises":
                raise ZeroDivisionError("a bug")
            case "warns":
                warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
            case "fails":
                raise NumericalFailure("Liar: width reached 1. Ask somebody else.")
            case "hangs":
                time.sleep(3600)
            case "dies":
                os._exit(9)
        honest = GDP().profile(process, adjacency=adjacency)

        def epsilon(delta: float) -> SimpleNamespace:
            lower, upper = ENDS.get(self.lie, (1.0, 1.0))
            bounds = honest.epsilon(delta)
            return SimpleNamespace(lower=lower * bounds.lower, upper=upper * bounds.upper)

        return SimpleNamespace(epsilon=epsilon)
