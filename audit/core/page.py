"""The report as one web page that needs nothing else: no script, no link, the figure inside, light and dark."""

from __future__ import annotations

import base64
from html import escape
from string import Template

from audit.core.rows import DIGITS, HEADINGS, Row, ceiling_note, facts, meaning, rows
from audit.plots import Scheme, png
from audit.report import AuditReport
from mechanisms import __version__
from mechanisms.core.command_line import at_least, at_most

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --faint: #666666; --line: #d8d8d8;
        --good: #00694f; --bad: #b03a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181c; --faint: #a0a0a0; --line: #3a3d42; --good: #2ac79b; --bad: #ff9a4d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 52rem;
       margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-size: 1.3rem; font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.warning { border-left: 4px solid var(--bad); padding-left: .8rem; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
footer, .faint { color: var(--faint); font-size: .85rem; }
"""

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Privacy audit: $verdict</title>
<style>$style</style>
</head>
<body>
<h1>Privacy audit</h1>
<p class="verdict $tone">Verdict: $verdict</p>
<p>$meaning</p>
<p>Claimed: ε is at most $upper. Shown by the primary evidence: ε is at least $shown.</p>
$warnings
<picture>
<source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,$dark">
<img alt="$caption" src="data:image/png;base64,$light">
</picture>
<h2>Claims and evidence</h2>
<div class="scroll"><table>
<thead><tr>$headings</tr></thead>
<tbody>
$rows
</tbody></table></div>
<p class="faint">The verdict follows from the primary evidence, which alone can show a violation, and from the refuter,
which alone can refute the description; both were named before the run. Exploratory bounds decide nothing.</p>
<h2>How it was made</h2>
<div class="scroll"><table><tbody>
$facts
</tbody></table></div>
<footer><p>$footer</p></footer>
</body>
</html>
""")


def page(report: AuditReport, *, seconds: float | None) -> str:
    """Return the page as HTML text.

    Args:
        report: what to show.
        seconds: what the run took, or None to leave it out.
    """
    warnings = [note for note in (*map(_fault, report.faults), ceiling_note(report), _stamp(report)) if note]
    cost = "" if seconds is None else f" The run took {seconds:.0f} s of processor time."
    return PAGE.substitute(
        style=STYLE,
        verdict=escape(report.verdict),
        tone="bad" if report.verdict in ("violated", "description refuted") else "good",
        meaning=escape(meaning(report)),
        upper=at_most(report.claim.upper, DIGITS),
        shown=at_least(report.evidence.epsilon, DIGITS),
        warnings="\n".join(f'<p class="warning">{escape(note)}</p>' for note in warnings),
        caption=escape(f"Claims and evidence on one axis of ε. Verdict: {report.verdict}."),
        light=_inline(report, "light"),
        dark=_inline(report, "dark"),
        headings="".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS),
        rows="\n".join(_table_row(row) for row in rows(report)),
        facts="\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts(report)),
        footer=escape(f"dp-calipers {__version__}.{cost}"),
    )


def _fault(fault: str) -> str:
    return f"No verdict, for {fault}."


def _stamp(report: AuditReport) -> str:
    if not report.reproducible:
        return ""
    return "reproducible: not private. Noise and coins were made with a key that others may know."


def _inline(report: AuditReport, scheme: Scheme) -> str:
    return base64.b64encode(png(report, scheme=scheme)).decode("ascii")


def _table_row(row: Row) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + "</tr>"
