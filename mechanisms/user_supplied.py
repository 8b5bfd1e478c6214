"""A pair that the user supplies: two laws as tables of probabilities, or as distribution functions made into tables.

A sampler or a density ratio at drawn points gives no pair: what it shows is an estimate with a confidence, see
`accountant.delta_from_losses`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from mechanisms.approximate_dp import no_release
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.monotone_cells import Interval, lower_curve, upper_cells
from mechanisms.core.process import Adjacency, Direction, Mechanism, Pairs
from mechanisms.core.roc_curves import Curve, curve_of, hull, mirrored, pair_of

Weight = float | Fraction
MOST_OUTCOMES = 10_000
MOST_THRESHOLDS = 4_000
MOST_BITS = 13_000  # of an integer that JSON readers take
TOTAL_ERROR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSupplied(Mechanism):
    """A mechanism known by two laws (P, Q) of its output: a description, nothing that runs.

    The user states that (P, Q) dominates the outputs for all neighbours: P the law with the record and Q that without
    it, or, under replace-one, in either order, so that the pair and its reverse are merged into the least one that
    dominates both. Nothing here can check that statement.

    Args:
        p: P's probabilities of all outcomes: floats, which are divided by their exact sum, itself within 1e-12 of 1;
            or whole numbers, weights of any sum. `Fraction`s become such weights.
        q: Q's, of the same outcomes.
        adjacency: the neighbours that the statement is about, an `Adjacency` or its name.
        attained: whether named neighbours have these very laws, under replace-one where all other records hold what
            the second one does; only then are there lower ends.
        lower_p: of a table that dominates, P's weights of a coarser one that those named neighbours have at least.
        lower_q: Q's.

    Raises:
        InvalidParameter: if a table is none, or has more than 10,000 outcomes or numbers of more than 13,000 bits.

    >>> response = UserSupplied(p=(3, 1), q=(1, 3), adjacency="replace_one", attained=True)
    >>> response.pairs(Adjacency.REPLACE_ONE)["replace"].delta(Bounds.exact(0.0)).contains(0.5)
    True
    """

    p: tuple[Weight, ...]
    q: tuple[Weight, ...]
    adjacency: Adjacency
    attained: bool
    lower_p: tuple[Weight, ...] = ()
    lower_q: tuple[Weight, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        if not isinstance(self.attained, (bool, np.bool_)):
            raise InvalidParameter(f"UserSupplied: attained must be True or False, got {self.attained!r}.")
        object.__setattr__(self, "attained", bool(self.attained))
        for name in ("p", "q", "lower_p", "lower_q"):
            empty = name.startswith("lower") and isinstance(getattr(self, name), tuple) and not getattr(self, name)
            object.__setattr__(self, name, () if empty else _weights(name, getattr(self, name)))
        for one, other in (("p", "q"), ("lower_p", "lower_q")):
            sizes = len(getattr(self, one)), len(getattr(self, other))
            if sizes[0] != sizes[1]:
                raise InvalidParameter(
                    f"UserSupplied: {one} and {other} must be about the same outcomes, got {sizes[0]} and {sizes[1]}."
                )

    @classmethod
    def from_enclosures(cls, p: Sequence[Bounds], q: Sequence[Bounds], *, adjacency: Adjacency | str) -> UserSupplied:
        """Return the table that dominates all laws whose probabilities lie in these bounds; none attains it.

        P keeps the lower ends, and what is left of 1 goes to an outcome that Q never shows, and the other way round:
        undone by merging outcomes, so that any law within the bounds is post-processed from it.

        Args:
            p: enclosures of P's probabilities, floats, shape (n,).
            q: Q's.
            adjacency: the neighbours that the laws are about.

        Raises:
            InvalidParameter: if no law lies within the bounds.

        >>> third = Bounds.exact(1) / 3
        >>> table = UserSupplied.from_enclosures((third, 1 - third), (1 - third, third), adjacency="replace_one")
        >>> table.pairs(Adjacency.REPLACE_ONE)["replace"].delta(Bounds.exact(0.0)).upper <= 1 / 3 + 1e-15
        True
        """
        parts = []
        for name, enclosures in (("p", p), ("q", q)):
            ends = [(_exact(name, one.lower), _exact(name, one.upper)) for one in enclosures]
            least, most = (sum((one[end] for one in ends), start=Fraction(0)) for end in (0, 1))
            if any(low < 0 for low, _ in ends) or not least <= 1 <= most:
                raise InvalidParameter(
                    f"UserSupplied: {name} must enclose probabilities that add to 1, got sums from {float(least):.6g} "
                    f"to {float(most):.6g}."
                )
            parts.append([low for low, _ in ends])
        rest_p, rest_q = (1 - sum(part, start=Fraction(0)) for part in parts)
        return cls(
            p=(*parts[0], rest_p, Fraction(0)),
            q=(*parts[1], Fraction(0), rest_q),
            adjacency=Adjacency.parse(adjacency),
            attained=False,
        )

    @classmethod
    def from_cdfs(
        cls,
        p_cdf: Callable[[Any], Any],
        q_cdf: Callable[[Any], Any],
        *,
        thresholds: Sequence[float],
        accuracy: float,
        loss: str,
        adjacency: Adjacency | str,
        attained: bool,
    ) -> UserSupplied:
        """Return the table of two laws on the line whose privacy loss is monotone.

        Between neighbouring thresholds the density ratio lies between the mean ratios of the cells beside, so that the
        masses of the cells bound δ on both sides (`mechanisms.core.monotone_cells`). What is unsure about P's masses
        goes to an infinite loss: about 2 accuracy a cell, below which δ is never certified.

        Guarantees: as good as the three statements about accuracy, loss and attained, which nothing here can check
        but by their contradictions; the functions are called once and not kept.

        Args:
            p_cdf: from an array of thresholds, shape (n,), to P(X <= t).
            q_cdf: the same of Q.
            thresholds: where the cells meet, finite and increasing, shape (n,), 1 <= n <= 4,000. Beyond the first and
                the last the loss is unbounded, so choose them far out.
            accuracy: >= 0, the largest error of any value of the two functions.
            loss: "increasing" or "decreasing" with the outcome.
            adjacency: the neighbours that the laws are about.
            attained: whether named neighbours have these laws.

        Raises:
            InvalidParameter: if the functions' values contradict what was stated.

        >>> from scipy.special import ndtr
        >>> table = UserSupplied.from_cdfs(
        ...     lambda t: ndtr(t - 1), ndtr, thresholds=np.linspace(-7, 8, 151), accuracy=1e-15,
        ...     loss="increasing", adjacency="add_remove", attained=True,
        ... )
        >>> pairs = table.pairs(Adjacency.ADD_REMOVE)
        >>> upper, lower = (pairs[name].delta(Bounds.exact(1.0)) for name in ("remove", "witness"))
        >>> lower.lower <= 0.126936737506644 <= upper.upper <= lower.lower + 2e-3
        True
        """
        error = _exact("accuracy", validate.non_negative("UserSupplied", "accuracy", accuracy))
        validate.choice("UserSupplied", "loss", loss, ("increasing", "decreasing"))
        at = _increasing(thresholds)
        bands = [_band(name, function, at, error) for name, function in (("p_cdf", p_cdf), ("q_cdf", q_cdf))]
        p, q = upper_cells(bands[0], bands[1], rising=loss == "increasing")
        curve: Curve = lower_curve(bands[0], bands[1], rising=loss == "increasing") if attained else ()
        steps = [(d - b, c - a) for (b, a), (d, c) in itertools.pairwise(curve)]
        first = [(Fraction(0), curve[0][1])] if attained else []
        return cls(
            p=p,
            q=q,
            adjacency=Adjacency.parse(adjacency),
            attained=attained,
            lower_p=tuple(a for _, a in (*first, *steps)),
            lower_q=tuple(b for b, _ in (*first, *steps)),
        )

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of the table and its reverse, under replace-one merged; of a bracket, both sides.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        if adjacency is not self.adjacency:
            raise UnsupportedProcess(
                f"UserSupplied: its laws are about {self.adjacency.value} neighbours, got {adjacency.value}.\n"
                f"Use adjacency={self.adjacency.value!r}, or supply the laws of {adjacency.value} neighbours."
            )
        return _pairs(self)

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> NoReturn:
        """Refuse: two laws do not run.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess(no_release(self))


