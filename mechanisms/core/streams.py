"""What mechanisms for prefix sums of a stream share: their fields, the pair of a moved stream, their streaming form.

**Why one Gaussian pair.** The mechanisms show y = C x + z, z white, row by row, each before the values that it does not
contain. Row t moves by (C u)_t, u the difference of the streams, and in whatever way values depend on the rows shown
before them, the squares of all moves sum up to at most sens². Such a course of Gaussian steps is dominated by one
Gaussian step that moves by sens [ST22]; what is shown in the end is made of y alone.

**Neighbours.** Zero-out: one record contributes nothing (it is replaced by a special one, in the words of the papers on
DP-FTRL), and all others what they did, at the same steps. Under replace-one the new record may take the same steps and
point the other way: twice the move, by the triangle inequality never more, and at other steps neither. With one record
more or less nothing of the kind holds, as a record may move all later ones to other steps; where it does not, it is as
if the record were zeroed out.

[ST22] A. Smith, A. Thakurta. Fully Adaptive Composition for Gaussian Differential Privacy. 2022. arXiv:2210.17520.
"""

from __future__ import annotations

import math
from dataclasses import replace
from threading import Lock
from typing import Any, NoReturn

import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import Bounds
from mechanisms.core.correlated_noise import Carried, CorrelatedNoise
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.whole_rows import Floats, Wholes
from mechanisms.gaussian import Gaussian, GaussianPair

SMALLEST_SCALE, LARGEST_SCALE = 1e-290, 1e290


def check_fields(owner: str, mechanism: Any, *, most_steps: int) -> None:
    """Clean the fields that every mechanism of this kind has.

    Raises:
        InvalidParameter: if the noise is no finite number >= 0, a count is no whole number >= 1, there are too many
            steps, or a record's steps must lie farther apart than there are steps.
    """
    noise = validate.non_negative(owner, "noise_multiplier", mechanism.noise_multiplier)
    object.__setattr__(mechanism, "noise_multiplier", noise)
    for name in ("steps", "participations", "separation"):
        object.__setattr__(mechanism, name, validate.count(owner, name, getattr(mechanism, name), least=1))
    if mechanism.steps > most_steps:
        raise InvalidParameter(f"{owner}: steps must be at most {most_steps}, got {mechanism.steps}.")
    if mechanism.separation > mechanism.steps:
        raise InvalidParameter(
            f"{owner}: separation must be at most steps, got {mechanism.separation} and {mechanism.steps}.\n"
            "A record that takes part once needs no separation: participations=1, separation=1."
        )


def stream_pairs(owner: str, adjacency: Adjacency, noise_multiplier: float, most: Bounds, shown: Bounds) -> Pairs:
    """Return N(μ, 1) against N(0, 1) in every direction, and as witnesses what named neighbours show.

    Args:
        owner: name of the mechanism.
        adjacency: zero_out or replace_one.
        noise_multiplier: σ.
        most: enclosure of the largest move by contributions of norm 1.
        shown: enclosure of the move by named neighbours; `most` itself if there is no larger one.

    Raises:
        UnsupportedProcess: under add_remove.
    """
    if adjacency is Adjacency.ADD_REMOVE:
        raise UnsupportedProcess(
            f"{owner}: its neighbours are zero_out or replace_one, got add_remove: a record more or less may move "
            "all later ones to other steps.\nUse adjacency='zero_out'; it covers adding or removing a record too, "
            "where the steps of a record depend on no other record."
        )
    step = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
    exact = most is shown
    pair = _pair(step * most, noise_multiplier, attained=exact)
    found: dict[Direction, DominatingPair] = dict.fromkeys(adjacency.directions, pair)
    if not exact:
        witness = _pair(step * shown, noise_multiplier, attained=True)
        found |= {"witness": witness, "witness_reversed": witness}
    return found


def _pair(move: Bounds, noise_multiplier: float, *, attained: bool) -> DominatingPair:
    shift = move / Bounds.exact(noise_multiplier)
    if noise_multiplier > 0.0 and math.isfinite(shift.upper):
        return GaussianPair(shift=shift if attained else Bounds.exact(shift.upper), attained=attained)
    one = Bounds.exact(1.0)
    told = attained and noise_multiplier == 0.0
    return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=told)


def checked_stream(owner: str, value: Any, steps: int) -> Floats:
    """Return `value` as float64 of shape (steps, coordinates).

    Raises:
        InvalidParameter: if it has not one row a step, or is not finite.
    """
    data = _numbers(owner, value)
    if data.ndim == 0 or len(data) != steps:
        raise InvalidParameter(f"{owner}: value must have one row a step, {steps} in all, got shape {data.shape}.")
    return data.reshape(steps, math.prod(data.shape[1:]))


def checked_shape(owner: str, shape: Any) -> tuple[int, ...]:
    """Return the shape of one value of a stream.

    Raises:
        InvalidParameter: if it is no sequence of whole numbers >= 0.
    """
    hint = "The shape of a vector is (n,), that of a number ()."
    return tuple(validate.count(owner, "shape", n) for n in validate.sequence(owner, "shape", shape, hint))


