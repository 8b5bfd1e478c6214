"""Where runs are split by their largest loss, and each layer's tilt: plans for rare jumps, no guarantees.

A run belongs to the layer (a, b] that the largest loss of its sampled normals lies in. δ(ε) is the sum over layers of
the largest P(S) − e^ε Q(S) of events S within them, which `accountant.core.bands` composes, each at a tilt of its own:
where jumps are rare, no one tilt suits both runs that jump and runs that do not. With M_i(a) = E[e^{θL}; L <= a] and
J_i(a, b) = E[e^{θL}; a < L <= b] a layer has

    K(θ) = Σ n_i log M_i(a) + log expm1(Σ n_i log1p(J_i(a, b) / M_i(a)))

and the round-off of its transforms is about a few units of roundoff, times the number of steps, of e^{K(θ) − θε}. From
the top each layer reaches as far down as that stays small beside δ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accountant.core.base import Steps
from accountant.core.bins import LARGEST_SCALE
from accountant.core.jump_moments import Moments, layer_cumulant, together
from accountant.core.plans import rare, single_jump, tail_ends
from mechanisms.core.bounds import Array
from mechanisms.core.pair import UNIT_ROUNDOFF

RESERVE, DEPTH_STEP = 21.0, 4.0  # nats from δ to the outcomes left out, and between depths
RATIO = 1.2  # of neighbouring tilts, among which every layer's is chosen, and of losses where layers may end
LEAST_TILT, LARGEST_TILT = 0.02, 1e4  # times one over the largest loss and over ε: it may be far above ε
LEAST_LAYER = 1.0 / 64.0  # of ε, below which no layer ends
TARGET, ULPS = -20.0, 400.0  # of log δ, that round-off may be about; about that of one step, in units of u
LEAST_EXCESS, MORE_EXCESS, MOST_LAYERS = 4.0, 2.0, 7  # nats of K − θε above log δ that any layer may have
GAINED = 3.0  # nats that are worth a split
OUTSIDE = 36.0  # nats: of the tilted mass that windows leave out
AHEAD = 0.02  # of ε, by which it is asked how fast δ falls
ALIKE, FAR = 1.5, 3.0  # nats between tilts as good as each other; times ε, what is far above it
LARGEST, HALVINGS = 1e6, 40  # of an ε that is expected
NEAR = 0.9  # of ε, that windows begin below


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Runs whose largest loss lies in a band, and the tilt for them.

    Args:
        band: (a, b] for every step, a = −inf in the lowest layer and (inf, inf) for steps that are in any layer whole.
        low: the losses of every step below which next to nothing lies.
        theta: θ.
        ends: the ends of the sums that matter.
        probes: further tilts (below, above) at which the mass outside is bounded.
        top: whether no layer lies above.
    """

    band: tuple[tuple[float, float], ...]
    low: tuple[float, ...]
    theta: float
    ends: tuple[float, float]
    probes: tuple[float, float]
    top: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """What is expected of δ(ε) at one ε: thin layers, and how likely each is.

    Args:
        epsilon: ε.
        log_delta: about log δ(ε), a few nats off.
        depth: in nats, how rare the outcomes of a run are that are left out.
        moments: of the steps that jump.
        thresholds: where layers may end.
        theta: the tilts to choose from.
    """

    epsilon: float
    log_delta: float
    depth: float
    moments: Moments
    thresholds: Array
    theta: Array


