"""Figures of plain numbers, and what all figures share: colours, a size that a phone can show, plain axes, PNG.

They draw what they are given and compute no evidence.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Scheme = Literal["light", "dark"]
WIDTH = 4.6  # inches: on a phone, 360 pixels wide, letters of 9 points are then 10 pixels high
SMALL, NORMAL = 8, 9  # points
DPI = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Colours that people who cannot tell red from green still tell apart (Okabe and Ito), for one background."""

    background: str
    text: str
    faint: str
    claim: str
    evidence: dict[str, str]

    @property
    def inside(self) -> str:
        """Of canaries that were in."""
        return self.evidence["primary"]

    @property
    def outside(self) -> str:
        """Of canaries that were out."""
        return self.claim


COLOURS: dict[Scheme, Colours] = {
    "light": Colours(
        background="#ffffff",
        text="#1a1a1a",
        faint="#8a8a8a",
        claim="#0072b2",
        evidence={"primary": "#d55e00", "refuter": "#009e73", "exploratory": "#8a8a8a"},
    ),
    "dark": Colours(
        background="#16181c",
        text="#e8e8e8",
        faint="#9a9a9a",
        claim="#56b4e9",
        evidence={"primary": "#e69f00", "refuter": "#2ac79b", "exploratory": "#9a9a9a"},
    ),
}


def blank(colours: Colours, *, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of that height, in inches, with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=colours.background, layout="constrained")
    return figure, figure.add_subplot(facecolor=colours.background)


def plain(axes: Axes, colours: Colours, *, sides: tuple[str, ...] = ("bottom", "left")) -> None:
    """Take away what says nothing, and colour the rest."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(colours.faint)
    axes.tick_params(which="both", colors=colours.text, labelsize=SMALL)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(colours.text)
        label.set_fontsize(NORMAL)
    axes.grid(axis="both" if "left" in sides else "x", color=colours.faint, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def legend(axes: Axes, colours: Colours, *, columns: int = 2) -> None:
    """Put the legend above the axes, where it covers nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        labelcolor=colours.text,
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.6,
    )


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def jaws_over_steps(
    *,
    steps: Sequence[float],
    claimed: Sequence[float],
    evidence: Sequence[float],
    unit: str = "steps",
    scheme: Scheme = "light",
) -> Figure:
    """Return the figure of the claim's upper end and of the evidence after each step; infinite ends are left out.

    Where steps are left out, points are marked and joined: nothing is known in between.

    Args:
        steps: (n,), rising.
        claimed: (n,), upper ends of ε.
        evidence: (n,), lower bounds of ε.
        unit: what is counted.
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    figure, axes = blank(colours, height=3.0)
    whole = len(steps) > 1 and all(late - early == 1 for early, late in pairwise(steps))
    told = (("claim, upper end", claimed, colours.claim), ("evidence", evidence, colours.evidence["primary"]))
    for label, ends, colour in told:
        drawn = [end if math.isfinite(end) else math.nan for end in ends]
        look: dict[str, Any] = {"drawstyle": "steps-post"} if whole else {"marker": "o", "markersize": 4}
        axes.plot(steps, drawn, color=colour, linewidth=1.6, label=label, **look)
    axes.set_xlabel(unit)
    axes.set_ylabel("privacy loss ε")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain(axes, colours)
    legend(axes, colours)
    return figure


def roc(
    *,
    false_positive_rate: Sequence[float],
    true_positive_rate: Sequence[float],
    alpha: Sequence[float] = (),
    allowed: Sequence[float] = (),
    logarithmic: bool = False,
    scheme: Scheme = "light",
) -> Figure:
    """Return the figure of a ROC curve beside the most that a certified trade-off curve allows.

    The certified curve is drawn by chords between its points. It is concave, so they lie on or below it.

    Args:
        false_positive_rate: (n,), not falling.
        true_positive_rate: (n,).
        alpha: (k,), where the certified curve is known, not falling.
        allowed: (k,), the largest true positive rates there.
        logarithmic: both axes, from the smallest rate above 0 seen, or .1.
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    figure, axes = blank(colours, height=3.9)
    least = min((rate for rate in (*false_positive_rate, *true_positive_rate) if rate > 0), default=1e-3)
    least = min(least, 0.1)  # scores that are all the same give no rate between 0 and 1
    if len(alpha):
        axes.plot(alpha, allowed, color=colours.claim, linewidth=1.6, label="claim allows")
        axes.fill_between(alpha, allowed, 1.0, color=colours.claim, alpha=0.1, linewidth=0)
    axes.plot(
        false_positive_rate,
        true_positive_rate,
        color=colours.evidence["primary"],
        linewidth=1.6,
        label="seen",
        drawstyle="steps-post",
    )
    diagonal = [least, 1.0] if logarithmic else [0.0, 1.0]
    axes.plot(diagonal, diagonal, color=colours.faint, linewidth=1, linestyle=(0, (4, 3)), label="by chance", zorder=1)
    scale = "log" if logarithmic else "linear"
    axes.set(xscale=scale, yscale=scale, xlim=(diagonal[0], 1.0), ylim=(diagonal[0], 1.0))
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_aspect("equal")
    plain(axes, colours)
    legend(axes, colours, columns=3)
    return figure


