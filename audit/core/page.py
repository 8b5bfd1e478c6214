"""The report as one web page that needs nothing else: no script, no link, the figure inside, light and dark."""

from __future__ import annotations

import base64
from html import escape
from string import Template

from audit.core.plots import Scheme, png
from audit.core.printed import DIGITS
from audit.core.rows import HEADINGS, RULE, Row, facts, meaning, rows, shown, summary, warnings
from audit.plots import Drawing, drawings
from audit.report import AuditReport
from mechanisms import __version__
from mechanisms.core.command_line import at_most

SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
TONES = {"consistent": "calm", "violated": "bad", "description refuted": "bad", "none": "neutral"}
# Not <picture>: a browser that shows its dark source prints that too.
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --faint: #5c5c5c; --line: #d8d8d8;
        --calm: #00694f; --bad: #b03a00; --neutral: #5c5c5c; }
.by-day { display: block; } .by-night { display: none; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181c; --faint: #a8a8a8; --line: #3a3d42; --calm: #2ac79b; --bad: #ff9a4d;
          --neutral: #a8a8a8; }
  img.by-day { display: none; } img.by-night { display: block; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 52rem;
       margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-size: 1.3rem; font-weight: 600; border-left: .4rem solid; padding-left: .8rem; }
.calm { color: var(--calm); } .bad { color: var(--bad); } .neutral { color: var(--neutral); }
.warning { border-left: 4px solid var(--bad); padding-left: .8rem; }
.scroll { overflow-x: auto; overflow-wrap: normal; } .scroll td { white-space: nowrap; }
figure { margin: 1.5rem 0; } img { width: 34rem; max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
.pairs th { width: 30%; min-width: 7rem; font-weight: 600; }
@media (max-width: 34rem) { .pairs th, .pairs td { display: block; width: auto; }
  .pairs th { border-bottom: none; padding-bottom: 0; } .pairs td { padding-top: 0; }
  .scroll thead, .scroll td:empty { display: none; } .scroll td { border: none; padding: 0; white-space: normal; }
  .scroll tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; padding: .35rem 0; border-bottom: 1px solid var(--line); }
  .scroll td:first-child { flex-basis: 100%; font-weight: 600; } .scroll td:nth-child(3)::before { content: "ε "; }
  .scroll td:nth-child(4)::before { content: "ratio "; } .scroll td:nth-child(5)::before { content: "level "; } }
figcaption, footer, .faint { color: var(--faint); font-size: .85rem; }
@page { margin: 1.5cm; }
@media print { body { font-size: 10pt; max-width: none; padding: 0; } img { width: 11cm; }
  h2 { break-after: avoid; } figure, tr, .verdict, .warning { break-inside: avoid; }
  .scroll { overflow: visible; font-size: .9em; } .scroll td { white-space: normal; } }
"""

FIGURE = Template("""<figure>
<img class="by-day" alt="$caption" src="data:image/png;base64,$light">
<img class="by-night" alt="$caption" src="data:image/png;base64,$dark">
<figcaption>$caption</figcaption>
</figure>""")

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
<p id="verdict" class="verdict $tone">Verdict: $verdict</p>
<p>$meaning</p>
<p>Claimed: ε is at most $upper. $shown</p>
$warnings
<table class="pairs"><tbody>
$summary
</tbody></table>
$figures
<h2>Claims and evidence</h2>
<div class="scroll"><table>
<thead><tr>$headings</tr></thead>
<tbody>
$rows
</tbody></table></div>
<p class="faint">$rule</p>
<h2>How it was made</h2>
<table class="pairs"><tbody>
$facts
</tbody></table>
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
    cost = "" if seconds is None else f" The run took {seconds:.0f} s of processor time."
    return PAGE.substitute(
        style=STYLE,
        verdict=escape(report.verdict),
        tone=TONES[report.verdict],
        meaning=escape(meaning(report)),
        upper=at_most(report.claim.upper, DIGITS),
        shown=escape(shown(report)),
        warnings="\n".join(f'<p class="warning">{escape(note)}</p>' for note in warnings(report)),
        summary=_pairs(summary(report, seconds=seconds)),
        figures="\n".join(_figure(draw, caption) for draw, caption in drawings(report)),
        headings="".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS),
        rows="\n".join(_table_row(row) for row in rows(report)),
        rule=escape(RULE),
        facts=_pairs(facts(report)),
        footer=escape(f"dp-calipers {__version__}.{cost}"),
    )


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in pairs)


def _figure(draw: Drawing, caption: str) -> str:
    """Return the picture, or, where it cannot be drawn, that it is missing: the numbers stand without it."""
    try:
        light, dark = (_inline(png(draw(scheme))) for scheme in SCHEMES)
    except Exception as error:
        told = f"A picture could not be drawn ({type(error).__name__}): {caption}"
        return f'<p class="warning">{escape(told)}</p>'
    return FIGURE.substitute(light=light, dark=dark, caption=escape(caption))


def _inline(picture: bytes) -> str:
    return base64.b64encode(picture).decode("ascii")


def _table_row(row: Row) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + "</tr>"
