"""Bounds: closed intervals of floats whose arithmetic rounds outward; the only home of `nextafter`.

IEEE +, −, ×, ÷ and √ are correctly rounded, so one `nextafter` outward encloses them: proved. The
elementary functions come from numpy and scipy, whose errors are measured, not proved: `ULPS` states by
how many units in the last place each value is widened, and `tests/mechanisms/core/test_bounds.py` compares
every function with 50-digit mpmath values over its whole range and asserts at most half of that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mechanisms.core.errors import InvalidParameter

Array = NDArray[Any]

ULPS: dict[str, Callable[[Array], Array | float]] = {
    "exp": lambda x: 4.0,
    "expm1": lambda x: 4.0,
    "log": lambda x: 4.0,
    "log1p": lambda x: 4.0,
    "ndtr": lambda x: 16.0 + 4.0 * np.minimum(x, 0.0) ** 2,  # e^{−x²/2} carries the rounding of x² into the tail
    "log_ndtr": lambda x: 16.0 + 4.0 * np.maximum(x, 0.0) ** 2,
}
"""By how many ulps the value of each elementary function at x is widened on either side (`validated`)."""

SUBNORMAL_NDTR = -37.5  # Φ(−37.5) = 4.6e-308
MANY = 512  # numbers, for which several passes of numpy take less time than `nextafter`
EXPONENT = np.int64(0x7FF0000000000000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An enclosure lower <= x <= upper of a real number, or elementwise of an array.

    Every operator returns an enclosure of the exact result for all values in its operands: the lower end
    is rounded down, the upper end up. Plain numbers in an expression count as exact.

    Args:
        lower: lower end, a float or an array, may be -inf.
        upper: upper end, of the same shape, may be inf.

    Raises:
        InvalidParameter: if an end is NaN or the ends are in the wrong order.

    >>> third = Bounds.exact(1) / 3
    >>> third.lower < 1 / 3 < third.upper
    True
    """

    lower: Any
    upper: Any

    __array_ufunc__ = None  # array * bounds is the business of Bounds.__rmul__, not of numpy

    def __post_init__(self) -> None:
        ordered = self.lower <= self.upper if _floats(self) else _everywhere(np.less_equal(self.lower, self.upper))
        if not ordered:
            raise InvalidParameter(f"Bounds: lower must not exceed upper, got {self.lower!r} and {self.upper!r}.")

    @staticmethod
    def exact(value: ArrayLike) -> Bounds:
        """Return the bounds whose two ends are `value`."""
        end = value if type(value) is float else _plain(np.asarray(value, dtype=np.float64))
        return Bounds(lower=end, upper=end)

    @property
    def width(self) -> Any:
        """The distance of the ends, rounded up; 0 where both are the same."""
        with np.errstate(invalid="ignore"):
            distance = up(np.subtract(self.upper, self.lower))
        return _plain(np.where(np.equal(self.lower, self.upper), 0.0, distance))

    def contains(self, value: ArrayLike) -> Any:
        """Tell whether `value` lies between the ends, ends included."""
        return _plain(np.less_equal(self.lower, value) & np.less_equal(value, self.upper))

    def overlaps(self, other: Bounds) -> Any:
        """Tell whether the two enclosures have a point in common."""
        return _plain(np.less_equal(self.lower, other.upper) & np.less_equal(other.lower, self.upper))

    def clip(self, least: ArrayLike, most: ArrayLike) -> Bounds:
        """Return the bounds of min(max(x, least), most)."""
        if _floats(self) and type(least) is float and type(most) is float:
            return Bounds(lower=min(max(self.lower, least), most), upper=min(max(self.upper, least), most))
        lower, upper = self.lower, self.upper
        if not (type(least) is float and least == -math.inf):
            lower, upper = np.maximum(lower, least), np.maximum(upper, least)
        if not (type(most) is float and most == math.inf):
            lower, upper = np.minimum(lower, most), np.minimum(upper, most)
        return _make(lower, upper)

    def inflate(self, relative: ArrayLike) -> Bounds:
        """Return the enclosure, for x >= 0, of every y with |y - x| <= relative x, where 0 <= relative < 1."""
        if _floats(self) and type(relative) is float:
            return _outward(
                self.lower * math.nextafter(1.0 - relative, -1.0), self.upper * math.nextafter(1.0 + relative, 3.0)
            )
        relative = np.asarray(relative, dtype=np.float64)
        return _outward(np.multiply(self.lower, down(1.0 - relative)), np.multiply(self.upper, up(1.0 + relative)))

    def __getitem__(self, index: Any) -> Bounds:
        return _make(self.lower[index], self.upper[index])

    def __neg__(self) -> Bounds:
        if _floats(self):
            return Bounds(lower=-self.upper, upper=-self.lower)
        return _make(np.negative(self.upper), np.negative(self.lower))

    def __add__(self, other: Bounds | ArrayLike) -> Bounds:
        other = _bounds(other)
        if _floats(self) and _floats(other):
            return _outward(self.lower + other.lower, self.upper + other.upper)
        with np.errstate(invalid="ignore", over="ignore"):
            return _outward(np.add(self.lower, other.lower), np.add(self.upper, other.upper))

    def __sub__(self, other: Bounds | ArrayLike) -> Bounds:
        other = _bounds(other)
        if _floats(self) and _floats(other):
            return _outward(self.lower - other.upper, self.upper - other.lower)
        with np.errstate(invalid="ignore", over="ignore"):
            return _outward(np.subtract(self.lower, other.upper), np.subtract(self.upper, other.lower))

    def __mul__(self, other: Bounds | ArrayLike) -> Bounds:
        other = _bounds(other)
        if _floats(self) and _floats(other):
            return self._times(other)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            products = [np.multiply(a, b) for a in _ends(self) for b in _ends(other)]
        lower, upper = _extremes(products)
        if np.count_nonzero(np.isnan(lower)):
            lower, upper = _extremes([np.where(np.isnan(corner), 0.0, corner) for corner in products])  # 0 · inf is 0
        if not _everywhere(lower):
            nothing = self._is_zero() | other._is_zero()  # a product with an exact zero is an exact zero
            return _make(np.where(nothing, 0.0, down(lower)), np.where(nothing, 0.0, up(upper)))
        return _make(down(lower), up(upper))

    def _times(self, other: Bounds) -> Bounds:
        """Return the product of bounds whose ends are plain floats."""
        if self.lower == self.upper == 0.0 or other.lower == other.upper == 0.0:
            return Bounds(lower=0.0, upper=0.0)
        products = [a * b for a in (self.lower, self.upper) for b in (other.lower, other.upper)]
        corners = [0.0 if math.isnan(corner) else corner for corner in products]
        return _outward(min(corners), max(corners))

    def __truediv__(self, other: Bounds | ArrayLike) -> Bounds:
        other = _bounds(other)
        if _floats(other) and not other.lower <= 0.0 <= other.upper:
            return self * _outward(1.0 / other.upper, 1.0 / other.lower)
        lower, upper = np.asarray(other.lower, dtype=np.float64), np.asarray(other.upper, dtype=np.float64)
        through_zero = (lower <= 0) & (upper >= 0)
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            least, most = 1.0 / upper, 1.0 / lower
        if np.count_nonzero(through_zero):
            least, most = np.where(through_zero, -np.inf, least), np.where(through_zero, np.inf, most)
        return self * _outward(least, most)

    def _is_zero(self) -> Any:
        return np.equal(self.lower, 0.0) & np.equal(self.upper, 0.0)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: ArrayLike) -> Bounds:
        return _bounds(other) - self

    def __rtruediv__(self, other: ArrayLike) -> Bounds:
        return _bounds(other) / self


