"""Reports from outside: whatever is done to a document, it is refused by one clear error or read as a report."""

import copy
import json
from pathlib import Path

import pytest

from audit import AuditReport
from audit.core.findings import ReplayReport
from mechanisms import InvalidParameter

GOLDEN = json.loads((Path(__file__).parents[1] / "report-1.json").read_text(encoding="utf-8"))
BAD = (
    None,
    5,
    -1,
    True,
    "x",
    "inf",
    "-inf",
    [],
    {},
    [1],
    {"type": "LowerBound"},
    {"schema": "q"},
    float("nan"),
    10**400,
)


def places(value, path=()):
    """Yield the path to every part of a document, of lists the first two."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def spoilt(path, bad):
    document = copy.deepcopy(GOLDEN)
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = bad
    return json.dumps(document)


def test_every_field_of_another_kind_is_refused_or_makes_a_report_that_can_be_told():
    """Each place is spoilt in two of the ways, by turns."""
    refused = 0
    for number, path in enumerate(path for path in places(GOLDEN) if path):
        for bad in (BAD[number % len(BAD)], BAD[(3 * number + 1) % len(BAD)]):
            try:
                report = AuditReport.from_json(spoilt(path, bad))
            except InvalidParameter:
                refused += 1
                continue
            assert report.to_markdown() and AuditReport.from_json(report.to_json()) == report
    assert refused > 100


@pytest.mark.parametrize("kind", [AuditReport, ReplayReport])
@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"schema": NaN}', f'{{"schema": {"1" * 5_000}}}', None, 5, b"{}", "Infinity"],
    ids=["empty", "open", "deep", "nan", "long number", "None", "number", "bytes", "infinity"],
)
def test_what_is_no_document_is_refused(kind, text):
    with pytest.raises(InvalidParameter, match=f"{kind.__name__}: (JSON|schema) must be"):
        kind.from_json(text)


def test_a_report_that_is_nested_too_deep_is_refused():
    document = json.dumps(GOLDEN | {"report": 0}).replace("0}", "[" * 600 + "]" * 600 + "}")
    with pytest.raises(InvalidParameter, match="AuditReport: "):
        AuditReport.from_json(document)
