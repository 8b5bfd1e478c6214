"""δ(ε) of any composition as a contour integral, in as many digits as are asked for.

    δ(ε) = P(L = ∞) + (1/2πi) ∫_{c−i∞}^{c+i∞} e^{ε(1−t)} Π E_Q[e^{tL}; L < ∞]^n / (t (t − 1)) dt,     c > 1

by the trapezoidal rule with step h, which is Σ_k e^{2πk(c−1)/h} δ(ε + 2πk/h) instead of δ(ε): `choose` takes h so small
that Chernoff's bound puts all k ≠ 0 below 10^−DIGITS of δ. Floats choose the line and its nodes only; every value is
computed by mpmath or in whole numbers, and every δ twice, on lines of different c, h, length and nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

from tests.reference import sampled
from tests.reference.sampled import Line, Split
from tests.reference.steps import SampledStep, Steps

Number = Any
DIGITS = 26  # asked of δ, in aliasing and in truncation
CANCELLED = 30.0  # e-folds of cancellation on the line that are allowed for a larger h
ORDERS = np.geomspace(1e-3, 3e5, 260)


@dataclass(frozen=True)
class Transform:
    """Π E_Q[e^{tL}; L < ∞]^n / (t (t − 1)) at the nodes of a line, and P(L = ∞)."""

    line: Line
    values: Sequence[Number]
    infinite: Number

    def delta(self, epsilon: Number) -> Number:
        """The trapezoidal sum."""
        h = mp.mpf(self.line.h)
        turn, phase, total = mp.expj(-epsilon * h), mp.mpc(1), mp.re(self.values[0]) / 2
        for value in self.values[1:]:
            phase *= turn
            total += mp.re(value * phase)
        return self.infinite + h / mp.pi * total * mp.exp(epsilon * (1 - mp.mpf(self.line.c)))


def transform(steps: Steps, direction: str, line: Line) -> Transform:
    """Compute a line."""
    nodes = [mp.mpc(line.c, j * mp.mpf(line.h)) for j in range(line.count + 1)]
    values = [1 / (t * (t - 1)) for t in nodes]
    finite = mp.mpf(1)
    for step, times in steps:
        if isinstance(step, SampledStep):
            moments = sampled.moments(step, direction, line)
        else:
            moments = list(map(step.moment(direction), nodes))
        values = [value * moment**times for value, moment in zip(values, moments, strict=True)]
        finite *= (1 - step.infinite(direction)) ** times
    return Transform(line, values, 1 - finite)


def split_transform(step: SampledStep, times: int, line: Line, split: Split) -> Transform:
    """(A + B)^n − A^n of A below and B above the split, direction "remove".

    For few steps with rare jumps A^n hardly decays; what it adds to δ is bounded by `dropped`, and is left out.
    """
    nodes = [mp.mpc(line.c, j * mp.mpf(line.h)) for j in range(line.count + 1)]
    below, above = sampled.split_moments(step, line, split)
    values = [((a + b) ** times - a**times) / (t * (t - 1)) for a, b, t in zip(below, above, nodes, strict=True)]
    return Transform(line, values, mp.mpf(0))


def dropped(step: SampledStep, times: int, split: Split, epsilon: Number) -> Number:
    """Chernoff's bound of what A^n adds to δ(ε): the least of A(c)^n e^{−(c−1)ε} over some c."""
    found = []
    for c in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        below, _ = sampled.split_moments(step, Line(c, 0.0, 0), split)
        found.append(mp.re(below[0]) ** times * mp.exp((1 - c) * epsilon))
    return min(found)


def choose(steps: Steps, direction: str, delta: float, push: float = 1.0, digits: float = DIGITS) -> tuple[Line, float]:
    """Return a line for δ of about `delta`, and an ε at which δ(ε) is certainly smaller.

    c allows the largest h of all at which not too many digits cancel; `push` moves it from there.
    """
    logs = np.array([_log_product(steps, direction, 1 + x).real for x in ORDERS])
    bounds = logs + ORDERS * np.log(ORDERS / (1 + ORDERS)) - np.log1p(ORDERS) - math.log(delta)
    ceiling = max(float(np.nanmin(bounds / ORDERS)), 1e-9)
    need = digits * math.log(10) - math.log(delta)
    allowed = ORDERS[bounds - ORDERS * ceiling < CANCELLED]
    x = push * float(min(allowed, key=lambda order: _gap(logs, order, need)))
    h = 2 * math.pi / _gap(logs, x, need)
    level = math.log(delta) - digits * math.log(10) - max(0.0, -x * ceiling)
    quiet: list[float] = []
    y = h
    while len(quiet) < 14:
        size = _log_product(steps, direction, complex(1 + x, y)).real - 2 * math.log(abs(complex(1 + x, y)))
        quiet = [*quiet, y] if size + math.log(y) < level else []
        y *= 1.12
        if y > 1e8:
            raise ArithmeticError("the transform does not decay on the line")
    return Line(c=1 + x, h=h, count=math.ceil(quiet[0] / h) + 2), ceiling


def _log_product(steps: Steps, direction: str, t: complex) -> complex:
    return sum((times * _log_moment(step, direction, t) for step, times in steps), 0j)


def _log_moment(step: Any, direction: str, t: complex) -> complex:
    if isinstance(step, SampledStep):
        return sampled.log_moment(step, direction, t)
    with mp.workdps(20):
        return complex(mp.log(step.moment(direction)(mp.mpmathify(t))))


def _gap(logs: np.ndarray, x: float, need: float) -> float:
    """The smallest 2π/h, within 6 %, with e^{x 2π/h} δ(2π/h) and e^{−x 2π/h} below e^−need."""
    gap = need / x
    while np.nanmin(logs - ORDERS * gap) + x * gap > -need and gap < 1e5:
        gap *= 1.06
    return gap