def down(value: Any) -> Any:
    """Return the float just below each value."""
    if not _many(value):
        return np.nextafter(value, -np.inf)
    return np.negative(found := _next_up(0.0 - value), out=found)


def up(value: Any) -> Any:
    """Return the float just above each value."""
    return _next_up(0.0 + value) if _many(value) else np.nextafter(value, np.inf)


def exp(x: Bounds) -> Bounds:
    """Enclose e^x."""
    return _increasing(np.exp, x, "exp", least=0.0)


def expm1(x: Bounds) -> Bounds:
    """Enclose e^x − 1, without cancellation at 0."""
    return _increasing(np.expm1, x, "expm1", least=-1.0)


def log(x: Bounds) -> Bounds:
    """Enclose log x for x >= 0, with log 0 = -inf; rounding may have brought the lower end below 0."""
    return _increasing(np.log, x.clip(0.0, np.inf), "log")


def log1p(x: Bounds) -> Bounds:
    """Enclose log(1 + x) for x >= -1, without cancellation at 0; rounding may have brought the lower end below −1."""
    return _increasing(np.log1p, x.clip(-1.0, np.inf), "log1p")


def ndtr(x: Bounds) -> Bounds:
    """Enclose the standard normal distribution function Φ(x)."""
    value = _increasing(scipy.special.ndtr, x, "ndtr").clip(0.0, 1.0)
    flushed = np.less(x.lower, SUBNORMAL_NDTR), np.less(x.upper, SUBNORMAL_NDTR)  # scipy returns 0 there
    lower = np.where(flushed[0], 0.0, value.lower)
    return _make(lower, np.where(flushed[1], np.maximum(value.upper, 1e-307), value.upper))


