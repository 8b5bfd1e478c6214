"""Two columns in a file, scores and membership, read without running, guessing or repeating anything that stands there.

Errors name what is wrong and no number of the file: scores are private.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from audit.scores import Coins, Values
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

COLUMNS = ("scores", "membership")
TRUTH = {"true": 1.0, "false": 0.0}
DAMAGED = (
    ValueError,
    EOFError,
    KeyError,
    OSError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading an archive raises that is damaged, encrypted, larger than memory, or none."""


def read_scores(path: Path) -> tuple[Values, Coins]:
    """Return scores and membership from a file, both (m,).

    Raises:
        InvalidParameter: if the file is none of the two kinds, is damaged, or holds something else.
        OSError: if it cannot be read.
    """
    ending = validate.choice("scores", "the ending of the file", path.suffix, (".npz", ".csv"))
    found = _from_npz(path) if ending == ".npz" else _from_csv(path)
    values, membership = (np.asarray(found[name]) for name in COLUMNS)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not len(values):
        raise InvalidParameter(
            f"scores: scores must be numbers of shape (m,), m >= 1, got {values.dtype} of shape {values.shape}."
        )
    if membership.shape != values.shape:
        raise InvalidParameter(
            f"scores: membership must have the shape of the scores, {values.shape}, got {membership.shape}."
        )
    if membership.dtype.kind not in "biuf" or not np.all((membership == 0) | (membership == 1)):
        raise InvalidParameter(
            f"scores: membership must be true or false, or 1 or 0, got {membership.dtype} with others."
        )
    with np.errstate(over="ignore"):  # what is not finite is refused as a score
        return values.astype(np.float64), membership.astype(np.bool_)


def _from_npz(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        try:
            with _archive(file) as arrays:
                for name in COLUMNS:
                    _check_once(path, name, arrays.zip.namelist())
                return {name: arrays[name] for name in COLUMNS}
        except InvalidParameter:
            raise
        except DAMAGED:
            raise InvalidParameter(
                f"scores: {path.name} must be a .npz file of plain arrays, and is none.\n"
                "Write it with numpy.savez(path, scores=..., membership=...), both arrays of numbers."
            ) from None


def _check_once(path: Path, name: str, members: list[str]) -> None:
    """Refuse an archive in which an array is missing, or stands twice, so that readers may disagree."""
    times = members.count(name) + members.count(f"{name}.npy")
    if times != 1:
        raise InvalidParameter(
            f"scores: {path.name} must hold the arrays scores and membership, once each, got {name} {times} times in "
            f"{sorted(members)}."
        )


def _archive(file: IO[bytes]) -> Any:
    """Return the arrays of an undamaged archive, read when asked for.

    Raises:
        ValueError: if it is no archive, or the sum of a part is not the one written down, which numpy never looks at.
    """
    arrays = np.load(file, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile) or arrays.zip is None or arrays.zip.testzip() is not None:
        raise ValueError
    return arrays


def _from_csv(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets begin with a mark of the byte order
            return _columns(path, csv.reader(lines, strict=True))
    except (ValueError, csv.Error) as error:
        if isinstance(error, InvalidParameter):
            raise
        raise InvalidParameter(
            f"scores: {path.name} must hold a line scores,membership and then two numbers a line, and does not."
        ) from None


def _columns(path: Path, rows: Iterable[list[str]]) -> dict[str, NDArray[Any]]:
    """Return the columns; lines go as they come, so that ten million take what their numbers take.

    Raises:
        ValueError: if a line holds anything but two numbers.
    """
    lines = iter(rows)
    heading = next(lines, [])
    if sorted(heading) != sorted(COLUMNS):  # not repeated: without a heading it holds somebody's score
        raise InvalidParameter(
            f"scores: the first line of {path.name} must be scores,membership, got {len(heading)} columns of other "
            "names."
        )
    scores, membership = array("d"), array("d")
    for row in lines:
        if not row:
            continue
        first, second = row if heading[0] == "scores" else reversed(row)
        scores.append(_number(first))
        word = second.strip().lower()
        membership.append(TRUTH[word] if word in TRUTH else _number(word))
    return {"scores": np.array(scores), "membership": np.array(membership)}


def _number(text: str) -> float:
    """Return the number, as files write it: Python would take 1_000 as well.

    >>> _number(" -1.5e3"), _number("nan")
    (-1500.0, nan)
    """
    if "_" in text:
        raise ValueError
    return float(text)
