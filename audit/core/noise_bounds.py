"""Upper confidence bounds of the noise multiplier: from sums of squares, and from the gap between in and out.

A sum V of n squares of noise alone, in units of the clip norm, is σ² χ² of n degrees, and so σ² <= V / χ²_α, the
quantile of level α. Anything added to the noise before it is drawn only raises the bound: no vector added to a centred
normal one, independent of it, makes its norm smaller in law [And55].

[And55] T. W. Anderson. The Integral of a Symmetric Unimodal Function over a Symmetric Convex Set and Some Probability
Inequalities. Proceedings of the AMS 6, 1955.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
COUNT_BINS, CHI_BINS = 128, 256  # of K and χ: a p-value of 1e-4 is a tenth above the exact one, larger ones less
REACH = 8.0  # standard deviations that the bins cover; the outermost hold the rest
ROUND_OFF = 1e-11  # added to p-values and taken from levels: tails in floats err by less
STANDARD_ERRORS = 3.0  # that a gap may fall short of q T by; no bound's validity rests on it
BOUNDLESS = 1e200  # stands for 1 / 0
HALVINGS = 36  # to a relative 1e-11 of the end that is refuted


def bound_from_squares(squares: ArrayLike, *, degrees: int, level: float) -> Array:
    """Return √(V / χ²_level), elementwise, inf where the level is too small for floats.

    Args:
        squares: V >= 0, in units of the squared clip norm.
        degrees: n >= 1.
        level: error α in (0, 1).

    Guarantees: at least the true σ with probability 1 − level, if V is of n independent normals of variance σ², or
    of such normals, each with anything added that is independent of it and of those after it.

    >>> float(bound_from_squares(100.0, degrees=100, level=0.05).round(3))
    1.133
    """
    quantile = float(2 * special.gammaincinv(0.5 * degrees, max(level - ROUND_OFF, 0.0)))
    values = np.asarray(squares, dtype=np.float64)
    bound: Array = np.sqrt(values / quantile) if quantile > 0 else np.full_like(values, np.inf)
    return bound


@dataclass(frozen=True, slots=True, kw_only=True)
class GapLaw:
    """The law of D / S, the gap of the two means over the standard deviation of the out-scores, in terms of σ.

        D / S  =  (K / n_in + σ √T r Z) / (σ √T χ),     r² = 1 / n_in + 1 / n_out,     K ~ Bin(n_in T, q)

    with Z standard normal and (n_out − 1) χ² chi-square of n_out − 1 degrees, all independent. No unit is in it, and
    it falls as σ grows, so that a small p-value refutes every noise at least so large.

    Args:
        included: n_in >= 1.
        excluded: n_out >= 2.
        probability: q in (0, 1].
        steps: T >= 1.
    """

    included: int
    excluded: int
    probability: float
    steps: int

    def contrast(self, gap: ArrayLike, deviation: ArrayLike) -> Array:
        """Return D / S, elementwise: 0 if D is not positive, inf if only S is 0."""
        positive, spread = np.maximum(gap, 0.0), np.asarray(deviation, dtype=np.float64)
        divided: Array = np.where(spread > 0, positive / np.where(spread > 0, spread, 1.0), np.inf)
        return np.where(positive > 0, divided, 0.0)

    def reached(self, gap: ArrayLike, deviation: ArrayLike) -> NDArray[np.bool_]:
        """Tell, elementwise, whether a gap in units of the clip norm falls less than three errors short of q T."""
        sampled = self.steps * self.probability * (1 - self.probability) / self.included
        noise = np.square(deviation) * (1 / self.included + 1 / self.excluded)
        shortfall = self.probability * self.steps - np.asarray(gap, dtype=np.float64)
        enough: NDArray[np.bool_] = shortfall <= STANDARD_ERRORS * np.sqrt(sampled + noise)
        return enough

    def p_value(self, contrast: float, signal: float) -> float:
        """Return an upper bound of P[D / S >= contrast] at σ = 1 / signal.

            Σ_K P(K) ∫ Φ((K signal / (n_in √T) − contrast χ) / r) dP(χ)

        The integrand rises with K and falls with χ: every bin of theirs counts at its largest K and its least χ.
        """
        counts, count_masses = _count_bins(self.included * self.steps, self.probability)
        chi, chi_masses = _chi_bins(self.excluded - 1)
        spread = np.sqrt(1 / self.included + 1 / self.excluded)
        level = counts / (self.included * np.sqrt(self.steps)) * signal
        return float(count_masses @ special.ndtr((level[:, None] - contrast * chi) / spread) @ chi_masses) + ROUND_OFF

    def bound(self, contrast: float, *, level: float) -> float:
        """Return the least σ, up to bisection, that is refuted as being at least that large; inf if none is.

        Guarantees: at least the true σ with probability 1 − level, for any n_in, n_out and T.

        >>> law = GapLaw(included=2500, excluded=2500, probability=0.5, steps=100)
        >>> round(law.bound(1.0, level=0.01), 2)
        5.4
        """
        if contrast == np.inf or self.p_value(contrast, BOUNDLESS) <= level:
            return 0.0
        if self.p_value(contrast, 0.0) > level:
            return np.inf
        low, high = 0.0, 1.0
        while self.p_value(contrast, high) <= level:
            low, high = high, 2.0 * high
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.p_value(contrast, middle) <= level else (low, middle)
        return (1 + ROUND_OFF) / low if low > 0 else np.inf

    def critical(self, noise_multiplier: float, *, level: float) -> float:
        """Return the least contrast, up to bisection, that refutes every noise of at least this multiplier, or inf."""
        return _critical(self, float(noise_multiplier), float(level))


@lru_cache(maxsize=4096)
def _critical(law: GapLaw, noise_multiplier: float, level: float) -> float:
    """Return what `GapLaw.critical` does; where p-values are so near normal tails, secants on them need few steps."""
    signal = 1 / max(noise_multiplier, 1 / BOUNDLESS)
    low, high = 0.0, 1.0
    while law.p_value(high, signal) > level:
        low, high = high, 2.0 * high
        if high > BOUNDLESS:
            return np.inf
    if law.p_value(low, signal) <= level:
        return low
    from scipy.optimize import brentq

    def excess(contrast: float) -> float:
        return float(special.ndtri(min(law.p_value(contrast, signal), 1 - ROUND_OFF)) - special.ndtri(level))

    width = high * 2.0**-HALVINGS
    refuting = float(brentq(excess, low, high, xtol=width))
    while law.p_value(refuting, signal) > level:
        refuting += width
    return refuting


@lru_cache(maxsize=4)
def _count_bins(draws: int, probability: float) -> tuple[Array, Array]:
    """Return the largest count of every bin of Bin(draws, probability), and the masses of the bins."""
    centre, scale = draws * probability, np.sqrt(draws * probability * (1 - probability))
    ends = np.clip(np.linspace(centre - REACH * scale, centre + REACH * scale, COUNT_BINS), 0, draws)
    largest = np.unique(np.append(np.ceil(ends), draws))
    short = largest[:-1]
    below = special.betaincc(short + 1, draws - short, probability)  # bdtr errs by 1e-6 at ten million draws
    return largest, np.diff(below, prepend=0.0, append=1.0)


@lru_cache(maxsize=4)
def _chi_bins(degrees: int) -> tuple[Array, Array]:
    """Return the least value of every bin of χ, where `degrees` χ² is chi-square, and the masses of the bins."""
    quantiles = np.linspace(-REACH, REACH, CHI_BINS)
    tail = special.ndtr(-np.abs(quantiles))  # upper quantiles come from the complement, where they do not cancel
    half = 0.5 * degrees
    inner = np.where(quantiles < 0, special.gammaincinv(half, tail), special.gammainccinv(half, tail))
    least = np.append(0.0, np.sqrt(inner / half))
    return least, np.diff(special.ndtr(quantiles), prepend=0.0, append=1.0)
