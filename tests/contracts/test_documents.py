"""Whatever a text is, every reader of documents answers with its one error."""

import pytest

pytest.importorskip("torch")

from audit import AuditReport
from audit.core.cost import Cost
from audit.core.findings import ReplayReport
from audit.core.run_config import RunConfig
from dpsgd import DPSGD, PrivacyCard
from mechanisms import InvalidParameter, from_json

READERS = {
    "process": from_json,
    **{kind.__name__: kind.from_json for kind in (AuditReport, Cost, ReplayReport, RunConfig, DPSGD, PrivacyCard)},
}
NO_DOCUMENTS = {
    "nothing": ("", "JSON must be well formed"),
    "a number of 5,000 digits": (f'{{"schema": {"9" * 5000}}}', "JSON must be well formed"),
    "lists in lists": ("[" * 100_000, "JSON must be well formed"),
    "NaN": ('{"schema": NaN}', "NaN is no number of JSON"),
    "bytes": (b"{}", "JSON must be text, got bytes"),
    "None": (None, "JSON must be text, got NoneType"),
    "a list": ("[]", "schema must be 'dp-calipers/.*', got None"),
    "another schema": ('{"schema": "dp-calipers/none/1"}', "schema must be '.*', got 'dp-calipers/none/1'"),
    "a list as schema": ('{"schema": ["dp-calipers/none/1"]}', "schema must be '.*', got list"),
}


@pytest.mark.parametrize("text", NO_DOCUMENTS)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_document_is_refused_by_one_error(reader, text):
    given, message = NO_DOCUMENTS[text]
    with pytest.raises(InvalidParameter, match=message):
        READERS[reader](given)
