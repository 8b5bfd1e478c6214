"""Reports as JSON and back: `{"schema": "dp-calipers/report/1", "library": version, "digest": …, "report": {…}}`.

The digest is the SHA-256 of the report: an edit by hand, or a damaged file, is noticed. It has no key, and so proves
nothing against those who write another one; documents of an earlier day have none.

A value of a class of ours is `{"type": class name, field: value, …}`, a process the document that
`mechanisms.to_json` writes. Floats come back bit for bit; infinities are strings. No time, path or machine is in it:
what the audit cost is left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from typing import Any

from accountant import Claim, ErrorLine
from audit.candidates import CandidateGuesses, Risk
from audit.core.parsing import check_kind
from audit.evidence import LowerBound, estimators
from audit.pictures import JawsPath, Pictures, RiskCurve, RocCurve, ScoreHistogram, WealthPath
from audit.report import AccountantAnswer, AuditReport, FailedEstimator
from audit.scores import IndependentRuns, OneRun, Stream
from mechanisms import Adjacency, InvalidParameter, Process
from mechanisms import __version__ as library
from mechanisms import from_json as process_from_json
from mechanisms import to_json as process_to_json
from mechanisms.core.documents import read_document

SCHEMA = "dp-calipers/report/1"
KINDS = {
    kind.__name__: kind
    for kind in (
        AuditReport,
        AccountantAnswer,
        FailedEstimator,
        Claim,
        ErrorLine,
        LowerBound,
        OneRun,
        IndependentRuns,
        Stream,
        Pictures,
        ScoreHistogram,
        RocCurve,
        JawsPath,
        WealthPath,
        RiskCurve,
        Risk,
        CandidateGuesses,
    )
}


def to_json(report: AuditReport) -> str:
    """Return `report` as indented JSON text that ends with a line break."""
    encoded = _encode(report)
    document = {"schema": SCHEMA, "library": library, "digest": digest(encoded), "report": encoded}
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def from_json(text: str) -> AuditReport:
    """Return the report that `to_json` wrote.

    Raises:
        InvalidParameter: if the text is no JSON, or a schema, type or field is not known, or of another kind: it is
            named; or if the report was changed since.
    """
    found = read_document("AuditReport", text, schema=SCHEMA)
    try:
        report = _decode(found.get("report"))
    except RecursionError:
        raise InvalidParameter("AuditReport: the document must not be nested that deep.") from None
    if not isinstance(report, AuditReport):
        raise InvalidParameter(f"AuditReport: the document must hold a report, got {type(report).__name__}.")
    if "digest" in found and found["digest"] != digest(found["report"]):
        raise InvalidParameter(
            "AuditReport: the document must have the digest of its report, and has another: it was changed."
        )
    return report


def digest(report: Any) -> str:
    """Return the hash of a report that is JSON already."""
    return hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Any:
    if isinstance(value, Process):
        return json.loads(process_to_json(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        told = [field.name for field in dataclasses.fields(value) if field.compare]
        fields = {name: _encode(getattr(value, name)) for name in told}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if value in ("inf", "-inf"):
        return float(value)
    if not isinstance(value, dict):
        return value
    if "schema" in value:
        return process_from_json(json.dumps(value))
    kind = KINDS.get(str(value.get("type")))
    if kind is None:
        raise InvalidParameter(f"AuditReport: type must be one of {', '.join(KINDS)}, got {value.get('type')!r}.")
    given = {name: _decode(item) for name, item in value.items() if name != "type"}
    if kind is LowerBound and "about" not in given:
        given["about"] = _about(str(given.get("method")))
    fields = [field for field in dataclasses.fields(kind) if field.compare]
    expected = {field.name for field in fields}
    due = {field.name for field in fields if field.default is dataclasses.MISSING}  # the others may be of a later day
    if not due <= set(given) <= expected:
        raise InvalidParameter(
            f"AuditReport: {kind.__name__} must have the fields {sorted(expected)}, got {sorted(given)}."
        )
    if "adjacency" in given:
        given["adjacency"] = Adjacency.parse(given["adjacency"])
    hints = typing.get_type_hints(kind) | ({"lower": float, "upper": float} if kind is Claim else {})
    for name, item in given.items():
        check_kind(f"{kind.__name__}: {name}", item, hints[name])
    return kind(**given)


def _about(method: str) -> str:
    """Return what a bound is about that was written before bounds said so."""
    kinds = estimators()
    return kinds[method].about if method in kinds else "any computation"
