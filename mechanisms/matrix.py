"""The matrix mechanism for prefix sums: noise correlated from step to step by a banded Toeplitz matrix.

With A the lower-triangular matrix of ones and A = B C, show B (C x + z) = A (x + C^{-1} z), z white. C is lower
triangular and Toeplitz, c_0, c_1, …, c_{b−1} down its columns; c = (1,) is the noise of DP-SGD, `square_root` that of
[FHU23], `optimised` the best there is for its bands [CC23], of this kind.

[DMRST22] S. Denisov, B. McMahan, K. Rush, A. Smith, A. Thakurta. Improved Differential Privacy for SGD via Optimal
Private Linear Operators on Adaptive Streams. NeurIPS 2022. arXiv:2202.08312.
[FHU23] H. Fichtenberger, M. Henzinger, J. Upadhyay. Constant Matters: Fine-grained Error Bound on Differentially
Private Continual Observation. ICML 2023. arXiv:2202.11205.
[CSVW22] see `mechanisms.core.exact_noise`.
[CC23] C. Choquette-Choo et al. (Amplified) Banded Matrix Factorization: A unified approach to private training.
NeurIPS 2023. arXiv:2306.08153.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, down, sqrt
from mechanisms.core.correlated_noise import Carried, ToeplitzNoise, solve
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Compose, Mechanism, Pairs, Process, Repeat, Sampled
from mechanisms.core.randomness import Source
from mechanisms.core.sampling import Poisson
from mechanisms.core.streams import (
    PrefixSums,
    check_fields,
    checked_shape,
    checked_stream,
    in_unit,
    noise_scale,
    noisy_rows,
    stream_pairs,
)
from mechanisms.core.toeplitz import optimised, reciprocal, square_root
from mechanisms.core.toeplitz import sensitivity as toeplitz_sensitivity
from mechanisms.core.whole_rows import Step, WholeCoefficients, mixed, step_for, whole_coefficients
from mechanisms.gaussian import Gaussian

__all__ = ["MatrixMechanism", "optimised", "square_root"]

MOST_STEPS = 10**6
SMALLEST, LARGEST = 1e-100, 1e100  # squares stay floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixMechanism(Mechanism):
    """Release the prefix sums of a stream of T values under noise C^{-1} z, z of deviation noise_multiplier · bound.

    Args:
        noise_multiplier: standard deviation of z ÷ norm bound of one record's contribution to one step. C is taken as
            it is: divide its coefficients by its sensitivity to have μ = 1/noise_multiplier.
        coefficients: c_0, …, c_{b−1}, at most T, c_0 not 0.
        steps: T, in [1, 10^6].
        participations: how many steps one record contributes to, at most, as whoever forms the stream sees to.
        separation: how far apart its steps lie, at least; 1 lets them be neighbours.

    Guarantees and assumptions: as in `mechanisms.core.streams`: values may depend on everything shown before [DMRST22],
    the steps and the pattern are fixed before the run, and neighbours are zero_out or replace_one.

    Raises:
        InvalidParameter: if a field lies outside its range, or the separation or the bands exceed the steps.

    >>> MatrixMechanism(noise_multiplier=1.0, coefficients=(1.0, 0.5), steps=8).sensitivity.contains(1.25**0.5)
    True
    """

    noise_multiplier: float
    coefficients: tuple[float, ...]
    steps: int
    participations: int = 1
    separation: int = 1

    def __post_init__(self) -> None:
        check_fields("MatrixMechanism", self, most_steps=MOST_STEPS)
        object.__setattr__(self, "coefficients", _checked(self.coefficients, self.steps))

    @property
    def sensitivity(self) -> Bounds:
        """Enclosure of the largest move of C x by a record of the declared pattern, contributions of norm 1."""
        return self._sensitivity()[0]

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N(μ, 1) against N(0, 1), μ = sens/σ, doubled under replace-one, with witnesses if sens is a bound.

        It is exact for bands <= separation, one participation, and coefficients that fall from c_0 > 0 to no less
        than 0 (or rise from c_0 < 0 to no more).

        Raises:
            UnsupportedProcess: under add_remove.
        """
        return stream_pairs("MatrixMechanism", adjacency, self.noise_multiplier, *self._sensitivity())

    def amplified(self, *, probability: float) -> Process:
        """Return what a record is exposed to when it is drawn at random: Poisson-sampled Gaussian rounds [CC23].

        The records fall into b groups, and step t draws each record of group t mod b with probability
        b · `probability`. A record's columns j, j + b, … share no row, so each of its steps is a Gaussian step of its
        own, drawn on its own, that moves by |column|; the first group has ⌊T/b⌋ full columns and one of T mod b rows,
        and is exposed the most. C may have any signs, and its columns any norm.

        The group of a record must heed no other record under add_remove, where the groups can't be of fixed size
        therefore; under replace_one it must not heed what the record holds.

        `participations` and `separation` play no part: the sampler decides. The noise multipliers of the rounds are
        rounded down to floats: lower ends are of the process returned.

        Args:
            probability: of each record being in the batch of a step, over all groups; at most 1/b.

        Raises:
            InvalidParameter: if the probability lies outside [0, 1/b].

        >>> MatrixMechanism(noise_multiplier=1.0, coefficients=(1.0,), steps=9).amplified(probability=0.25)
        Repeat(part=Sampled(part=Gaussian(noise_multiplier=1.0), sampling=Poisson(probability=0.25)), times=9)
        """
        chance = validate.probability("MatrixMechanism", "probability", probability)
        bands = len(self.coefficients)
        if chance * bands > 1.0:
            raise InvalidParameter(
                f"MatrixMechanism: probability must be at most 1/bands, got {chance:.15g} for {bands} bands: a step "
                "draws from one of as many groups."
            )
        sampling = Poisson(probability=chance * bands)
        full, rest = divmod(self.steps, bands)
        rounds: Process = Repeat(Sampled(self._round(bands), sampling), full)
        return Compose((rounds, Sampled(self._round(rest), sampling))) if rest else rounds

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> NDArray[np.float64]:
        """Return the T private prefix sums of `value`, in its shape.

        Guarantees: C x is one Gaussian release, and what holds for that holds here, for all finite values: they are
        rounded to whole steps, the coefficients to w binary digits of the power of two above the largest, w from 30
        for one band to 20 for a million, and C x is made in integers (see `mechanisms.core.whole_rows`). A step is
        between 2^-26 and 2^-24 of the sensitivity over √d, d the coordinates of a row. Noise is larger than described,
        to cover what rounding moves: for coefficients that fall and one participation, by a factor of less than
        1 + 2^-19 √b. Lower ends are of the process described. Rows saturate, in every coordinate, at
        2^33 · sensitivity/√d · max |c_m| / Σ |c_m| or more.

        Args:
            value: shape (T, …), finite; row t is the sum over records of their contributions to step t. That no record
                moves the floats in it by more than its bound is for the caller to see to [CSVW22].
            sensitivity: > 0, Euclidean norm of one record's contribution to one step, at most.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is not finite or has not T rows, the sensitivity is not above 0, or c_0 is
                rounded to 0.
            NumericalFailure: if the noise, or a sum, grows beyond floats.

        >>> from mechanisms import KeyedSource
        >>> quiet = MatrixMechanism(noise_multiplier=0.0, coefficients=(1.0, 0.5), steps=3)
        >>> quiet.release([1.0, 2.0, 3.0], sensitivity=1.0, randomness=KeyedSource(0))
        array([1., 3., 6.])
        """
        bound = validate.positive("MatrixMechanism", "sensitivity", sensitivity)
        rows = checked_stream("MatrixMechanism", value, self.steps)
        noise_scale("MatrixMechanism", self.noise_multiplier, bound)
        step, wholes = step_for(bound, rows.shape[1]), self._whole()
        most = self._bound(step, wholes, rows.shape[1])
        noisy = noisy_rows("MatrixMechanism", mixed(rows, step, wholes), self.noise_multiplier, most, randomness)
        carried: Carried = ()
        for t in range(self.steps):
            noisy[t], carried = solve(wholes.scaled, noisy[t].copy(), carried)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.cumsum(noisy, axis=0)
        return in_unit("MatrixMechanism", sums, step.exponent).reshape(np.shape(value))

    def stream(self, shape: Iterable[int], *, sensitivity: float, randomness: Source) -> PrefixSums:
        """Return an accumulator that takes the values one by one, `add`, in memory of b rows.

        Args:
            shape: of one value.
            sensitivity: > 0, Euclidean norm of one record's contribution to one step, at most.
            randomness: a `SystemSource` for real releases.

        >>> from mechanisms import KeyedSource
        >>> quiet = MatrixMechanism(noise_multiplier=0.0, coefficients=(1.0, 0.5), steps=2)
        >>> sums = quiet.stream((), sensitivity=1.0, randomness=KeyedSource(0))
        >>> float(sums.add(1.0)), float(sums.add(2.0))
        (1.0, 3.0)
        """
        shape = checked_shape("MatrixMechanism", shape)
        noise = self.noise(math.prod(shape), sensitivity=sensitivity)
        return PrefixSums("MatrixMechanism", noise, shape, self.steps, randomness)

    def noise(self, size: int, *, sensitivity: float, start: int = 0) -> ToeplitzNoise:
        """Return the noise alone: what is added to the values of single steps, of `size` coordinates.

        Args:
            size: coordinates of one value.
            sensitivity: > 0, as for `release`.
            start: the first normal of the stream "matrix" to use, even; whoever gives it keeps runs apart.

        >>> MatrixMechanism(noise_multiplier=2.0, coefficients=(1.0,), steps=8).noise(10, sensitivity=0.5).scale
        1.0
        """
        owner = "MatrixMechanism"
        scale = noise_scale(owner, self.noise_multiplier, sensitivity)
        size, start = validate.count(owner, "size", size), validate.count(owner, "start", start)
        return ToeplitzNoise(size=size, scale=scale, stream="matrix", start=start, coefficients=self.coefficients)

    def squared_errors(self) -> NDArray[np.float64]:
        """Return σ² Σ_{m <= t} b_m², b = 1/((1 − x) c(x)), shape (T,): a prefix sum's error, squared.

        The expected squared error of a coordinate of each prefix sum, for contributions of norm 1, in float64. At the
        same privacy, mechanisms compare by this times sens²/σ².

        Raises:
            NumericalFailure: if the noise grows beyond floats.

        >>> MatrixMechanism(noise_multiplier=2.0, coefficients=(1.0,), steps=3).squared_errors()
        array([ 4.,  8., 12.])
        """
        rows = np.cumsum(reciprocal(np.array(self.coefficients), self.steps))
        return np.asarray(self.noise_multiplier**2 * np.cumsum(rows * rows), dtype=np.float64)

    def _round(self, rows: int) -> Gaussian:
        """Return the Gaussian of the largest noise multiplier <= σ/|first `rows` coefficients|, compared exactly."""
        square = sum(Fraction(c) ** 2 for c in self.coefficients[:rows])
        bound = Bounds.exact(self.noise_multiplier) / sqrt(Bounds.exact(float(square)).inflate(1e-15))
        ratio = min(float(bound.upper), sys.float_info.max)
        while Fraction(ratio) ** 2 * square > Fraction(self.noise_multiplier) ** 2:
            ratio = float(down(ratio))
        return Gaussian(noise_multiplier=ratio)

    def _whole(self) -> WholeCoefficients:
        """Return the coefficients of a release.

        Raises:
            InvalidParameter: if the first one is rounded to 0.
        """
        found = whole_coefficients(self.coefficients)
        if not found.values[0]:
            raise InvalidParameter(
                "MatrixMechanism: coefficients must start with one that is not rounded to 0, at least "
                f"{2.0**-found.digits:.3g} of the largest, got {self.coefficients[0]}.\n"
                "Use coefficients that fall, such as square_root(bands)."
            )
        return found

    def _bound(self, step: Step, wholes: WholeCoefficients, coordinates: int) -> float:
        """Return B, in steps of `mixed`, no smaller than D is, so that no record moves its rows by more than sens · B.

        This holds for the declared pattern and for single columns, full or last, as `amplified` prices them.
        """
        bands, rounded = len(self.coefficients), tuple(map(float, wholes.values))
        cases = [(bands, self.steps, self.participations, self.separation)]
        cases += [(rows, rows, 1, 1) for rows in (bands, self.steps % bands) if rows]
        bound = float((step.bound * 2.0**-wholes.exponent).upper)
        for columns, steps, participations, separation in cases:
            most, shown = _sensitivity(self.coefficients[:columns], steps, participations, separation)
            upper = _sensitivity(rounded[:columns], steps, participations, separation)[0].upper
            reached = sqrt(Bounds.exact(float(coordinates)) * float(min(steps, participations * columns)))
            moved = Bounds.exact(float(upper)) * step.bound * 2.0**-wholes.digits + reached
            claimed = float(most.lower if most is shown else most.upper)
            bound = max(bound, float((moved / claimed).upper))
        return bound

    def _sensitivity(self) -> tuple[Bounds, Bounds]:
        return _sensitivity(self.coefficients, self.steps, self.participations, self.separation)


