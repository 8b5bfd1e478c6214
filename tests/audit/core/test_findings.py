import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.core.findings import KINDS, ReplayFinding, ReplayReport
from mechanisms import InvalidParameter

GOLDEN = Path(__file__).with_name("replay-1.json")
EXAMPLE = ReplayReport(
    neighbours=2,
    runs=10,
    compared=3,
    moved=2,
    apart=1,
    findings=(
        ReplayFinding(kind="sensitivity", where="a record added, key 0", claimed=1.0, seen=math.inf, message="too far"),
        ReplayFinding(kind="draws", where="a record added, key 1", claimed=None, seen=None, message="drawn otherwise"),
    ),
)
words = st.text(max_size=4)
amounts = st.none() | st.floats(min_value=0.0, allow_nan=False)
findings = st.builds(
    ReplayFinding, kind=st.sampled_from(list(KINDS)), where=words, claimed=amounts, seen=amounts, message=words
)
counts = st.integers(0, 10**6)


@given(
    st.builds(
        ReplayReport,
        neighbours=counts,
        runs=counts,
        compared=counts,
        moved=counts,
        apart=counts,
        findings=st.lists(findings, max_size=3),
    )
)
def test_a_report_survives_json_bit_for_bit(report):
    assert ReplayReport.from_json(report.to_json()) == report


def test_the_first_schema_loads_for_ever():
    assert ReplayReport.from_json(GOLDEN.read_text()) == EXAMPLE


def test_the_text_names_every_finding_and_says_what_it_proves():
    text = str(EXAMPLE)
    assert "2 findings" in text and "too far [a record added, key 0]" in text
    assert "1 not compared, as the runs had parted" in text and "Without one nothing is proved" in text
    assert EXAMPLE.kinds == ("sensitivity", "draws") and EXAMPLE.found


def changed(**changes):
    document = json.loads(EXAMPLE.to_json())
    return json.dumps(document | changes)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "JSON must be well formed"),
    ("[]", "schema must be 'dp-calipers/replay/1', got None"),
    (changed(schema="dp-calipers/replay/9"), "got 'dp-calipers/replay/9'"),
    (changed(replay={"runs": 1}), "ReplayReport must have the fields"),
    (changed(replay=[]), "got list"),
])  # fmt: skip
def test_other_documents_are_refused_by_name(text, message):
    with pytest.raises(InvalidParameter, match=message):
        ReplayReport.from_json(text)


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "luck"}, "kind must be one of"),
    ({"claimed": -1.0}, "claimed must be at least 0, got -1"),
    ({"seen": math.nan}, "seen must be a number, got nan"),
])  # fmt: skip
def test_findings_that_are_none_are_refused(change, message):
    fields = {"kind": "noise", "where": "", "claimed": None, "seen": None, "message": ""}
    with pytest.raises(InvalidParameter, match=message):
        ReplayFinding(**(fields | change))