@lru_cache(maxsize=64)
def _pairs(table: UserSupplied) -> Pairs:
    """Return the pairs of a table; named neighbours have its laws, or its coarser ones, or are not known."""
    curve = curve_of(_normalised(table.p), _normalised(table.q))
    known = curve_of(_normalised(table.lower_p), _normalised(table.lower_q)) if table.lower_p else curve
    merged = table.adjacency is Adjacency.REPLACE_ONE
    whole = hull([*curve, *mirrored(curve)]) if merged else curve
    attained = table.attained and whole == known
    found: dict[Direction, Any] = {}
    for direction, one in zip(table.adjacency.directions, (whole, mirrored(whole)), strict=False):
        found[direction] = pair_of(one, attained=attained)
    if table.attained and not attained:
        found["witness"] = pair_of(known, attained=True)
        found["witness_reversed"] = pair_of(mirrored(known), attained=True)
    return found


def _weights(name: str, values: Any) -> tuple[Weight, ...]:
    """Return floats that add to 1, or whole numbers."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidParameter(f"UserSupplied: {name} must be a sequence of probabilities, got {values!r}.")
    listed = list(values)
    if not 1 <= len(listed) <= MOST_OUTCOMES:
        raise InvalidParameter(
            f"UserSupplied: {name} must hold from 1 to {MOST_OUTCOMES} probabilities, got {len(listed)}. "
            "Merge outcomes whose ratios are alike."
        )
    exact = [_exact(name, value) for value in listed]
    total = sum(exact, start=Fraction(0))
    if min(exact) < 0 or not total:
        raise InvalidParameter(f"UserSupplied: {name} must be at least 0, and above 0 somewhere.")
    if any(not isinstance(value, (int, np.integer, Fraction)) for value in listed):
        if abs(total - 1) > TOTAL_ERROR:
            raise InvalidParameter(
                f"UserSupplied: {name} must add to 1, got {float(total):.15g}. "
                "Give every outcome its probability, or whole numbers as weights."
            )
        return tuple(float(value) for value in exact)
    return _whole(name, exact)


def _whole(name: str, exact: list[Fraction]) -> tuple[int, ...]:
    """Return the least whole numbers in these proportions."""
    scale = math.lcm(*(value.denominator for value in exact))
    numbers = [int(value * scale) for value in exact]
    common = math.gcd(*numbers)
    if max(numbers).bit_length() - common.bit_length() > MOST_BITS:
        raise InvalidParameter(
            f"UserSupplied: {name} must have a common denominator of {MOST_BITS} bits at most. "
            "Round the probabilities to floats, or enclose them: UserSupplied.from_enclosures(...)."
        )
    return tuple(number // common for number in numbers)


def _exact(name: str, value: Any) -> Fraction:
    """Return a number as it is."""
    if isinstance(value, (int, np.integer, Fraction)) and not isinstance(value, bool):
        return Fraction(int(value)) if not isinstance(value, Fraction) else value
    return Fraction(validate.finite("UserSupplied", name, value))


def _normalised(weights: tuple[Weight, ...]) -> tuple[Fraction, ...]:
    exact = [Fraction(weight) for weight in weights]
    total = sum(exact, start=Fraction(0))
    return tuple(weight / total for weight in exact)


def _increasing(thresholds: Sequence[float]) -> list[float]:
    at = [validate.finite("UserSupplied", "thresholds", one) for one in np.ravel(thresholds).tolist()]
    if not 1 <= len(at) <= MOST_THRESHOLDS or any(b <= a for a, b in itertools.pairwise(at)):
        raise InvalidParameter(
            f"UserSupplied: thresholds must increase, and be from 1 to {MOST_THRESHOLDS}, got {len(at)}."
        )
    return at


def _band(name: str, function: Callable[[Any], Any], at: list[float], error: Fraction) -> list[Interval]:
    """Return enclosures of P(X <= t), both ends increasing, from 0 before the first threshold to 1 after the last."""
    if not callable(function):
        raise InvalidParameter(f"UserSupplied: {name} must be a function of an array of thresholds, got {function!r}.")
    values = np.asarray(function(np.array(at)))
    if values.shape != (len(at),) or values.dtype.kind not in "iuf" or not np.all(np.isfinite(values)):
        raise InvalidParameter(
            f"UserSupplied: {name} must return one finite number for each of {len(at)} thresholds, "
            f"got shape {values.shape}."
        )
    lows, highs = [Fraction(0)], [Fraction(1)]
    for value in values.tolist():
        lows.append(max(lows[-1], Fraction(value) - error))
    for value in reversed(values.tolist()):
        highs.append(min(highs[-1], Fraction(value) + error))
    band = [(Fraction(0), Fraction(0)), *zip(lows[1:], reversed(highs[1:]), strict=True), (Fraction(1), Fraction(1))]
    if any(not 0 <= low <= high <= 1 for low, high in band):
        raise InvalidParameter(
            f"UserSupplied: {name} must rise from 0 to 1, but for its accuracy. Check the function, or state how "
            "accurate it is."
        )
    return band
