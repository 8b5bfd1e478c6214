"""The best (ε, δ) that a Rényi divergence of one order gives, certified: no pair of laws on two points violates it.

To see S or not makes two points of any pair (P, Q): of p = P(S) and p' = Q(S) the divergence is no larger than theirs,
and p − e^ε p' is what (ε, δ) bounds. So (ε, δ) follows from D_α <= γ exactly if at p' = (p − δ) e^{−ε}

    g(p) = p^α p'^{1 − α} + (1 − p)^α (1 − p')^{1 − α} >= e^{(α − 1) γ}        for all p in (δ, 1],       [ALCKS20]

and it follows for pairs with p − e^ε p' > δ as well, as g falls with p'. Both terms of g are convex in (p, p'), so g is
convex in p: between two points of which one has a negative slope and the other a positive one lies the least value, and
there g is at least what the tangents say.

[ALCKS20] S. Asoodeh, J. Liao, F. Calmon, O. Kosut, L. Sankar. A Better Bound Gives a Hundred Rounds: Enhanced Privacy
Guarantees via f-Divergences. ISIT 2020. arXiv:2001.05990.
"""

from __future__ import annotations

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, log, log1p

NEWTON_STEPS = 12
APART = 1e-5  # relative distance of the two points from the least value, in p − δ
SLACKS = (1e-9, 1e-6, 1e-3)  # what is added to the solution before it is certified, relative to the gain or so


def certified_epsilon(orders: Array, divergences: Array, delta: Array, start: Array) -> Array:
    """Return certified ε at δ, of one shape; inf where none is certified; `start` is that of a cruder conversion.

    >>> one = np.array([2.0]), np.array([0.5]), np.array([1e-3]), np.array([6.0215])
    >>> round(float(certified_epsilon(*one)[0]), 4)
    5.0948
    """
    known = np.isfinite(divergences) & np.isfinite(start) & (start > 0)
    alpha, gamma, delta, start = (part[known] for part in (orders, divergences, delta, start))
    found = np.full(known.shape, np.inf)
    if np.any(known):
        solved, p = _solved(alpha, gamma, start, np.log(delta), in_epsilon=True)
        best = np.full(len(alpha), np.inf)
        for slack in SLACKS:
            tried = np.maximum(solved + slack * np.maximum(np.abs(start - solved), 1e-6 * start), 0.0)
            certain = _certain(alpha, gamma, tried, delta, p)
            best = np.minimum(best, np.where(certain, tried, np.inf))
            if np.all(np.isfinite(best) | ~(solved < start)):
                break
        found[known] = best
    return found


def certified_log_delta(orders: Array, divergences: Array, epsilon: Array, start: Array) -> Array:
    """Return certified log δ at ε, of one shape; inf where none is certified, as for ε.

    >>> one = np.array([2.0]), np.array([0.5]), np.array([5.0948]), np.array([-5.98])
    >>> round(float(np.exp(certified_log_delta(*one)[0])), 5)
    0.001
    """
    known = np.isfinite(divergences) & np.isfinite(start) & (start < 0) & (start > -700)
    alpha, gamma, epsilon, start = (part[known] for part in (orders, divergences, epsilon, start))
    found = np.full(known.shape, np.inf)
    if np.any(known):
        solved, p = _solved(alpha, gamma, epsilon, start, in_epsilon=False)
        best = np.full(len(alpha), np.inf)
        for slack in SLACKS:
            tried = np.minimum(solved + slack * np.maximum(np.abs(start - solved), 1e-6), 0.0)
            delta = np.exp(tried)
            certain = _certain(alpha, gamma, epsilon, delta, p)
            best = np.minimum(best, np.where(certain, log(Bounds.exact(np.where(certain, delta, 1.0))).upper, np.inf))
            if np.all(np.isfinite(best) | ~(solved < start)):
                break
        found[known] = best
    return found


