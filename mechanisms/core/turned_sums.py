"""Sums over nodes at many frequencies at once: what turning their losses by e^{iyℓ} takes away from a moment."""

from __future__ import annotations

import math

import numpy as np

from mechanisms.core.bounds import Array

CHUNK = 2**15  # elements of an array that still fits a processor's cache
FACTORED = 16  # frequencies from which on they are split into coarse and fine ones
SINE = (1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6)  # of sin v − v, highest power first


def turned_sums(heavy: Array, loss: Array, frequencies: Array) -> tuple[Array, Array]:
    """Sum heavy · sin²(v/2) and heavy · (sin v − v), v = yℓ, over the nodes, shape (k, m) each.

    With f0 and g0 of real s, f at s + iy is  f0 − 2 r^s sin²(v/2) + i [r^s (sin v − v) + y g0]:  nothing cancels.
    Many multiples of one frequency are sums of a few coarse and a few fine ones, for which see `_products`.
    """
    squares, skews = (np.empty((len(heavy), len(frequencies))) for _ in range(2))
    factored = len(frequencies) >= FACTORED and np.array_equal(
        frequencies, frequencies[1] * np.arange(len(frequencies))
    )
    if factored:
        fine = math.ceil(math.sqrt(len(frequencies)))
        rows = max(1, CHUNK // (heavy.shape[1] * fine))
        for k in range(0, len(heavy), rows):
            kept = slice(k, k + rows)
            squares[kept], skews[kept] = _products(heavy[kept], loss[kept], frequencies, fine)
        return squares, skews
    columns = max(1, CHUNK // heavy.shape[1])
    rows = max(1, columns // len(frequencies))
    for k in range(0, len(heavy), rows):
        for j in range(0, len(frequencies), columns):
            v = frequencies[None, j : j + columns, None] * loss[k : k + rows, None, :]
            sine = np.sin(0.5 * v)
            weights = heavy[k : k + rows, :, None]
            skews[k : k + rows, j : j + columns] = (_sine_less_argument(v, sine) @ weights)[:, :, 0]
            squares[k : k + rows, j : j + columns] = (np.square(sine, out=sine) @ weights)[:, :, 0]
    return squares, skews


def _products(heavy: Array, loss: Array, frequencies: Array, fine: int) -> tuple[Array, Array]:
    """Return both sums for v = p + q with p of every `fine`-th frequency and q of the first ones.

    With x = e^{ip} − 1 and y = e^{iq} − 1, e^{iv} − 1 is x + y + xy: two sums of few, and products of matrices. All
    parts are of the order of what they add up to: |xy| is at most pq and 2 min(p, q), so that the parts' sizes sum to
    v²/2 and to 2v at most, as those of sin²(v/2) and of sin v − v do.
    """
    coarse, finer = (
        _turned(part[None, :, None] * loss[:, None, :]) for part in (frequencies[::fine], frequencies[:fine])
    )
    weights = heavy[:, :, None]
    (squares, skews), (less_squares, less_skews) = (
        (np.square(sine) @ weights, skew @ weights) for sine, skew, _, _ in (coarse, finer)
    )
    real, imaginary = (part * heavy[:, None, :] for part in coarse[2:])
    other_real, other_imaginary = (np.swapaxes(part, 1, 2) for part in finer[2:])
    both = real @ other_real - imaginary @ other_imaginary
    turned = real @ other_imaginary + imaginary @ other_real
    shape = len(heavy), -1
    squares = (squares + np.swapaxes(less_squares, 1, 2) - 0.5 * both).reshape(shape)
    skews = (skews + np.swapaxes(less_skews, 1, 2) + turned).reshape(shape)
    return squares[:, : len(frequencies)], skews[:, : len(frequencies)]


def _turned(v: Array) -> tuple[Array, Array, Array, Array]:
    """Return sin(v/2), sin v − v, and the real and imaginary parts of e^{iv} − 1."""
    sine = np.sin(0.5 * v)
    skew = _sine_less_argument(v, sine)
    return sine, skew, -2.0 * np.square(sine), 2.0 * sine * np.cos(0.5 * v)


def _sine_less_argument(v: Array, half_sine: Array) -> Array:
    """sin v − v, by its series where |v| < 1."""
    square = np.square(v)
    small = square < 1.0
    if not np.any(small):
        return 2.0 * half_sine * np.cos(0.5 * v) - v
    np.minimum(square, 1.0, out=square)
    series = square * (-1.0 / 1307674368000.0)
    for coefficient in SINE:
        series += coefficient
        series *= square
    series *= v
    return series if np.all(small) else np.where(small, series, 2.0 * half_sine * np.cos(0.5 * v) - v)
