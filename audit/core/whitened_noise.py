"""Tests of correlated noise that was made white: how much of it there is, and whether it is of the kind described.

Whitened projections have the law of `audit.attacks.whitened`: p_i ~ N(b_i a_i, σ² I), independent for m canaries at
right angles, in T steps. So, exactly,

    V = Σ_out ‖p_i‖² + Σ_in ‖p_i − a_i‖²  ~  σ² χ² of m T degrees,     ‖p_i − a_i‖² = ‖p_i‖² − 2 ⟨a_i, p_i⟩ + ‖a_i‖²

which bounds σ as in `audit.core.noise_bounds`, also with anything added to a step before its noise is drawn [And55].
Canaries at other angles share noise: their squares scatter more than m T independent ones, and bound nothing here. Half
of the error is for the squares, half for five tests of the law itself that ask nothing of σ, each for a tenth, of the
noise of the n canaries that are out, with V_out = Σ_out ‖p_i‖²:

| test         | statistic, and its law                                                                      |
|--------------|---------------------------------------------------------------------------------------------|
| contribution | (Σ_in ⟨a, p⟩ / E − 1) √E / s, E = Σ_in ‖a‖², s² = V_out / n T: Student's t, nT degrees; above |
| signature    | A = Σ_out ⟨a, p⟩²/‖a‖² over its k directions ÷ the mean of the rest, V_out − A: F; both tails |
| prefix       | the same with ⟨u, p⟩ = Σ_t w_t, all noise up to the end: F; both tails                      |
| halfway      | the same up to the largest power of two of steps, where a tree's noise is least             |
| lag          | Σ_out Σ_t p_t p_{t−1} / V_out; both tails, by Chernoff's bound                              |

In a direction u, ⟨u, p⟩²/‖u‖² and the rest of ‖p‖² are independent; ‖u‖² is the described variance of the prefix. For
the lag, Σ_t p_t p_{t−1} = ⟨p, J p⟩ with the eigenvalues α_j = cos(πj/(T+1)) of J, j = 1, …, T, so that with
X = Σ_out ⟨p, (J − q) p⟩

    P(r >= q) = P(X >= 0) <= min over λ of Π_j (1 − 2 λ (α_j − q))^{−n/2}

and the same for −r, as the eigenvalues lie symmetrically. What each of them is for:

| what ran                                       | squares        | what else refutes it                 |
|------------------------------------------------|----------------|--------------------------------------|
| less noise of the kind described               | refuted        | nothing                              |
| contributions above C, more turns than told    | see nothing    | contribution                         |
| noise drawn anew in every step                 | see nothing    | lag, prefix: it does not cancel      |
| a tree that begins anew in every epoch         | see nothing    | prefix or halfway                    |
| the same noise in every epoch                  | mostly nothing | prefix, halfway: it adds up          |
| less noise than described where turns are      | mostly nothing | signature: it tells of the record    |
| more noise of the kind described               | see nothing    | nothing, and nobody loses by it      |
| a matrix of few bands that begins anew         | see nothing    | mostly nothing: few rows are changed |

[And55] see `audit.core.noise_bounds`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.core.correlated import CorrelatedRun
from audit.core.counts import check_enough
from audit.core.noise_bounds import HALVINGS, ROUND_OFF, STANDARD_ERRORS, bound_from_squares
from audit.core.whitened_scores import Whitened
from audit.scores import LabelledScores
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess

Array = NDArray[np.float64]
OWNER = "accountant_inversion"
SIZE_SHARE = 0.5  # of the error, for the squares
TESTS = 5
SIGNAL = 0.01  # level of "there is no signal at all"; no bound's validity rests on it
TOLERANCE = 1e-6  # of C: contributions are cut and added up in float32


def noise_bound(data: LabelledScores, run: CorrelatedRun, *, confidence: float) -> float:
    """Return the least noise multiplier that is refuted as being at least that large, inf if none is.

    Squares count only of canaries at right angles, where these are seen to take part, and in no less than they should,
    up to three standard errors: noise without canaries shows nothing.

    Args:
        data: scores of `audit.attacks.whitened`, and the coins.
        run: the description; its σ is not looked at.
        confidence: in (0, 1), of this and `law_refuted` together.

    Guarantees: at least the true σ with probability 1 − half the error, for any numbers of canaries and steps.

    Raises:
        InvalidParameter: if fewer than one canary was in or fewer than two were out, or steps are missing.
        UnsupportedProcess: if the scores are not whitened.
    """
    seen, squares = _seen(data, run)
    if seen.lagged is None or not _takes_part(data, seen, squares, run.steps):
        return np.inf
    inside = data.membership
    residual = np.where(inside, squares - 2 * seen.matched + seen.energies, squares)
    degrees = len(inside) * run.steps
    level = SIZE_SHARE * _error(confidence)
    return float(bound_from_squares(max(0.0, float(np.sum(residual))), degrees=degrees, level=level))


def law_refuted(data: LabelledScores, run: CorrelatedRun, *, confidence: float) -> bool:
    """Tell whether what was seen is not of the kind described, whatever its σ; errors are those of `noise_bound`.

    Guarantees: true with probability at most half the error, if noise of the kind described was added, in any size.
    """
    found = p_values(data, run)
    return bool(found) and min(found.values()) <= (1 - SIZE_SHARE) * _error(confidence) / TESTS


def p_values(data: LabelledScores, run: CorrelatedRun) -> dict[str, float]:
    """Return those of the five tests, by name; none where canaries are not at right angles, or no noise is described.

    What is tested is the noise where canaries are, be they seen in it or not. Errors are those of `noise_bound`.
    """
    seen, squares = _seen(data, run)
    if seen.lagged is None or run.noise_multiplier == 0:
        return {}
    out, steps = ~data.membership, run.steps
    total, canaries = float(np.sum(squares[out])), int(np.count_nonzero(out))
    if total == 0:  # which the squares refute, if any noise is described
        return {}
    turned = out & (seen.energies > 0)
    along = {
        "signature": seen.matched[turned] ** 2 / seen.energies[turned],
        "prefix": data.scores.measured[out] ** 2 / run.prefix_variance(steps),
        "halfway": seen.halfway[out] ** 2 / run.prefix_variance(1 << steps.bit_length() - 1),
    }
    excess, error = _contribution(data, seen, total / (canaries * steps))
    above = float(special.stdtr(canaries * steps, (TOLERANCE - excess) / error)) if error < np.inf else 1.0
    return {
        "contribution": min(1.0, above + ROUND_OFF),
        **{name: _f_both(float(np.sum(a)), len(a), total, canaries * steps) for name, a in along.items()},
        "lag": lag_p_value(float(np.sum(seen.lagged[out])), total, canaries=canaries, steps=steps),
    }


def lag_p_value(lagged: float, total: float, *, canaries: int, steps: int) -> float:
    """Return an upper bound of the probability of a |Σ p_t p_{t−1}| ÷ Σ p² at least as large, of white noise.

    Args:
        lagged: Σ p_t p_{t−1} over all canaries.
        total: Σ p², > 0 or the bound is 1.
        canaries: n >= 1.
        steps: T >= 1.

    >>> lag_p_value(0.0, 100.0, canaries=10, steps=10), lag_p_value(50.0, 100.0, canaries=10, steps=10) < 1e-4
    (1.0, True)
    """
    ratio = abs(lagged) / total if total > 0 else 0.0
    eigenvalues = np.cos(np.pi * np.arange(1, steps + 1) / (steps + 1))
    moved = eigenvalues - ratio
    if moved[0] <= 0:  # no larger ratio is possible, up to rounding
        return ROUND_OFF if steps > 1 else 1.0
    low, high = 0.0, 0.5 / float(moved[0])
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        rising = float(np.sum(moved / (1 - 2 * middle * moved))) >= 0
        low, high = (low, middle) if rising else (middle, high)
    exponent = -0.5 * canaries * float(np.sum(np.log1p(-2 * low * moved)))
    return float(min(1.0, 2 * np.exp(min(exponent, 0.0)) + ROUND_OFF))


def _seen(data: LabelledScores, run: CorrelatedRun) -> tuple[Whitened, Array]:
    """Return what was seen of all steps, and Σ p² of every canary."""
    scores, included = data.scores, int(np.count_nonzero(data.membership))
    if scores.whitened is None or scores.squares is None:
        raise UnsupportedProcess(
            f"{OWNER}: scores must be whitened where the claim's noise is correlated over the steps, and are not.\n"
            "Use attack='whitened'."
        )
    if scores.whitened.steps != run.steps:
        raise InvalidParameter(
            f"{OWNER}: scores must be of the {run.steps} steps described, got those of {scores.whitened.steps}."
        )
    check_enough(OWNER, included, len(data.membership) - included, least=(1, 2))
    return scores.whitened, scores.squares


def _takes_part(data: LabelledScores, seen: Whitened, squares: Array, steps: int) -> bool:
    """Tell whether a signal is seen, less than three standard errors short of what is described."""
    outside = squares[~data.membership]
    excess, error = _contribution(data, seen, float(np.sum(outside)) / (len(outside) * steps))
    if error == np.inf:
        return False
    seen_at_all = 1 + excess > -special.ndtri(SIGNAL) * error
    return bool(seen_at_all and excess >= -STANDARD_ERRORS * error - TOLERANCE)


def _contribution(data: LabelledScores, seen: Whitened, variance: float) -> tuple[float, float]:
    """Return what canaries contribute beyond C, in units of it, and the standard error, inf if none had a turn."""
    inside = data.membership
    energy = float(np.sum(seen.energies[inside]))
    if energy == 0:
        return 0.0, np.inf
    return float(np.sum(seen.matched[inside])) / energy - 1, float(np.sqrt(variance / energy))


def _f_both(along: float, directions: int, total: float, degrees: int) -> float:
    """Return the two-sided p-value of Σ along directions ÷ the rest, each over its degrees."""
    rest, left = degrees - directions, max(0.0, total - along)
    if not rest or not directions or left == 0:
        return 1.0
    ratio = along / directions / (left / rest)
    tails = special.fdtr(directions, rest, ratio), special.fdtrc(directions, rest, ratio)
    return float(min(1.0, 2 * min(tails) + ROUND_OFF))


def _error(confidence: float) -> float:
    return min(1 - confidence, 0.5)
