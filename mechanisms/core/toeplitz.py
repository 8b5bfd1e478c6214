"""Lower-triangular Toeplitz matrices C as power series c(x) = c_0 + c_1 x + …: inverses, column sets, good choices.

A record takes part in at most k of T steps, any two of them at least s apart. Where it does, it moves the stream by
vectors of norm at most 1, so that it moves C times the stream by at most

    sens² = max Σ_{i, j ∈ S} <x_i, x_j> G_ij,      G = CᵀC,  G_ij = Σ_{m < T − j} c_m c_{m + j − i}  for i <= j,

over the sets S of such steps and all |x_i| <= 1. With S* = {0, s, 2s, …}, 1 the vector that is 1 on S* and 0 elsewhere:

* **Bands <= s, or k = 1**: the columns of S do not meet, so that sens² = Σ_{j ∈ S} |column j|², and the columns get
  shorter to the right: it is |C 1|², for coefficients of any sign.
* **c_0 >= c_1 >= … >= 0**: G_ij falls with j and with j − i. The a-th and b-th steps of S lie at least (b − a) s apart,
  and the b-th not before (b − 1) s, so that no sum over S exceeds that over S*: sens² = |C 1|².    [KL24]
* **Otherwise** let c'_m = max_{n >= m} |c_n|: as |G_ij| <= G'_ij, sens² <= |C' 1|², and it is at least |C 1|².

[KL24] N. Kalinin, C. Lampert. Banded Square Root Matrix Factorization for Differentially Private Model Training.
NeurIPS 2024. arXiv:2405.13763.
[FHU23] H. Fichtenberger, M. Henzinger, J. Upadhyay. Constant Matters: Fine-grained Error Bound on Differentially
Private Continual Observation. ICML 2023. arXiv:2202.11205.
[CC23] C. Choquette-Choo et al. (Amplified) Banded Matrix Factorization: A unified approach to private training.
NeurIPS 2023. arXiv:2306.08153.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, sqrt
from mechanisms.core.errors import InvalidParameter, NumericalFailure

Floats = NDArray[np.float64]


def square_root(bands: int) -> tuple[float, ...]:
    """Return the first coefficients of (1 − x)^{−1/2}: 1, 1/2, 3/8, …, c_k = c_{k−1} (1 − 1/2k).

    With as many bands as steps, B = C is the square root of the prefix sums [FHU23]: the largest squared error times
    sens² is (Σ c_k²)², and Σ_{k <= n} c_k² is Landau's constant, between 1 + log(n + 1)/π and .0663 above it.

    >>> square_root(3)
    (1.0, 0.5, 0.375)
    """
    bands = validate.count("square_root", "bands", bands, least=1)
    factors = 1.0 - 0.5 / np.arange(1, bands, dtype=np.float64)
    return (1.0, *(float(c) for c in np.cumprod(factors)))


def optimised(*, steps: int, bands: int) -> tuple[float, ...]:
    """Return coefficients that make mean squared error times Σ c_m² least, found by descent from `square_root`.

    The sum over m < bands is sens² of one participation, and of k participations, but for a factor k and shortened
    last columns, at least `bands` apart [CC23]. Whatever the descent ends at, its price is certified; only how good
    it is rests on the search.

    Raises:
        InvalidParameter: if bands exceed steps.

    >>> [round(c, 3) for c in optimised(steps=64, bands=3)]
    [1.0, 0.703, 0.579]
    """
    steps = validate.count("optimised", "steps", steps, least=1)
    bands = validate.count("optimised", "bands", bands, least=1)
    if bands > steps:
        raise InvalidParameter(f"optimised: bands must be at most steps, got {bands} and {steps}.")
    from scipy.optimize import minimize

    start = np.array(square_root(bands))
    found = minimize(lambda c: _log_cost(c, steps), start[1:], jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return (1.0, *(float(c) for c in found.x))


def _log_cost(rest: Floats, steps: int) -> tuple[float, Floats]:
    """Return log of error times Σ c_m² for c = (1, rest), and its gradient."""
    c = np.concatenate([[1.0], rest])
    error, slope = log_error(c, reciprocal(c, steps))
    square = float(c @ c)
    return error + math.log(square), (slope + 2.0 * c / square)[1:]


def log_error(c: Floats, inverse: Floats) -> tuple[float, Floats]:
    """Return log Σ_t Σ_{m <= t} b_m², b = 1/((1 − x) c), and its gradient by c.

    As db = −b² (1 − x) dc, and b (1 − x) = 1/c, the derivative of b_m by c_j is −(b/c)_{m − j}.

    Args:
        c: the coefficients.
        inverse: those of 1/c(x), as many as there are steps.
    """
    steps = len(inverse)
    b = np.cumsum(inverse)
    weighted = np.arange(steps, 0, -1) * b
    size = 2 * steps
    slope = np.fft.irfft(np.fft.rfft(b, size) * np.fft.rfft(inverse, size), size)[:steps]
    lagged = np.fft.irfft(np.fft.rfft(weighted, size) * np.conj(np.fft.rfft(slope, size)), size)[: len(c)]
    error = float(weighted @ b)
    return math.log(error), -2.0 * lagged / error


def reciprocal(c: Floats, n: int) -> Floats:
    """Return the first n coefficients of 1/c(x), shape (n,): the first column of C^{-1}.

    Raises:
        NumericalFailure: if they grow beyond floats.
    """
    found = np.zeros(n)
    found[0] = 1.0 / c[0]
    tail = c[:0:-1] / c[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, n):
            reach = min(t, len(tail))
            found[t] = -(tail[len(tail) - reach :] @ found[t - reach : t])
    return check_growth(found)


def check_growth(found: Floats) -> Floats:
    """Return `found` if it is finite.

    Raises:
        NumericalFailure: if it is not.
    """
    if not np.isfinite(found).all():
        raise NumericalFailure(
            "MatrixMechanism: noise beyond floats, as the inverse of C grows step by step.\n"
            "Use coefficients that fall from the first one on, such as square_root(bands)."
        )
    return found


def sensitivity(c: Floats, *, steps: int, participations: int, separation: int) -> tuple[Bounds, Bounds]:
    """Return enclosures of sens and of what named neighbours move, |C 1|; the same object where both agree."""
    shown = _norm(c, steps, participations, separation)
    apart = min(participations, largest_number(steps, separation)) == 1 or len(c) <= separation
    if apart or (np.diff(c * np.sign(c[0]), append=0.0) <= 0.0).all():
        return shown, shown
    falling = np.maximum.accumulate(np.abs(c)[::-1])[::-1]
    upper = _norm(falling, steps, participations, separation)
    return Bounds(lower=shown.lower, upper=upper.upper), shown


def largest_number(steps: int, separation: int) -> int:
    """Return how many of `steps` can lie at least `separation` apart."""
    return (steps - 1) // separation + 1


def _norm(c: Floats, steps: int, participations: int, separation: int) -> Bounds:
    """Enclose |C 1|, 1 the vector of S* = {0, s, …}: copies of c, s apart, are added by doubling."""
    left, placed = min(participations, largest_number(steps, separation)), 0
    length = min(steps, (left - 1) * separation + len(c))
    block, total = Bounds.exact(np.pad(c, (0, length - len(c)))), Bounds.exact(np.zeros(length))
    size = 1
    while left:
        if left & size:
            total, placed, left = total + _later(block, placed * separation), placed + size, left - size
        if left:
            block, size = block + _later(block, size * separation), 2 * size
    squares = total * total
    sums = Bounds(lower=math.fsum(squares.lower), upper=math.fsum(squares.upper)) + 0.0  # outward: fsum rounds once
    return sqrt(sums.clip(0.0, math.inf))


def _later(block: Bounds, shift: int) -> Bounds:
    """Return the vector moved by `shift` steps, what leaves the last step cut off."""
    if not shift:
        return block
    moved = [np.concatenate([np.zeros(shift), end[: len(end) - shift]]) for end in (block.lower, block.upper)]
    return Bounds(lower=moved[0], upper=moved[1])
