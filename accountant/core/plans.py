"""About the cumulant of a composed loss, at many exponents at once: for plans, not for bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy

from accountant.core.base import Steps
from accountant.core.loss_sums import LossSum
from mechanisms.core.binned_law import cumulants
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.cut_normals import CutNormals
from mechanisms.core.mixture_grid import LARGEST_EXPONENT
from mechanisms.core.mixtures import BoundedMixture, NormalMixture
from mechanisms.core.pair import DominatingPair

Plan = Callable[[Array], tuple[Array, Array, Array]]
FURTHER = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.6, 12.0])  # tilts to try, in units of 1 / deviation
STEP, DEEPEST, MOST_DEEPENED = 8.0, 740.0, 12  # nats between depths and of the least δ; rounds
NARROW, ROOT_TWO = 1e-3, math.sqrt(2.0)  # deviation below which two values of B are too close
LEAST_LOSS = 1e-140  # largest loss times sampling probability, whose square is still a float


def cumulant(parts: Steps, depth: float = math.inf) -> Plan:
    """Return the function from θ, shape (n,), to about K, K' and K'' there, infinite where powers leave the floats.

    K(θ) = Σ n_i log E_{Q_i}[e^{(1 + θ) L_i}], infinite losses left out, and of sampled normals outcomes of probability
    e^{−depth} or so as well, see `mechanisms.core.cut_normals`.
    """
    summed = [_summed(pair) for pair, _ in parts]
    together = LossSum.of(tuple(part for part, known in zip(parts, summed, strict=True) if known), depth)
    others = tuple(part for part, known in zip(parts, summed, strict=True) if not known)
    lasts = [_last(pair, times, depth) for pair, times in others]

    def plan(theta: Array) -> tuple[Array, Array, Array]:
        value, slope, bend = together.plan(theta)
        for (pair, times), last in zip(others, lasts, strict=True):
            found = cumulants(pair, 1.0 + theta, last) if last < math.inf else pair.cumulants(1.0 + theta)
            for total, part in zip((value, slope, bend), found, strict=True):
                total += times * part
        return value, slope, bend

    return plan


def farthest(parts: Steps, depth: float) -> Array:
    """Return about the largest loss of every step that `cumulant` looks at, inf where it leaves nothing out."""
    found = np.full(len(parts), math.inf)
    cuttable = [k for k, part in enumerate(parts) if rare((part,))]
    groups = LossSum.of(tuple(parts[k] for k in cuttable), depth).groups if depth < math.inf else ()
    for losses, _ in groups:
        if isinstance(losses, CutNormals):
            found[cuttable] = losses.last_losses()
    heavy = [k for k, (pair, _) in enumerate(parts) if _heavy(pair)]
    found[heavy] = [_last(*parts[k], depth) for k in heavy]
    return found


def cuttable(parts: Steps) -> bool:
    """Whether outcomes may be left out that are as rare as their losses are large."""
    return rare(parts) or any(_heavy(pair) for pair, _ in parts)


def rare(parts: Steps) -> bool:
    """Whether a step is a sampled normal whose large losses may be as rare as they reign over K."""
    mixtures = [pair.mixture for pair, _ in parts]
    return any(isinstance(m, NormalMixture) and m.probability < 1.0 and not m.reverse for m in mixtures)


def single_jump(parts: Steps, epsilon: Array) -> Array:
    """Return log Σ n_i δ_i(ε) of the single steps that jump: about log δ where one jump decides, less than that."""
    total = np.zeros_like(epsilon)
    for pair, times in parts:
        if rare(((pair, times),)):
            total = total + times * pair.delta(Bounds.exact(epsilon)).lower
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.minimum(total, 1.0)))


def depth(log_delta: Array | float, reserve: float, step: float = STEP) -> Array:
    """Return how rare left out outcomes must be: nats, a multiple of the step, that lie by the reserve beyond δ."""
    return np.asarray(step * np.ceil((reserve + np.clip(-np.asarray(log_delta), 0.0, DEEPEST)) / step))


def depths(expected: Callable[[float, Array], Array], epsilon: Array, reserve: float, step: float = STEP) -> Array:
    """Return the depth for the δ that is expected at every ε, of what is left at that depth.

    Args:
        expected: from a depth and some ε to about log δ there.
        epsilon: shape (n,).
        reserve: see `depth`.
        step: see `depth`.
    """
    found = np.full(epsilon.shape, step)
    for _ in range(MOST_DEEPENED):
        needed = found.copy()
        for one in np.unique(found):
            chosen = found == one
            needed[chosen] = np.maximum(one, depth(expected(float(one), epsilon[chosen]), reserve, step))
        if np.array_equal(needed, found):
            break
        found = needed
    return found


def _heavy(pair: DominatingPair) -> bool:
    """Whether a pair of no known mixture has losses of any size."""
    return pair.mixture is None and pair.supremum.upper == math.inf


def _last(pair: DominatingPair, times: int, nats: float) -> float:
    """Return a loss beyond which so many steps have one with probability of about e^{−nats}, inf where none is cut."""
    if nats == math.inf or not _heavy(pair):
        return math.inf
    return pair.loss_range(math.exp(-min(nats + math.log(times), 690.0)))[1]


def _summed(pair: DominatingPair) -> bool:
    """Whether transforms tell a step's cumulants at many exponents at once, and the pair itself does not."""
    mixture = pair.mixture
    if not isinstance(mixture, BoundedMixture):
        return mixture is not None
    largest = float(np.max(np.abs([mixture.losses.lower, mixture.losses.upper])))
    return mixture.probability < 1.0 and largest * mixture.probability > LEAST_LOSS and largest < LARGEST_EXPONENT / 2


