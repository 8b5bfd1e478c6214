"""What replay found: findings and their report, as text and as JSON.

`{"schema": "dp-calipers/replay/1", "library": version, "replay": {…}}`; infinities are strings.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.documents import read_document
from mechanisms.core.errors import InvalidParameter

SCHEMA = "dp-calipers/replay/1"
KINDS = {
    "elsewhere": (
        "two runs on the same data under the same randomness differ: some randomness comes from elsewhere, or numbers "
        "are added in an order that changes, as threads may do"
    ),
    "error": "one of two neighbours ends in an error that the other does not",
    "form": "types, keys, words or shapes of what is released depend on a record",
    "draws": "what is drawn depends on a record",
    "steps": "the number of releases depends on a record",
    "start": "the first weights depend on a record",
    "not finite": "a record turns what is released into NaN or infinity",
    "sensitivity": "one record moves the release by more than is claimed",
    "noise": "how far a record moves the release depends on the noise, so the noise depends on the record",
}
PROVES = (
    "A finding is a counterexample: under these very streams two neighbours differ as the description says they never "
    "do, whatever the noise; but if two runs on the same data differ, neighbours are not compared to the last digit. "
    "Without one nothing is proved: other records or streams, and too little noise, go unseen."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFinding:
    """One way in which two neighbours, run under the same randomness, differ beyond what is described.

    Args:
        kind: a key of `KINDS`, which says what it means.
        where: neighbours, key and step.
        claimed: the most that is claimed, >= 0; None where nothing is measured.
        seen: what was seen, >= 0; None likewise.
        message: the finding in words.

    Raises:
        InvalidParameter: if the kind is none, or a number is negative or NaN.
    """

    kind: str
    where: str
    claimed: float | None
    seen: float | None
    message: str

    def __post_init__(self) -> None:
        validate.choice("ReplayFinding", "kind", self.kind, tuple(KINDS))
        for name in ("claimed", "seen"):
            value = getattr(self, name)
            if value is not None and validate.real("ReplayFinding", name, value) < 0:
                raise InvalidParameter(f"ReplayFinding: {name} must be at least 0, got {value}.")

    def __str__(self) -> str:
        return f"{self.kind}: {self.message} [{self.where}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay looked at and found; see `PROVES` for what that proves.

    Args:
        neighbours: pairs of datasets replayed.
        runs: of the computation, in all.
        compared: releases of two neighbours held against the claim: those under equal streams from equal weights.
        moved: those of them that differed at all: 0 says that no record took part, and nothing was tested.
        apart: releases that were not, because the runs had parted.
        findings: in the order found; of each kind at most one for each pair of datasets.

    >>> ReplayReport(neighbours=2, runs=10, compared=4, moved=2, apart=0, findings=()).found
    False
    """

    neighbours: int
    runs: int
    compared: int
    moved: int
    apart: int
    findings: tuple[ReplayFinding, ...]

    def __post_init__(self) -> None:
        for name in ("neighbours", "runs", "compared", "moved", "apart"):
            object.__setattr__(self, name, validate.count("ReplayReport", name, getattr(self, name)))
        object.__setattr__(self, "findings", tuple(self.findings))

    @property
    def found(self) -> bool:
        """Whether there is a finding."""
        return bool(self.findings)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds found, each once, in the order found."""
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))

    def __str__(self) -> str:
        seen = f"{self.compared} releases of {self.neighbours} neighbours compared, {self.moved} differed"
        left = f", {self.apart} not compared, as the runs had parted" if self.apart else ""
        lines = [
            f"replay: {len(self.findings)} findings in {self.runs} runs; {seen}{left}",
            *(f"  {one}" for one in self.findings),
            PROVES,
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the report as indented JSON text that ends with a line break."""
        document = {"schema": SCHEMA, "library": library, "replay": _encode(self)}
        return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ReplayReport:
        """Return the report that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema or field is not known: it is named.
        """
        given = _exactly(cls, read_document("ReplayReport", text, schema=SCHEMA).get("replay"))
        found = validate.sequence("ReplayReport", "findings", given["findings"])
        return cls(**given | {"findings": tuple(_finding(one) for one in found)})


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _finding(value: object) -> ReplayFinding:
    given = _exactly(ReplayFinding, value)
    decoded: dict[str, Any] = {name: math.inf if item == "inf" else item for name, item in given.items()}
    return ReplayFinding(**decoded)


def _exactly(kind: type[Any], value: object) -> dict[str, Any]:
    expected = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(value, dict) or set(value) != expected:
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise InvalidParameter(f"ReplayReport: {kind.__name__} must have the fields {sorted(expected)}, got {got}.")
    return value
