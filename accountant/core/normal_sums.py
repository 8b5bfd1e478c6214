"""Sums of independent losses of normals, sampled or not: their cumulant, and their transform on a vertical line.

K(θ) = log E_P[e^{θL}] = log E_Q[e^{(1 + θ) L}] of the sum is Σ n_i K_i(θ). Unsampled normals are one normal of
μ² = Σ n_i μ_i², with E_Q[e^{tL}] = e^{t (t − 1) μ² / 2}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.base import Steps
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.normal_mixture import SampledNormals
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, NormalMixture

BELIEVED = 1e-9  # relative, for sums of a few thousand positive floats
SMALL, LARGE = 1e-150, 1e150
PLANNED = 2**11  # powers × kinds of steps that are planned at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalSum:
    """The sum of the losses of steps that are normals or Poisson-sampled normals.

    Args:
        square: enclosure of Σ n_i μ_i² over the unsampled steps.
        groups: the sampled steps, those of one direction together, with their numbers n_i, shape (k,).
    """

    square: Bounds
    groups: tuple[tuple[SampledNormals, Array], ...]

    @classmethod
    def of(cls, parts: Steps) -> NormalSum:
        """Return the sum of these steps' losses.

        Raises:
            UnsupportedProcess: if a step is neither a normal nor a Poisson-sampled one.
            NumericalFailure: if the square of a shift, or its product with a probability, leaves the floats.
        """
        mixtures = [(_mixture(pair), times) for pair, times in parts]
        if any(not SMALL < m.shift.lower * m.probability <= m.shift.upper < LARGE for m, _ in mixtures):
            raise NumericalFailure("contour: losses are too small or too large for floats. Use accountant='pld'.")
        square = Bounds.exact(0.0)
        for mixture, times in mixtures:
            if mixture.probability == 1.0:
                square = square + float(times) * mixture.shift * mixture.shift
        groups = []
        for reverse in (False, True):
            chosen = [(m, n) for m, n in mixtures if m.probability < 1.0 and m.reverse == reverse]
            if chosen:
                groups.append((_together([m for m, _ in chosen], reverse), np.array([float(n) for _, n in chosen])))
        return cls(square=square, groups=tuple(groups))

    @property
    def kinds(self) -> int:
        """The number of different steps."""
        return 1 + sum(len(times) for _, times in self.groups)

    def plan(self, theta: Array) -> tuple[Array, Array, Array]:
        """Return about K, K' and K'' at every θ, shape (n,); infinite where powers leave the floats."""
        square, _ = self._square
        value, slope = 0.5 * theta * (1.0 + theta) * square, (0.5 + theta) * square
        bend = np.full_like(value, square)
        for normals, times in self.groups:
            rows = max(1, PLANNED // len(times))
            for k in range(0, len(theta), rows):
                found = normals.cumulants(1.0 + theta[k : k + rows])
                for total, part in zip((value, slope, bend), found, strict=True):
                    total[k : k + rows] += part @ times
        return value, slope, bend

    def log_moment(self, theta: float) -> float:
        """Return a bound of K(θ) from above.

        Raises:
            NumericalFailure: if a moment can't be had within its budget.
        """
        square, spread = self._square
        value = 0.5 * theta * (1.0 + theta) * (square + spread) * (1 + 16 * UNIT_ROUNDOFF)
        for normals, times in self.groups:
            found, error = normals.log_moment(1.0 + theta)
            value += float(times @ (found + error + (8.0 + len(times)) * UNIT_ROUNDOFF * np.abs(found)))
        return value

    def transform(self, theta: float, frequencies: Array) -> tuple[Array, Array, Array]:
        """Return the real and imaginary parts of log E_Q[e^{(1 + θ + iy) L}], and a bound of the error of each.

        Raises:
            NumericalFailure: if a moment can't be had within its budget.
        """
        a, y = 1.0 + theta, frequencies
        square, spread = self._square
        real, imaginary = 0.5 * square * (a * theta - y * y), 0.5 * square * y * (a + theta)
        error = (0.5 * spread + 8 * UNIT_ROUNDOFF * square) * (a * (theta + 1.0) + y * y + y * (a + theta))
        for normals, times in self.groups:
            found = normals.transform(a, y)
            real = real + times @ found.log_modulus
            imaginary = imaginary + times @ found.angle
            rounding = (16.0 + len(times)) * UNIT_ROUNDOFF * (np.abs(found.log_modulus) + np.abs(found.angle))
            error = error + times @ (found.error + rounding)
        return real, imaginary, error

    def envelope(self, theta: float, frequency: float) -> float:
        """Bound |E_Q[e^{(1 + θ + iy) L}]| / E_Q[e^{(1 + θ) L}] for all y >= frequency at once."""
        log_bound = -0.5 * self._square[0] * frequency**2 * (1 - BELIEVED)
        for normals, times in self.groups:
            with np.errstate(divide="ignore"):
                log_bound += float(times @ np.log(normals.envelope(1.0 + theta, frequency)))
        return math.exp(log_bound)

    @property
    def _square(self) -> tuple[float, float]:
        """The middle of Σ n_i μ_i², and how far it may be off."""
        return 0.5 * (self.square.lower + self.square.upper), float(self.square.width)


def _mixture(pair: DominatingPair) -> NormalMixture:
    mixture = pair.normal_mixture
    if mixture is None:
        raise UnsupportedProcess(
            f"contour: it integrates the transforms of normals, Poisson-sampled or not, got {type(pair).__name__}. "
            "Use accountant='pld', which brackets any pair."
        )
    return mixture


def _together(mixtures: list[NormalMixture], reverse: bool) -> SampledNormals:
    shift = Bounds(
        lower=np.array([mixture.shift.lower for mixture in mixtures]),
        upper=np.array([mixture.shift.upper for mixture in mixtures]),
    )
    probability = np.array([mixture.probability for mixture in mixtures])
    return SampledNormals(shift=shift, probability=probability, reverse=reverse)
