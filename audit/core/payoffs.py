"""Payoffs of one look at a score and its fair coin, which no private computation lets grow on average.

Split the line of scores into cells 0, …, k − 1 before the look; pay a_i if the score falls into cell i and its canary
was in, b_i if it was out, a rising and b falling along the cells. For P and Q, the laws of in- and out-scores,

    E_P[a] + E_Q[b]  =  a_0 + b_0 + Σ_j (Δa_j P[cell >= j] − |Δb_j| Q[cell >= j])
                    <=  a_0 + b_0 + Σ_j Δa_j δ(ln(|Δb_j| / Δa_j)),       δ(ε) = sup_A P[A] − e^ε Q[A],            (1)

so half of (1), by which payoffs are divided, is the most that they can pay on average where δ(·) bounds the privacy
profile, whatever the laws of the scores. δ(ε) of μ-GDP is Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) [DRS22].

Which payoffs grow fastest is a question of power alone. Against N(μ₁/2, 1) and N(−μ₁/2, 1) they are the ratios to the
nearest pair that is μ-GDP, in relative entropy [GHK24]. Every such pair is made from N(±μ/2, 1) [DRS22, B53]; let
cell i take the interval between x_i and x_{i+1}. By the log-concavity of interval masses the relative entropy is convex
in x, with a tridiagonal Hessian, and a few of Newton's steps find the minimum.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[GHK24] P. Grünwald, R. de Heide, W. Koolen. Safe Testing. JRSS B 86 (2024). arXiv:1906.07801.
[B53] D. Blackwell. Equivalent Comparisons of Experiments. Annals of Mathematical Statistics 24 (1953).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
CELLS = 32
WIDEST = 3.0  # cells end at so many standard deviations, and
CERTAIN = 10.0  # at such a log-likelihood ratio: beyond, all scores are equally convincing
DOUBT = 1e-8  # share of the alternative spread evenly, lest a cell weigh nothing or one wrong guess cost all
NEWTON_STEPS = 30
CONVERGED = 1e-10
MARGIN = 1e-9  # relative, taken from every payoff: (1) in floats errs by less than 1e-11, sums of logarithms by 1e-15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payoffs:
    """Logarithms of payoffs, for several alternatives at once.

    Args:
        limit: shape (…,): cells are spread evenly over ± this distance from the middle, in gaps between the worlds.
        included: shape (…, CELLS): log payoff of each cell if the canary was in; never falls along the cells.
        excluded: the same if it was out; never rises.
    """

    limit: Array
    included: Array
    excluded: Array

    def cells(self, position: Array) -> NDArray[np.intp]:
        """Return the cell of every position (in gaps from the middle), which broadcasts with `limit`."""
        return cells_within(self.limit, position)


def cells_within(limit: Array, position: Array) -> NDArray[np.intp]:
    """Return the cell of every position, where the inner cells are spread evenly over ± limit."""
    inner = (CELLS - 2) / 2
    place = np.floor(np.clip(position / limit, -2.0, 2.0) * inner + inner) + 1
    cells: NDArray[np.intp] = np.clip(place, 0, CELLS - 1).astype(np.intp)
    return cells


def against_gaussian(mu: Array, alternative: Array) -> Payoffs:
    """Return payoffs that average at most 1 under μ-GDP and grow fast under N(±alternative/2, 1).

    Args:
        mu: shape (n,), > 0 and at most 10: what is claimed.
        alternative: shape (n,), > mu: what is feared.

    Guarantees: ½ E_P[exp(included)] + ½ E_Q[exp(excluded)] <= 1 for any scores of any μ-GDP computation.

    >>> payoffs = against_gaussian(np.array([1.0]), np.array([2.0]))
    >>> np.round(np.exp(payoffs.included[0, [0, 15, -1]]), 3)
    array([0.035, 0.832, 1.338])
    """
    included, excluded = _ratios(mu, alternative)
    payoffs = Payoffs(limit=_reach(alternative) / alternative, included=included, excluded=excluded)
    return certified(payoffs, lambda epsilon: gaussian_delta(epsilon, mu[:, None]))


def certified(payoffs: Payoffs, profile: Callable[[Array], Array]) -> Payoffs:
    """Return the payoffs divided by the most that they pay on average, half of (1).

    Args:
        payoffs: of any size, monotone along the cells.
        profile: upper bounds of δ at every ε of an array, negative ones too; ±inf must give 1 − e^ε and 0.
    """
    included, excluded = np.exp(payoffs.included), np.exp(payoffs.excluded)
    gains, losses = np.diff(included, axis=-1), -np.diff(excluded, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        epsilon = np.where(gains > 0, np.log(losses) - np.log(gains), np.inf)
        paid = np.where(gains > 0, gains * profile(epsilon), 0.0)
    worst = 0.5 * (included[..., 0] + excluded[..., 0] + paid.sum(axis=-1)) * (1 + MARGIN)
    scale = np.log(worst)[..., None]
    return Payoffs(limit=payoffs.limit, included=payoffs.included - scale, excluded=payoffs.excluded - scale)


def gaussian_delta(epsilon: Array, mu: Array) -> Array:
    """Return δ(ε) of μ-GDP, ε of either sign, −inf and inf included.

    >>> round(float(gaussian_delta(np.array(1.0), np.array(0.268051))), 8)
    1e-05
    """
    shifted = epsilon / mu
    growth = np.where(epsilon < np.inf, epsilon, 0.0)
    delta: Array = special.ndtr(mu / 2 - shifted) - np.exp(growth + special.log_ndtr(-mu / 2 - shifted))
    return np.asarray(np.where(epsilon < np.inf, delta, 0.0))


def _reach(alternative: Array) -> Array:
    reach: Array = np.minimum(WIDEST, CERTAIN / alternative)
    return reach


def _ratios(mu: Array, alternative: Array) -> tuple[Array, Array]:
    """Return the logarithms of what cells weigh under the alternative over what they weigh under the nearest pair."""
    edges = _reach(alternative)[:, None] * np.linspace(-1.0, 1.0, CELLS - 1)
    masses = np.exp(_log_masses(edges, alternative[:, None] / 2))  # those of the out-scores are the same, reversed
    masses = (1 - DOUBT) * masses + DOUBT / CELLS
    middle, shift = mu[:, None] / 2, (alternative - mu)[:, None] / 2
    points = edges - np.sign(edges) * np.minimum(0.5 * np.abs(edges), shift)
    for _ in range(NEWTON_STEPS):
        step = _newton_step(points, middle, masses)
        points = points + _kept_in_order(points, step)[:, None] * step
        if np.max(np.abs(step)) < CONVERGED:
            break
    included = np.log(masses) - _log_masses(points, middle)
    excluded = np.log(masses[:, ::-1]) - _log_masses(points, -middle)
    rising = np.maximum.accumulate(0.5 * (included + excluded[:, ::-1]), axis=1)  # the two are alike but for round-off
    return rising, rising[:, ::-1]


def _newton_step(points: Array, middle: Array, masses: Array) -> Array:
    """Return Newton's step for −Σ_i masses_i log Φ-mass of interval i, summed over both worlds."""
    gradient, diagonal = np.zeros_like(points), np.zeros_like(points)
    beside = np.zeros_like(points[:, 1:])
    for centre, weights in ((middle, masses), (-middle, masses[:, ::-1])):
        distance, log_masses = points - centre, _log_masses(points, centre)
        log_density = -0.5 * distance**2 - 0.5 * np.log(2 * np.pi)
        left, right = np.exp(log_density - log_masses[:, :-1]), np.exp(log_density - log_masses[:, 1:])
        gradient += weights[:, 1:] * right - weights[:, :-1] * left
        diagonal += weights[:, :-1] * left * (left + distance) + weights[:, 1:] * right * (right - distance)
        beside -= weights[:, 1:-1] * right[:, :-1] * left[:, 1:]
    return _tridiagonal_solution(diagonal, beside, -gradient)


