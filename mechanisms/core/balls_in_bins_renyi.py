"""Rényi divergences of balls in bins, as far as moments of X = (r_1 + … + r_T)/T give them.

The r_t are independent with the law of a step's likelihood ratio r under Q, see `mechanisms.core.balls_in_bins`.

With the record against without it, (α − 1) D_α = log E X^α. At whole orders the multinomial theorem gives

    E X^α = α!/T^α [z^α] (Σ_k E[r^k] z^k/k!)^T,   at α = 2:  1 + (E[r²] − 1)/T                          [FS25]

and between them log E X^α is convex in α. Without against with, (α − 1) D_α = log E X^{−s}, s = α − 1. Bounds of both:

    one step:         E X^α <= E r^α,  E X^{−s} <= E r^{−s}        (convexity in X)
    geometric mean:   E X^{−s} <= (E r^{−s/T})^T                (X >= Π r_t^{1/T})
    spread law X̃:     E f(X) = 1 + s d + E g(X) <= 1 + s d' + E g(X̃)

where f is y^{−s}, but its tangent at x below x, where d = 1 − E X, d' = 1 − E X̃, and g(y) = f(y) − 1 + s (y − 1) >= 0
is convex. What f leaves out is at most E[X^{−s}; X < x] <= (P(X < x) E X^{−2s})^{1/2}, and P(X < x) is at most
E (y − X̃)₊/(y − x) for any y > x.

[FS25] V. Feldman, M. Shenfeld. Privacy Amplification by Random Allocation. arXiv:2502.08202.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from mechanisms.core.balls_in_bins import MOST_STEPS, representable
from mechanisms.core.bounds import Bounds, exp, expm1, log, log1p
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.ratio_laws import summed_ratios
from mechanisms.core.renyi import RenyiBound

MOST = 192  # the largest order whose moment is taken by the multinomial theorem
RARE_LOW = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class BallsInBinsRenyi(RenyiBound):
    """The larger one of both directions' bounds.

    Args:
        remove: the step's pair with the record against without it.
        add: the step's pair without against with.
        times: T >= 2.

    >>> from mechanisms import Adjacency, Gaussian
    >>> pairs = Gaussian(noise_multiplier=1.0).pairs(Adjacency.ADD_REMOVE)
    >>> round(BallsInBinsRenyi(remove=pairs["remove"], add=pairs["add"], times=10).divergence(2.0), 6)
    0.158565
    """

    remove: DominatingPair
    add: DominatingPair
    times: int

    def divergence(self, order: float) -> float:
        """Bound D_order(with ‖ without) and D_order(without ‖ with) from above, for order > 1; inf at inf."""
        if math.isinf(order):
            return math.inf
        return max(with_against_without(self.remove, self.times, order), self._reversed(order))

    def _reversed(self, order: float) -> float:
        return without_against_with(self.add.reverse(), self.times, order)


def renyi(step: Process, times: int, adjacency: Adjacency) -> BallsInBinsRenyi:
    """Return the bound of `times` >= 2 steps over which the records are spread.

    Raises:
        UnsupportedProcess: under replace-one, if the step has no pair or counts records, or if its likelihood ratio
            leaves the floats.
    """
    if adjacency is Adjacency.REPLACE_ONE:
        raise UnsupportedProcess(
            "BallsInBins: no Rényi bound beside its pairs is known under replace_one. Use accountant='pld'."
        )
    own = step.pairs(adjacency)
    times = min(times, MOST_STEPS)
    if not (representable(own["remove"]) and representable(own["add"])):
        raise UnsupportedProcess(
            "BallsInBins: the step's likelihood ratio leaves the floats, or hardly differs from 1. "
            "Use accountant='pld'."
        )
    return BallsInBinsRenyi(remove=own["remove"], add=own["add"], times=times)


def with_against_without(pair: DominatingPair, times: int, order: float) -> float:
    """Bound log E X^order/(order − 1) from above."""
    if pair.infinite_mass.upper > 0:
        return math.inf
    least = float((pair.log_mixture_moment(1.0, order) / (Bounds.exact(order) - 1.0)).upper)
    whole = math.floor(order)
    if whole >= MOST:
        return max(0.0, least)
    moments = _log_moments(pair, times)
    share = Bounds.exact(order) - float(whole)
    between = (1.0 - share) * moments[whole] + (share * moments[whole + 1] if order > whole else 0.0)
    return max(0.0, min(least, float((between / (Bounds.exact(order) - 1.0)).upper)))


def without_against_with(pair: DominatingPair, times: int, order: float) -> float:
    """Bound log E X^{−s}/s from above, s = order − 1; `pair` is that of the record against none."""
    if pair.missing_mass.upper > 0 and pair.log_mixture_moment(1.0, -1.0).upper == math.inf:
        return math.inf
    s = (Bounds.exact(order) - 1.0).upper
    bounds = [_log_negative(pair, times, s), _log_by_spread(pair, times, s)]
    return max(0.0, float((Bounds.exact(min(bounds)) / (Bounds.exact(order) - 1.0)).upper))


def _log_negative(pair: DominatingPair, times: int, s: float) -> float:
    """Bound log E X^{−s} by one step and by the geometric mean."""
    alone = pair.log_mixture_moment(1.0, -s).upper
    part = (Bounds.exact(s) / float(times)).upper
    return float(min(alone, (float(times) * pair.log_mixture_moment(1.0, -float(part))).upper))


def _log_by_spread(pair: DominatingPair, times: int, s: float) -> float:
    """Bound log E X^{−s} by the spread law of X."""
    law = summed_ratios(pair, times, "spread")
    ratio = Bounds.exact(law.values) / float(times)
    ratio = ratio * Bounds(lower=1.0 - 2.0 * law.shift, upper=1.0 + 2.0 * law.shift)
    masses = Bounds.exact(law.masses).inflate(2.0 * law.error)
    first = max(1, int(np.searchsorted(np.cumsum(law.masses), RARE_LOW)))
    low = float(max(0.5 * ratio.lower[first], ratio.lower[first - 1]))
    with np.errstate(over="ignore"):
        above = expm1(-s * log(ratio)) + s * (ratio - 1.0)
        corner = exp(-s * log(Bounds.exact(low)))
        below = corner * (1.0 - s * (ratio - low) / low) - 1.0 + s * (ratio - 1.0)
    excess = np.where(np.arange(len(law.values)) < first, below.upper, above.upper)
    terms = (masses * Bounds.exact(np.maximum(excess, 0.0))).upper
    kept = float(np.sum(terms)) * (1.0 + 2.0 * len(terms) * UNIT_ROUNDOFF)
    total = Bounds.exact(kept) + s * Bounds.exact(law.lost).inflate(2.0 * (law.error + law.shift)) / float(times)
    if not math.isfinite(kept):
        return math.inf
    log_rare = 0.5 * (log(Bounds.exact(_below(low, ratio, masses, first))) + _log_negative(pair, times, 2.0 * s))
    return float(log1p(total + exp(log_rare)).upper)


def _below(low: float, ratio: Bounds, masses: Bounds, first: int) -> float:
    """Bound P(X < low) by the spread law, as Markov's inequality for (y − X)₊ allows, y = ratio[first] and above."""
    tries = ratio.upper[first : first + 40]
    gaps = np.maximum(tries[:, None] - ratio.lower[None, :], 0.0)
    found = gaps @ masses.upper / (tries - low)
    return float(np.min(found, initial=1.0)) * (1.0 + 1e-9) + 5e-324