def log_ndtr(x: Bounds) -> Bounds:
    """Enclose log Φ(x)."""
    value = _increasing(scipy.special.log_ndtr, x, "log_ndtr").clip(-np.inf, 0.0)
    flushed = np.greater(x.lower, -SUBNORMAL_NDTR), np.greater(x.upper, -SUBNORMAL_NDTR)
    lower = np.where(flushed[0], np.minimum(value.lower, -1e-307), value.lower)
    return _make(lower, np.where(flushed[1], 0.0, value.upper))


def sqrt(x: Bounds) -> Bounds:
    """Enclose √x for x >= 0 (correctly rounded by IEEE 754)."""
    return _outward(np.sqrt(x.lower), np.sqrt(x.upper)).clip(0.0, np.inf)


def log_sub_exp(a: Bounds, b: Bounds) -> Bounds:
    """Enclose log(e^a − e^b) for finite a; -inf where the difference may be 0 or below.

    log(e^a − e^b) = a + log(−expm1(b − a)) rises with a and falls with b.
    """
    low = _log_difference(a.lower, b.upper)
    high = _log_difference(a.upper, b.lower)
    return _make(low.lower, high.upper)


def where(condition: Array, one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds of `one` where the condition holds, of `other` elsewhere."""
    return _make(np.where(condition, one.lower, other.lower), np.where(condition, one.upper, other.upper))


def concatenated(parts: list[Bounds]) -> Bounds:
    """Return the bounds of arrays one after the other."""
    return _make(np.concatenate([part.lower for part in parts]), np.concatenate([part.upper for part in parts]))


def largest(parts: list[Bounds]) -> Bounds:
    """Enclose the largest of several enclosed numbers."""
    return _make(np.max([part.lower for part in parts], axis=0), np.max([part.upper for part in parts], axis=0))


def smallest(parts: list[Bounds]) -> Bounds:
    """Enclose the smallest of several enclosed numbers."""
    return _make(np.min([part.lower for part in parts], axis=0), np.min([part.upper for part in parts], axis=0))


def intersection(parts: list[Bounds]) -> Bounds:
    """Enclose one number that each part encloses.

    Raises:
        InvalidParameter: if the parts have no point in common, so that one of them is wrong.
    """
    return _make(np.max([part.lower for part in parts], axis=0), np.min([part.upper for part in parts], axis=0))


def _log_difference(a: ArrayLike, b: ArrayLike) -> Bounds:
    if type(a) is float and type(b) is float:
        return _gap(Bounds.exact(a), Bounds.exact(b)) if b < a else Bounds.exact(-math.inf)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    empty = ~(b < a)
    result = _gap(Bounds.exact(np.where(empty, 0.0, a)), Bounds.exact(np.where(empty, -np.inf, b)))
    return _make(np.where(empty, -np.inf, result.lower), np.where(empty, -np.inf, result.upper))


def _gap(a: Bounds, b: Bounds) -> Bounds:
    return a + log((-expm1((b - a).clip(-np.inf, 0.0))).clip(0.0, 1.0))


def _extremes(corners: list[Any]) -> tuple[Any, Any]:
    """Return the least and the largest of the corners; NaN where one of them is."""
    return functools.reduce(np.minimum, corners), functools.reduce(np.maximum, corners)


def _increasing(function: Callable[[Any], Any], x: Bounds, name: str, least: float = -math.inf) -> Bounds:
    ends = np.array(_ends(x), dtype=np.float64)
    with np.errstate(over="ignore", divide="ignore", under="ignore", invalid="ignore"):
        value = function(ends)
        slack = ULPS[name](ends) * _ulps(value)
        if not _everywhere(np.isfinite(slack)):  # an infinite argument has infinite ulps, its value none or no room
            slack = np.where(np.isfinite(slack), slack, 0.0)
        lower, upper = value[0] - slack[0], value[-1] + slack[-1]
    if value.ndim == 1:
        low, high = math.nextafter(lower, -math.inf), math.nextafter(upper, math.inf)
        return Bounds(lower=max(low, least), upper=max(high, least))
    outer = [down(lower), up(upper)]
    if least > -math.inf:
        outer = [np.maximum(end, least) for end in outer]
    return Bounds(lower=outer[0], upper=outer[1])


def _many(value: Any) -> bool:
    """Tell whether the float next to each is found sooner by counting up its bits than by the C library."""
    return type(value) is np.ndarray and value.size >= MANY and value.dtype == np.float64


def _next_up(value: Array) -> Array:
    """Return the float just above each, of which none is −0: the bits of floats of one sign are ordered as they are."""
    bits = value.view(np.int64)
    step = bits >> 63  # 0, or −1 for what is negative
    step |= 1
    step += bits
    found, below = step.view(np.float64), value < np.inf
    return found if below.all() else np.where(below, found, value)


def _ulps(value: Array) -> Array:
    """Return the distance of each from the float next to it, away from 0; not finite where it is not."""
    if not _many(value):
        return np.asarray(np.spacing(np.abs(value)))
    power = (value.view(np.int64) & EXPONENT).view(np.float64)  # of two, at most |x|; 0 for subnormal numbers
    power *= 2.0**-52
    return np.maximum(power, 2.0**-1074, out=power)


def _outward(lower: Any, upper: Any) -> Bounds:
    # An overflowed lower end becomes the largest float, a valid lower end; inf − inf knows nothing: fmax skips NaN.
    if type(lower) is float and type(upper) is float:
        lower, upper = -math.inf if math.isnan(lower) else lower, math.inf if math.isnan(upper) else upper
        return Bounds(lower=math.nextafter(lower, -math.inf), upper=math.nextafter(upper, math.inf))
    return _make(down(np.fmax(lower, -np.inf)), up(np.fmin(upper, np.inf)))


def _floats(bounds: Bounds) -> bool:
    """Tell whether both ends are plain floats, for which the detour by numpy takes many times as long as the sum."""
    return type(bounds.lower) is float and type(bounds.upper) is float


def _bounds(value: Bounds | ArrayLike) -> Bounds:
    return value if isinstance(value, Bounds) else Bounds.exact(value)


def _make(lower: Any, upper: Any) -> Bounds:
    return Bounds(lower=_plain(lower), upper=_plain(upper))


def _ends(bounds: Bounds) -> tuple[Any, ...]:
    """Return both ends, or one where they are the same object, as of exact numbers."""
    return (bounds.lower,) if bounds.lower is bounds.upper else (bounds.lower, bounds.upper)


def _everywhere(condition: Any) -> bool:
    """Tell whether all are true, or none 0, in a third of the time that `all` takes for few."""
    return bool(np.count_nonzero(condition) == condition.size)


def _plain(value: Any) -> Any:
    if type(value) is np.ndarray:
        return value if value.ndim else value.item()
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value
