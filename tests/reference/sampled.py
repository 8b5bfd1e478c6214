"""Moments of Poisson-sampled Gaussian steps on a line of complex orders, to 50 digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

from tests.reference.steps import SampledStep

Number = Any
DIGITS = 52  # of the quadrature: T = 1e9 and the cancellation on the line take some away
BITS = 210


@dataclass(frozen=True)
class Line:
    """Nodes t_j = c + i j h, j = 0 … count."""

    c: float
    h: float
    count: int


@dataclass(frozen=True)
class Split:
    """A smooth partition of the line of z: the part below is Φ-shaped, 1 → 0 about `centre` within a few `width`."""

    centre: float
    width: float

    def below(self, z: Number) -> Number:
        return mp.erfc((z - self.centre) / self.width) / 2


def moments(step: SampledStep, direction: str, line: Line) -> list[Number]:
    """E[r^t], or E[r^{1−t}] for "add", r = 1 − q + q e^{μz − μ²/2}, z ~ N(0, 1), at every node."""
    return _moments(step, direction, line, None)[0]


def split_moments(step: SampledStep, line: Line, split: Split) -> tuple[list[Number], list[Number]]:
    """E[r^t] of the part below and of the part above."""
    below, above = _moments(step, "remove", line, split)
    return below, above


def _moments(step: SampledStep, direction: str, line: Line, split: Split | None) -> list[list[Number]]:
    """By the trapezoidal rule in z: on the line Im z = a the integrand is larger by at most e^{a²/2 + |Im t| μ a},
    |a| < π/μ, which fixes the step. From node to node of t every term turns by the angle h log r, which is one
    multiplication in whole numbers of BITS binary places.
    """
    mu, q, sign = step.mu, mp.mpf(step.q), 1 if direction == "remove" else -1
    power = mp.mpf(line.c) if sign > 0 else 1 - mp.mpf(line.c)
    step_z = mp.mpf(spacing(float(mu), line.h * line.count, DIGITS))
    low, high = reach(float(mu), step.q, float(power), DIGITS)
    points = [k * step_z for k in range(math.floor(low / float(step_z)), math.ceil(high / float(step_z)) + 1)]
    logs = [mp.log1p(q * mp.expm1(mu * z - mu * mu / 2)) for z in points]
    exponents = [power * log - z * z / 2 for log, z in zip(logs, points, strict=True)]
    shift = int(max(exponents) / mp.log(2)) + 1
    scale = step_z / mp.sqrt(2 * mp.pi) * mp.ldexp(1, BITS - shift)
    terms = [scale * mp.exp(exponent) for exponent in exponents]
    turns = [mp.expj(sign * mp.mpf(line.h) * log) for log in logs]
    if split is None:
        parts = [terms]
    else:
        shares = [split.below(z) for z in points]
        parts = [[a * b for a, b in zip(terms, shares, strict=True)]]
        parts.append([a - b for a, b in zip(terms, parts[0], strict=True)])
    return [
        [mp.mpc(mp.ldexp(a, shift - BITS), mp.ldexp(b, shift - BITS)) for a, b in _turned(part, turns, line.count)]
        for part in parts
    ]


def _turned(terms: list[Number], turns: list[Number], count: int) -> list[tuple[int, int]]:
    """Σ terms · turns^j for j = 0 … count, in whole numbers."""
    real = np.array([int(term) for term in terms], dtype=object)
    kept = real != 0
    real, imaginary = real[kept], 0 * real[kept]
    cosine = np.array([int(mp.ldexp(turn.real, BITS)) for turn in turns], dtype=object)[kept]
    sine = np.array([int(mp.ldexp(turn.imag, BITS)) for turn in turns], dtype=object)[kept]
    sums = [(int(real.sum()), 0)]
    for _ in range(count):
        real, imaginary = (real * cosine - imaginary * sine) >> BITS, (real * sine + imaginary * cosine) >> BITS
        sums.append((int(real.sum()), int(imaginary.sum())))
    return sums


def spacing(mu: float, frequency: float, digits: float) -> float:
    """2π / (|Im t| μ + B), min_a e^{a²/2 − aB} = 10^−digits over a <= 0.95 π/μ."""
    need, most = digits * math.log(10), 0.95 * math.pi / mu
    bandwidth = math.sqrt(2 * need)
    return 2 * math.pi / (frequency * mu + (bandwidth if bandwidth < most else need / most + most / 2))


def reach(mu: float, q: float, power: float, digits: float) -> tuple[float, float]:
    """Where φ(z) r(z)^power is within 10^−digits of its maximum, in floats."""
    near = np.linspace(-40, 40, 4001)
    between = np.linspace(min(power, 0) * mu, max(power, 0) * mu, 4001)
    z = np.unique(np.concatenate((near, near + power * mu, between)))
    size = power * log_mixture(mu * z - mu * mu / 2, q) - z * z / 2
    inside = z[size > size.max() - digits * math.log(10) - 5]
    return float(inside[0]), float(inside[-1])


def log_mixture(w: np.ndarray, q: float) -> np.ndarray:
    """log(1 − q + q e^w), in floats."""
    return np.where(w < 1, np.log1p(q * np.expm1(np.minimum(w, 1))), np.logaddexp(np.log1p(-q), np.log(q) + w))


def log_moment(step: SampledStep, direction: str, t: complex) -> complex:
    """log E[r^t], in floats, to choose lines by."""
    mu, q, power = float(step.mu), step.q, t if direction == "remove" else 1 - t
    low, high = reach(mu, q, complex(power).real, 18)
    z = np.arange(low, high, spacing(mu, abs(complex(t).imag), 18))
    log_r, width = log_mixture(mu * z - mu * mu / 2, q), (z[1] - z[0]) / math.sqrt(2 * math.pi)
    top = float(np.max(complex(power).real * log_r - z * z / 2))
    if top < 20 and np.max(complex(power).real * log_r) < 600:
        return complex(np.log1p(np.sum(width * np.exp(-z * z / 2) * np.expm1(power * log_r))))
    return complex(top + np.log(np.sum(width * np.exp(power * log_r - z * z / 2 - top))))
