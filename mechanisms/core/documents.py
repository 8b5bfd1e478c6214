"""JSON from outside, read strictly: the one way in for processes, configurations, cards, reports and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from mechanisms.core.errors import InvalidParameter


def read_document(owner: str, text: str, *, schema: str) -> dict[str, Any]:
    """Return the object that JSON text holds, which names its schema.

    JSON has no NaN, and we write infinities as strings. Whatever the text is, there is one error: also for numbers of
    thousands of digits, which Python's reader answers with a bare ValueError, and for lists nested beyond its stack.

    Args:
        owner: who reads, for messages.
        text: of the document.
        schema: that it must name.

    Raises:
        InvalidParameter: if the text is no JSON, or no object of that schema.

    >>> read_document("Cost", '{"schema": "a/1", "seconds": 2}', schema="a/1")
    {'schema': 'a/1', 'seconds': 2}
    """
    if not isinstance(text, str):
        raise InvalidParameter(f"{owner}: JSON must be text, got {type(text).__name__}.")
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"{owner}: JSON must be well formed, but {error}.") from None
    given = found.get("schema") if isinstance(found, dict) else None
    if given != schema:
        told = repr(given) if isinstance(given, str) or given is None else type(given).__name__
        raise InvalidParameter(f"{owner}: schema must be {schema!r}, got {told}.")
    return dict(found)


def document_text(owner: str, path: Path) -> str:
    """Return the text of a file that is to hold a JSON document.

    Args:
        owner: who reads, for messages.
        path: of the file.

    Raises:
        InvalidParameter: if it is no text.
        OSError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidParameter(f"{owner}: {path.name} must be JSON text, and is none.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