def _tridiagonal_solution(diagonal: Array, beside: Array, right: Array) -> Array:
    """Return the solutions of symmetric tridiagonal systems, one a row, by elimination."""
    count = diagonal.shape[1]
    pivot, solution = diagonal.copy(), right.copy()
    for j in range(1, count):
        factor = beside[:, j - 1] / pivot[:, j - 1]
        pivot[:, j] -= factor * beside[:, j - 1]
        solution[:, j] -= factor * solution[:, j - 1]
    solution[:, -1] /= pivot[:, -1]
    for j in range(count - 2, -1, -1):
        solution[:, j] = (solution[:, j] - beside[:, j] * solution[:, j + 1]) / pivot[:, j]
    return solution


def _kept_in_order(points: Array, step: Array) -> Array:
    """Return the largest part of each step, at most 1, that shrinks no interval by more than 70 %."""
    change = np.diff(step, axis=1)
    part = np.where(change < 0, 0.7 * np.diff(points, axis=1) / np.maximum(-change, 1e-300), 1.0)
    least: Array = np.min(part, axis=1, initial=1.0)
    return least


def _log_masses(points: Array, centre: Array) -> Array:
    """Return the logarithms of the masses of N(centre, 1) between −inf, the points and inf; upper tails mirrored."""
    infinite = np.full((len(points), 1), np.inf)
    ends = np.concatenate([-infinite, points - centre, infinite], axis=1)
    low, high = ends[:, :-1], ends[:, 1:]
    mirrored = low > 0
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    log_high = special.log_ndtr(high)
    masses: Array = log_high + np.log(-np.expm1(special.log_ndtr(low) - log_high))
    return masses
