"""A private upper end for what the very votes let show: Gaussian noise in proportion to a smooth sensitivity.

What GNMax shows of given votes, β(q), hangs on them through q alone (`mechanisms.core.votes`). One changed vote takes q
no higher than B_U(q) and no lower than B_L(q): with q = (m − 1) Φ(z) for m classes, to (m − 1) Φ(z ± √2/σ). The local
sensitivity at distance d, the most that one vote changes β by after d others have changed, is found by the greedy walk
of [PSMRTE18, Alg 3–5] towards the q₀ where β meets the α/σ² of all votes. With its own smoothness b,

    S = max_d e^{−b d} LS_d,    e^{−b} S(D') <= S(D) <= e^b S(D')  for neighbours                            [NRS07].

The walk is that of `mechanisms.core.vote_walk`, with conditions that are checked on a grid, as in the paper, and not
proved: what comes out is `validated`, not `proved`.

[PSMRTE18] see `mechanisms.pate`.
[NRS07] K. Nissim, S. Raskhodnikova, A. Smith. Smooth Sensitivity and Sampling in Private Data Analysis. STOC 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import scipy

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, log1p
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.randomness import Source
from mechanisms.core.vote_walk import TOLERANCE, Walk
from mechanisms.core.votes import DataDependentRenyi, GaussianVotes
from mechanisms.gaussian import Gaussian

DIGITS = 2.0**-30
LEAST = 1e-300


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

    Guarantees: both numbers are those of `Gaussian.release`, on public grids; what comes out is made of them alone.

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
    grid = DIGITS * walk.worst
    unit = math.ldexp(1.0, max(math.frexp(grid)[1] - 1, -1074))  # of public parameters, unlike the scale
    first = noise.release(total, sensitivity=scale, randomness=randomness, granularity=unit)
    second = noise.release(math.log(scale), sensitivity=smoothness, randomness=randomness)
    reach = noise_multiplier * -float(scipy.special.ndtri(risk / 2.0))
    ends = first, math.exp(min(second + smoothness * reach, 700.0)) * reach
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
