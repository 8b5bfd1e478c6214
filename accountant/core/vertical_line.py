"""δ(ε) as an integral over a vertical line, by a trapezoidal rule whose error has one sign and a bound.

With K_Q(t) = log E_Q[e^{tL}] of a sum of losses that are never infinite, and t = c + iy, c = 1 + θ > 1,

    δ(ε) = (1 / 2πi) ∫ e^{K_Q(t) + ε (1 − t)} / (t (t − 1)) dt.

By Poisson's summation formula the rule with spacing h gives Σ_k e^{2πkθ/h} δ(ε + 2πk/h) over all whole k, each term at
least 0. So it exceeds δ(ε) by at most

    1 / (e^{2πθ/h} − 1)  +  C(θ') e^{K(θ') − θ'ε} / (e^{2π(θ' − θ)/h} − 1),    C(θ') = θ'^θ' / (1 + θ')^{1 + θ'},

as δ <= 1 for k < 0 and, for k > 0 and any θ' > θ, δ(x) <= C(θ') e^{K(θ') − θ'x} by Chernoff, K(θ) = K_Q(1 + θ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.ladder import Layout
from accountant.core.ledger import ErrorLine, Ledger
from accountant.core.loss_sums import LossSum
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.pair import UNIT_ROUNDOFF

FIRST_REACH = 6.0  # times 1 / (deviation of the tilted loss): nodes go at least so far
CUT, LEAST_USE = 1e-11, 0.5  # relative: where nodes may end, and twice what atoms may leave beyond any end
MOST_NODES = 2**16
SECANTS, FEW_NODES = 24, 256
FARTHEST = 1e100  # ε beyond it have its upper end, and 0 for the lower one
SMALLEST, LEAST = 1e-307, 1e-322  # about the least normal float and the least float
TOO_LONG = "contour: the line needs more nodes than its budget. Use accountant='pld'."
MOST_WORK = 2**21  # nodes × kinds of steps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """The rule's terms on one line, ready to be read at any ε.

    Args:
        theta: θ > 0.
        spacing: h.
        log_scale: K(θ).
        frequencies: y_k = k h, shape (m,).
        size: of the terms, over e^{K(θ)}, both signs of y together.
        angle: of the terms.
        doubt: bound of the errors of all sizes and angles together.
        cut: bound of the terms left out, over e^{K(θ)}.
        chernoff: (θ', K(θ') at most).
    """

    theta: float
    spacing: float
    log_scale: float
    frequencies: Array
    size: Array
    angle: Array
    doubt: float
    cut: float
    chernoff: tuple[float, float]

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ at every ε."""
        scale, value, noise = self._read(epsilon)
        upper = np.clip(scale * (value + noise + self.cut) + LEAST, 0.0, 1.0)
        lower = np.clip(scale * (value - noise - self.cut) - self._aliased(epsilon), 0.0, 1.0)
        lower = np.where((scale > SMALLEST) & (epsilon <= FARTHEST), lower, 0.0)
        return Bounds(lower=np.minimum(lower, upper), upper=upper)

    def epsilon(self, delta: float, start: float) -> float:
        """Return about the ε >= 0 with δ(ε) = delta, by secants of log δ, whose slope is about −θ."""
        epsilon, last, error, slope = start, start, math.nan, -self.theta
        for _ in range(SECANTS):
            scale, value, _ = self._read(np.array([epsilon]))
            error, before = math.log(max(float(scale[0] * value[0]), 1e-300)) - math.log(delta), error
            if epsilon != last and math.isfinite(before):
                slope = min((error - before) / (epsilon - last), -1e-3 * self.theta)
            last, epsilon = epsilon, max(epsilon - error / slope, 0.0)
            if abs(epsilon - last) <= 1e-13 * epsilon:
                break
        return epsilon

    def missing(self, epsilon: Array, relative: float) -> float:
        """Return by how many nats the aliases exceed `relative` δ or, where they are more, all other errors."""
        if not epsilon.size:
            return 0.0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scale, value, noise = self._read(epsilon)
            floor = np.maximum(relative * (value - noise), noise + self.cut)
            excess = np.log(self._aliased(epsilon)) - np.log(scale) - np.log(floor)
        return float(np.max(np.where(np.isnan(excess), 0.0, excess)))

    def ledger(self, epsilon: float) -> Ledger:
        """Return one line for each error at this ε."""
        point = np.array([epsilon])
        scale, _, noise = self._read(point)
        return (
            ErrorLine(
                source="discretisation: aliases of the trapezoidal rule on the line",
                bound=float(self._aliased(point)[0]),
                unit="delta",
                basis="proved",
            ),
            ErrorLine(
                source="truncation: the line beyond its last node",
                bound=float(scale[0]) * self.cut,
                unit="delta",
                basis="proved",
            ),
            ErrorLine(
                source="quadrature of the moments, and round-off",
                bound=float(scale[0] * noise[0]),
                unit="delta",
                basis="validated",
            ),
        )

    def _read(self, epsilon: Array) -> tuple[Array, Array, Array]:
        """Return e^{K(θ) − θε}, at least `SMALLEST`; the terms' sum over it; and its error, the factor's included.

        Where the exponent exceeds 700 a smaller factor is as good from below, and from above the end is 1 anyhow.
        """
        epsilon = np.minimum(epsilon, FARTHEST)
        turned = epsilon[:, None] * self.frequencies
        value = np.cos(self.angle - turned) @ self.size
        exponent = self.log_scale - self.theta * epsilon
        ulps = 8.0 + len(self.size) + 4 * np.abs(self.angle) + 4 * np.abs(turned)
        ulps = ulps + (4 * np.abs(self.log_scale) + 4 * self.theta * np.abs(epsilon))[:, None]
        noise = (self.doubt + UNIT_ROUNDOFF * ulps @ self.size) * (1 + 1e-9)
        return np.maximum(np.exp(np.minimum(exponent, 700.0)), SMALLEST), value, noise

    def _aliased(self, epsilon: Array) -> Array:
        """Bound what the sum exceeds δ(ε) by."""
        epsilon = np.minimum(epsilon, FARTHEST)
        further, growth = self.chernoff
        log_c = -further * math.log1p(1 / further) - math.log1p(further)
        exponent = log_c + growth - further * epsilon
        exponent = exponent + 8 * UNIT_ROUNDOFF * (abs(log_c) + abs(growth) + further * np.abs(epsilon))
        behind = np.exp(-_log_expm1(2 * math.pi * self.theta / self.spacing))
        ahead = np.exp(np.minimum(exponent - _log_expm1(2 * math.pi * (further - self.theta) / self.spacing), 700.0))
        return np.asarray((behind + ahead) * (1 + 1e-9) + SMALLEST)


