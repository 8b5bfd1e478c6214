"""How far two counts of errors are from refuting a trade-off curve.

A run whose trade-off function lies above f has, for every test of "in" against "out",

    FNR >= f(FPR),                                                                                           [DRS22]

so counts of errors refute f if they refute every point (a, b) of that region as the pair of true rates. A point is
refuted by the two exact binomial tails

    z0 = Φ⁻¹(P[Bin(excluded, a) <= false positives]),   z1 = Φ⁻¹(P[Bin(included, b) <= false negatives]),

which lie stochastically above independent standard normals if it is the true one, where one of

    z0 cos θ + z1 sin θ <= −c,    z0 <= −k,    z1 <= −k,    k >= √2 c, 0,    Φ(−c) + Φ(−k) <= 1 − confidence

holds. The first is a half-plane's test [Sto49], with weights θ of the point alone: the normal of the curve that passes
there. The others refute points so far off along the curve that this normal is of no use. Together they err with
probability Φ(−c) + Φ(−k) at most: to err by another than the first takes

    z0 <= −k and z1 > (k cos θ − c) / sin θ,        or        z1 <= −k and z0 > (k sin θ − c) / cos θ,

limits whose sum is not negative, as k >= c (sin θ + cos θ), so that normals exceed them with probabilities that add up
to 1 at most, and the two together have Φ(−k) at most.

θ is constant along Φ⁻¹(1 − a) − Φ⁻¹(1 − b) = const. Down such a path both rates fall and both z rise. So where a point
of the region is not refuted, neither is the point at which its path leaves the region: the boundary decides. Likewise
the boundary of a larger region: the tests are nested, and what refutes a curve refutes every curve above it.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[Sto49] S. A. Stouffer et al. The American Soldier, vol. 1. Princeton University Press 1949.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.core.binomial import probability_at_most
from audit.core.counts import Counts
from audit.noise_families import Array, TradeoffCurve

STRIP = 0.05  # share of the error that goes to rates far off
QUANTILES = special.ndtr(np.concatenate([[-8.0, -5.0], np.linspace(-3.5, 2.0, 45), [2.5, 3.0, 4.0, 6.0]]))
NEAR, PIECES = 0.25, 8  # cells whose margin is so near the largest are cut into so many
STEEPEST = 3.0  # |log tan θ| at most: beyond, one of the two tails says nothing
FARTHEST = 7.0  # |Φ⁻¹(1 − a) − Φ⁻¹(1 − b)| beyond which paths share one θ
ROUNDING = 1e-9  # added to margins: far above the error of tails and quantiles


def margin(counts: Counts, curve: TradeoffCurve, shift: float, confidence: float) -> float:
    """Return how far the counts are from refuting the curve, in standard deviations; at 0 and below they do."""
    missed, alarms = np.array([counts.false_negatives]), np.array([counts.false_positives])
    return float(margins(missed, alarms, counts.included, counts.excluded, curve, shift, confidence)[0])


def margins(
    missed: Array, alarms: Array, included: int, excluded: int, curve: TradeoffCurve, shift: float, confidence: float
) -> Array:
    """Return the margins of pairs of counts, shape (n,).

    The boundary is cut into cells where the counts have quantiles, and those near the largest margin into finer ones.
    """
    ends = np.broadcast_to([[0.0], [1.0]], (2, len(missed)))
    own, others = _quantiles(alarms, excluded), curve(_quantiles(missed, included))
    alpha = np.sort(np.concatenate([ends, own, others]), axis=0)

    def cells(left: Array, right: Array, which: NDArray[np.intp]) -> Array:
        rates = (left, curve(left)), (right, curve(right))
        return _cells(*rates, missed[which], alarms[which], included, excluded, shift, confidence)

    coarse = cells(alpha[:-1], alpha[1:], np.arange(len(missed)))
    near = coarse > np.max(coarse, axis=0) - NEAR
    points = np.linspace(alpha[:-1][near], alpha[1:][near], PIECES + 1)
    which = np.nonzero(near)[1]
    fine = np.max(cells(points[:-1], points[1:], which), axis=0)
    largest = np.max(np.where(near, -np.inf, coarse), axis=0)
    np.maximum.at(largest, which, fine)
    raised: Array = largest + ROUNDING
    return raised


def _cells(
    left: tuple[Array, Array],
    right: tuple[Array, Array],
    missed: Array,
    alarms: Array,
    included: int,
    excluded: int,
    shift: float,
    confidence: float,
) -> Array:
    """Return upper bounds of the margins on the boundary between two points (a, b).

    The rates there are at least (a, b) of the left's a and the right's b, where both z are largest. θ lies between
    those of the two points; at one of them z0 cos θ + z1 sin θ is largest, unless both z are positive.
    """
    z0 = special.ndtri(probability_at_most(alarms, excluded, left[0]))
    z1 = special.ndtri(probability_at_most(missed, included, right[1]))
    angles = [_weights(*point, shift, included, excluded) for point in (left, right)]
    with np.errstate(invalid="ignore"):
        sums = [np.cos(theta) * z0 + np.sin(theta) * z1 for theta in angles]
    joint = np.where((z0 > 0) & (z1 > 0), np.inf, np.fmax(*sums))
    c = -special.ndtri((1 - STRIP) * (1 - confidence))
    k = max(-special.ndtri(STRIP * (1 - confidence)), 1.4143 * c)
    margins: Array = np.fmin(joint + c, np.minimum(z0, z1) + k)
    return margins


def _quantiles(errors: Array, trials: int) -> Array:
    """Return the rates that so many errors speak about, shape (k, n); 1 where there are errors alone."""
    k = np.asarray(errors, dtype=np.float64)
    rates = special.betainccinv(k + 1, np.maximum(trials - k, 0.5), QUANTILES[:, None])
    quantiles: Array = np.where(k >= trials, 1.0, rates)
    return quantiles


def _weights(alpha: Array, beta: Array, shift: float, included: int, excluded: int) -> Array:
    """Return θ where the path through (a, b) crosses the curve of normals `shift` apart: that curve's normal.

    Lengths are in standard deviations of the two observed rates.
    """
    with np.errstate(invalid="ignore"):
        position = np.nan_to_num(np.clip(special.ndtri(beta) - special.ndtri(alpha), -FARTHEST, FARTHEST))
    steepness = log_spread(0.5 * (shift - position)) - log_spread(0.5 * (shift + position))
    steepness += 0.5 * np.log(excluded / included)
    theta: Array = np.arctan(np.exp(np.clip(steepness, -STEEPEST, STEEPEST)))
    return theta


def log_spread(x: Array) -> Array:
    """Return log((Φ(x) Φ(−x))^½ e^{x²/2}): the deviation of a rate Φ(−x) measured in x, up to a constant."""
    spread: Array = 0.5 * (special.log_ndtr(x) + special.log_ndtr(-x) + x * x)
    return spread
