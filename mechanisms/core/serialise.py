"""Processes as JSON and back: `{"schema": "dp-calipers/process/1", "library": version, "process": {…}}`.

A node is `{"type": class name, field: value, …}`. Only the known kinds of node are built, never anything that a
file names freely; floats are written so that they come back bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from mechanisms.core.discover import implementations
from mechanisms.core.documents import read_document
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.group import Group
from mechanisms.core.per_user import PerUser
from mechanisms.core.process import Allocated, Compose, Process, Repeat, Sampled
from mechanisms.core.sampling import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson, WithReplacement
from mechanisms.core.stopping import PoissonRuns, TruncatedNegativeBinomial
from mechanisms.core.version import VERSION

SCHEMA = "dp-calipers/process/1"
NODES = (Compose, Repeat, Sampled, Allocated, Group, PerUser)
SCHEMES = (Poisson, TruncatedPoisson, FixedSize, WithReplacement, Shuffled, BallsInBins)
STOPPING = (TruncatedNegativeBinomial, PoissonRuns)


def to_json(process: Process) -> str:
    """Return `process` as JSON text.

    >>> from mechanisms import Gaussian
    >>> from_json(to_json(Repeat(Gaussian(noise_multiplier=0.1), 3)))
    Repeat(part=Gaussian(noise_multiplier=0.1), times=3)
    """
    return json.dumps({"schema": SCHEMA, "library": VERSION, "process": _encode(process)}, allow_nan=False)


def from_json(text: str) -> Process:
    """Return the process that `to_json` wrote.

    Raises:
        InvalidParameter: if the text is no JSON, or a schema, type or field is not known: it is named.
    """
    found = read_document("from_json", text, schema=SCHEMA)
    try:
        process = _decode(found.get("process"))
    except RecursionError:
        raise InvalidParameter("from_json: the document must nest no deeper than Python's stack.") from None
    if not isinstance(process, Process):
        raise InvalidParameter(f"from_json: {type(process).__name__} is no process.")
    return process


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _known() -> dict[str, Any]:
    """Return every kind of node that a document may name."""
    found = implementations("mechanisms", Process)
    return {kind.__name__: kind for kind in (*NODES, *SCHEMES, *STOPPING, *found.values())}


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if value in ("inf", "-inf"):
        return float(value)
    if not isinstance(value, dict):
        return value
    known = _known()
    kind = known.get(str(value.get("type")))
    if kind is None:
        raise InvalidParameter(f"from_json: type must be one of {', '.join(sorted(known))}, got {value.get('type')!r}.")
    given = {name: _decode(item) for name, item in value.items() if name != "type"}
    expected = {field.name for field in dataclasses.fields(kind)}
    later = {field.name for field in dataclasses.fields(kind) if field.metadata.get("added_later")}
    if not expected - later <= set(given) <= expected:
        raise InvalidParameter(
            f"from_json: {kind.__name__} must have the fields {sorted(expected)}, got {sorted(given)}."
        )
    return kind(**given)
