"""From a Rényi divergence D of one order α to (ε, δ): three conversions, every one an upper bound, elementwise.

mironov: δ = e^{(α − 1)(D − ε)}                                                        [Mir17, Prop 3]
cks:     δ = e^{(α − 1)(D − ε)} (1 − 1/α)^α / (α − 1)                                  [CKS20, Prop 12]
asoodeh: the largest δ of any pair of laws with this divergence, which is the best there is      [ALCKS20]

[Mir17] I. Mironov. Rényi Differential Privacy. CSF 2017. arXiv:1702.07476.
[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
[ALCKS20] S. Asoodeh, J. Liao, F. Calmon, O. Kosut, L. Sankar. A Better Bound Gives a Hundred Rounds: Enhanced Privacy
Guarantees via f-Divergences. ISIT 2020. arXiv:2001.05990.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from accountant.core.two_points import certified_epsilon, certified_log_delta
from mechanisms.core.bounds import Array, Bounds, log
from mechanisms.core.renyi import log_gain

Conversion = Literal["cks", "mironov", "asoodeh"]
CONVERSIONS: tuple[str, ...] = get_args(Conversion)


def log_delta(conversion: Conversion, orders: Array, divergences: Array, epsilon: Array) -> Array:
    """Return upper ends of log δ at ε, of the broadcast shape of all three; above 0 where nothing is known.

    >>> found = log_delta("mironov", np.array([3.0]), np.array([0.5]), np.array([1.0]))
    >>> bool(-1.0 <= found[0] < -0.999999)
    True
    """
    alpha = Bounds.exact(orders)
    found = np.asarray(((alpha - 1.0) * (Bounds.exact(divergences) - epsilon) + _gain(conversion, alpha)).upper)
    if conversion != "asoodeh":
        return found
    return np.asarray(np.minimum(found, certified_log_delta(*np.broadcast_arrays(orders, divergences, epsilon, found))))


def epsilon(conversion: Conversion, orders: Array, divergences: Array, delta: Array) -> Array:
    """Return upper ends of ε at δ in (0, 1), of the broadcast shape of all three; below 0 where 0 would do.

    >>> found = epsilon("cks", np.array([17.0]), np.array([0.5]), np.array([1e-5]))
    >>> round(float(found[0]), 6)
    0.981857
    """
    alpha = Bounds.exact(orders)
    gain = _gain(conversion, alpha) - log(Bounds.exact(delta))
    found = np.asarray((Bounds.exact(divergences) + gain / (alpha - 1.0)).upper)
    if conversion != "asoodeh":
        return found
    return np.asarray(np.minimum(found, certified_epsilon(*np.broadcast_arrays(orders, divergences, delta, found))))


def _gain(conversion: Conversion, alpha: Bounds) -> Bounds:
    """log of what δ is multiplied by."""
    if conversion == "mironov":
        return Bounds.exact(np.zeros_like(alpha.lower))
    return log_gain(alpha)
