"""About the cumulant of a composed loss, at many exponents at once: for plans, not for bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from accountant.core.base import Steps
from accountant.core.loss_sums import LossSum
from mechanisms.core.bounds import Array
from mechanisms.core.mixtures import NormalMixture

Plan = Callable[[Array], tuple[Array, Array, Array]]
LEAST = 1e-12  # of a difference of cumulants, relative: below it is round-off


def cumulant(parts: Steps) -> Plan:
    """Return the function from θ, shape (n,), to about K, K' and K'' there, infinite where powers leave the floats.

    K(θ) = Σ n_i log E_{Q_i}[e^{(1 + θ) L_i}], infinite losses left out.
    """
    normals = tuple((pair, times) for pair, times in parts if isinstance(pair.mixture, NormalMixture))
    others = tuple((pair, times) for pair, times in parts if not isinstance(pair.mixture, NormalMixture))
    together = LossSum.of(normals)

    def plan(theta: Array) -> tuple[Array, Array, Array]:
        value, slope, bend = together.plan(theta)
        for pair, times in others:
            for total, part in zip((value, slope, bend), pair.cumulants(1.0 + theta), strict=True):
                total += times * part
        return value, slope, bend

    return plan


def tail_ends(plan: Plan, theta: float, deviation: float, nats: float) -> tuple[tuple[float, float], ...]:
    """Return, below and above, how far the loss tilted by θ goes but for e^{−nats} of its mass, and a tilt to show it.

    By Chernoff's inequality, at the best of a few further tilts, in units of 1 / deviation and of θ.
    """
    wide = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.6, 12.0]) / deviation
    units = np.concatenate([wide, theta * np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])])
    value = plan(np.concatenate([[theta], theta - units, theta + units]))[0]
    ends = []
    for side, found in ((-1, value[1 : len(units) + 1]), (1, value[len(units) + 1 :])):
        with np.errstate(invalid="ignore"):
            reach = (found - value[0] + nats) / units
        best = int(np.nanargmin(reach)) if np.any(np.isfinite(reach)) else 0
        ends.append((side * float(reach[best]) if math.isfinite(reach[best]) else side * math.inf, float(units[best])))
    return tuple(ends)
