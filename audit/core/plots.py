"""What all figures share: colours for light and dark surroundings, a size that a phone can show, plain axes, PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
