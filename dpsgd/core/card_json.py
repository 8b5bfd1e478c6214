"""Privacy cards as JSON: `{"schema": "dp-calipers/card/1", "library": …, "card": …}`, infinities as text."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from accountant import Claim, ErrorLine
from dpsgd.budget import Budget
from dpsgd.card import Circumstances, PrivacyCard
from dpsgd.config import DPSGD
from mechanisms import InvalidParameter, __version__
from mechanisms.core.documents import read_document
from mechanisms.core.process import Adjacency

SCHEMA = "dp-calipers/card/1"
CLAIM = ("lower", "upper", "delta", "adjacency", "accountant", "ledger")


def to_json(card: PrivacyCard) -> str:
    """Return the card as JSON text."""
    claim = card.claim
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(PrivacyCard)} | {
        "config": json.loads(card.config.to_json()),
        "claim": {
            "lower": _number(claim.lower),
            "upper": _number(claim.upper),
            "delta": claim.at,
            "adjacency": claim.adjacency.value,
            "accountant": claim.method,
            "ledger": [dataclasses.asdict(line) | {"bound": _number(line.bound)} for line in claim.ledger],
        },
        "circumstances": dataclasses.asdict(card.circumstances) | {"forms": dict(card.circumstances.forms)},
        "versions": dict(card.versions),
    }
    document = {"schema": SCHEMA, "library": __version__, "card": fields}
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1)


def from_json(text: str) -> PrivacyCard:
    """Return the card that `to_json` wrote.

    Raises:
        InvalidParameter: if the text is no JSON, or a schema or field is not known: it is named.
    """
    given = _exactly(read_document("PrivacyCard", text, schema=SCHEMA).get("card"), "card", _fields(PrivacyCard))
    circumstances = _with_later(given["circumstances"], Circumstances)
    circumstances = _exactly(circumstances, "circumstances", _fields(Circumstances))
    if circumstances["budget"] is not None:
        budget = _exactly(circumstances["budget"], "budget", _fields(Budget))
        circumstances = circumstances | {"budget": Budget(**budget)}
    return PrivacyCard(
        **given
        | {
            "config": DPSGD.from_json(json.dumps(given["config"])),
            "claim": _claim(given["claim"]),
            "circumstances": Circumstances(**circumstances),
            "versions": _exactly(given["versions"], "versions"),
        }
    )


def _claim(value: object) -> Claim:
    given = _exactly(value, "claim", CLAIM)
    lines = [_exactly(line, "ledger", _fields(ErrorLine)) for line in given["ledger"]]
    return Claim(
        lower=_float(given["lower"]),
        upper=_float(given["upper"]),
        quantity="epsilon",
        at=_float(given["delta"]),
        adjacency=Adjacency.parse(given["adjacency"]),
        method=given["accountant"],
        ledger=tuple(ErrorLine(**line | {"bound": _float(line["bound"])}) for line in lines),
    )


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _with_later(value: object, kind: Any) -> object:
    """Return `value` with the defaults of fields that the first files lack."""
    later = {field.name: field.default for field in dataclasses.fields(kind) if field.metadata.get("added_later")}
    return later | value if isinstance(value, dict) else value


def _exactly(value: object, name: str, fields: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return `value` if it is an object with just these fields, any where none are given.

    Raises:
        InvalidParameter: otherwise.
    """
    if not isinstance(value, dict):
        raise InvalidParameter(f"PrivacyCard: {name} must be a JSON object, got {value!r}.")
    if fields is not None and set(value) != set(fields):
        raise InvalidParameter(f"PrivacyCard: {name} must have the fields {sorted(fields)}, got {sorted(value)}.")
    return value


def _number(value: Any) -> float | str:
    number = float(value)
    return str(number) if math.isinf(number) else number


def _float(value: object) -> float:
    if value == "inf" or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return float(value)
    raise InvalidParameter(f"PrivacyCard: JSON must have a number here, or 'inf', got {value!r}.")
