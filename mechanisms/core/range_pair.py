"""What is known of a mechanism whose privacy loss has a bounded range: a pair and a Rényi bound.

A mechanism has the range η if for any two neighbours there is a t such that its loss lies in [t − η, t]       [DR19].
By convexity, among the pairs (P, Q) of such losses the one with the two losses t and t − η alone dominates: e^L has the
mean 1 under Q, and every divergence is E_Q f(e^L) with f convex. Its masses are

    P(L = t) = (1 − e^{t − η})/(1 − e^{−η}),    Q(L = t) = e^{−t} P(L = t),    0 <= t <= η                      (1)

*The pair*: at e^α, |α| <= η, pair (1) has the hockey-stick divergence (1 − e^{t − η})(1 − e^{α − t})/(1 − e^{−η}), the
largest at t = (α + η)/2. So the pointwise supremum over t is

    δ(α) = (1 − e^{(α − η)/2})²/(1 − e^{−η})                                                                    (2)

and continues with 0 above η and with 1 − e^α below −η. It is convex in a = e^α, as it is
(1 − 2 (a e^{−η})^{1/2} + a e^{−η})/(1 − e^{−η}), and so the profile of a pair [ZDW22]. Its slope in a is −Q(L > α):
under Q the loss has the density e^{−(η + l)/2}/(2 (1 − e^{−η})), and e^l times that under P. There are no atoms, as the
slope is −1 at a = e^{−η} and 0 at e^η. It is the loss of Laplace noise of shift η given that no atom is met.

*The Rényi bound*: K(s) = log E_Q e^{sL} is 0 at s = 0 and s = 1, and K'' is the variance of a law on [t − η, t], at
most η²/4, so that K(α) <= α (α − 1) η²/8 and D_α <= α η²/8       [CR21]. At each order the largest divergence of (1) is

    e^{(α − 1) D_α} = e^{(α − 1) t} (1 − e^{−αη}) / (α (1 − e^{−η}))
    at e^t = (α − 1) (e^{αη} − 1) / (α (e^{(α − 1) η} − 1)).

The pair has to be as telling as every t at once, and so has the variance η²/3 where every t has η²/4 at most: it is the
better one for few steps and the Rényi bound for many.

[DR19] D. Durfee, R. Rogers. Practical Differentially Private Top-k Selection with Pay-what-you-get Composition.
NeurIPS 2019. arXiv:1905.04273.
[CR21] M. Cesar, R. Rogers. Bounding, Concentrating, and Truncating: Unifying Privacy Loss Composition for Data
Analytics. ALT 2021. arXiv:2004.07223.
[ZDW22] see `mechanisms.core.pair`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, log
from mechanisms.core.laplace_moments import log_mean_growth, log_mixture_moment
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins
from mechanisms.core.renyi import LinearDivergence

NEAR = 0.1  # below which the cumulants are summed by series


@dataclass(frozen=True, slots=True, kw_only=True)
class RangePair(DominatingPair):
    """The pair that dominates every mechanism of range η: its profile is (2).

    Args:
        reach: enclosure of η > 0.
        attained: whether named neighbours have this pair.

    >>> RangePair(reach=Bounds.exact(1.0), attained=False).delta(Bounds.exact(0.0)).contains(0.24491866240370913)
    True
    """

    reach: Bounds
    attained: bool

    @property
    def supremum(self) -> Bounds:
        """The range η."""
        return self.reach

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) of (2), 0 from η on."""
        share = -expm1(-((self.reach - epsilon) / 2.0).clip(0.0, np.inf))
        found = share * (share / self._whole)
        return found.clip(0.0, np.where(np.less(epsilon.lower, self.reach.upper), 1.0, 0.0))

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses for η at the middle of its enclosure: e^{(b − η)/2} (1 − e^{(a − b)/2})/(1 − e^{−η}) under P.

        Any other η = (1 + r) middle has these masses between edges stretched by 1 + r, but for r (2 + η) of themselves.
        """
        s = self._middle
        low, high = np.clip(edges[:-1], -s, s), np.clip(edges[1:], -s, s)
        inside = low < high
        a, b, weight = (Bounds.exact(np.where(inside, x, 0.0)) for x in (low, high, scale))
        share = -expm1((a - b) / 2.0) / -expm1(Bounds.exact(-s))
        spread = float(self.reach.width / s)
        bend = min(0.5, 4.0 * spread * (1.0 + s))
        held = np.array(inside, dtype=float)
        finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
        return LossBins(
            p=held * (exp((b - s) / 2.0) * share).clip(0.0, np.inf).inflate(bend),
            q=held * (exp(weight - (a + s) / 2.0) * share).clip(0.0, np.inf).inflate(bend),
            edge_error=(2.0 * UNIT_ROUNDOFF + 2.0 * spread) * finite,
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return ±η."""
        return -float(self.reach.upper), float(self.reach.upper)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log ∫ (1 − p + p e^l)^t e^{−(η + l)/2}/(2 (1 − e^{−η})) dl; at p = 1 that of sinh(a η)/(2 a sinh(η/2)).

        Here a = t − 1/2. As r^t is convex in r for t > 1 and t < 0, E r = 1 and |L| <= η, it lies in
        [0, max(t − 1, −t) η] there, and for other t, where r^t is concave, in [−min(t, 1 − t) η, 0].
        """
        if power in (0.0, 1.0):
            return Bounds.exact(0.0)
        t, within = Bounds.exact(power), 0 < power < 1
        slopes = (t, 1.0 - t) if within else (t - 1.0, -t)
        most = sorted(float((slope * self.reach).upper) for slope in slopes)
        found = log_mean_growth(self.reach, power) if probability == 1.0 else self._sampled(probability, power)
        return found.clip(-most[0], 0.0) if within else found.clip(0.0, most[1])

    def _sampled(self, probability: float, power: float) -> Bounds:
        """Enclose the moment for p < 1 by those of both ends of η.

        A larger range allows all that a smaller one does, so that the moment rises with it, or falls in (0, 1).
        """
        reaches = {self.reach.lower, self.reach.upper}
        ends = [log_mixture_moment(float(s), probability, power, atoms=False) for s in reaches]
        return Bounds(lower=min(end.lower for end in ends), upper=max(end.upper for end in ends))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """log (g(x)/g(η/2)), g(x) = sinh(x)/x, at x = (t − 1/2) η, with (log g)' = coth x − 1/x."""
        with np.errstate(over="ignore", invalid="ignore"):
            x, s = (powers - 0.5) * self._middle, self._middle
            value = _log_growth(x) - _log_growth(np.array(0.5 * s))
            slope, bend = (order * part for order, part in zip((s, s * s), _derivatives(x), strict=True))
        lost = ~np.isfinite(value + slope + bend)
        return np.where(lost, np.inf, value), np.where(lost, np.inf, slope), np.where(lost, np.inf, bend)

    def group(self, size: int) -> RangePair:
        """Return the pair of the range size · η: along a chain of neighbours ranges add up."""
        return RangePair(reach=float(size) * self.reach, attained=False)

    def reverse(self) -> RangePair:
        """Return the pair itself: with η − t in the place of t, (1) is its own reverse."""
        return self

    @property
    def _whole(self) -> Bounds:
        return -expm1(-self.reach)

    @property
    def _middle(self) -> float:
        return float(self.reach.lower + 0.5 * (self.reach.upper - self.reach.lower))


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeDivergence(LinearDivergence):
    """The largest D_α of losses of one range η, at most α η²/8.

    Args:
        rho: at least η²/8.
        reach: η > 0, or an upper end of it.

    >>> bound = RangeDivergence.of(1.0)
    >>> 0.1233 < bound.divergence(1.0001) < 0.12332  # at order 1: η/(e^η − 1) − 1 − log(η/(e^η − 1))
    True
    """

    reach: float

    @classmethod
    def of(cls, reach: float) -> RangeDivergence:
        """Return the bound for this range."""
        return cls(rho=float((Bounds.exact(reach) * reach / 8.0).upper), reach=reach)

    def divergence(self, order: float) -> float:
        """Bound D_order from above; η at order ∞."""
        return self.reach if math.isinf(order) else float(self.divergences(np.array([order]))[0])

    def divergences(self, orders: Array) -> Array:
        """Bound D_α from above at many orders, shape (n,): the smaller one of both forms, the first loses digits."""
        order, reach = Bounds.exact(orders), Bounds.exact(self.reach)
        less = order - 1.0
        grown, before = -expm1(-order * reach), -expm1(-less * reach)
        worst = log(less / order) + reach + log(grown) - log(before)
        exact = worst + (log(grown) - log(order) - log(-expm1(-reach))) / less
        linear = LinearDivergence.divergences(self, orders)
        return np.asarray(np.clip(np.fmin(exact.upper, linear), 0.0, self.reach))


def _log_growth(x: Array) -> Array:
    """log (sinh(x)/x), for plans."""
    size = np.abs(x)
    far = np.maximum(size, NEAR)
    return np.where(size < NEAR, size**2 / 6.0 - size**4 / 180.0, far + np.log(-np.expm1(-2.0 * far) / (2.0 * far)))


def _derivatives(x: Array) -> tuple[Array, Array]:
    """Return coth x − 1/x and 1/x² − 1/sinh² x, for plans."""
    size = np.abs(x)
    far = np.maximum(size, NEAR)
    slope = np.where(size < NEAR, size / 3.0 - size**3 / 45.0, 1.0 / np.tanh(far) - 1.0 / far)
    rare = np.exp(-2.0 * far)
    bend = 1.0 / far**2 - 4.0 * rare / (1.0 - rare) ** 2
    return np.copysign(slope, x), np.where(size < NEAR, 1.0 / 3.0 - size**2 / 15.0 + 2.0 * size**4 / 189.0, bend)