@lru_cache(maxsize=16)
def _log_moments(pair: DominatingPair, times: int) -> list[Bounds]:
    """Enclose log E X^k for k = 0 … MOST."""
    found = [pair.log_mixture_moment(1.0, float(k)) for k in range(MOST + 1)]
    k = np.arange(MOST + 1)
    factorial = Bounds.exact(scipy.special.gammaln(k + 1.0))
    factorial = factorial + Bounds(lower=-1e-14, upper=1e-14) * (1.0 + factorial)
    series = Bounds(lower=np.array([m.lower for m in found]), upper=np.array([m.upper for m in found])) - factorial
    total = _power(series, times) + factorial - k * log(Bounds.exact(float(times)))
    second = log1p(expm1(found[2]) / float(times))
    return [Bounds.exact(0.0), Bounds.exact(0.0), second, *(total[i] for i in range(3, MOST + 1))]


def _power(series: Bounds, times: int) -> Bounds:
    """Enclose the logarithms of the coefficients of the power of a series, given by logarithms, by squaring."""
    result = None
    while True:
        if times & 1:
            result = series if result is None else _product(result, series)
        times >>= 1
        if not times:
            return series if result is None else result
        series = _product(series, series)


def _product(one: Bounds, other: Bounds) -> Bounds:
    """Enclose log Σ_k e^{one_k + other_{n − k}} for every n."""
    n, k = np.arange(MOST + 1)[:, None], np.arange(MOST + 1)[None, :]
    held, index = k <= n, np.maximum(n - k, 0)
    terms = one[np.broadcast_to(k, index.shape)] + other[index]
    low, high = np.where(held, terms.lower, -np.inf), np.where(held, terms.upper, -np.inf)
    largest = np.max(high, axis=1)
    shifted = exp(Bounds(lower=low, upper=high) - largest[:, None])
    total = Bounds(lower=np.sum(shifted.lower, axis=1), upper=np.sum(shifted.upper, axis=1))
    return Bounds.exact(largest) + log(total.inflate(2.0 * (MOST + 1) * UNIT_ROUNDOFF))