@lru_cache(maxsize=64)
def outlook(parts: Steps, epsilon: float) -> Outlook | None:
    """Return what is expected of δ(ε), None where it is too small for any jump to count.

    P(L > ε) is at most about Σ e^{K(θ) − θε} of all thin layers, each at its best tilt, and δ(ε) is less by about a
    factor 1 + θ, where θ is how fast it falls.
    """
    single = float(single_jump(parts, np.array([epsilon]))[0])
    if not single > -700.0:
        return None
    depth = DEPTH_STEP * math.ceil((RESERVE - single) / DEPTH_STEP)
    moments = Moments.of(parts, depth)
    largest = max(float(np.max(moments.losses)), 2.0 * epsilon)
    thresholds = _spaced(LEAST_LAYER * epsilon, largest)
    theta = _spaced(LEAST_TILT / largest, LARGEST_TILT / epsilon)
    below, between = moments.segments(theta, thresholds)
    others = moments.others(theta)[0]
    ends = [(k - 1, k) for k in range(len(thresholds))]
    heights = np.stack([together(layer_cumulant(moments, theta, below, between, one), others) for one in ends])
    here, beyond = (_log_sum(np.min(heights - theta * point, axis=1)) for point in (epsilon, epsilon * (1.0 + AHEAD)))
    falling = max(here - beyond, 0.0) / (AHEAD * epsilon) if here < math.inf else 0.0
    log_delta = max(single, min(here - math.log1p(falling), 0.0))
    return Outlook(
        epsilon=epsilon, log_delta=log_delta, depth=depth, moments=moments, thresholds=thresholds, theta=theta
    )


def _spaced(low: float, high: float) -> Array:
    return np.geomspace(low, high, 1 + math.ceil(math.log(high / low) / math.log(RATIO)))


def _log_sum(logs: Array) -> float:
    """log Σ e^x, inf where an x is infinite or unknown."""
    largest = float(np.max(logs))
    if not math.isfinite(largest):
        return -math.inf if largest == -math.inf else math.inf
    return largest + math.log(float(np.sum(np.exp(logs - largest))))


@lru_cache(maxsize=64)
def layers(parts: Steps, epsilon: float, plain: float) -> tuple[Layer, ...]:
    """Return the layers for ε's near this one, none where they would be of no use.

    Args:
        parts: the pairs and how often each runs, of which at least one jumps.
        epsilon: ε > 0.
        plain: K(θ) − θε where runs are not split.
    """
    view = outlook(parts, epsilon)
    if view is None or not np.max(view.moments.losses) < LARGEST_SCALE:
        return ()
    excess = max(TARGET - roundoff(parts), LEAST_EXCESS)
    while view.log_delta + excess < plain - GAINED:
        cuts = _cuts(view, view.log_delta + excess)
        if cuts:
            return tuple(_layer(parts, view, ends, theta) for ends, theta in cuts)
        excess += MORE_EXCESS
    return ()


@lru_cache(maxsize=64)
def far_layers(parts: Steps, epsilon: float, plain: float) -> tuple[Layer, ...]:
    """Return layers that spare losses near ε the wide grid of those far above it, none where there are none far above.

    Round-off is no more than where runs are not split; arguments as of `layers`.
    """
    view = outlook(parts, epsilon)
    if view is None or not np.max(view.moments.losses) < LARGEST_SCALE:
        return ()
    cuts = _cuts(view, plain)
    return tuple(_layer(parts, view, ends, theta) for ends, theta in cuts) if len(cuts) > 1 else ()


def expected_epsilon(parts: Steps, delta: float) -> float:
    """Return about the ε with δ(ε) = delta, not below that of single jumps, by halving."""
    low, high = 0.0, 1.0
    while high < LARGEST and _expected(parts, high) > math.log(delta):
        low, high = high, 4.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high) if low > 1e-3 * high else max(1e-2 * high, 1e-13)
        low, high = (middle, high) if _expected(parts, middle) > math.log(delta) else (low, middle)
        if high - low < 1e-2 * high or high < 1e-12:
            break
    return high


def _expected(parts: Steps, epsilon: float) -> float:
    view = outlook(parts, epsilon)
    return view.log_delta if view else -math.inf


def roundoff(parts: Steps) -> float:
    """Return about log of the round-off of a composition, relative to its tilted mass."""
    return math.log(ULPS * UNIT_ROUNDOFF * sum(times for _, times in parts))


