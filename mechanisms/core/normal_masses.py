"""Masses of normals on many small bins, right to a few ulps of themselves far out in the tails."""

from __future__ import annotations

import math

import numpy as np
import scipy

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(5)
NARROW = 0.25  # a bin of width w at z is narrow if w (1 + |z|) <= this: five Gauss–Legendre nodes then err by < 1e-16


def interval_masses(z: Array, mean: float, scale: Array, spread: float) -> Bounds:
    """Enclose e^scale · N(mean, 1)[z_k, z_{k+1}], the floats z taken as exact and the mean known to `spread`·mean.

    Narrow bins by five-point Gauss–Legendre, whose error is relative to the mass; wide ones by the difference of
    distribution functions on the side of the smaller tail, which loses less than a digit there. A bin without width
    holds 0, however large e^scale; a mass that leaves the floats lies between the largest of them and ∞.
    """
    low, high = z[:-1], z[1:]
    with np.errstate(invalid="ignore", over="ignore"):
        width = high - low
        centre = 0.5 * (low + high)
        distance = np.maximum(np.abs(low - mean), np.abs(high - mean))
        narrow = width * (1.0 + distance) <= NARROW
    value, error = np.zeros_like(scale), np.zeros_like(scale)
    if np.any(narrow):
        x = centre[narrow, None] + 0.5 * width[narrow, None] * NODES - mean
        with np.errstate(over="ignore"):  # a square that leaves the floats leaves no mass
            log_density = scale[narrow, None] - 0.5 * x * x - LOG_ROOT_TWO_PI
            density = np.exp(log_density) @ WEIGHTS
        value[narrow] = 0.5 * np.multiply(width[narrow], density, where=width[narrow] > 0, out=np.zeros(len(density)))
    wide = ~narrow
    if np.any(wide):
        a, b = low[wide] - mean, high[wide] - mean
        flip = a > 0
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        log_b, log_a = scipy.special.log_ndtr(b), scipy.special.log_ndtr(a)
        with np.errstate(invalid="ignore", over="ignore"):
            log_share = np.log(-np.expm1(np.minimum(log_a - log_b, -1e-300)))
            log_share = np.where(np.isneginf(a) | np.isneginf(log_b), 0.0, log_share)
            value[wide] = np.exp(scale[wide] + log_b + log_share)
    finite = [np.abs(np.where(np.isfinite(end), end - mean, 0.0)) for end in (low, high)]  # infinite ends are exact
    reach = np.where(np.isfinite(distance), distance, np.maximum(np.maximum(*finite), 1.0))
    with np.errstate(over="ignore"):  # 0.5 at most, below
        error = (
            UNIT_ROUNDOFF * (64.0 + 16.0 * reach * (1.0 + reach + abs(mean)) + 2.0 * np.abs(scale))
            + 2.0 * reach * abs(mean) * spread
        )
    return Bounds(lower=np.minimum(value, np.finfo(np.float64).max), upper=value).inflate(np.minimum(error, 0.5))
