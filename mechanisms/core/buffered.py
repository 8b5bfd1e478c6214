"""Toeplitz matrices whose coefficients are sums of few falling powers: long memory of noise in few rows [DMPST24].

With weights p_i > 0 and decays 0 <= λ_i <= 1, c_m = Σ_i p_i λ_i^m. Of all rows of w = C^{-1} z before step t, its row
needs the buffers S_i = Σ_{m >= 1} λ_i^{m−1} w_{t−m} alone, which follow from step to step:

    w_t = (z_t − Σ_i p_i λ_i S_i) / c_0,        S_i ← λ_i S_i + w_t.

As c_0 >= c_1 >= … >= 0, sens is known exactly for every pattern of participation, several among them [MXZ24], see
`mechanisms.core.toeplitz`. Sums of this kind come as near to the square root of the prefix sums as one likes, the more
terms the nearer: (1 − x)^{−1/2} = ∫ (1 − λx)^{−1} dF(λ), F the arcsine law.

[DMPST24] K. Dvijotham, H. B. McMahan, K. Pillutla, T. Steinke, A. Thakurta. Efficient and Near-Optimal Noise Generation
for Streaming Differential Privacy. FOCS 2024. arXiv:2404.16706.
[MXZ24] H. B. McMahan, Z. Xu, Y. Zhang. A Hassle-free Algorithm for Private Learning in Practice: Don't Use Tree
Aggregation, Use BLTs. 2024. arXiv:2408.08868.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.bounds import Bounds
from mechanisms.core.correlated_noise import Carried, CorrelatedNoise
from mechanisms.core.randomness import Source
from mechanisms.core.toeplitz import log_error

Floats = NDArray[np.float64]
LEAST_GAP = 1e-12
"""Of a decay below 1 in the search: beyond it nothing is gained in a million steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedNoise(CorrelatedNoise):
    """Rows of C^{-1} z, c_m = Σ_i weights_i decays_i^m, from a row for each of the terms.

    >>> from mechanisms import KeyedSource
    >>> noise = BufferedNoise(weights=(1.0,), decays=(0.5,), size=3, scale=1.0, stream="noise")
    >>> source = KeyedSource(0)
    >>> row, carried = noise.advance(7, noise.carried_at(7, source), source)
    >>> bool((row == noise.white(7, source) - 0.5 * noise.white(6, source)).all())  # C^{-1} of C = 1, 1/2, 1/4, …
    True
    """

    weights: tuple[float, ...]
    decays: tuple[float, ...]

    def carried_rows(self, step: int) -> int:
        """One for each term, from the second step on."""
        return len(self.weights) if step else 0

    def advance(self, step: int, carried: Carried, randomness: Source) -> tuple[Floats, Carried]:
        """Return w_t and the buffers that the next row needs."""
        self.check(step, carried)
        row, first = self.white(step, randomness), math.fsum(self.weights)
        for weight, decay, buffer in zip(self.weights, self.decays, carried, strict=False):
            row = row - weight * decay * buffer
        row = row / first
        before = carried or tuple(np.zeros(self.size) for _ in self.weights)
        return row, tuple(decay * buffer + row for decay, buffer in zip(self.decays, before, strict=True))


@lru_cache(maxsize=64)
def coefficients(weights: tuple[float, ...], decays: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """Return floats that fall and are no smaller than c_0, …, c_{T−1}, T = `steps`.

    They are larger by a relative (T + 9) · 2^-50 at most, and 1e-300.

    As no entry of C is below 0, what is priced by them is priced at no less than what runs.

    >>> coefficients((0.5, 0.5), (0.5, 0.0), 3)[1:] >= (0.25, 0.125)
    True
    """
    total = Bounds.exact(np.zeros(steps))
    for weight, decay in zip(weights, decays, strict=True):
        powers, reached = Bounds.exact(np.ones(1)), Bounds.exact(decay)
        while powers.upper.size < steps:  # λ^0 … λ^{k−1}, then k more from them by λ^k
            powers, reached = _joined(powers, powers * reached), reached * reached
        total = total + weight * powers[:steps]
    falling = np.maximum.accumulate(total.upper[::-1])[::-1]
    return tuple(falling.tolist())


def _joined(some: Bounds, others: Bounds) -> Bounds:
    return Bounds(lower=np.concatenate([some.lower, others.lower]), upper=np.concatenate([some.upper, others.upper]))


def found(*, steps: int, buffers: int, separation: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return weights, of sum 1, and decays that make mean squared error times sens² least, as far as descent tells.

    sens² is that of a record which takes part in steps 0, s, 2s, …, the worst there is s apart. Whatever the descent
    ends at, its price is certified; only how good it is rests on the search.

    Args:
        steps: of the run.
        buffers: number of terms.
        separation: s.
    """
    from scipy.optimize import minimize

    gaps = np.geomspace(1.0 / (steps + 1.0), 0.9, buffers)
    start = np.concatenate([0.5 * np.log(gaps), np.log(1.0 / gaps - 1.0)])  # as the arcsine law near its end
    taken = np.zeros(steps)
    taken[::separation] = 1.0
    most = math.log(1.0 / LEAST_GAP)
    bounds = [(-most, most)] * (2 * buffers)
    end = minimize(lambda at: _log_cost(at, taken), start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights, decays = np.exp(end[:buffers]), 1.0 / (1.0 + np.exp(-end[buffers:]))
    order = np.argsort(-decays)
    return tuple((weights / weights.sum())[order].tolist()), tuple(decays[order].tolist())


def _log_cost(at: Floats, taken: Floats) -> tuple[float, Floats]:
    """Return log of error times sens² for `at` = (log p_i, log λ_i/(1 − λ_i)), and its gradient."""
    steps, terms = len(taken), len(at) // 2
    weights, decays = np.exp(at[:terms]), 1.0 / (1.0 + np.exp(-at[terms:]))
    powers = decays[:, None] ** np.arange(steps)
    c = weights @ powers
    error, slope = log_error(c, _reciprocal(c))
    spectrum = np.fft.rfft(taken, 2 * steps)
    moved = np.fft.irfft(np.fft.rfft(c, 2 * steps) * spectrum, 2 * steps)[:steps]
    square = float(moved @ moved)
    slope = slope + 2.0 * np.fft.irfft(np.fft.rfft(moved, 2 * steps) * np.conj(spectrum), 2 * steps)[:steps] / square
    by_weight, by_decay = powers @ slope, (powers * np.arange(steps)) @ slope
    return error + math.log(square), np.concatenate([weights * by_weight, weights * by_decay * (1.0 - decays)])


def _reciprocal(c: Floats) -> Floats:
    """Return as many coefficients of 1/c(x), by Newton's b ← b (2 − c b), each time twice as many.

    `toeplitz.reciprocal` takes as many steps as there are coefficients, each of as many terms: too long for 10^5.
    """
    found = 1.0 / c[:1]
    while len(found) < len(c):
        size = min(2 * len(found), len(c))
        spectrum = np.fft.rfft(found, 2 * size)
        rest = np.fft.irfft(np.fft.rfft(c[:size], 2 * size) * spectrum, 2 * size)[:size]
        found = np.fft.irfft(np.fft.rfft(-rest, 2 * size) * spectrum, 2 * size)[:size] + 2.0 * np.pad(
            found, (0, size - len(found))
        )
    return found
