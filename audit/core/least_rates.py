"""The least error rates that (ε, δ) allows: the lower boundary of R(ε), two straight edges that meet in a corner.

With R(ε) = {FNR + e^ε FPR >= 1 − δ and FPR + e^ε FNR >= 1 − δ}, see `audit.estimators.calibrated`.
"""

from __future__ import annotations

import numpy as np

from audit.core.binomial import Array


def boundary(shares: Array, epsilon: float, delta: float) -> tuple[Array, Array]:
    """Return rates on the two edges of R(ε): an axis is left at share 0, the corner between them reached at 1."""
    least = shares * (1 - delta) / (1 + np.exp(epsilon))
    other = np.maximum(1 - delta - np.exp(epsilon) * least, 0.0)
    return np.concatenate([other, least]), np.concatenate([least, other])


def cuts_of(runs: int, epsilon: float, delta: float) -> Array:
    """Return shares from 0 to 1 at which an edge is cut, both rates moving about half a standard deviation between."""
    angles = np.sin(np.linspace(0, np.pi / 2, 4 + int(np.pi * np.sqrt(runs)))) ** 2
    corner = (1 - delta) / (1 + np.exp(epsilon))
    shares = np.concatenate([angles / corner, (1 - delta - angles) / corner * np.exp(-epsilon)])
    return np.unique(np.concatenate([[0.0, 1.0], shares[(shares > 0) & (shares < 1)]]))