def line(loss: LossSum, layout: Layout, *, leave: bool) -> Line:
    """Return the line of a layout, with as many nodes as its end needs.

    Args:
        loss: the sum of the steps' losses.
        layout: where it stands, see `accountant.core.ladder`.
        leave: whether nodes may end where more than round-off is left beyond them.

    Raises:
        NumericalFailure: if a moment, or the number of nodes, leaves its budget.
    """
    theta, spacing = layout.theta, layout.spacing
    loss.prepare(theta, layout.further)
    count, rest = _nodes(loss, layout, leave=leave)
    if count > MOST_NODES or count * loss.kinds > MOST_WORK:
        raise NumericalFailure(TOO_LONG)
    chernoff = layout.further, loss.log_moment(layout.further)
    y, a = spacing * np.arange(count), 1.0 + theta
    real, imaginary, error = loss.transform(theta, y)
    if not error[0] < 1.0:
        raise NumericalFailure("contour: the round-off of so many steps swamps the line. Use accountant='pld'.")
    log_size = real - real[0] - np.log(np.hypot(a, y)) - np.log(np.hypot(theta, y)) + math.log(spacing / math.pi)
    size, error = np.exp(log_size), error + error[0]
    size[0] *= 0.5
    doubts = np.where(error < 1.0, size * np.expm1(np.minimum(error, 1.0)), np.exp(np.minimum(log_size + error, 700.0)))
    return Line(
        theta=theta,
        spacing=spacing,
        log_scale=float(real[0]),
        frequencies=y,
        size=size,
        angle=imaginary - np.arctan2(y, a) - np.arctan2(y, theta),
        doubt=float(np.sum(doubts + 16 * UNIT_ROUNDOFF * (1.0 + np.abs(log_size)) * size)),
        cut=rest * math.exp(error[0]),
        chernoff=chernoff,
    )


def _nodes(loss: LossSum, layout: Layout, *, leave: bool) -> tuple[int, float]:
    """Return how many nodes to take, and a bound of the terms beyond them over e^{K(θ)}.

    Terms at y are at most |φ(y)| h / (π y²), both signs together, where φ is the transform over its value at y = 0.
    Where losses have atoms, a part of them may stay at any end; then the first end at which the others are a tenth of
    that will do, if no later one is twice as good.
    """
    theta, spacing, deviation = layout.theta, layout.spacing, math.sqrt(layout.bend)
    scale = 1.0 / (theta * (1.0 + theta) * math.sqrt(2 * math.pi) * deviation)
    count, least = max(4.0, FIRST_REACH / deviation / spacing), (math.inf, LEAST_USE * scale)
    while count < math.inf:
        falling, staying = loss.beyond(theta, spacing * math.ceil(count), spacing)
        if falling + staying <= CUT * scale:
            return math.ceil(count), falling + staying
        if leave and falling <= 0.1 * staying and falling + staying < 0.5 * least[1]:
            least = count, falling + staying
        if count > MOST_NODES:
            return math.ceil(min(count, least[0])), falling + staying if least[0] == math.inf else least[1]
        count *= 1.25 if count < FEW_NODES else 1.1
    raise NumericalFailure(TOO_LONG)


def _log_expm1(x: float) -> float:
    """log(e^x − 1) for x > 0, without overflow."""
    return x + math.log(-math.expm1(-x))
