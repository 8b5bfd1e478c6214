"""The figure of a comparison: every accountant's bracket on one axis, and its upper end as δ changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechanisms.core.command_line import at_most, outward

if TYPE_CHECKING:
    from accountant.compare import Comparison, Row

TEXT, FAINT, CLAIM, LOOSE, ESTIMATE = "#1a1a1a", "#8a8a8a", "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito
STYLES = ("-", "--", "-.", ":")
ROW_INCHES, DPI, FARTHEST = 0.34, 150, 1e4  # an upper end beyond so many times the least is drawn at the edge
NARROW = 1e-3  # relative width below which a bracket is a point to the eye


def figure(comparison: Comparison) -> Figure:
    """Return both panels."""
    rows = [row for row in comparison.rows if row.claim is not None or row.estimate is not None]
    drawn = Figure(figsize=(10.5, max(3.6, 1.5 + ROW_INCHES * len(rows))), dpi=DPI, layout="constrained")
    brackets, curves = drawn.subplots(1, 2, width_ratios=(1.25, 1.0))
    _brackets(brackets, rows)
    _curves(curves, comparison)
    drawn.suptitle(f"ε at δ = {comparison.delta:g}, {comparison.adjacency.value} neighbours", fontsize=11, color=TEXT)
    return drawn


def _brackets(axes: Axes, rows: list[Row]) -> None:
    uppers = [float(row.claim.upper) for row in rows if row.claim is not None and math.isfinite(row.claim.upper)]
    least = min((value for value in uppers if value > 0), default=1.0)
    edge = min(max(uppers, default=1.0), FARTHEST * least) * 1.3
    axes.set_xscale("log")
    for place, row in enumerate(rows):
        if row.claim is not None:
            lower, upper = float(row.claim.lower), float(row.claim.upper)
            shown = min(upper, edge)
            if lower > 0 and upper - lower > NARROW * upper:
                axes.plot([lower, shown], [place, place], color=CLAIM, linewidth=2, solid_capstyle="butt")
            axes.plot(shown, place, marker="|" if lower > 0 else "<", color=CLAIM if lower > 0 else LOOSE, markersize=8)
            label = outward(row.claim, 5) if lower > 0 else f"≤ {at_most(upper, 5)}"
        elif row.estimate is not None:
            shown, label = row.estimate.value, f"≈ {row.estimate.value:.5g}, no bound"
            axes.plot(shown, place, marker="x", color=ESTIMATE, markersize=6)
        axes.annotate(
            label, (max(shown, least / 3), place), (8, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(rows)), [row.accountant for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(least / 2, edge * 6)
    axes.set_xlabel("ε")
    axes.axvline(least, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes: Axes, comparison: Comparison) -> None:
    for place, (name, (deltas, _, upper)) in enumerate(comparison.curves().items()):
        kept = np.isfinite(upper) & (upper > 0)
        axes.plot(deltas[kept], upper[kept], label=name, linewidth=1.4, linestyle=STYLES[place % len(STYLES)])
    axes.axvline(comparison.delta, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("δ")
    axes.set_ylabel("upper end of ε")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
