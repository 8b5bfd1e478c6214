"""The figure of candidates guessed right against the most that a claim allows."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from audit.core.plots import COLOURS, Scheme, blank, legend, plain

RARE = 0.05  # blind guesses right less often are drawn on logarithmic axes


def candidate_risk(
    *,
    blind: Sequence[float],
    allowed: Sequence[float],
    at: float,
    limit: float,
    success: float,
    share: float,
    most: float,
    scheme: Scheme = "light",
) -> Figure:
    """Return the figure of the share of right guesses, with its limits, over the chance of a blind guess.

    Args:
        blind: (n,), chances of a blind guess, not falling; () where no curve is known.
        allowed: (n,), the most that the claim allows there.
        at: the candidates' own chance of a blind guess.
        limit: what the claim allows at these.
        success: lower limit of the probability of a right guess.
        share: of right guesses among those made.
        most: upper limit.
        scheme: for light or dark surroundings.
    """
    colours = COLOURS[scheme]
    figure, axes = blank(colours, height=3.4)
    least = at / 10 if at < RARE else 0.0
    if len(blind):
        axes.plot(blind, allowed, color=colours.claim, linewidth=1.6, label="claim allows")
        axes.fill_between(blind, allowed, 1.0, color=colours.claim, alpha=0.1, linewidth=0)
    ends = [max(least, 1e-6), 1.0] if least else [0.0, 1.0]
    axes.plot(ends, ends, color=colours.faint, linewidth=1, linestyle=(0, (4, 3)), label="blind", zorder=1)
    axes.plot(
        [at], [limit], marker="X", markersize=7, color=colours.claim, linestyle="none", label="most, here", zorder=3
    )
    axes.errorbar(
        [at],
        [share],
        yerr=[[max(0.0, share - success)], [max(0.0, most - share)]],
        color=colours.evidence["primary"],
        marker="o",
        markersize=4,
        capsize=4,
        linewidth=1.6,
        linestyle="none",
        label="guessed right",
        zorder=4,
    )
    scale = "log" if least else "linear"
    axes.set(xscale=scale, yscale=scale, xlim=ends, ylim=(ends[0], 1.0))
    axes.set_xlabel("chance that a blind guess is right, κ")
    axes.set_ylabel("chance that a guess is right")
    plain(axes, colours)
    legend(axes, colours, columns=4)
    return figure
