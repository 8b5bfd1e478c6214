"""Input perturbation of a table: every record's row released under local differential privacy, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.local import only_replace_one, only_unit_sensitivity
from mechanisms.core.process import Adjacency, Compose, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.local_categories import LocalCategories
from mechanisms.local_noise import LocalNoise


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedTable(Mechanism):
    """Release every cell of a table by the mechanism of its column.

    Another row may differ in all of its cells, so that the process is the composition of the columns under
    replace-one; what is made of the released table costs nothing more. The number of rows is public.

    Args:
        names: the columns' names, texts, all different.
        columns: as many `LocalNoise` and `LocalCategories`, in that order.

    Raises:
        InvalidParameter: if a name or a column breaks its rule.

    >>> from mechanisms import Laplace, RandomizedResponse
    >>> table = PerturbedTable(
    ...     names=("age", "member"),
    ...     columns=(
    ...         LocalNoise(low=0.0, high=120.0, mechanism=Laplace(noise_multiplier=2.0)),
    ...         LocalCategories(labels=("no", "yes"), mechanism=RandomizedResponse(epsilon=1.0)),
    ...     ),
    ... )
    >>> len(table.distributed().parts)
    2
    """

    names: tuple[str, ...]
    columns: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        for field in ("names", "columns"):
            value = getattr(self, field)
            if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
                raise InvalidParameter(f"PerturbedTable: {field} must be a sequence, got {value!r}.")
            object.__setattr__(self, field, tuple(value))
        proper = all(isinstance(name, str) and name not in ("", "inf", "-inf") for name in self.names)
        if not proper or len(set(self.names)) < len(self.names):
            raise InvalidParameter(
                "PerturbedTable: names must be texts, all different, none of them '', 'inf' or '-inf', "
                f"got {self.names}."
            )
        if len(self.columns) != len(self.names) or not self.names:
            raise InvalidParameter(
                f"PerturbedTable: columns must be one for each name, {len(self.names)}, got {len(self.columns)}."
            )
        for name, column in zip(self.names, self.columns, strict=True):
            if not isinstance(column, (LocalNoise, LocalCategories)):
                raise InvalidParameter(
                    f"PerturbedTable: column {name!r} must be LocalNoise(...) or LocalCategories(...), got {column!r}."
                )

    def distributed(self) -> Compose:
        """Return the composition of the columns."""
        return Compose(self.columns)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pair of all columns together, where there is one of closed form.

        Raises:
            UnsupportedProcess: under any adjacency but replace-one, or where there is none: accountants compose the
            columns themselves.
        """
        only_replace_one("PerturbedTable", adjacency)
        return Compose(self.columns).pairs(adjacency)

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the table in the kind it came in, its cells released; columns that are not declared are an error.

        | value | returned |
        |---|---|
        | dict from name to n cells | dict from name to an array, shape (n,), or (n, k) for bits |
        | list of n dicts from name to cell | list of n dicts of plain values; bits are a list |
        | structured array, shape (n,) | structured array, shape (n,); bits are a sub-array of shape (k,) |

        Guarantees: those of the columns' own releases; rows stay in their order. Numbers out of range are clamped,
        NaN and labels that are not declared are replaced as the column declares, or refused.

        Args:
            value: the table.
            sensitivity: must be 1: the columns say how far apart two rows are.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the table has other columns or their lengths differ, or a column refuses a cell; cells
            are not shown.

        >>> from mechanisms import KeyedSource, Laplace
        >>> age = LocalNoise(low=0.0, high=120.0, mechanism=Laplace(noise_multiplier=1e-6))
        >>> table = PerturbedTable(names=("age",), columns=(age,))
        >>> released = table.release([{"age": 33}, {"age": 150}], randomness=KeyedSource(0))
        >>> [round(row["age"]) for row in released]
        [33, 120]
        """
        only_unit_sensitivity("PerturbedTable", "row", sensitivity)
        cells, columns = self._cells(value), dict(zip(self.names, self.columns, strict=True))
        clean = {name: _clean(name, column, cells[name]) for name, column in columns.items()}  # before any noise
        released = {
            name: np.asarray(column.release(clean[name], sensitivity=1.0, randomness=randomness))
            for name, column in columns.items()
        }
        if isinstance(value, np.ndarray):
            return _structured(released)
        return released if isinstance(value, Mapping) else _rows(released)

    def _cells(self, value: Any) -> dict[str, Any]:
        """Return the cells of every column, all columns as long as each other."""
        if isinstance(value, np.ndarray) and value.dtype.names and value.ndim == 1:
            self._check_names(value.dtype.names)
            return {name: value[name] for name in self.names}
        if isinstance(value, Mapping):
            self._check_names(value)
            cells = {name: value[name] for name in self.names}
            lengths = {_length(column) for column in cells.values()}
            if None in lengths or len(lengths) != 1:
                raise InvalidParameter("PerturbedTable: columns of a table must be sequences of the same length.")
            return cells
        if isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value):
            for row in value:
                self._check_names(row)
            return {name: [row[name] for row in value] for name in self.names}
        raise InvalidParameter(
            "PerturbedTable: value must be a dict from name to cells, a list of dicts from name to cell, or a "
            f"structured array of one dimension, got {type(value).__name__}."
        )

    def _check_names(self, given: Iterable[Any]) -> None:
        if set(given) != set(self.names):
            raise InvalidParameter(
                f"PerturbedTable: columns must be those declared, {', '.join(map(repr, self.names))}, and no others. "
                "Drop the others: what is not declared is not released."
            )


def _length(column: Any) -> int | None:
    """Return how many cells there are, None where they are no sequence."""
    sized = isinstance(column, Sized) and not isinstance(column, (str, bytes, Set, Mapping))
    return len(column) if sized and getattr(column, "shape", (0,)) != () else None


def _clean(name: str, column: Mechanism, cells: Any) -> Any:
    """Return a column's cells as it takes them; its refusal names the column."""
    try:
        if isinstance(column, LocalCategories):
            return column.declared(cells)
        numbers = cast(LocalNoise, column).clamped(cells)
    except InvalidParameter as error:
        raise InvalidParameter(f"PerturbedTable: column {name!r} is refused.\n{error}") from None
    if numbers.ndim != 1:
        raise InvalidParameter(f"PerturbedTable: column {name!r} must hold one number a row.")
    return numbers


def _structured(released: dict[str, NDArray[Any]]) -> NDArray[Any]:
    kinds = [(name, cells.dtype, cells.shape[1:]) for name, cells in released.items()]
    table = np.empty(len(next(iter(released.values()))), dtype=kinds)
    for name, cells in released.items():
        table[name] = cells
    return table


def _rows(released: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    columns = [cells.tolist() for cells in released.values()]
    return [dict(zip(released, row, strict=True)) for row in zip(*columns, strict=True)]