@lru_cache(maxsize=64)
def _sensitivity(
    coefficients: tuple[float, ...], steps: int, participations: int, separation: int
) -> tuple[Bounds, Bounds]:
    c = np.array(coefficients)
    return toeplitz_sensitivity(c, steps=steps, participations=participations, separation=separation)


def _checked(coefficients: Any, steps: int) -> tuple[float, ...]:
    """Return the coefficients as floats.

    Raises:
        InvalidParameter: if they are no sequence of numbers, none or too many, the first one is 0 or one is too large.
    """
    owner, name = "MatrixMechanism", "coefficients"
    cleaned = tuple(validate.finite(owner, name, c) for c in validate.sequence(owner, name, coefficients))
    if not 1 <= len(cleaned) <= steps:
        raise InvalidParameter(f"{owner}: {name} must number from 1 to steps, got {len(cleaned)} for {steps} steps.")
    if abs(cleaned[0]) < SMALLEST:
        raise InvalidParameter(
            f"{owner}: {name} must start with one of size at least {SMALLEST}, got {cleaned[0]}.\n"
            "C is inverted, so that its diagonal can't be 0: leave out leading zeros."
        )
    if max(map(abs, cleaned)) > LARGEST:
        raise InvalidParameter(f"{owner}: {name} must be at most {LARGEST} in size, got {max(map(abs, cleaned))}.")
    return cleaned
