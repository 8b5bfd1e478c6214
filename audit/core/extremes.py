"""Records that find what ordinary ones don't: not finite, huge, tiny, far away, or there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """Two datasets that differ in one record.

    Args:
        name: what the record is, for the report.
        one: with the record, or with one record in its place.
        other: without it, or with another one in its place.
    """

    name: str
    one: Any
    other: Any


def extreme_records(like: ArrayLike) -> dict[str, Rows]:
    """Return records of the shape and type of `like`, a float array, by what they are.

    >>> sorted(extreme_records(np.zeros(2)))[:3]
    ['NaN', 'NaN in one place', 'both infinities']
    """
    shape, kind = np.shape(like), np.asarray(like).dtype
    if kind.kind != "f":
        raise InvalidParameter(f"extreme_records: like must be an array of floats, got {kind}.")
    span, alternating = np.finfo(kind), np.resize([1.0, -1.0], shape)
    one_place = np.zeros(shape, kind)
    one_place.flat[:1] = np.nan
    numbers = {
        "NaN": np.nan,
        "infinity": np.inf,
        "minus infinity": -np.inf,
        "both infinities": np.inf * alternating,
        "largest": span.max,
        "largest, alternating": float(span.max) * alternating,
        "smallest": span.smallest_subnormal,
        "zero": 0.0,
        "minus zero": -0.0,
        "far away": 1e6 * alternating,
    }
    return {"NaN in one place": one_place} | {name: np.full(shape, x, kind) for name, x in numbers.items()}


def array_neighbours(records: ArrayLike, *, adjacency: Adjacency | str, nothing: float = 0.0) -> tuple[Neighbours, ...]:
    """Return neighbours made of `records` and of extreme ones: the record that differs comes last.

    Under add_remove also a record that is there already, once more, and one record against none.

    Args:
        records: float (n,) or (n, …), n >= 1.
        adjacency: how the datasets differ.
        nothing: what a record that is zeroed out holds everywhere, under zero_out: it must contribute nothing.

    Raises:
        InvalidParameter: if there is no record, or they are no floats.

    >>> pair = array_neighbours(np.ones((3, 2)), adjacency="add_remove")[0]
    >>> pair.name, pair.one.shape, pair.other.shape
    ('NaN in one place added', (4, 2), (3, 2))
    """
    relation, base = Adjacency.parse(adjacency), np.array(records)
    if base.ndim == 0 or not len(base):
        raise InvalidParameter("array_neighbours: records must have shape (n,) or (n, ...) with n >= 1.")
    extremes = extreme_records(base[0])
    if relation is Adjacency.ADD_REMOVE:
        more = extremes | {"the first record again": base[0], "its opposite": -base[0]}
        added = [Neighbours(name=f"{name} added", one=_with(base, row), other=base) for name, row in more.items()]
        alone = [("a record", base[0]), ("NaN", extremes["NaN"]), ("far away", extremes["far away"])]
        empty = [
            Neighbours(name=f"{name} alone, or nothing", one=_with(base[:0], x), other=base[:0]) for name, x in alone
        ]
        return (*added, *empty)
    replaced = extremes | {"its opposite": -base[-1]}
    if relation is Adjacency.ZERO_OUT:
        zeroed = _with(base[:-1], np.full_like(base[0], nothing))
        every = {"a record": base[-1], **replaced}
        return tuple(
            Neighbours(name=f"{name} zeroed out", one=_with(base[:-1], row), other=zeroed)
            for name, row in every.items()
        )
    return tuple(
        Neighbours(name=f"{name} in its place", one=_with(base[:-1], row), other=base) for name, row in replaced.items()
    )


def _with(rows: Rows, last: Rows) -> Rows:
    return np.concatenate([rows, np.asarray(last, rows.dtype)[None]])
