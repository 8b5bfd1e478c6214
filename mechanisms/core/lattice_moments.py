"""Moments E_Q[(1 − q + q e^L)^t] of discrete Gaussians, Q = N_Z(0, σ²) and L = (2ks − s²)/2σ², at many real t.

For q = 1 the square is completed: with Θ(x) = Σ e^{−(k − x)²/2σ²}, which has the period 1,

    E_Q[e^{tL}] = e^{t(t − 1)s²/2σ²} Θ(ts)/Θ(0) <= e^{t(t − 1)s²/2σ²}: never more than a normal's      [CKS20].

For q < 1, E_Q is the trapezoidal rule with step 1/σ, up to 1 <= Z/(σ√(2π)) <= 1 + 3e^{−2π²σ²}, for the integral that is
the moment of normals N(μ, 1) and N(0, 1), μ = s/σ. By the bound in `mechanisms.core.normal_moments` it errs by at most
2 C e^{a²/2}/(e^{2πaσ} − 1) of that moment, for any a < π/μ, C = 1 for t >= 0 and cos(μa/2)^t for t < 0. Where that is
not negligible σ²/s is small, and the terms are added: their ratios are at most those of normals around 0 or ts.

[CKS20] see `mechanisms.core.discrete_noise`.
"""

from __future__ import annotations

import math

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp, log, log1p, where
from mechanisms.core.lattice_normal import REACH, LatticeNormal
from mechanisms.core.normal_moments import log_moments
from mechanisms.core.pair import UNIT_ROUNDOFF

NEGLIGIBLE = 64.0  # −log of the error of the trapezoidal rule from which the normals' moments are taken
MOST_TERMS = 2**18


def log_lattice_moments(law: LatticeNormal, shift: int, q: float, powers: Array) -> Bounds:
    """Enclose log E_Q[(1 − q + q e^L)^t] at every finite t of `powers`, shape (n,).

    >>> law = LatticeNormal(sigma=Bounds.exact(1.0))
    >>> bool(log_lattice_moments(law, 1, 1.0, np.array([2.0])).contains(1.0)[0])  # t(t − 1)/2
    True
    """
    whole = _log_whole_moments(law, shift, powers)
    if q == 1.0:
        return whole
    mu, rest = float(shift) / law.sigma, Bounds.exact(1.0 - q).inflate(UNIT_ROUNDOFF)
    crude = _convex(whole, rest, q, powers)
    error = _log_rule_error(law, mu, powers)
    smooth = error < -NEGLIGIBLE
    lower, upper = np.array(crude.lower), np.array(crude.upper)
    if np.any(smooth):
        found, slack = log_moments(mu, q, powers[smooth]), math.exp(-NEGLIGIBLE)
        found = found + Bounds(lower=-4.0 * slack, upper=2.0 * slack)
        lower[smooth], upper[smooth] = found.lower, found.upper
    for i in np.flatnonzero(~smooth):
        added = _added(law, shift, q, float(powers[i]))
        if added is not None:
            lower[i], upper[i] = max(lower[i], float(added.lower)), min(upper[i], float(added.upper))
    plain = (powers == 0.0) | (powers == 1.0)
    return Bounds(lower=np.where(plain, 0.0, lower), upper=np.where(plain, 0.0, upper))


def tilted(law: LatticeNormal, shift: int, powers: Array) -> tuple[Array, Array]:
    """Return about the mean and the variance of k where k has the mass e^{tL} Q(k)/E_Q[e^{tL}]."""
    sigma, centre = 0.5 * (law.sigma.lower + law.sigma.upper), powers * float(shift)
    if sigma >= 2.0:
        return centre, np.full_like(centre, sigma * sigma)
    nearest = np.rint(centre)
    apart = np.arange(-80.0, 81.0) - (centre - nearest)[:, None]
    least = np.min(apart * apart, axis=1, keepdims=True)
    weights = np.exp(-0.5 * (apart * apart - least) / (sigma * sigma))
    weights /= np.sum(weights, axis=1, keepdims=True)
    mean = np.sum(weights * apart, axis=1)
    return centre + mean, np.sum(weights * (apart - mean[:, None]) ** 2, axis=1)


