"""What queries with declared bounds share: their noise, the cleaning of records, and sums that are exact.

A float64 sum moves by more than its largest term when one record comes or goes: it rounds, depends on the order of the
records, and overflows [CSVW22]. So every record is clipped and rounded, by itself, to a whole number of steps; whole
numbers are summed in int64, exactly in any order; the total is clipped to ±2^53, which moves neighbours no further
apart and makes it an exact float; noise is added to it in steps; and only what is then public is scaled back.

What may show: the dtype, the number of dimensions and the number of columns of an array are taken as public, and
checked, so pass arrays: the dtype that numpy gives a list can depend on what is in it, None for one. Values and the
number of records decide no errors, but for `nan="reject"`, a check before the release, outside its guarantee: it
reveals that there is a NaN. How long a release takes is no part of the guarantee.

[CSVW22] S. Casacuberta, M. Shoemate, S. Vadhan, C. Wagaman. Widespread Underestimation of Sensitivity in Differentially
Private Libraries and How to Fix It. CCS 2022. arXiv:2207.10635.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array
from mechanisms.core.contributions import Contributions
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import RenyiBound

NORMS = {"Gaussian": 2, "Laplace": 1, "DiscreteGaussian": 2, "DiscreteLaplace": 1}
"""The additive noises, each with the norm in which it measures sensitivity."""

REAL = ("Gaussian", "Laplace")
LARGEST_TOTAL = 2**53
LEAST, MOST = 1e-270, 1e270
Filling = float | str | None
"""What stands for NaN: a number, "reject", or, None, what the query says."""


class Query(Mechanism):
    """A query that bounds what each record contributes, and adds noise to the result."""

    __slots__ = ()

    noise: Mechanism

    @property
    @abstractmethod
    def contributions(self) -> Contributions:
        """What one record may contribute, in steps."""

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the noise's pairs for the movement of this query between neighbours.

        Raises:
            UnsupportedProcess: if the noise has none.
        """
        return self.contributions.pairs(self.noise, adjacency)

    def opposed(self, probability: float) -> DominatingPair | None:
        """Return what the noise shows of opposite records, where this query has such."""
        return self.noise.opposed(probability) if self.contributions.opposite else None

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the bound of the noise for the movement of this query, where it has one beside its pairs.

        Raises:
            UnsupportedProcess: if it has none.
        """
        return self.contributions.renyi(self.noise, adjacency)

    def noisy(self, total: Any, randomness: Source) -> Any:
        """Return a total, in steps, with noise."""
        return self.noise.release(total, sensitivity=self.contributions.sensitivity, randomness=randomness)


def checked_noise(owner: str, noise: object, allowed: tuple[str, ...], *, cells: int = 1) -> None:
    """Check that `noise` is a mechanism that adds noise of one of the allowed kinds, to that many cells.

    Raises:
        InvalidParameter: if it is not; the message lists them.
    """
    if not isinstance(noise, Mechanism) or type(noise).__name__ not in allowed:
        raise InvalidParameter(
            f"{owner}: noise must be one of {', '.join(allowed)}, such as {allowed[0]}(noise_multiplier=1.0), "
            f"got {noise!r}."
        )
    for name, needed in (("sensitivity", 1), ("dimension", cells)):  # fields of discrete noise
        if getattr(noise, name, needed) != needed:
            raise InvalidParameter(f"{owner}: noise must have {name}={needed}, got {noise!r}.")


def derived(owner: str, sensitivity: object) -> None:
    """Refuse a sensitivity: it follows from the query.

    Raises:
        InvalidParameter: if one is given.
    """
    if sensitivity is not None:
        raise InvalidParameter(
            f"{owner}: sensitivity must be left out, got {sensitivity!r}: it follows from the query's declared bounds."
        )


def filling(owner: str, nan: object) -> Filling:
    """Return what stands for NaN.

    Raises:
        InvalidParameter: if it is neither a finite number, nor "reject", nor None.
    """
    if nan is None or (isinstance(nan, str) and nan == "reject"):
        return nan
    if isinstance(nan, str):
        raise InvalidParameter(f"{owner}: nan must be a finite number, 'reject' or None, got {nan!r}.")
    return validate.finite(owner, "nan", nan)


def interval(owner: str, lower: object, upper: object) -> tuple[float, float]:
    """Return bounds of the records' values.

    Raises:
        InvalidParameter: if they are not finite numbers in order, of magnitudes that sums can be scaled by.
    """
    low, high = validate.finite(owner, "lower", lower), validate.finite(owner, "upper", upper)
    if low > high:
        raise InvalidParameter(f"{owner}: lower must be at most upper, got {low} and {high}. Did you swap them?")
    size = max(-low, high)
    if size and not LEAST <= size <= MOST:
        raise InvalidParameter(f"{owner}: bounds must be between 1e-270 and 1e270 in size, got {low} and {high}.")
    return low, high


def radius(owner: str, max_norm: object) -> float:
    """Return a bound of the records' Euclidean norm.

    Raises:
        InvalidParameter: if it is no number above 0 that sums can be scaled by.
    """
    norm = validate.positive(owner, "max_norm", max_norm)
    if not LEAST <= norm <= MOST:
        raise InvalidParameter(f"{owner}: max_norm must be between 1e-270 and 1e270, got {norm}.")
    return norm


def step(size: float, bits: int) -> float:
    """Return the power of two that fits into `size` > 0 between 2^(bits − 1) and 2^bits times.

    >>> step(10.0, 4)
    1.0
    """
    return math.ldexp(1.0, math.frexp(size)[1] - bits)


def real_records(owner: str, value: Any, *, nan: Filling, columns: int | None = None) -> Array:
    """Return records as float64, shape (n,) or (n, columns); NaN is left where None stands for it.

    Raises:
        InvalidParameter: if they are no real numbers of that shape, or hold a NaN that is to be rejected.
    """
    data = array(owner, value, kinds="biuf", what="real numbers", columns=columns)
    with np.errstate(all="ignore"):
        data = data.astype(np.float64)
    missing = np.isnan(data)
    if nan == "reject" and missing.any():
        raise InvalidParameter(f"{owner}: value must hold no NaN. Declare what stands for it: nan=0.0, for one.")
    return np.where(missing, nan, data) if isinstance(nan, float) else data


def array(owner: str, value: Any, *, kinds: str, what: str, columns: int | None = None) -> Array:
    """Return an array of one of numpy's `kinds` and of shape (n,) or (n, columns).

    Raises:
        InvalidParameter: if it is none; nothing of what it holds is told.
    """
    shape = "(n,)" if columns is None else f"(n, {columns})"
    rule = f"{owner}: value must be an array of {what} of shape {shape}"
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidParameter(f"{rule}, got a masked one. Fill it first: masked.filled(numpy.nan).")
    if isinstance(value, (list, tuple)) and not value:  # numpy can't know the shape and type of no records
        return np.empty((0,) if columns is None else (0, columns), dtype=np.float64)
    try:
        data = np.asarray(value)
    except Exception:
        raise InvalidParameter(f"{rule}, got what numpy makes no array of.") from None
    if data.ndim != (1 if columns is None else 2) or (columns is not None and data.shape[1] != columns):
        found = f"{data.shape[1]} columns" if data.ndim == 2 else f"{data.ndim} dimensions"
        raise InvalidParameter(f"{rule}, got {found}.")
    if data.dtype.kind not in kinds:
        raise InvalidParameter(f"{rule}, got one of dtype {data.dtype}. Convert it by a rule that no value decides.")
    return data


def whole_steps(data: Array, size: float) -> Array:
    """Return numbers as the nearest whole numbers of steps, int64; NaN as 0."""
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.rint(data / size), nan=0.0).astype(np.int64)


def total(steps: Array) -> Array:
    """Return the exact sum over the records of int64 of at most 2^24 each, saturated.

    2^39 records, 4 TiB of them, would have to be summed for int64 to overflow.
    """
    return saturated(np.asarray(np.sum(steps, axis=0, dtype=np.int64)))


def saturated(sums: Array) -> Array:
    """Return sums clipped to ±2^53, as float64, exactly."""
    return np.clip(sums, -LARGEST_TOTAL, LARGEST_TOTAL).astype(np.float64)
