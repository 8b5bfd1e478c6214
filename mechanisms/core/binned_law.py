"""The law of a pair's loss on a few thousand bins: for certified sums of convex functions of it, and for plans.

On a bin where e^L lies in [a, b], with masses p and q of P and Q, so that e^L is p/q on average under Q, a function
f that is convex in e^L there has

    q f(p/q)  <=  E_Q[f(e^L); bin]  <=  q f(a) + (p − a q) (f(b) − f(a)) / (b − a)          (Jensen, and the chord)

and the other way round where it is concave.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, where
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

FINE, TAIL = 3000, 1e-290
FARTHEST, FAR = -700.0, 30.0  # a loss below which e^L is taken as 0 by a function that falls with it
LARGE = 600.0  # a loss beyond which e^L is not computed
NEAREST = 1e-7  # of the range of losses, where bins that shrink towards 0 end


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinnedLaw:
    """The masses of a pair on bins of its loss, those without mass left out.

    Args:
        low: at most the lower end of every bin, shape (n,), may be −∞.
        high: at least the upper end, may be ∞.
        p: enclosure of P's mass.
        log_q: enclosure of the logarithm of Q's mass.
    """

    low: Array
    high: Array
    p: Bounds
    log_q: Bounds

    @property
    def losses(self) -> Array:
        """About the mean of each bin, log(p/q), kept inside it."""
        middle = 0.5 * (self.log_q.lower + self.log_q.upper)
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where neither mass is known to be above 0
            found = np.log(0.5 * (self.p.lower + self.p.upper)) - middle
        return np.asarray(np.clip(found, np.maximum(self.low, -1e300), np.minimum(self.high, 1e300)))

    @property
    def below(self) -> BinnedLaw:
        """The bins below 0."""
        chosen = self.low + self.high < 0
        return BinnedLaw(low=self.low[chosen], high=self.high[chosen], p=self.p[chosen], log_q=self.log_q[chosen])


@lru_cache(maxsize=64)
def binned_law(pair: DominatingPair, tail: float = TAIL) -> BinnedLaw:
    """Return the law on bins that are fine near 0, where pairs of rare samples have their losses, and everywhere.

    Args:
        pair: the pair.
        tail: about what its bins of finite width leave out on either side.
    """
    least, most = pair.loss_range(tail)
    reach = max(abs(least), abs(most), 1e-300)
    near = reach * np.geomspace(NEAREST, 1.0, FINE // 2)
    spread = np.concatenate([-near, [0.0], near, np.linspace(least, most, FINE)])
    inner = np.unique(spread[(spread >= least) & (spread <= most)])
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    scale = np.clip(np.concatenate([inner[:1], inner]), -600.0, 600.0)
    bins = pair.loss_bins(edges, scale)
    log_q = log(Bounds(lower=np.maximum(bins.q.lower, 0.0), upper=np.maximum(bins.q.upper, 0.0))) - scale
    seen = (bins.p.upper > 0) | np.isfinite(log_q.upper)
    low, high = (edges[:-1] - bins.edge_error[:-1])[seen], (edges[1:] + bins.edge_error[1:])[seen]
    p = Bounds(lower=np.maximum(bins.p.lower, 0.0), upper=np.maximum(bins.p.upper, 0.0))
    return BinnedLaw(low=low, high=high, p=p[seen], log_q=log_q[seen])


def log_excess(loss: Array, probability: float, power: float) -> Bounds:
    """Enclose log |f|, f = r^t − 1 − t p (y − 1) with y = e^loss, r = 1 − p + p y.

    f is of one sign, that of t (t − 1), convex in y or concave, and 0 at y = 1.
    """
    moved = probability * expm1(Bounds.exact(loss))
    grown = power * log1p(moved)
    sign = float(np.sign(power * (power - 1.0)))
    near = log(sign * (expm1(grown) - power * moved))
    with np.errstate(over="ignore"):
        size = 1.0 + np.log1p(abs(power) * np.maximum(moved.upper, 0.0))
    far = (sign > 0) & (grown.lower > FAR) & (grown.lower > size)
    if np.any(far):
        taken = log1p((power * moved).clip(-0.5, np.inf)) - grown if power > 0 else -grown
        near = where(far, grown + log1p(-exp(taken.clip(-np.inf, -1.0))), near)
    large = loss > max(LARGE, 10.0 - math.log(probability))
    if power <= 1 or not np.any(large):
        return near
    return where(large, _of_large(np.where(large, loss, LARGE - math.log(probability)), probability, power), near)


def _of_large(loss: Array, probability: float, power: float) -> Bounds:
    """The same for t > 1 where y may be no float: f = m (r^{t−1} − t + (r^{t−1} − 1)/m), m = p (y − 1) = r − 1.

    Beyond that r^t − (1 + t m).
    """
    log_m = loss + log(Bounds.exact(probability)) + log1p(-exp(-Bounds.exact(loss)))
    log_r = log_m + log1p(exp(-log_m))
    gain = (power - 1.0) * log_r
    grown = expm1(gain.clip(-np.inf, LARGE))
    close = log_m + log(grown - (power - 1.0) + grown * exp(-log_m))
    line = math.log(power) + log_m
    taken = line + log1p(exp(-line)) + 4 * UNIT_ROUNDOFF * math.log(power) - power * log_r
    return where(gain.lower < LARGE - 1.0, close, power * log_r + log1p(-exp(taken.clip(-np.inf, -1.0))))


def convex_sum(law: BinnedLaw, function: Callable[[Array], Bounds], beyond: float) -> Bounds:
    """Enclose E_Q[f; the bins] for a convex f >= 0 of e^L that is 0 at L = 0.

    Args:
        law: the bins.
        function: log f of the loss.
        beyond: bound of what a last bin without an end adds.
    """
    last = np.isposinf(law.high)
    low, high = np.maximum(law.low[~last], FARTHEST), law.high[~last]
    p, log_q = law.p[~last], law.log_q[~last]
    mean = log(p) - log_q
    ends = np.clip(mean.lower, low, high), np.clip(mean.upper, low, high)
    left, right = function(np.where(low == FARTHEST, -np.inf, low)), function(high)
    with np.errstate(over="ignore"):
        below = np.exp(log_q.lower + np.minimum(function(ends[0]).lower, function(ends[1]).lower))
        below = np.where((ends[0] < 0) & (ends[1] > 0), 0.0, below)
        at_low, at_high = exp(log_q + left).upper, exp(log_q + right).upper
    share = (expm1(Bounds(lower=ends[0], upper=ends[1]) - low) / expm1(Bounds.exact(high) - low)).clip(0.0, 1.0)
    slack = 1e-15 * (8 + len(low))
    with np.errstate(over="ignore"):
        chord = at_low * (1.0 - share.lower) + at_high * share.upper
        upper = float(np.sum(chord)) + (beyond if np.any(last) else 0.0)
        lower = min(float(np.sum(below)), 1e308)
    return Bounds(lower=lower * (1 - slack - 1e-12), upper=upper * (1 + slack))


def cumulants(pair: DominatingPair, powers: Array, last: float = math.inf) -> tuple[Array, Array, Array]:
    """Return about log E_Q[e^{tL}; L <= last] at many t and its first two derivatives, shape (n,) each."""
    law = binned_law(pair)
    known = np.isfinite(law.log_q.lower) & (law.p.lower > 0) & (law.low < last)
    losses = law.losses[known]
    log_q = 0.5 * (law.log_q.lower + law.log_q.upper)[known]
    found = np.empty((3, len(powers)))
    for i, power in enumerate(powers):
        exponents = log_q + power * losses
        largest = np.max(exponents, initial=-1e300)
        weights = np.exp(exponents - largest)
        total = max(float(np.sum(weights)), 1e-300)
        mean = float(weights @ losses) / total
        found[:, i] = largest + np.log(total), mean, float(weights @ (losses - mean) ** 2) / total
    return found[0], found[1], found[2]
