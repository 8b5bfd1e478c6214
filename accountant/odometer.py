"""An odometer: what a run of steps chosen as one goes has cost so far, at all times at once.

[WRRW23] see `accountant.filters`, which has the argument, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from accountant.core.adaptive import Ledger, Step, divergences, order, target, upward
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, log
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process

ORDERS = tuple(1.0 + 2.0**k for k in range(-1, 9))


@dataclass(slots=True, kw_only=True, eq=False)
class Odometer(Ledger):
    """Σ D_α(step) at a few orders fixed before the run, and the ε that they bound at all times simultaneously.

        ε_n(δ) = min over the J orders of  Σ_{m <= n} D_α(step m) + log(J/δ) / (α − 1)

    By Ville's inequality the privacy loss L_n exceeds the term of one order at any time n with probability δ/J at most.

    Args:
        adjacency: the neighbours that the guarantee is about.
        orders: the α > 1; one alone, well chosen, is sharpest at one time, several are nearly so at many.

    Guarantees: for every δ, with probability at least 1 − δ over the outputs, L_n <= ε_n(δ) for all n at once, for
    every two neighbours in either order, whoever chooses the steps and when to stop. A run that is stopped before
    ε_n(δ) exceeds some ε is (ε, δ)-differentially private. A step is a process, whose infinite losses, if any, make
    every ε infinite. Sums are exact.

    Raises:
        InvalidParameter: if the orders are no sequence of numbers above 1, or there is none.

    >>> from mechanisms import Gaussian
    >>> odometer = Odometer(adjacency="add_remove")
    >>> for noise in (5.0, 10.0, 20.0):
    ...     odometer.spend(Gaussian(noise_multiplier=noise))
    >>> round(odometer.epsilon(1e-5), 2)
    1.3
    """

    adjacency: Adjacency
    orders: tuple[float, ...] = ORDERS
    _spent: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.adjacency = Adjacency.parse(self.adjacency)
        orders = validate.sequence("Odometer", "orders", self.orders, "For one, pass (order,).")
        self.orders = tuple(order("Odometer", alpha) for alpha in orders)
        if not self.orders:
            raise InvalidParameter("Odometer: orders must name at least one, got none.")
        self._spent = (0,) * len(self.orders)

    def spend(self, step: Step) -> None:
        """Count a step, before or after it runs."""
        self._spent = self._after(step)

    def price(self, step: Step) -> tuple[float, ...]:
        """Return the Rényi divergence of every order, the worst of the directions."""
        if not isinstance(step, Process):
            raise InvalidParameter(f"Odometer: step must be a process, got {step!r}.")
        return divergences(step, self.adjacency, self.orders)

    @property
    def spent(self) -> tuple[float, ...]:
        """The sums so far, one for each order, rounded up."""
        return tuple(upward(spent) for spent in self._spent)

    def epsilon(self, delta: float) -> float:
        """Return ε_n(δ) of the steps so far, rounded up.

        Args:
            delta: δ in (0, 1), chosen before the run; each δ has its own guarantee.
        """
        _, level = target("Odometer", 0.0, delta)
        if not any(self._spent):
            return 0.0
        orders, sums = np.array(self.orders), np.array(self.spent)
        finite = np.isfinite(sums)
        if not finite.any():
            return math.inf
        penalty = log(float(len(orders)) / Bounds.exact(level)) / (Bounds.exact(orders[finite]) - 1.0)
        return float(np.min((Bounds.exact(sums[finite]) + penalty).upper))
