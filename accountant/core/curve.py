"""Curves: what every accountant gives for one direction, an enclosure of δ(ε)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from accountant.core.ledger import Ledger
from accountant.core.search import enclosed
from mechanisms.core.bounds import Array, Bounds


class Curve(ABC):
    """An enclosure of the privacy profile δ(ε) of a process in one direction."""

    @abstractmethod
    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ at every ε >= 0 of an array of shape (n,)."""

    @property
    def supremum(self) -> Bounds:
        """Enclose the smallest ε with δ(ε) = 0; the upper end is inf where none is known."""
        return Bounds(lower=0.0, upper=math.inf)

    @property
    def lost(self) -> Bounds:
        """Enclose P(L = ∞), what δ(ε) falls to."""
        return Bounds(lower=0.0, upper=1.0)

    def epsilon(self, delta: float) -> Bounds:
        """Enclose the smallest ε with δ(ε) <= delta: certified at the upper end, and refuted below the lower one."""
        return enclosed(self, delta)

    def keeps(self, epsilon: float, delta: float) -> bool:
        """Tell whether δ(ε) <= delta is certified."""
        return bool(self.delta(np.array([epsilon])).upper[0] <= delta)

    def guess(self, delta: float) -> float:
        """Return about the ε at which δ(ε) = delta, from where a search may start: no guarantee."""
        return 1.0

    def tradeoff(self, alpha: Array) -> Bounds | None:
        """Enclose the trade-off function at every α where both orders have this curve, if it has a form for it."""
        return None

    def method(self, epsilon: float) -> str:
        """Name what gives the upper end at this ε, where the curve itself chooses; empty otherwise."""
        return ""

    def ledger(self, epsilon: float) -> Ledger:
        """Return the errors that the bounds of δ at this ε were widened by."""
        return ()
