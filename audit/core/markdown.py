"""The report as Markdown, for an issue, a pull request or a model card; what comes from outside is shown as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from audit.core.rows import HEADINGS, RULE, facts, meaning, rows, shown, summary, warnings
from audit.report import AuditReport
from mechanisms import __version__

SPECIAL = re.compile(r"[\\`*<>|&~$#]|](?=[(\[])|(?<!\w)_|_(?!\w)")


def markdown(report: AuditReport, *, seconds: float | None = None) -> str:
    """Return the report as Markdown text with tables that ends with a line break.

    Args:
        report: what to tell.
        seconds: what the run took, or None to leave it out.
    """
    parts = (
        f"# Privacy audit: {report.verdict}",
        f"**Verdict: {report.verdict}.** {_text(meaning(report))}",
        _text(shown(report)),
        *(f"> {_text(note)}" for note in warnings(report)),
        _table(("in short", ""), summary(report, seconds=seconds)),
        "## Claims and evidence",
        _table(HEADINGS, (row.cells for row in rows(report))),
        _text(RULE),
        "## How it was made",
        _table(("what", ""), facts(report)),
        f"dp-calipers {__version__}",
    )
    return "\n\n".join(parts) + "\n"


def _table(headings: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    return "\n".join((_line(headings), "|" + " --- |" * len(headings), *map(_line, lines)))


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(_text, cells)) + " |"


def _text(value: str) -> str:
    """Return words that no reader of Markdown takes for anything else."""
    return SPECIAL.sub(lambda found: "\\" + found[0], " ".join(value.split()))