def _log_whole_moments(law: LatticeNormal, shift: int, powers: Array) -> Bounds:
    """t (t − 1) μ²/2 + log(Θ(ts)/Θ(0)); Θ is even and falls from 0 to 1/2, as each factor of Jacobi's product does."""
    t, mu = Bounds.exact(powers), float(shift) / law.sigma
    moved = np.fmod(powers, 1.0) * float(shift)
    doubt = 2.0 * UNIT_ROUNDOFF * np.abs(moved)
    apart = np.abs(moved - np.rint(moved))
    least = law.log_theta(np.clip(apart + doubt, 0.0, 0.5)).lower
    most = law.log_theta(np.clip(apart - doubt, 0.0, 0.5)).upper
    return t * (t - 1.0) * mu * mu / 2.0 + where(
        powers == np.rint(powers), Bounds.exact(0.0 * powers), Bounds(lower=least, upper=most)
    )


def _convex(whole: Bounds, rest: Bounds, q: float, powers: Array) -> Bounds:
    """Enclose log E[r^t], r = 1 − q + q e^L, from E[r] = 1: r^t is convex but for 0 < t < 1, where it is concave."""
    largest = np.maximum(np.maximum(whole.upper, whole.lower), 0.0)
    chord = largest + log(rest * exp(-Bounds.exact(largest)) + q * exp(whole - largest))
    convex = (powers >= 1.0) | (powers <= 0.0)
    alone = Bounds.exact(powers) * log(Bounds.exact(q)) + whole  # r >= q e^L
    lower = np.where(convex, np.where(powers > 0, np.maximum(alone.lower, 0.0), 0.0), chord.lower)
    upper = np.where(convex, np.maximum(chord.upper, 0.0), 0.0)
    return Bounds(lower=np.minimum(lower, upper), upper=upper)


def _log_rule_error(law: LatticeNormal, mu: Bounds, powers: Array) -> Array:
    """Bound the logarithm of the trapezoidal rule's relative error, and of Z's, at the best of three a."""
    sigma, steepest = float(law.sigma.lower), math.pi / float(mu.upper)
    negative = np.minimum(powers, 0.0)
    found = []
    for share in (0.95, 0.5, 0.1):
        a = min(2.0 * math.pi * sigma, share * steepest)
        found.append(
            math.log(2.1)
            + 0.5 * a * a
            - 2.0 * math.pi * a * sigma
            + negative * math.log(math.cos(0.5 * share * math.pi))
        )
    least: Array = np.min(found, axis=0)
    return np.maximum(least, math.log(3.0) - 2.0 * (math.pi * sigma) ** 2) + 1e-9


def _added(law: LatticeNormal, shift: int, q: float, power: float) -> Bounds | None:
    """Add the terms around and between 0 and ts; None if they are too many.

    Beyond, the ratio of each to the one before is at most e^{−(2x + 1)/2σ²}, x the distance from 0 or from ts.
    """
    centre, reach = power * float(shift), math.ceil(REACH * float(law.sigma.upper)) + 2.0
    first, last = math.floor(min(centre, 0.0)) - reach, math.ceil(max(centre, 0.0)) + reach
    if not last - first < MOST_TERMS:
        return None
    k = np.arange(first, last + 1.0)
    square, s = law.sigma * law.sigma, float(shift)
    loss = (
        Bounds.exact(s * (2.0 * k - s) / 2.0) / square if s * last < 2.0**51 else Bounds.exact(k - 0.5 * s) * s / square
    )
    growth = _log_ratio(loss, q)
    terms = law.log_mass(k) + power * growth
    largest = float(np.max(terms.upper))
    scaled = exp(terms - largest)
    ratio = exp(-(2.0 * Bounds.exact(reach) + 1.0) / (2.0 * square)).upper
    beyond = float(scaled.upper[0] + scaled.upper[-1]) * ratio / (1.0 - ratio) * (1.0 + 1e-9)
    total = Bounds(lower=float(np.sum(scaled.lower)), upper=float(np.sum(scaled.upper)) + beyond)
    return largest + log(total.inflate((len(k) + 16.0) * UNIT_ROUNDOFF))


def _log_ratio(loss: Bounds, q: float) -> Bounds:
    """Enclose log(1 − q + q e^L)."""
    rest = Bounds.exact(1.0 - q).inflate(UNIT_ROUNDOFF)
    small = log1p(q * (exp(loss.clip(-np.inf, 1.0)) - 1.0).clip(-1.0, np.inf))
    large = loss + log(q + rest * exp(-(loss.clip(0.0, np.inf))))
    return where(np.asarray(loss.upper) <= 1.0, small, large)