def _solved(alpha: Array, gamma: Array, epsilon: Array, log_delta: Array, *, in_epsilon: bool) -> tuple[Array, Array]:
    """Return about the ε, or log δ, at which the least g is e^{(α − 1)γ}, and the log of (p − δ)/(1 − p) there.

    By Newton's method in both at once, from where the first term of g alone would have it: p = αδ.
    """
    goal = (alpha - 1.0) * gamma
    y = np.log(np.maximum(alpha - 1.0, 1e-300)) + log_delta - np.log(np.maximum(1.0 - alpha * np.exp(log_delta), 1e-3))
    with np.errstate(all="ignore"):
        for _ in range(NEWTON_STEPS):
            value, slope, bend, by_epsilon, by_delta = _derivatives(alpha, epsilon, log_delta, y)
            y = y - np.clip(np.where(bend > 0, slope / bend, np.sign(slope)), -2.0, 2.0)
            value, _, _, by_epsilon, by_delta = _derivatives(alpha, epsilon, log_delta, y)
            if in_epsilon:
                epsilon = epsilon - np.clip((value - goal) / by_epsilon, -2.0, 2.0)
            else:
                log_delta = np.minimum(log_delta - np.clip((value - goal) / by_delta, -2.0, 2.0), -1e-12)
    return (epsilon if in_epsilon else log_delta), y


def _derivatives(alpha: Array, epsilon: Array, log_delta: Array, y: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Return log g, its first and about its second derivative by y = log (p − δ)/(1 − p), and those by ε and log δ."""
    delta = np.exp(log_delta)
    share = 1.0 / (1.0 + np.exp(-y))  # p = δ + (1 − δ) share
    above = (1.0 - delta) * share
    p, rest = delta + above, (1.0 - delta) * (1.0 - share)
    other = above * np.exp(-epsilon)
    logs = alpha * np.log(p) + (1 - alpha) * np.log(other), alpha * np.log(rest) + (1 - alpha) * np.log1p(-other)
    value = np.logaddexp(*logs)
    one, two = np.exp(logs[0] - value), np.exp(logs[1] - value)
    scale = above * (1.0 - share)  # dp/dy
    odds = np.exp(-epsilon) / (1.0 - other)
    slopes = alpha / p - (alpha - 1) / above, -alpha / rest + (alpha - 1) * odds
    bends = (alpha - 1) / above**2 - alpha / p**2, (alpha - 1) * odds**2 - alpha / rest**2
    slope = one * slopes[0] + two * slopes[1]
    bend = one * (slopes[0] ** 2 + bends[0]) + two * (slopes[1] ** 2 + bends[1])
    by_epsilon = (alpha - 1) * (one - two * other / (1.0 - other))
    by_delta = (alpha - 1) * (one / above + two * odds) * delta
    return value, slope * scale, bend * scale**2 + slope * scale * (1.0 - 2.0 * share), by_epsilon, by_delta


def _certain(alpha: Array, gamma: Array, epsilon: Array, delta: Array, y: Array) -> Array:
    """Tell where g >= e^{(α − 1)γ} is certain for all p, from its tangents at two points beside the least value."""
    with np.errstate(all="ignore"):
        share = 1.0 / (1.0 + np.exp(-y))
        ends = [delta + (1.0 - delta) * share / (1.0 + (1.0 - share) * step) for step in (APART, -APART)]
    proper = (delta > 0) & (delta < ends[0]) & (ends[0] < ends[1]) & (ends[1] < 1.0) & (epsilon >= 0)
    if not np.any(proper):
        return proper
    ends = [np.where(proper, end, fallback) for end, fallback in zip(ends, (0.5, 0.75), strict=True)]
    epsilon, delta = np.where(proper, epsilon, 1.0), np.where(proper, delta, 0.25)
    goal = (Bounds.exact(alpha) - 1.0) * gamma
    (low, falls), (high, rises) = (_tangent(alpha, epsilon, delta, end, goal) for end in ends)
    width = Bounds.exact(ends[1]) - ends[0]
    least = np.maximum((low + falls * width).lower, (high - rises * width).lower)
    return np.asarray(proper & (falls.upper < 0) & (rises.lower > 0) & (least >= 1.0))


def _tangent(alpha: Array, epsilon: Array, delta: Array, at: Array, goal: Bounds) -> tuple[Bounds, Bounds]:
    """Enclose g(p) and g'(p) at p = `at`, both divided by e^goal."""
    one, factor = Bounds.exact(alpha), exp(-Bounds.exact(epsilon))
    p, above = Bounds.exact(at), Bounds.exact(at) - delta
    other, rest = above * factor, 1.0 - Bounds.exact(at)
    first = exp(one * log(p) - (one - 1.0) * log(other) - goal)
    second = exp(one * log(rest) - (one - 1.0) * log1p(-other) - goal)
    slope = first * (one / p - (one - 1.0) / above) + second * ((one - 1.0) * factor / (1.0 - other) - one / rest)
    return first + second, slope
