import dataclasses
import re
from pathlib import Path

import pytest

from audit import AuditReport
from audit.core.markdown import markdown
from audit.core.rows import HEADINGS, facts, rows, summary

HOSTILE = "a | b\n# c <img src=x> [d](e) ![f][g] `h` *i* _j_ \\ &amp; k_l"


@pytest.fixture(scope="module")
def report():
    return AuditReport.from_json((Path(__file__).parents[1] / "report-1.json").read_text())


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_says_the_verdict_first_and_all_that_the_page_says(report):
    text = markdown(report, seconds=12.3)
    assert text.startswith("# Privacy audit: consistent\n\n**Verdict: consistent.**")
    assert text.endswith("\n") and "12 s of processor time" in text and "> reproducible: not private" in text
    tables = [[cells(line) for line in lines.splitlines()] for lines in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    assert [len(table) - 2 for table in tables] == [len(summary(report)), len(rows(report)), len(facts(report))]
    assert all(len({len(line) for line in table}) == 1 for table in tables)
    assert tables[1][0] == list(HEADINGS)


def test_what_comes_from_outside_stays_text_in_one_cell(report):
    text = markdown(dataclasses.replace(report, data=HOSTILE))
    (line,) = (line for line in text.splitlines() if line.startswith("| data"))
    assert len(cells(line)) == 2
    assert re.sub(r"\\(.)", r"\1", cells(line)[1]) == " ".join(HOSTILE.split())
    assert not re.search(r"(?<!\\)[<*`#&]|(?<!\\)\]\(|(?<!\\)\]\[", line)
    assert "k_l" in line


def test_faults_are_told_before_anything_is(report):
    faulty = dataclasses.replace(report, verdict="none", faults=("training raised ValueError",))
    assert "> No verdict, for training raised ValueError." in markdown(faulty)
    assert "| fault | training raised ValueError |" in markdown(faulty)


def test_saved_markdown_is_the_text(report, tmp_path):
    report.save(tmp_path / "report.md", seconds=1)
    assert (tmp_path / "report.md").read_text() == report.to_markdown(seconds=1)
