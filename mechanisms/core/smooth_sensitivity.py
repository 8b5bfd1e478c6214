"""A private upper end for what the very votes let show: Gaussian noise in proportion to a smooth sensitivity.

What GNMax shows of given votes, β(q), hangs on them through q alone (`mechanisms.core.votes`). One changed vote takes q
no higher than B_U(q) and no lower than B_L(q): with q = (m − 1) Φ(z) for m classes, to (m − 1) Φ(z ± √2/σ). The local
sensitivity at distance d, the most that one vote changes β by after d others have changed, is found by the greedy walk
of [PSMRTE18, Alg 3–5] towards the q₀ where β meets the α/σ² of all votes. With its own smoothness b,

    S = max_d e^{−b d} LS_d,    e^{−b} S(D') <= S(D) <= e^b S(D')  for neighbours                            [NRS07].

The walk is right if β(q) rises up to q₀ and β(B_U(q)) − β(q) up to B_L(q₀), which is checked on a grid, as in the
paper, and not proved: what comes out is `validated`, not `proved`.

[PSMRTE18] see `mechanisms.pate`.
[NRS07] K. Nissim, S. Raskhodnikova, A. Smith. Smooth Sensitivity and Sampling in Private Data Analysis. STOC 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import special

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, log1p
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.randomness import Source
from mechanisms.core.votes import DataDependentRenyi, GaussianVotes, gaussian_divergences
from mechanisms.gaussian import Gaussian

POINTS, LOWEST = 2000, 40.0  # of the grid of conditions, and how many noises wide it is
TOLERANCE = 1e-9
DIGITS = 2.0**-30
LEAST, FARTHEST, NUDGE = 1e-300, -1e12, 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedRenyi:
    """A private upper end of what the answers to one dataset's votes show, as a divergence of one order.

    With probability 1 − failure over the noise, D_order(answers and release ‖ those of any neighbour) <= divergence. It
    may be published. It is a statement on the dataset at hand and no guarantee of the mechanism, which is for all of
    them: that is what `GNMax.pairs` gives, and no accountant takes this instead.

    Args:
        order: α.
        answers: upper end for the answers.
        cost: divergence of the release itself, which holds for all votes.
        failure: probability that `answers` is too small.

    >>> ReleasedRenyi(order=20.0, answers=0.5, cost=0.25, failure=0.01).divergence
    0.7500000000000001
    """

    order: float
    answers: float
    cost: float
    failure: float
    divergence: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "divergence", float((Bounds.exact(self.answers) + self.cost).upper))


def release_cost(*, order: float, smoothness: float, noise_multiplier: float) -> float:
    """Bound D_α of F + S N(0, σ²) from above, where one record moves F by at most S and S by at most a factor e^b.

        α / (2σ² (α − (α − 1) e^{2b})) − (α b + ½ log(1 − α (1 − e^{−2b})))/(α − 1)    for  α (1 − e^{−2b}) < 1

    For scales S and t S, S ≥ movement ≤ t S, the divergence of two normals is α min(1, t)²/(2σ² s) +
    (α log t − ½ log s)/(α − 1) with s = 1 + α (t² − 1); it is largest at t = e^{−b}, and attained there. The bound of
    [PSMRTE18], α e^{2b}/σ² + (α b − ½ log(1 − 2αb))/(α − 1), is below that where 2αb is near 1.

    Args:
        order: α > 1.
        smoothness: b > 0.
        noise_multiplier: σ > 0, noise ÷ smooth sensitivity.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> round(release_cost(order=10.0, smoothness=0.01, noise_multiplier=2.0), 4)
    1.5289
    """
    alpha = validate.finite("release_cost", "order", order)
    b = Bounds.exact(validate.positive("release_cost", "smoothness", smoothness))
    sigma = Bounds.exact(validate.positive("release_cost", "noise_multiplier", noise_multiplier))
    shrunk = log1p(-(Bounds.exact(alpha) * (1.0 - exp(-2.0 * b)).clip(0.0, 1.0)).clip(0.0, 1.0))
    if alpha <= 1.0 or math.isinf(shrunk.lower):
        raise InvalidParameter(
            f"release_cost: order must lie strictly between 1 and 1/(1 − e^(−2 smoothness)), got {alpha}. "
            "Use a smoothness of about 0.2 / order."
        )
    further = Bounds.exact(alpha) - 1.0
    moved = alpha / (2.0 * sigma * sigma * (alpha - further * exp(2.0 * b)))
    return float((moved - (alpha * b + shrunk / 2.0) / further).upper)


def release_divergence(
    shown: DataDependentRenyi,
    *,
    order: float,
    smoothness: float,
    noise_multiplier: float,
    failure: float,
    randomness: Source,
) -> ReleasedRenyi:
    """Return a private upper end of Σ β over the queries that `GNMax` has answered.

    Two numbers are drawn: Σ β with noise S σ', and log S, whose sensitivity is b, with noise b σ'. From both follows an
    upper end that fails with the probability asked for. The answers and both numbers may be published together.

    Guarantees: the noise is that of `Gaussian.release`; what comes out is rounded up to a public grid.

    Args:
        shown: what `GNMax.data_dependent` returns, for one query or more.
        order: α > 1, chosen without a look at the votes.
        smoothness: b > 0 with α (1 − e^{−2b}) < 1; about 0.2/α.
        noise_multiplier: σ' > 0 of both numbers.
        failure: in (0, 1).
        randomness: a `SystemSource` for real releases.

    Raises:
        InvalidParameter: if a parameter breaks its rule or the queries differ in their number of votes.
        UnsupportedProcess: for votes that `GNMax` does not take, and if the conditions of the walk fail.

    >>> from mechanisms import KeyedSource
    >>> from mechanisms.pate import GNMax
    >>> shown = GNMax(noise_multiplier=40.0).data_dependent([[250, 0]] * 1000)
    >>> found = release_divergence(
    ...     shown, order=20.0, smoothness=0.01, noise_multiplier=5.0, failure=0.01, randomness=KeyedSource(0)
    ... )
    >>> found.divergence < 0.6 * 1000 * 20.0 / 40.0**2
    True
    """
    risk = validate.probability("release_divergence", "failure", failure)
    if not 0.0 < risk < 1.0:
        raise InvalidParameter(f"release_divergence: failure must lie strictly between 0 and 1, got {risk}.")
    cost = release_cost(order=order, smoothness=smoothness, noise_multiplier=noise_multiplier)
    log_cost = (Bounds.exact(order) / (2.0 * Bounds.exact(noise_multiplier) * noise_multiplier)).upper
    walk, counts, votes = _walk(shown, order)
    total = float(np.sum(walk.cost(votes.log_errors(counts))))
    each, times = np.unique(counts, axis=0, return_counts=True)
    local = times @ np.array([walk.local_sensitivities(row) for row in each])
    scale = max(smoothed(local, smoothness), LEAST)
    noise = Gaussian(noise_multiplier=noise_multiplier)
    first, second = (noise.release(0.0, sensitivity=1.0, randomness=randomness) for _ in range(2))
    reach = noise_multiplier * -float(special.ndtri(risk / 2.0))
    grid = DIGITS * walk.worst
    ends = total + scale * first, math.exp(min(math.log(scale) + smoothness * (second + reach), 700.0)) * reach
    return ReleasedRenyi(
        order=walk.order,
        answers=max(sum(math.ceil(end / grid + 1.0) for end in ends) * grid, 0.0),
        cost=float((Bounds.exact(cost) + log_cost).upper),
        failure=risk,
    )


def _walk(shown: DataDependentRenyi, order: float) -> tuple[Walk, Array, GaussianVotes]:
    if not isinstance(shown, DataDependentRenyi) or not isinstance(shown.kind, GaussianVotes):
        raise UnsupportedProcess("release_divergence: only what GNMax shows has a smooth sensitivity here. Use GNMax.")
    if shown.kind.noise_multiplier == 0.0:
        raise UnsupportedProcess("release_divergence: without noise votes show everything. Use noise above 0.")
    counts = np.array(shown.votes, dtype=np.float64)
    if not len(counts) or len(set(counts.sum(axis=1).tolist())) != 1:
        raise InvalidParameter(
            "release_divergence: shown must be of one query or more, and of the same number of teachers for all."
        )
    walk = Walk(sigma=shown.kind.noise_multiplier, classes=counts.shape[1], order=float(order))
    walk.check()
    return walk, counts, shown.kind


def smoothed(local: Array, smoothness: float) -> float:
    """Return max_d e^{−b d} LS_d, rounded up by a billionth.

    >>> smoothed(np.array([0.0, 1.0]), 0.5) < 0.6066
    True
    """
    return float(np.max(local * np.exp(-smoothness * np.arange(len(local))))) * (1.0 + TOLERANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Local sensitivities of β at every distance from given votes                             [PSMRTE18, Alg 3–5].

    Args:
        sigma: σ > 0, in votes.
        classes: m >= 2.
        order: α > 1.

    >>> Walk(sigma=0.5, classes=3, order=1.5).local_sensitivities(np.array([10, 0, 0])).round(4).tolist()[:5]
    [0.0, 0.0, 0.0059, 5.9998, 5.9998]
    """

    sigma: float
    classes: int
    order: float

    @property
    def worst(self) -> float:
        """What the worst votes show: α/σ²."""
        return float((Bounds.exact(self.order) / self.sigma / self.sigma).upper)

    def cost(self, log_q: Array) -> Array:
        """Return β(q): the bound of the theorem below q₀, that of all votes from there on."""
        known = gaussian_divergences(np.minimum(log_q, 0.0), self.sigma, self.order)
        return np.where(log_q >= self.start, self.worst, known)

    @property
    def start(self) -> float:
        """log q₀."""
        return _start(self.sigma, self.order)

    def moved(self, log_q: Array, votes: float) -> Array:
        """Return log B_U(q) for 1 vote, log B_L(q) for −1."""
        place = special.ndtri_exp(np.minimum(log_q - math.log(self.classes - 1), 0.0))
        found = math.log(self.classes - 1) + special.log_ndtr(place + votes * math.sqrt(2.0) / self.sigma)
        return np.asarray(np.minimum(found, 0.0))

    @property
    def plateau(self) -> float:
        """log B_L(q₀): from there to q₀ a vote changes most."""
        return float(self.moved(np.array([self.start]), -1.0)[0])

    def local(self, log_q: Array) -> Array:
        """Bound how much one vote changes β at q: as at B_L(q₀) for q between that and q₀."""
        at = np.where((log_q >= self.plateau) & (log_q <= self.start), self.plateau, log_q)
        above = self.moved(at, 1.0)
        above = above + NUDGE * np.abs(above)  # B_U(B_L(q₀)) is q₀, where β may jump, and must not fall short of it
        low, here, high = (self.cost(one) for one in (self.moved(at, -1.0), at, above))
        return np.asarray(np.maximum(high - here, here - low))

    def local_sensitivities(self, counts: Array) -> Array:
        """Return the bounds LS_0, …, LS_n for n teachers: from the votes' own q the shortest way to q₀, then the most.

        Args:
            counts: votes for every class, shape (classes,), whole numbers.
        """
        votes = np.sort(np.asarray(counts, dtype=np.float64))[::-1].copy()
        kind = GaussianVotes(noise_multiplier=self.sigma)
        agree = bool(kind.log_errors(votes[None, :])[0] > self.start)
        path = _agreeing(votes) if agree else _disagreeing(votes)
        log_q = kind.log_errors(path)
        arrived = log_q <= self.start if agree else log_q >= self.plateau
        found = np.full(int(votes.sum()) + 1, self.local(np.array([self.plateau]))[0])
        steps = int(np.argmax(arrived)) + 1 if arrived.any() else len(path)
        found[:steps] = self.local(log_q[:steps])
        return found

    def check(self) -> None:
        """Refuse where β(q) falls somewhere below q₀, or β(B_U(q)) − β(q) somewhere below B_L(q₀), on a grid.

        Raises:
            UnsupportedProcess: then.
        """
        if self.conditions() != (True, True):
            raise UnsupportedProcess(
                f"release_divergence: no smooth sensitivity is known for sigma={self.sigma}, order={self.order} and "
                f"{self.classes} classes, as the conditions of its theorem fail. Use another order, or more noise."
            )

    def conditions(self) -> tuple[bool, bool]:
        """Tell whether the first one holds, and then the second one too."""
        return _conditions(self)

    def _on_a_grid(self) -> tuple[bool, bool]:
        share = math.log(self.classes - 1)
        top = float(special.ndtri_exp(min(self.start - share, 0.0)))
        places = top + math.sqrt(2.0) / self.sigma * np.linspace(-max(LOWEST, LOWEST * self.sigma), 0.0, POINTS)
        log_q = np.minimum(share + special.log_ndtr(places), self.start - NUDGE * abs(self.start))
        costs = self.cost(log_q)
        first = bool(np.all(np.diff(costs) >= -TOLERANCE * self.worst))
        below = self.moved(log_q, -1.0)
        rises = self.cost(self.moved(below, 1.0) - NUDGE * abs(self.start)) - self.cost(below)
        return first, first and bool(np.all(np.diff(rises) >= -TOLERANCE * self.worst))