def _cuts(view: Outlook, allowed: float) -> list[tuple[tuple[int, int], float]]:
    """Return (thresholds between which a layer lies, its tilt), from the top down to −1; none if they are too many.

    Losses far above ε are a layer apart, whose grid may be coarse. Of tilts that are as good the largest is taken.
    """
    moments, theta = view.moments, view.theta
    below, between = moments.segments(theta, view.thresholds)
    others = moments.others(theta)[0] - theta * view.epsilon

    def best(low: int, high: int) -> tuple[float, float]:
        heights = together(layer_cumulant(moments, theta, below, between, (low, high)), others)
        heights = np.where(np.isnan(heights), np.inf, heights)
        least = float(np.min(heights))
        return least, float(theta[np.flatnonzero(heights <= least + ALIKE)[-1]])

    found: list[tuple[tuple[int, int], float]] = []
    high = len(view.thresholds) - 1
    far = int(np.searchsorted(view.thresholds, FAR * view.epsilon))
    if far < high and view.thresholds[-1] > 2.0 * FAR * view.epsilon and best(far, high)[0] <= allowed:
        found, high = [((far, high), best(far, high)[1])], far
    while len(found) < MOST_LAYERS:
        height, tilt = best(-1, high)
        if height <= allowed:
            return [*found, ((-1, high), tilt)]
        low = _lowest(best, high, allowed)
        if low < 0:
            break
        found.append(((low, high), best(low, high)[1]))
        high = low
    return []


def _lowest(best: Callable[[int, int], tuple[float, float]], high: int, allowed: float) -> int:
    """Return the lowest threshold from which on a layer up to this one has no more than is allowed; −1 if none."""
    if high == 0 or best(high - 1, high)[0] > allowed:
        return -1
    low, top = -1, high - 1
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (low, middle) if best(middle, high)[0] <= allowed else (middle, top)
    return top


def _layer(parts: Steps, view: Outlook, ends: tuple[int, int], theta: float) -> Layer:
    moments, thresholds, epsilon = view.moments, view.thresholds, view.epsilon
    nudged = theta * (1 + 1e-3 * np.array([-1.0, 0.0, 1.0]))
    near = moments.values(nudged, thresholds, ends)
    if math.isfinite(near[1]) and not math.isfinite(near[2]):  # at the end of the floats: any θ will do, so a smaller
        return _layer(parts, view, ends, theta / (1 + 2e-3))
    slope = (near[2] - near[0]) / (2e-3 * theta)
    bend = max((near[2] - 2 * near[1] + near[0]) / (1e-3 * theta) ** 2, 0.0)

    def plan(tilts: Array) -> tuple[Array, Array, Array]:
        value = moments.values(tilts, thresholds, ends)
        return value, np.full_like(value, slope), np.full_like(value, bend)

    deviation = max(math.sqrt(bend), 1e-3 * epsilon)
    (below, low_probe), (above, high_probe) = tail_ends(plan, theta, deviation, OUTSIDE)
    bands, lows = _ends(parts, view, ends)
    least = sum(n * low for (_, n), low in zip(parts, lows, strict=True)) - epsilon
    most = sum(n * high for (_, n), (_, high) in zip(parts, bands, strict=True)) + epsilon
    below, above = max(below, 2.0 * least), min(above, 2.0 * most)  # beyond all sums, where nothing closer is known
    return Layer(
        band=bands,
        low=lows,
        theta=theta,
        ends=(min(below, NEAR * epsilon), max(above, epsilon / NEAR)),
        probes=(low_probe, high_probe),
        top=ends[1] == len(thresholds) - 1,
    )


def _ends(
    parts: Steps, view: Outlook, ends: tuple[int, int]
) -> tuple[tuple[tuple[float, float], ...], tuple[float, ...]]:
    """Return the band of every step, and the loss below which next to nothing lies."""
    tail = math.exp(-min(view.depth + math.log(sum(times for _, times in parts)), 690.0))
    bands, lows, j = [], [], 0
    for part in parts:
        low, high = part[0].loss_range(tail)
        if rare((part,)):
            last = float(view.moments.losses[j, -1])
            a = max(min(float(view.thresholds[ends[0]]), last), low) if ends[0] >= 0 else -math.inf
            bands.append((a, min(float(view.thresholds[ends[1]]), last)))
            j += 1
        else:
            bands.append((math.inf, high))
        lows.append(low)
    return tuple(bands), tuple(lows)
