"""Functions of a likelihood ratio r = 1 − q + q e^x that keep their digits where r is near 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array

SMALL, TERMS = 0.06, 15  # f is a series of so many terms where |w| (|s| + 2) is below this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecondOrder:
    """f0 = r^s − 1 − s w and g0 = r^s log r − w = ∂f0/∂s, with the sizes that their round-off is relative to."""

    f0: Array
    g0: Array
    f_size: Array
    g_size: Array


def second_order(w: Array, loss: Array, s: float | Array) -> SecondOrder:
    """Return f0 and g0 at real s, one for all or one a row, for w = r − 1 and loss = log r.

    Where w is small, by the binomial series, f0 = Σ C(s, k) w^k from k = 2 on and g0 its derivative by s; elsewhere
    from expm1, with a factor r taken out for s >= 1 so that what is subtracted is small where s is near 1.
    """
    shifted, factor = np.where(s >= 1, s - 1.0, s), np.exp(np.where(s >= 1, loss, 0.0))
    bent = factor * np.expm1(shifted * loss)
    power = np.exp(s * loss)
    f0, g0 = bent - shifted * w, power * loss - w
    f_size, g_size = np.abs(bent) + np.abs(shifted * w), np.abs(power * loss) + np.abs(w)
    small = np.abs(w) * (np.abs(s) + 2.0) < SMALL
    if not np.any(small):
        return SecondOrder(f0=f0, g0=g0, f_size=f_size, g_size=g_size)
    near = np.where(small, w, 0.0)
    series_f, series_g = _series(near, s)
    return SecondOrder(
        f0=np.where(small, series_f, f0),
        g0=np.where(small, series_g, g0),
        f_size=np.where(small, np.abs(s * (s - 1.0)) * near**2, f_size),
        g_size=np.where(small, (np.abs(s) + 1.0) * near**2, g_size),
    )


def _series(w: Array, s: float | Array) -> tuple[Array, Array]:
    """Σ C(s, k) w^k and Σ C(s, k)' w^k from k = 2 on, by Horner's rule."""
    coefficients, slopes = [1.0, s], [0.0, 1.0]  # type: list[float | Array], list[float | Array]
    for k in range(1, TERMS):
        slopes.append((slopes[-1] * (s - k) + coefficients[-1]) / (k + 1))
        coefficients.append(coefficients[-1] * (s - k) / (k + 1))
    f, g = np.zeros_like(w), np.zeros_like(w)
    for coefficient, slope in zip(reversed(coefficients[2:]), reversed(slopes[2:]), strict=True):
        f, g = f * w + coefficient, g * w + slope
    return f * w * w, g * w * w


def log_mixture(x: Array, q: Array) -> Array:
    """log(1 − q + q e^x), to a few ulps where x <= 700, elementwise.

    log1p loses digits by a factor |w| / (1 + w) |log(1 + w)|, w = q (e^x − 1), at most 2.3 where it is used; the other
    form keeps those of 1 − q where q is near 1, and is below log .62 where it is used.
    """
    found = np.log1p(q * np.expm1(np.minimum(x, 700.0)))
    if np.any(q > 0.5):
        left = np.log((1.0 - q) + q * np.exp(np.minimum(x, 0.0)))
        found = np.where((x < -1.5) & (q > 0.5), left, found)
    if np.any(x > 700.0):
        found = np.where(x > 700.0, np.log(q) + x, found)
    return np.asarray(found)
