"""Files of a test bench: what was found, beside what was asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.trials import Trial
from mechanisms import __version__ as library
from mechanisms.core.documents import document_text, read_document
from mechanisms.core.files import write_atomically

CELL = "dp-calipers/coverage-cell/1"


def kept(path: Path, asked: dict[str, Any], found: Callable[[], Any]) -> Any:
    """Return what the file says, if it was asked the same, or more simulations; else find it and write it there."""
    before = earlier(path, asked)
    return keep(path, asked, found()) if before is None else before


def earlier(path: Path, asked: dict[str, Any]) -> Any:
    """Return what the file says, if it was asked the same, or more simulations, else None."""
    if not path.exists():
        return None
    document = read(path, CELL)
    before, none = document["asked"], {"simulations": 0}
    more = before.get("simulations", 0) >= asked.get("simulations", 0)
    return decode(document["found"]) if more and before | none == asked | none else None


def keep(path: Path, asked: dict[str, Any], found: Any) -> Any:
    """Write what was found, and return it as it will be read."""
    document = {"schema": CELL, "library": library, "asked": asked, "found": encode(found)}
    write_atomically(path, (json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n").encode())
    return decode(document["found"])


def read(path: Path, schema: str) -> dict[str, Any]:
    """Return the document of a file.

    Raises:
        InvalidParameter: if it is of another schema, or no text.
    """
    text = document_text("coverage", path)
    return read_document(f"coverage, {path.name}", text, schema=schema)


def read_trial(found: dict[str, Any]) -> Trial:
    """Return a trial from its document."""
    return Trial(**(decode(found) | {"entropy": tuple(found["entropy"])}))


def encode(value: Any) -> Any:
    """Return a value as JSON can hold it, infinities as strings."""
    if isinstance(value, dict):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


def decode(value: Any) -> Any:
    """Return what `encode` was given, lists for tuples."""
    if isinstance(value, dict):
        return {name: decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return math.inf if value == "inf" else value
