"""Noise that is correlated from step to step, made white again, one step after the other and in little memory.

A run shows y_t = s_t + w_t, w the rows of `mechanisms.core.correlated_noise` for white noise z of deviation σC. Both
kinds of rows determine z's part in them, with all rows before, by a triangular matrix S:

    S y = S s + ε,     ε_t independent N(0, (σC)²)

- *Toeplitz*, w = K^{-1} z with c_0, …, c_{b−1} down the columns of K: S = K and ε = z. Kept are b − 1 rows.
- *Tree.* Let e_v be the estimate's noise in node v, N_t = Σ e_v over the nodes of t's bits that of the prefix of t
  steps, w_t = N_{t+1} − N_t. All prefixes being shown, so is each open node: e_v is the difference of two of them. Step
  t adds a leaf and closes r nodes, r the number of 1s at the end of t in binary; with v_l = 2^l / (2^{l+1} − 1),

      e_{l+1} = v_{l+1} z_{l+1} + (1 − v_{l+1}) (left_{l+1} + e_l),     e_0 = z_0,

  of which left_1, …, left_r are open nodes, and the z are drawn in this step. So what is new in row t is

      F_r = v_r z_r + (1 − v_r) F_{r−1},    F_0 = z_0,    of variance f_r = v_r² + (1 − v_r)² f_{r−1} in units of (σC)²

  and ε_t = F_r / √f_r. Kept are the open nodes, one for each bit of t that is 1.

S asks only for rows shown, so that whatever is added to the values of single steps goes through it in the same way: a
record that adds g in the steps τ moves ε_t by S_{t, τ} g, summed over τ, its *signature* times g.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.correlated_noise import own_weight

Array = NDArray[np.float64]
Kept = tuple[Array, ...]


class Whitening(ABC):
    """The matrix S, applied to one row after the other."""

    __slots__ = ()

    @abstractmethod
    def advance(self, step: int, row: Array, kept: Kept) -> tuple[Array, Kept]:
        """Return (S x)_t, and what to keep for the next step, given what the one before left; () at step 0.

        Args:
            step: t, from 0.
            row: x_t, of any shape, the same in every step.
            kept: as the step before left it; arrays are not written to.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ToeplitzWhitening(Whitening):
    """Σ_m c_m x_{t−m}.

    >>> white = ToeplitzWhitening(coefficients=(1.0, 0.5))
    >>> first, kept = white.advance(0, np.array([2.0]), ())
    >>> float(first[0]), float(white.advance(1, np.array([3.0]), kept)[0][0])
    (2.0, 4.0)
    """

    coefficients: tuple[float, ...]

    def advance(self, step: int, row: Array, kept: Kept) -> tuple[Array, Kept]:
        """Return the sum over the last b rows, and the last b − 1, the latest first."""
        rows = (row, *kept)
        total: Array = np.zeros_like(row)
        for c, one in zip(self.coefficients, rows, strict=False):
            total = total + c * one
        return total, rows[: len(self.coefficients) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeWhitening(Whitening):
    """F_r / √f_r of the rows as if they were noise.

    >>> white = TreeWhitening()
    >>> first, kept = white.advance(0, np.array([1.0]), ())
    >>> second, _ = white.advance(1, np.array([0.0]), kept)
    >>> float(first[0]), round(float(second[0] ** 2), 9)
    (1.0, 0.8)
    """

    def advance(self, step: int, row: Array, kept: Kept) -> tuple[Array, Kept]:
        """Return what is new in the node that this step closes last, and the nodes then open, the largest first."""
        closed = (~step & (step + 1)).bit_length() - 1
        stack, node, foreseen = list(kept), row, np.zeros_like(row)
        for level in range(1, closed + 1):
            left = stack.pop()
            node, foreseen = node + left, (1.0 - own_weight(level)) * (left + foreseen)
        new: Array = (node - foreseen) / np.sqrt(_new_variance(closed))
        return new, (*stack, node)


@lru_cache(maxsize=128)
def _new_variance(level: int) -> float:
    """Return f_l."""
    if level == 0:
        return 1.0
    own = own_weight(level)
    return own**2 + (1.0 - own) ** 2 * _new_variance(level - 1)
