import dataclasses
import json
from pathlib import Path

import pytest

from audit import AuditReport
from audit.core.cost import Cost, Stopwatch
from audit.core.rows import summary
from mechanisms import InvalidParameter

GOLDEN = (Path(__file__).parent / "cost-1.json").read_text()
COST = Cost(runs=4, training_seconds=2.5, attack_seconds=0.25, seconds=3.75, wall_seconds=4.0)


@pytest.fixture(scope="module")
def report():
    return AuditReport.from_json((Path(__file__).parents[1] / "report-1.json").read_text())


def test_the_first_cost_ever_written_still_loads_and_comes_back():
    assert Cost.from_json(GOLDEN) == COST == Cost.from_json(COST.to_json())


def test_what_an_audit_cost_changes_neither_the_report_nor_a_byte_of_its_json(report):
    """So that a sweep that is resumed, on another machine, gives the same file."""
    told = dataclasses.replace(report, cost=COST)
    assert told == report and hash(told) == hash(report) and told.to_json() == report.to_json()
    assert AuditReport.from_json(told.to_json()).cost is None


def test_page_and_markdown_say_what_it_cost(report):
    told = dataclasses.replace(report, cost=COST)
    assert str(COST) in dict(summary(told))["cost"] and str(COST) in told.to_markdown()
    assert "by the clock" not in report.to_markdown()


def test_training_is_what_the_attack_does_not_take(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("audit.core.cost.time.process_time", lambda: float(next(clock)))
    watch = Stopwatch()
    with watch.training():  # from 1 to 6
        for _ in range(2):  # from 2 to 3 and from 4 to 5
            with watch.attacking():
                pass
    assert (watch.training_seconds, watch.attack_seconds) == (3.0, 2.0)
    assert watch.cost.seconds == 7.0


def test_time_counts_though_a_run_ends_in_an_error(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("audit.core.cost.time.process_time", lambda: float(next(clock)))
    watch = Stopwatch()
    with pytest.raises(ValueError), watch.training(), watch.attacking():
        raise ValueError
    assert (watch.training_seconds, watch.attack_seconds) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON must be well formed"),
        ("[]", "schema must be 'dp-calipers/cost/1', got None"),
        (GOLDEN.replace("cost/1", "cost/9"), "schema must be"),
        (GOLDEN.replace('"runs": 4,', ""), "must have the fields"),
        (GOLDEN.replace("2.5", "-2.5"), "training_seconds must be at least 0"),
        (json.dumps({"schema": "dp-calipers/cost/1", "cost": 3}), "must have the fields .*, got int"),
    ],
)
def test_a_cost_that_is_none_is_refused(text, message):
    with pytest.raises(InvalidParameter, match=f"Cost: .*{message}"):
        Cost.from_json(text)