def log_deltas(theta: Array, value: Array, slope: Array, bend: Array) -> Array:
    """Return about log δ at ε = K'(θ), −inf where K leaves the floats: as if the tilted loss were normal there.

    e^{K − θε} (B(θs) − B((1 + θ) s)) with s² = K'' and B(λ) = e^{λ²/2} Φ(−λ), or what that tends to for small s; where
    there is one loss left, s = 0, its probability e^{K − θε}.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = np.sqrt(bend)
        normal = 0.5 * (
            scipy.special.erfcx(theta * spread / ROOT_TWO) - scipy.special.erfcx((1.0 + theta) * spread / ROOT_TWO)
        )
        narrow = 1.0 / (theta * (1.0 + theta) * spread * math.sqrt(2 * math.pi))
        height = value - theta * slope
        found = height + np.log(np.where((spread > NARROW) & (normal > 0), normal, narrow))
    return np.where(np.isfinite(value), np.where(bend > 0, found, height), -np.inf)


def tail_ends(plan: Plan, theta: float, deviation: float, nats: float) -> tuple[tuple[float, float], ...]:
    """Return, below and above, how far the loss tilted by θ goes but for e^{−nats} of its mass, and a tilt to show it.

    By Chernoff's inequality, at the best of a few further tilts, in units of 1 / deviation and of θ.
    """
    wide = FURTHER / deviation
    units = np.concatenate([wide, theta * np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])])
    value, slope, _ = plan(np.concatenate([[theta], theta - units, theta + units]))
    ends = []
    for side, found in ((-1, value[1 : len(units) + 1]), (1, value[len(units) + 1 :])):
        with np.errstate(invalid="ignore"):
            reach = (found - value[0] + nats) / units
            reach = np.where(reach >= side * slope[0], reach, math.inf)  # else moments are not known so far out
        best = int(np.nanargmin(reach)) if np.any(np.isfinite(reach)) else 0
        ends.append((side * float(reach[best]) if math.isfinite(reach[best]) else side * math.inf, float(units[best])))
    return tuple(ends)


def moved_end(plan: Plan, theta: float, nats: float) -> float:
    """Return about a loss x that all smaller ones may be moved up to: P(L <= x) e^{θx} <= e^{K(θ) − nats}.

    By Chernoff's inequality, P(L <= x) <= e^{K(−v) + vx} at any v >= 0, of which a few are tried.
    """
    deviation = math.sqrt(max(float(plan(np.array([theta]))[2][0]), 0.0))
    tilts = np.concatenate([[0.0], FURTHER / max(deviation, 0.01 / theta) if deviation < math.inf else []])
    value = plan(np.concatenate([[theta], -tilts]))[0]
    with np.errstate(invalid="ignore"):
        ends = (value[0] - nats - value[1:]) / (theta + tilts)
    return float(np.max(np.where(np.isfinite(ends), ends, -math.inf)))
