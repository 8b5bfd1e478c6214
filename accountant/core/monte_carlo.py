"""Monte Carlo brackets: bounds that hold with a stated confidence, to check certified ones against.

[MP09] A. Maurer, M. Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT 2009. arXiv:0907.3740.
[ZDW22] see `mechanisms.core.pair`.
[CGHKKLMSZ24] see `mechanisms.core.balls_in_bins`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mechanisms.core import validate
from mechanisms.core.bounds import Array
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency, Allocated, Process, leaves
from mechanisms.core.sampling import BallsInBins

AT_ONCE = 2**20  # normals drawn at a time
MOST_NORMALS = 10**12  # hours of work
ROUNDING = 1e-11  # above the rounding of means, variances and their bounds, whatever is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarloBounds:
    """A bracket of δ that holds with probability `confidence` over the draws: no `Bounds`, which hold for certain.

    Args:
        lower: lower end.
        upper: upper end.
        confidence: the probability, in (0, 1), with which lower <= δ <= upper.
        samples: how many were drawn in each direction.
    """

    lower: float
    upper: float
    confidence: float
    samples: int
    guarantee: Literal["frequentist"] = "frequentist"

    def __contains__(self, delta: float) -> bool:
        """Tell whether δ lies in the bracket."""
        return self.lower <= delta <= self.upper


def balls_in_bins_estimate(
    process: Process,
    *,
    epsilon: float,
    adjacency: str,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> MonteCarloBounds:
    """Return a bracket of δ(epsilon) of Gaussian steps over which records are spread by balls in bins.

    δ = E_P (1 − e^{ε − L})₊, of which L is drawn: L = log((r_1 + … + r_T)/T) under P for remove, its opposite under Q
    for add, summed over the epochs [CGHKKLMSZ24]. The terms lie in [0, 1], so that the mean of n of them with sample
    variance V is, with probability 1 − β, below the expectation by at most
    (2 V log(2/β)/n)^{1/2} + 7 log(2/β)/(3 (n − 1))      [MP09]; and 1 minus the terms gives the same above. Four such
    statements, two for each direction, share the error. The bracket is never narrower than some 5 log(8/(1 − c))/n, c
    the confidence, so that a δ far below that is bounded by 0 below. The draws count as exact, independent normals, and
    n is fixed before: asking again until a bracket pleases voids the confidence.

    Args:
        process: `Allocated(Repeat(Gaussian(...), times), BallsInBins())`, or that repeated.
        epsilon: ε >= 0.
        adjacency: "add_remove" or "zero_out".
        samples: n >= 2 in each direction; each takes T normals an epoch.
        confidence: in (0, 1).
        rng: the generator of the draws: a simulation, nothing private rests on it.

    Raises:
        UnsupportedProcess: if the process is another one.
        InvalidParameter: if a number breaks its rule.

    >>> from mechanisms import Gaussian, Repeat
    >>> run = Allocated(Repeat(Gaussian(noise_multiplier=1.0), 2), BallsInBins())
    >>> rng = np.random.default_rng(0)
    >>> found = balls_in_bins_estimate(
    ...     run, epsilon=1.0, adjacency="zero_out", samples=20_000, confidence=0.99, rng=rng
    ... )
    >>> 0.0592065 in found
    True
    """
    level = validate.non_negative("Monte Carlo", "epsilon", epsilon)
    number = validate.count("Monte Carlo", "samples", samples, least=2)
    sure = validate.probability("Monte Carlo", "confidence", confidence)
    if not 0 < sure < 1:
        raise InvalidParameter(f"Monte Carlo: confidence must lie inside (0, 1), got {sure}.")
    shift, times, epochs = _gaussian_run(process, Adjacency.parse(adjacency))
    if number * times * epochs > MOST_NORMALS:
        raise InvalidParameter(
            f"Monte Carlo: at most {MOST_NORMALS:.0e} normals are drawn in each direction, samples × times × epochs, "
            f"got {number * times * epochs:.1e}. Use fewer samples, or epsilon_bounds, which certifies."
        )
    rounding = _rounding(shift, times, epochs)
    ends = [
        _mean_bounds(_terms(level, shift, times, epochs, number, with_record, rng), (1.0 - sure) / 4.0, rounding)
        for with_record in (True, False)
    ]
    return MonteCarloBounds(
        lower=max(low for low, _ in ends), upper=max(high for _, high in ends), confidence=sure, samples=number
    )


def delta_from_losses(losses: ArrayLike, *, epsilon: float, accuracy: float, confidence: float) -> MonteCarloBounds:
    """Return a bracket of δ(epsilon) in one direction from draws of the privacy loss: of a sampler, not of a proof.

    δ = E_P (1 − e^{ε − L})₊ [ZDW22], L = log(dP/dQ)(X) with X drawn from P, the law with the record, for remove; for
    add, L is log(dQ/dP)(X) with X drawn from Q. The mean of n terms is bounded as in `balls_in_bins_estimate`, by two
    statements that share the error. For the larger one of two directions give each half of the error and take the
    larger ends. n is fixed before: drawing on until a bracket pleases voids the confidence.

    Args:
        losses: independent draws of L, inf where Q never shows what was drawn; shape (n,), or (n, steps) for runs of
            steps, whose losses are added.
        epsilon: ε >= 0.
        accuracy: >= 0, the largest error of any L, or of any sum of them: δ changes by no more.
        confidence: in (0, 1).

    Raises:
        InvalidParameter: if a number breaks its rule, or a loss is NaN or −inf, which P never shows.

    >>> rng = np.random.default_rng(0)
    >>> losses = rng.normal(0.5, 1.0, size=100_000)  # of N(1, 1) against N(0, 1)
    >>> 0.126936737506644 in delta_from_losses(losses, epsilon=1.0, accuracy=1e-12, confidence=0.99)
    True
    """
    level = validate.non_negative("Monte Carlo", "epsilon", epsilon)
    doubt = validate.non_negative("Monte Carlo", "accuracy", accuracy)
    sure = validate.probability("Monte Carlo", "confidence", confidence)
    if not 0 < sure < 1:
        raise InvalidParameter(f"Monte Carlo: confidence must lie inside (0, 1), got {sure}.")
    drawn = np.asarray(losses)
    if drawn.dtype.kind not in "iuf" or drawn.ndim not in (1, 2) or len(drawn) < 2 or not np.all(drawn > -np.inf):
        raise InvalidParameter(
            "Monte Carlo: losses must be draws above -inf, of shape (n,) or (n, steps) with n >= 2, got shape "
            f"{drawn.shape}. A loss of -inf or NaN has probability 0 under the law that is drawn from."
        )
    steps = drawn.reshape(len(drawn), -1).astype(np.float64)
    with np.errstate(over="ignore"):
        runs = steps.sum(axis=1)
        added = 2.0 * UNIT_ROUNDOFF * steps.shape[1] * np.abs(steps).sum(axis=1)  # what rounding does to each sum
    terms = -np.expm1(np.minimum(level - runs, 0.0))
    rounding = ROUNDING + doubt + float(np.mean(np.minimum(added, 1.0))) if steps.shape[1] > 1 else ROUNDING + doubt
    lower, upper = _mean_bounds(terms, (1.0 - sure) / 2.0, rounding)
    return MonteCarloBounds(lower=lower, upper=upper, confidence=sure, samples=len(runs))


def _gaussian_run(process: Process, adjacency: Adjacency) -> tuple[float, int, int]:
    """Return μ, T and the number of epochs."""
    inside = leaves(process)
    leaf, epochs = inside[0] if len(inside) == 1 else (None, 0)
    if isinstance(leaf, Allocated) and isinstance(leaf.sampling, BallsInBins):
        if adjacency is Adjacency.REPLACE_ONE:
            raise UnsupportedProcess(
                "Monte Carlo: no pair to draw from is known under replace_one. Use adjacency='zero_out'."
            )
        pair = leaf.part.part.pairs(adjacency)["remove"]
        kind = pair.mixture
        if pair.attained and isinstance(kind, NormalMixture) and kind.probability == 1.0:
            return float(0.5 * (kind.shift.lower + kind.shift.upper)), leaf.part.times, epochs
    raise UnsupportedProcess(
        "Monte Carlo: covers Allocated(Repeat(Gaussian(...), times), BallsInBins()) and its repetitions alone. "
        "Use epsilon_bounds, which certifies."
    )


def _terms(
    epsilon: float, shift: float, times: int, epochs: int, samples: int, with_record: bool, rng: np.random.Generator
) -> Array:
    """Draw (1 − e^{ε − L})₊, as many at a time as there is room for."""
    parts = []
    for start in range(0, samples, AT_ONCE):
        losses = _losses(shift, times, epochs, min(AT_ONCE, samples - start), with_record, rng)
        parts.append(-np.expm1(np.minimum(epsilon - (losses if with_record else -losses), 0.0)))
    return np.concatenate(parts)


def _losses(shift: float, times: int, epochs: int, samples: int, with_record: bool, rng: np.random.Generator) -> Array:
    """Draw log X, summed over the epochs, the record being in step 0 of each: which one does not matter to the sum.

    Ratios are summed relative to the largest so far, so that they never leave the floats.
    """
    losses, width = np.zeros(samples), max(1, AT_ONCE // samples)
    for _ in range(epochs):
        total, scale = np.zeros(samples), np.full(samples, -np.inf)
        for start in range(0, times, width):
            noise = rng.standard_normal((samples, min(width, times - start)))
            if with_record and start == 0:
                noise[:, 0] += shift
            logs = shift * noise - 0.5 * shift * shift
            largest = np.maximum(scale, np.max(logs, axis=1))
            total = total * np.exp(scale - largest) + np.sum(np.exp(logs - largest[:, None]), axis=1)
            scale = largest
        losses += scale + np.log(total / times)
    return losses


def _rounding(shift: float, times: int, epochs: int) -> float:
    """Bound what rounding does to the mean of the terms, which change by no more than L does.

    Each of a ratio's logarithm, below (μ + 40)², and of the T + 40 additions and exponentials rounds by a few u.
    """
    return ROUNDING + 16.0 * UNIT_ROUNDOFF * epochs * (times + 40.0 + (shift + 40.0) ** 2)


def _mean_bounds(terms: Array, error: float, rounding: float) -> tuple[float, float]:
    """Return lower and upper ends of the expectation, each wrong with probability `error` at most."""
    n, level = len(terms), math.log(2.0 / error)
    mean, variance = float(np.mean(terms)), float(np.var(terms, ddof=1))
    margin = math.sqrt(2.0 * variance * level / n) + 7.0 * level / (3.0 * (n - 1)) + rounding
    return max(0.0, mean - margin), min(1.0, mean + margin)