def _disagreeing(votes: Array) -> Array:
    """Return the histograms on the way to two classes of equal counts, the larger counts first."""
    steps = np.arange(int(votes[0] - votes[1]) // 2 + 1)
    path = np.tile(votes, (len(steps), 1))
    path[:, 0] -= steps
    path[:, 1] += steps
    return path


def _agreeing(votes: Array) -> Array:
    """Return the histograms on the way to one class that has all votes, each taken from the second one."""
    path, now = [votes], votes
    while now[1] > 0:
        now = now.copy()
        now[0] += 1.0
        now[1] -= 1.0
        now[1:] = np.sort(now[1:])[::-1]
        path.append(now)
    return np.array(path)


@lru_cache(maxsize=64)
def _conditions(walk: Walk) -> tuple[bool, bool]:
    return walk._on_a_grid()


@lru_cache(maxsize=256)
def _start(sigma: float, order: float) -> float:
    """Return log q₀: below it the theorem holds, and gives less than α/σ²."""
    worst = float((Bounds.exact(order) / sigma / sigma).upper)

    def gains(log_q: float) -> bool:
        return bool(gaussian_divergences(np.array([log_q]), sigma, order)[0] < worst)

    high = -max(x * x for x in (1.0 + 1.0 / sigma, (order - 0.99) / sigma))
    if gains(high):
        return high
    low = 2.0 * high
    while not gains(low):
        if low < FARTHEST:
            raise UnsupportedProcess(
                f"release_divergence: no agreement of teachers gains anything at order={order} and sigma={sigma}. "
                "Use a smaller order."
            )
        low *= 1.5
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gains(middle) else (low, middle)
    return high
