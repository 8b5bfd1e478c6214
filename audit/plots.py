"""The figure of a report, both jaws on one ε axis: claims from above, evidence from below; and that of a bench."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT

from audit.core import plots
from audit.core.plots import COLOURS, SMALL, Colours, Scheme
from audit.core.printed import DIGITS, confidently
from audit.core.risk_plot import candidate_risk
from audit.core.rows import roles, was_asked
from audit.evidence import GUARANTEES
from audit.pictures import Pictures
from mechanisms.core.command_line import at_least, outward

if TYPE_CHECKING:
    from audit.coverage import Coverage
    from audit.report import AuditReport

ROOM = 1.45  # the axis runs to so many times the larger of claim and evidence; what lies beyond is marked at the edge
ROW_INCHES = 0.5
HEAD = 9  # points, of an arrow
BENCH_DPI = 150
Drawing = Callable[[Scheme], Figure]
BRACKET = "Claims and evidence on one axis of ε: bands from proofs, arrows from attacks. Verdict: {verdict}."
JAWS = (
    "Both jaws as the run went on: the upper end of the claim up to there, and the evidence by then. Of one run, every "
    "point holds by itself and the last alone decides; of a stream, all hold together."
)
RISK = (
    "How often candidates were guessed right, with both limits, beside the most that the claimed process allows any "
    "attack. Only a lower limit above the cross refutes the description."
)
WEALTH = (
    "Bets against one ε: wealth that reaches the dashed line refutes it, whenever one looks. The bound asks that of "
    "every smaller ε as well."
)
ROC = (
    "How well the scores tell canaries that were in from those that were out, beside the most that the claimed process "
    "allows; shaded is what it rules out. The scores' own curve scatters and may cross the claim's by chance: it is no "
    "evidence."
)
LOGARITHMIC = "The same where false alarms are rare. To the left a few scores make the curve."
HISTOGRAM = (
    "The scores of canaries in and out. Lines, if any, are what the described noise and samples have on average, for "
    "canaries that do not touch one another."
)
MOST_LEVELS = 4  # the axis of false claims runs to so many times the level


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the figure: a band [lower, upper] for a claim, an arrow from 0 for evidence, which has no upper."""

    label: str
    lower: float
    upper: float | None
    colour: str
    value: str