def score_histograms(
    *,
    edges: Sequence[float],
    included: Sequence[float],
    excluded: Sequence[float],
    expected_included: Sequence[float] = (),
    expected_excluded: Sequence[float] = (),
    unit: str = "",
    scheme: Scheme = "light",
) -> Figure:
    """Return the figure of the scores of canaries in and out, with lines for what the described run has on average.

    Args:
        edges: (n + 1,), of the bins.
        included: (n,), counts of canaries that were in.
        excluded: (n,), of those that were out.
        expected_included: (n,), means of these counts by the described law, or ().
        expected_excluded: likewise.
        unit: of the scores.
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    figure, axes = blank(colours, height=3.2)
    for label, counts, expected, colour, dashes in (
        ("in", included, expected_included, colours.inside, "-"),
        ("out", excluded, expected_excluded, colours.outside, (0, (4, 2))),
    ):
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35, label=label)
        if len(expected):
            middles = [(low + high) / 2 for low, high in pairwise(edges)]
            axes.plot(middles, expected, color=colour, linewidth=1.6, linestyle=dashes, label=f"{label}, as described")
    axes.set_xlabel(f"score, in {unit}" if unit else "score", parse_math=False)
    axes.set_ylabel("scores in a bin")
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain(axes, colours)
    legend(axes, colours)
    return figure


def wealth(
    *, looks: Sequence[float], log_wealth: Sequence[float], epsilon: float, confidence: float, scheme: Scheme = "light"
) -> Figure:
    """Return the figure of an e-process over its looks, with the line at which it refutes.

    Args:
        looks: (n,), rising.
        log_wealth: (n,), natural logarithms of the wealth; −inf, where all is lost, is left out.
        epsilon: the ε that is bet against.
        confidence: the wealth that refutes is 1/(1 − confidence).
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    figure, axes = blank(colours, height=3.0)
    drawn = [one / math.log(10) if math.isfinite(one) else math.nan for one in log_wealth]
    marker = "o" if len(drawn) == 1 else None
    axes.plot(looks, drawn, color=colours.evidence["primary"], linewidth=1.6, label="wealth", marker=marker)
    required = -math.log10(1 - confidence)
    axes.axhline(
        required, color=colours.claim, linewidth=1.4, linestyle=(0, (4, 3)), label=f"refutes, at {10**required:,.4g}"
    )
    axes.axhline(0.0, color=colours.faint, linewidth=0.8)
    axes.set_xlabel("looks")
    axes.set_ylabel(f"log₁₀ of wealth against ε = {epsilon:.4g}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain(axes, colours)
    legend(axes, colours)
    return figure