def noise_scale(owner: str, noise_multiplier: float, sensitivity: object) -> float:
    """Return the standard deviation of white noise, noise_multiplier · sensitivity.

    Raises:
        InvalidParameter: if the sensitivity is not above 0, or noise would underflow, so that there is less than is
            priced, or overflow.
    """
    scale = noise_multiplier * validate.positive(owner, "sensitivity", sensitivity)
    if noise_multiplier and not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise InvalidParameter(
            f"{owner}: noise_multiplier times sensitivity must lie in [{SMALLEST_SCALE}, {LARGEST_SCALE}], "
            f"got {scale}: noise would leave the floats. Choose another unit."
        )
    return scale


def noisy_rows(owner: str, rows: Wholes, noise: float, bound: float, randomness: Source) -> Floats:
    """Return C x, in whole steps, plus white noise of standard deviation `noise` · `bound`, by one Gaussian release.

    Args:
        owner: name of the mechanism.
        rows: whole numbers of steps, exactly C x.
        noise: the noise multiplier.
        bound: in steps; neighbours' `rows` differ by at most sens times that.
        randomness: the source.

    Raises:
        InvalidParameter: if the noise would leave the floats, counted in steps.
    """
    if noise * bound > LARGEST_SCALE:
        raise InvalidParameter(
            f"{owner}: noise_multiplier must be at most {LARGEST_SCALE / bound:.3g} to release, got {noise}: noise "
            "would leave the floats, counted in steps."
        )
    noisy = Gaussian(noise_multiplier=noise).release(rows, sensitivity=bound, randomness=randomness)
    return np.asarray(noisy, dtype=np.float64)


def in_unit(owner: str, sums: Floats, exponent: int) -> Floats:
    """Return private sums that are counted in steps of 2^exponent as floats.

    Raises:
        NumericalFailure: if they are beyond floats.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return check_sums(owner, np.ldexp(sums, exponent))


def check_sums(owner: str, sums: Floats) -> Floats:
    """Return private sums if they are finite.

    Raises:
        NumericalFailure: if they are not.
    """
    if not np.isfinite(sums).all():
        raise NumericalFailure(f"{owner}: the private sum is beyond floats. Choose a larger unit.")
    return sums


class PrefixSums:
    """Private prefix sums of a stream of values, one `add` a step.

    It keeps the last prefix sum shown and what the noise carries, and nothing of the values but through them. It can't
    be copied, as two would show two streams under one noise; threads are served one after the other.

    Guarantees: values are added up in float64, and noise is float64 from `normals`, row by row from its counters.
    Sums that round may move by more than their terms, and floating-point output can carry more than the ideal mechanism
    shows, which the accountants price; `release` has neither flaw.
    """

    def __init__(
        self, owner: str, noise: CorrelatedNoise, shape: tuple[int, ...], steps: int, randomness: Source
    ) -> None:
        start = randomness.reserve(noise.stream, noise.words(steps)) // 2
        self._owner, self._noise, self._steps, self._randomness = owner, replace(noise, start=start), steps, randomness
        self._carried: Carried = ()
        self._shown = np.zeros(shape)
        self._lock = Lock()
        self.step = 0

    def __reduce__(self) -> NoReturn:
        raise InvalidParameter(f"{self._owner}: a stream can't be copied: two would show their values under one noise.")

    def add(self, value: Any) -> Floats:
        """Return the private sum of all values so far, this one included, in their shape.

        Raises:
            InvalidParameter: after the last step, or for a value of another shape or that is not finite.
            NumericalFailure: if the sum leaves the floats.
        """
        data = _numbers(self._owner, value)
        if data.shape != self._shown.shape:
            raise InvalidParameter(
                f"{self._owner}: value must have the shape {self._shown.shape} given to stream, got {data.shape}."
            )
        with self._lock:
            return self._next(data)

    def _next(self, data: Floats) -> Floats:
        if self.step == self._steps:
            raise InvalidParameter(f"{self._owner}: all {self._steps} steps must be described before the first.")
        row, self._carried = self._noise.advance(self.step, self._carried, self._randomness)
        self.step += 1
        with np.errstate(over="ignore", invalid="ignore"):
            self._shown = self._shown + data + row.reshape(data.shape)
        check_sums(self._owner, self._shown)
        return self._shown.copy()


def _numbers(owner: str, value: Any) -> Floats:
    data = plain_array(owner, value, rule="value must be an array of real numbers")
    if data.dtype.kind not in "biuf":
        raise InvalidParameter(f"{owner}: value must be an array of real numbers.")
    if data.dtype.itemsize > 8 or (data.dtype.kind in "iu" and np.any((data > 2**53) | (data < -(2**53)))):
        raise InvalidParameter(
            f"{owner}: value must hold floats of at most 64 bits or integers of at most 2**53 in size. Rounding moves "
            "others: round them first, and count that in the sensitivity."
        )
    data = data.astype(np.float64)
    if not np.isfinite(data).all():
        raise InvalidParameter(f"{owner}: value must be finite. Bound it first, by a rule that no data decides.")
    return data
