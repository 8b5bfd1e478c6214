"""The Laplace mechanism's pair without its atoms: e^−x on (0, s) against e^{x − s}, both normalised.

It is what a Laplace mechanism shows where the two noises lie on different sides of their centres, and all that is left
where noise is cut off (`mechanisms.truncated_laplace`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, intersection, log, log1p
from mechanisms.core.laplace_moments import log_mixture_moment
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins

LARGEST_EXPONENT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RampPair(DominatingPair):
    """The pair whose loss l in (−s, s) has densities in proportion to e^{−(s − l)/2} and e^{−(s + l)/2}.

    Args:
        shift: enclosure of s > 0.
        attained: whether named neighbours have this pair.

    >>> RampPair(shift=Bounds.exact(1.0), attained=True).delta(Bounds.exact(0.0)).contains(0.2449186624037092)
    True
    """

    shift: Bounds
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """The shift s."""
        return self.shift

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) = (1 − e^{(ε − s)/2})₊² / (1 − e^−s)."""
        most = -expm1(-((self.shift - epsilon) / 2.0).clip(0.0, np.inf))
        found = most * most / -expm1(-self.shift)
        return found.clip(0.0, np.where(np.less(epsilon.lower, self.shift.upper), 1.0, 0.0))

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses for s at the middle of its enclosure, on bins (a, b]: e^{(b − s)/2} (1 − e^{(a − b)/2})/(1 − e^−s).

        Any other s = (1 + r) middle has these masses between edges stretched by 1 + r, but for r (1 + s) of themselves.
        """
        s = self._middle
        low, high = np.clip(edges[:-1], -s, s), np.clip(edges[1:], -s, s)
        inside = low < high
        a, b, weight = (Bounds.exact(np.where(inside, x, 0.0)) for x in (low, high, scale))
        share = -expm1((a - b) / 2.0) / -expm1(Bounds.exact(-s))
        p, q = exp((b - s) / 2.0) * share, exp(weight - (a + s) / 2.0) * share
        bend = min(0.5, 4.0 * self._spread * (1.0 + s))
        held = np.array(inside, dtype=float)
        finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
        return LossBins(
            p=held * p.clip(0.0, np.inf).inflate(bend),
            q=held * q.clip(0.0, np.inf).inflate(bend),
            edge_error=(2.0 * UNIT_ROUNDOFF + 2.0 * self._spread) * finite,
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return ±s."""
        return -float(self.shift.upper), float(self.shift.upper)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log E_Q[(1 − p + p e^L)^t]; for p = 1 max(t − 1, −t) s + log(g(|2t − 1| s)/g(s)), g(z) = (1 − e^−z)/z.

        As r^t is convex in r, E r = 1 and |L| <= s, it lies in [0, max(t − 1, −t) s] for t > 1 and t < 0; for other t
        r^t is concave, and it lies in [−min(t, 1 − t) s, 0].
        """
        if power in (0.0, 1.0):
            return Bounds.exact(0.0)
        t, within = Bounds.exact(power), 0 < power < 1
        found = self._sampled(probability, power) if probability < 1.0 else self._whole(power)
        slopes = (t, 1.0 - t) if within else (t - 1.0, -t)
        most = sorted(float((slope * self.shift).upper) for slope in slopes)
        return found.clip(-most[0], 0.0) if within else found.clip(0.0, most[1])

    def _whole(self, power: float) -> Bounds:
        t = Bounds.exact(power)
        z = (2.0 * t - 1.0 if power > 0.5 else 1.0 - 2.0 * t).clip(0.0, np.inf) * self.shift
        return (t - 1.0 if power > 0.5 else -t) * self.shift + log(_slope(z)) - log(_slope(self.shift))

    def _sampled(self, probability: float, power: float) -> Bounds:
        """Enclose the moment by what randomised response with losses ±s leaves of the Laplace pair's, and by its own.

        The Laplace pair is randomised response, which dominates this pair, with weight (1 + e^−s)/2, and else this one.
        """
        response = self._response(probability, power)
        outer = response.clip(-np.inf, 0.0) if 0 < power < 1 else response.clip(0.0, np.inf)
        crude = Bounds(lower=min(outer.lower, 0.0), upper=max(outer.upper, 0.0))
        ends = [log_mixture_moment(float(s), probability, power) for s in {self.shift.lower, self.shift.upper}]
        whole = Bounds(lower=min(end.lower for end in ends), upper=max(end.upper for end in ends))
        if not max(whole.upper, response.upper) < LARGEST_EXPONENT or not self.shift.lower > 0:
            return crude
        rest = expm1(whole) - (1.0 + exp(-self.shift)) / 2.0 * expm1(response)
        return intersection([crude, log1p((rest / (-expm1(-self.shift) / 2.0)).clip(-1.0, np.inf))])

    def _response(self, probability: float, power: float) -> Bounds:
        """log((r(s)^t e^−s + r(−s)^t) / (1 + e^−s)), r(l) = 1 − p + p e^l."""
        up = power * log1p(probability * expm1(self.shift)) - self.shift
        down = power * log1p((probability * expm1(-self.shift)).clip(-1.0, 0.0))
        top = max(float(up.upper), float(down.upper))
        if not np.isfinite(top):
            return Bounds(lower=-np.inf, upper=np.inf)
        return top + log(exp(up - top) + exp(down - top)) - log1p(exp(-self.shift))

    def reverse(self) -> RampPair:
        """Return the pair itself: mirrored at s/2, P is Q."""
        return self

    @property
    def _middle(self) -> float:
        return float(self.shift.lower + 0.5 * (self.shift.upper - self.shift.lower))

    @property
    def _spread(self) -> float:
        """How far s may lie from `_middle`, relative to it."""
        return float(self.shift.width / self._middle)


def _slope(z: Bounds) -> Bounds:
    """(1 − e^−z)/z for z >= 0."""
    return (
        (-expm1(-z) / z).clip(0.0, 1.0)
        if z.lower > 1e-300
        else Bounds(lower=1.0 - 1e-16 - min(z.upper, 1.0), upper=1.0)
    )