def bracket(report: AuditReport, *, scheme: Scheme = "light") -> Figure:
    """Return the figure: for every accountant the band of ε that it leaves, for every estimator what it has shown.

    Args:
        report: what to draw.
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    lines = _lines(report, colours)
    reach = _reach(report)
    figure, axes = plots.blank(colours, height=0.8 + ROW_INCHES * len(lines))
    if report.claim.upper < reach:
        axes.axvline(report.claim.upper, color=colours.claim, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.text(report.claim.upper, -0.75, "claim", ha="center", va="bottom", fontsize=SMALL, color=colours.claim)
    for place, line in enumerate(lines):
        _draw(axes, place, line, reach)
        axes.annotate(
            line.value,
            (0, place - 0.24),
            (3, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=SMALL,
            color=colours.text,
            bbox={"facecolor": colours.background, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
    axes.set_yticks(range(len(lines)), [line.label for line in lines], parse_math=False)
    axes.set_ylim(len(lines) - 0.4, -0.7)
    axes.set_xlim(0, reach)
    axes.set_xlabel(f"privacy loss ε at δ = {report.claim.delta:g}, {report.claim.adjacency} neighbours")
    plots.plain(axes, colours, sides=("bottom",))
    axes.tick_params(axis="y", length=0, pad=HEAD + 2)  # at ε = 0 the head of an arrow lies left of the axis
    axes.xaxis.label.set_fontsize(SMALL)
    return figure


def drawings(report: AuditReport) -> tuple[tuple[Drawing, str], ...]:
    """Return (what draws it, caption) for all that the report can show, the bracket first."""

    def jaws_and_claims(scheme: Scheme) -> Figure:
        return bracket(report, scheme=scheme)

    found: list[tuple[Drawing, str]] = [(jaws_and_claims, BRACKET.format(verdict=report.verdict))]
    seen = report.pictures or Pictures()
    for picture, draw, caption in (
        (seen.jaws, plots.jaws_over_steps, JAWS),
        (seen.wealth, plots.wealth, WEALTH),
        (seen.roc, plots.roc, ROC),
        (seen.roc, partial(plots.roc, logarithmic=True), LOGARITHMIC),
        (seen.histogram, plots.score_histograms, HISTOGRAM),
        (seen.risk, candidate_risk, RISK),
    ):
        if picture is not None:
            numbers = {field.name: getattr(picture, field.name) for field in fields(picture)}
            found.append((partial(_by_scheme, draw, numbers), caption))
    return tuple(found)


def _by_scheme(draw: Callable[..., Figure], numbers: dict[str, Any], scheme: Scheme) -> Figure:
    return draw(**numbers, scheme=scheme)


def png(report: AuditReport, *, scheme: Scheme) -> bytes:
    """Return the figure as a PNG file, the same bytes for the same report."""
    return plots.png(bracket(report, scheme=scheme))


def _lines(report: AuditReport, colours: Colours) -> list[Line]:
    claims = [
        Line(
            label=answer.name,
            lower=answer.claim.lower,
            upper=answer.claim.upper,
            colour=colours.claim,
            value=outward(answer.claim, DIGITS),
        )
        for answer in report.accountants
        if answer.claim is not None
    ]
    return claims + [
        Line(
            label=f"{bound.method}\n({role}, {bound.guarantee})",
            lower=bound.epsilon,
            upper=None,
            colour=colours.evidence[role],
            value=f"≥ {at_least(bound.epsilon, DIGITS)} at {confidently(bound.confidence)}",
        )
        for role, bound in roles(report)
        if was_asked(report, role)
    ]


def _reach(report: AuditReport) -> float:
    ends = [report.claim.upper, *(bound.epsilon for _, bound in roles(report))]
    largest = max((end for end in ends if math.isfinite(end)), default=0.0)
    return ROOM * largest if largest > 0 else 1.0


def _draw(axes: Axes, place: int, line: Line, reach: float) -> None:
    if line.upper is None:
        end = min(line.lower, reach)
        axes.plot([0, end], [place, place], color=line.colour, linewidth=3, solid_capstyle="butt", zorder=2)
        axes.plot([end], [place], marker=CARETRIGHT, markersize=HEAD, color=line.colour, clip_on=False, zorder=3)
        return
    end = min(line.upper, reach)
    axes.barh(
        place, end - line.lower, left=line.lower, height=0.4, color=line.colour, alpha=0.25, linewidth=0, zorder=2
    )
    axes.plot([line.lower] * 2, [place - 0.2, place + 0.2], color=line.colour, linewidth=1.5, zorder=3)
    if line.upper <= reach:
        axes.plot([end], [place], marker=CARETLEFT, markersize=HEAD, color=line.colour, zorder=3)
    else:
        axes.annotate(
            "beyond",
            (reach, place),
            (-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=SMALL,
            color=line.colour,
        )


def false_claims(coverage: Coverage) -> Figure:
    """Return the figure of a test bench: every rate of false claims, and how much of ε = 4 is shown.

    Filled: laws that a guarantee is about; open: others. Rates above the axis stand at its edge.

    Args:
        coverage: what the bench found.
    """
    from audit.core.coverage_rows import power

    colours, level = COLOURS["light"], 1 - coverage.confidence
    kinds = dict(zip(GUARANTEES, ("#0072b2", "#009e73", "#cc79a7", "#e69f00"), strict=True))
    names = [name for name in dict.fromkeys(one.auditor for one in coverage.trials) if coverage.of(name)]
    figure = Figure(figsize=(9.2, 1.4 + 0.24 * len(names)), dpi=BENCH_DPI, facecolor=colours.background)
    rates, shares = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1.0))
    rates.axvline(level, color=colours.text, linewidth=1, linestyle=(0, (4, 3)))
    for place, name in enumerate(names):
        for one in coverage.of(name):
            at = min(one.rate or 0.0, MOST_LEVELS * level)
            face = kinds[one.guarantee] if one.inside else "none"
            beyond = (one.rate or 0.0) > MOST_LEVELS * level
            rates.plot(
                [at],
                [place],
                marker=CARETRIGHT if beyond else "o",
                markersize=6 if beyond else 4,
                color=kinds[one.guarantee],
                markerfacecolor=face,
                alpha=0.7,
                linewidth=0,
                clip_on=False,
            )
        best = power(coverage, name, 4.0)
        if best is not None and best.mean_bound is not None and math.isfinite(best.mean_bound):
            shares.barh(place, best.mean_bound / best.epsilon, height=0.6, color=kinds[best.guarantee])
    for kind, colour in kinds.items():
        rates.plot([], [], marker="o", linewidth=0, markersize=5, color=colour, label=kind)
    rates.plot(
        [], [], marker="o", linewidth=0, markersize=5, color=colours.text, markerfacecolor="none", label="outside"
    )
    figure.legend(loc="upper center", ncols=len(kinds) + 1, fontsize=8, frameon=False, labelcolor=colours.text)
    rates.set_yticks(range(len(names)), names)
    rates.set_ylim(len(names) - 0.4, -0.6)
    rates.set_xlim(0, MOST_LEVELS * level)
    rates.set_xlabel(f"share of false claims (dashed: the level, {level:.3g})")
    shares.set_xlim(0, 1.05)
    shares.set_xlabel("mean bound ÷ true ε, at ε = 4")
    for axes in (rates, shares):
        axes.set_facecolor(colours.background)
        plots.plain(axes, colours, sides=("bottom",))
        axes.tick_params(axis="y", length=0)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure
