"""Noisy counts of declared categories, or of the intervals between declared edges."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array
from mechanisms.core.contributions import Contributions, numbers, one_cell
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Mechanism
from mechanisms.core.query import NORMS, Query, array, checked_noise, derived
from mechanisms.core.randomness import Source

LARGEST_CATEGORY = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram(Query):
    """The number of records in each cell, + noise on each.

    The cells are fixed before the data is seen: those that hold nothing are released too. One record more or less moves
    one cell by 1; one replaced moves two, in the Euclidean norm by √2 and not by the 2 of a plain `Gaussian`.

    Args:
        noise: `Gaussian`, `Laplace`, or a discrete one of these, a discrete Gaussian of as many dimensions as cells.
        categories: different whole numbers below 2^53 in size, or different texts; one cell each.
        edges: instead of categories, increasing numbers e_0 < … < e_k; the cells are [e_{i−1}, e_i), the last one with
            e_k.
        outside: what becomes of NaN and of all that is in no cell: "drop" counts it nowhere, "count" in one more cell,
            the last.

    Raises:
        InvalidParameter: if not exactly one of categories and edges is given, or they break a rule.

    >>> from mechanisms import Adjacency, Gaussian, KeyedSource
    >>> query = Histogram(edges=(0, 18, 65), outside="count", noise=Gaussian(noise_multiplier=0.0))
    >>> query.release([3, 70, 18, 65, float("nan")], randomness=KeyedSource(0)).tolist()
    [1.0, 2.0, 2.0]
    >>> query = Histogram(categories=("no", "yes"), noise=Gaussian(noise_multiplier=1.0))
    >>> query.pairs(Adjacency.REPLACE_ONE)["replace"].shift.contains(2**0.5)
    True
    """

    noise: Mechanism
    categories: tuple[int, ...] | tuple[str, ...] | None = None
    edges: tuple[float, ...] | None = None
    outside: str = "drop"

    def __post_init__(self) -> None:
        validate.choice("Histogram", "outside", self.outside, ("drop", "count"))
        if (self.categories is None) == (self.edges is None):
            raise InvalidParameter(
                "Histogram: cells must be declared by either categories or edges, got "
                f"{'neither' if self.edges is None else 'both'}. Categories taken from the data would reveal it."
            )
        if self.categories is not None:
            object.__setattr__(self, "categories", _categories(self.categories))
        if self.edges is not None:
            object.__setattr__(self, "edges", _edges(self.edges))
        checked_noise("Histogram", self.noise, tuple(NORMS), cells=self.cells)

    @property
    def cells(self) -> int:
        """How many counts are released."""
        declared = len(self.categories) if self.categories is not None else len(self.edges or ()) - 1
        return declared + (self.outside == "count")

    @property
    def contributions(self) -> Contributions:
        """A 1 in one cell."""
        return one_cell(NORMS[type(self.noise).__name__]) if self.cells > 1 else numbers(0, 1)

    @property
    def sensitivity(self) -> float:
        """1, in either norm."""
        return 1.0

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> Any:
        """Return the noisy counts, shape (cells,): float64, or what discrete noise gives; of no records, noise.

        Args:
            value: shape (n,): texts for text categories, else real numbers.
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Histogram", sensitivity)
        at = self._cell_of(value)
        declared = self.cells - (self.outside == "count")
        counts = np.bincount(at, minlength=declared + 1)[: self.cells]
        return self.noisy(counts.astype(np.int64), randomness)

    def _cell_of(self, value: Any) -> Array:
        """Return the cell of every record, one past the declared ones for what is in none."""
        if self.edges is not None:
            data, edges = _reals(value), np.array(self.edges)
            at = np.searchsorted(edges, data, side="right") - 1
            at = np.where(data == edges[-1], len(edges) - 2, at)
            return np.where((at < 0) | (at > len(edges) - 2) | np.isnan(data), len(edges) - 1, at)
        names = np.array(self.categories)
        if names.dtype.kind == "U":
            data = array("Histogram", value, kinds="U", what="texts")
            data = data if data.dtype.kind == "U" else data.astype("U")
        else:
            data, names = _reals(value), names.astype(np.float64)
        order = np.argsort(names)
        found = order[np.minimum(np.searchsorted(names[order], data), len(names) - 1)]
        return np.where(names[found] == data, found, len(names))


def _reals(value: Any) -> Array:
    with np.errstate(all="ignore"):
        return array("Histogram", value, kinds="biuf", what="real numbers").astype(np.float64)


def _listed(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise InvalidParameter(f"Histogram: {name} must be a sequence, got {given!r}.")
    return tuple(given)


def _categories(given: Any) -> tuple[Any, ...]:
    listed = _listed("categories", given)
    texts = all(isinstance(one, str) for one in listed)
    found: tuple[Any, ...] = tuple(map(str, listed))
    if not texts:
        found = tuple(validate.count("Histogram", "categories", one, least=1 - LARGEST_CATEGORY) for one in listed)
    if not found or len(set(found)) < len(found):
        raise InvalidParameter(f"Histogram: categories must be different, and one at least, got {listed!r}.")
    if texts and any(one.endswith("\0") or one in ("inf", "-inf") for one in found):
        raise InvalidParameter("Histogram: categories must not be 'inf' or '-inf', nor end in a NUL character.")
    if not texts and max(found) >= LARGEST_CATEGORY:
        raise InvalidParameter(f"Histogram: categories must be below 2**53 in size, got {listed!r}.")
    return found


def _edges(given: Any) -> tuple[float, ...]:
    found = tuple(validate.real("Histogram", "edges", one) for one in _listed("edges", given))
    if len(found) < 2 or not all(a < b for a, b in itertools.pairwise(found)):
        raise InvalidParameter(f"Histogram: edges must increase, and be two at least, got {found!r}.")
    return found
