"""Shuffled ε₀-private steps, by hiding among the clones.

Theorem. Let T users' records be put into uniformly random order, and let step t publish R_t(record; what steps before
published). If for the two records x, x' of one user, and all records y of the others,

    R_t(x) <= e^{ε₀} R_t(x'),   R_t(x') <= e^{ε₀} R_t(x),   R_t(y) >= (p/2) (R_t(x) + R_t(x'))      [everywhere]

then what is published with x against x' is dominated by (A + Δ, C − A + 1 − Δ) against (A + 1 − Δ, C − A + Δ), where
C ~ Bin(T − 1, p), A ~ Bin(C, 1/2), Δ ~ Bernoulli(e^{ε₀}/(e^{ε₀} + 1)), independent              [FMT21].

Proof. With U = (e^{ε₀} R(x) − R(x'))/(e^{ε₀} − 1) and V the same with x, x' exchanged, both laws, R(x) is U with
probability e^{ε₀}/(e^{ε₀} + 1) and V otherwise, R(x') the reverse, and U + V = R(x) + R(x'). So every other user's step
is U or V with probability p/2 each, and else a law of its own. Draw all users' labels (U, V or own) first: they do not
depend on what was published. Given the labels in the random order, with the names of those that are "own", every step
can be run without knowing x from x'. That order is uniform given how many are U and how many V: these counts tell all.

ε₀-privacy under replace-one gives p = e^{−ε₀}; under zero-out, where only R(y) >= e^{−ε₀} R(nothing) and
R(nothing) >= e^{−ε₀} R(x) are known, p = 2/(e^{ε₀} (e^{ε₀} + 1)). More clones tell less (they can be added without
knowing anything), so that T may be a lower end of the number of users, and C be rounded down.

[FMT21] V. Feldman, A. McMillan, K. Talwar. Hiding Among the Clones: A Simple and Nearly Optimal Analysis of Privacy
Amplification by Shuffling. FOCS 2021. arXiv:2012.12803.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.pair import UNIT_ROUNDOFF

TAIL = 1e-40  # probability of C, and of A given C, that is replaced by what tells most
MOST_CLONES = 10**9
PAIRS = 2 * 10**6  # of values of (A, C), beyond which C is rounded down
FEWEST, LOSSES = 24, 2049
SLACK = 1e-9  # relative; above the rounding of all masses and sums, at most 5u for each of a few 10⁵ factors


@lru_cache(maxsize=16)
def clone_pair(epsilon: float, probability: float, users: int) -> DiscretePair:
    """Return a pair that dominates the pair of the theorem, its own reverse; its losses lie in [−ε₀, ε₀].

    Args:
        epsilon: ε₀ > 0, an upper end.
        probability: p in [0, 1], a lower end.
        users: T >= 1.

    >>> round(float(clone_pair(4.0, 0.018, 100).delta(Bounds.exact(0.0)).upper), 2)
    0.53
    """
    counts, weights = _clones(min(users - 1, MOST_CLONES), probability)
    found = [_given(int(c), epsilon) for c in counts]
    inner = np.concatenate([losses for losses, _ in found[:-1]])
    if len(inner) > LOSSES:
        inner = float(np.max(np.abs(inner))) * np.linspace(-1.0, 1.0, LOSSES)
    edges = np.unique(np.clip(np.concatenate([[-epsilon], inner, [epsilon]]), -epsilon, epsilon))
    total = np.zeros(len(edges))
    for (losses, masses), weight in zip(found, weights, strict=True):
        total += weight * _placed(losses, masses, edges)
    total[-1] += 2.0 * TAIL * len(counts)
    total[0] += 2.0 * TAIL * len(counts)
    held = total > 0
    return DiscretePair(
        losses=tuple(edges[held].tolist()),
        masses=tuple(Bounds.exact(float(mass)) for mass in (total[held] * (1.0 + SLACK))),
        infinite_mass=Bounds.exact(0.0),
        missing_mass=Bounds.exact(0.0),
        attained=False,
    )


def _clones(trials: int, probability: float) -> tuple[Array, Array]:
    """Return values of C, rounded down to at most as many as can be afforded, and upper ends of their probabilities.

    Bernstein: P(|C − np| >= s) <= 2 exp(−s²/(2(np(1 − p) + s/3))). What lies below becomes C = 0.
    """
    level = math.log(2.0 / TAIL)
    variance = trials * probability * (1.0 - probability)
    reach = level / 3.0 + math.sqrt(level * level / 9.0 + 2.0 * level * variance)
    low = max(0, math.floor(trials * probability - reach))
    high = min(trials, math.ceil(trials * probability + reach))
    affordable = max(FEWEST, PAIRS // (1 + 2 * math.ceil(_half_width(high))))
    stride = -(-(high - low + 1) // affordable)
    counts = np.arange(low, high + 1)
    masses = _binomial(counts, trials, probability)
    starts = np.arange(0, len(counts), stride)
    likely = np.add.reduceat(masses, starts) * (1.0 + SLACK)
    return np.append(counts[starts], 0), np.append(likely, TAIL)


def _half_width(clones: int) -> float:
    """Hoeffding: P(|A − C/2| >= s) <= 2 exp(−2s²/C)."""
    return math.sqrt(0.5 * clones * math.log(2.0 / TAIL))


def _binomial(counts: Array, trials: int, probability: float) -> Array:
    """Return about the masses at consecutive counts, to a relative error far below `SLACK`, summing to at most 1.

    From the largest outwards by the ratio (n − k) p / ((k + 1)(1 − p)) of neighbours, each rounded by 5u; the window
    holds all but `TAIL` of the law, so that dividing by the sum makes masses of probabilities.
    """
    if len(counts) == 1:
        return np.ones(1)
    if probability >= 1.0:
        return np.where(counts == trials, 1.0, 0.0)
    k = counts[:-1].astype(float)
    with np.errstate(divide="ignore"):
        steps = (trials - k) / (k + 1.0) * (probability / (1.0 - probability))
    peak = int(np.count_nonzero(steps > 1.0))
    rising = np.cumprod(1.0 / steps[:peak][::-1])[::-1]
    falling = np.cumprod(steps[peak:])
    masses = np.concatenate([rising, [1.0], falling])
    return np.asarray(masses / np.sum(masses))


def _given(clones: int, epsilon: float) -> tuple[Array, Array]:
    """Return the losses and P's masses given C = clones.

    At A + Δ = a, with b = C + 1 − a,
    P = (w c(a − 1) + (1 − w) c(a))/2^C with c(k) = C choose k, w = e^{ε₀}/(e^{ε₀} + 1), and as c(a − 1)/c(a) = a/b,
    L = log((e^{ε₀} a + b)/(a + e^{ε₀} b)).
    """
    half = math.ceil(_half_width(clones))
    counts = np.arange(max(0, clones // 2 - half), min(clones, -(-clones // 2) + half) + 1)
    masses = _binomial(counts, clones, 0.5)
    share = 1.0 / (1.0 + math.exp(-epsilon))
    shown = np.append((1.0 - share) * masses, 0.0) + np.append(0.0, share * masses)
    a = np.append(counts, counts[-1] + 1).astype(float)
    b = clones + 1.0 - a
    more, less = np.maximum(a, b), np.minimum(a, b)
    losses = np.log1p(-math.expm1(-epsilon) * (more - less) / (math.exp(-epsilon) * more + less))
    return np.sign(a - b) * np.minimum(losses, epsilon), shown


def _placed(losses: Array, masses: Array, edges: Array) -> Array:
    """Split every atom between the two edges about it, P's and Q's mass kept; where it is rounded, upwards."""
    index = np.clip(np.searchsorted(edges, losses, side="right") - 1, 0, len(edges) - 2)
    low, high = edges[index], edges[index + 1]
    share = np.expm1(low - losses) / np.expm1(low - high)
    rounding = 16.0 * UNIT_ROUNDOFF * (1.0 + edges[-1] + edges[-1] / (high - low))
    share = np.clip(share + rounding, 0.0, 1.0)
    placed = np.bincount(index + 1, masses * share, minlength=len(edges))
    return np.asarray(placed + np.bincount(index, masses * (1.0 - share), minlength=len(edges)))


def clone_probability(epsilon: float, *, zeroed: bool) -> float:
    """Return a lower end of p, as in the theorem, for steps that are ε₀-private under replace-one or zero-out."""
    if not zeroed:
        return float(exp(Bounds.exact(-epsilon)).lower)
    grown = exp(Bounds.exact(epsilon))
    return float((2.0 / (grown * (grown + 1.0))).lower)
