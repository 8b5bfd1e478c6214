import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from audit.core import plots
from audit.core.plots import COLOURS

FALSE_RATE, TRUE_RATE = (0.0, 0.01, 0.2, 1.0), (0.0, 0.1, 0.6, 1.0)
DRAWN = {
    "jaws": lambda **more: plots.jaws_over_steps(
        steps=(1, 500, 100_000), claimed=(0.5, 2.0, 12.345), evidence=(0.0, 0.1, 1.0), **more
    ),
    "roc": lambda **more: plots.roc(
        false_positive_rate=FALSE_RATE, true_positive_rate=TRUE_RATE, alpha=(0.0, 1.0), allowed=(0.2, 1.0), **more
    ),
    "logarithmic roc": lambda **more: plots.roc(
        false_positive_rate=FALSE_RATE,
        true_positive_rate=TRUE_RATE,
        alpha=(0.0, 0.5, 1.0),
        allowed=(0.2, 0.9, 1.0),
        logarithmic=True,
        **more,
    ),
    "histogram": lambda **more: plots.score_histograms(
        edges=(-200.0, 0.0, 300.0),
        included=(10, 12_345),
        excluded=(9_876, 5),
        expected_included=(10.0, 12_000.0),
        expected_excluded=(9_000.0, 5.0),
        unit="clip norms",
        **more,
    ),
    "wealth": lambda **more: plots.wealth(
        looks=(1, 2, 3), log_wealth=(0.0, -1.0, 90.0), epsilon=1.23456, confidence=0.9999, **more
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_words_overlap_or_leave_the_figure_and_axes_are_named(name):
    figure = DRAWN[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xlabel() and axes.get_ylabel()
    legend = axes.get_legend()
    seen = [
        label
        for place, axis in enumerate((axes.xaxis, axes.yaxis))
        for low, high in [sorted(axis.get_view_interval())]
        for label in axis.get_ticklabels()
        if label.get_text() and low <= label.get_position()[place] <= high
    ]
    assert len(seen) >= 4
    words = [*seen, axes.xaxis.label, axes.yaxis.label, *legend.get_texts()]
    boxes = [word.get_window_extent(canvas.get_renderer()) for word in words]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    inside = axes.get_window_extent(canvas.get_renderer())
    assert all(text.get_window_extent().y0 >= inside.y1 for text in legend.get_texts())
    assert min(word.get_fontsize() for word in words) * 360 / (72 * plots.WIDTH) >= 8.5  # pixels on a phone


@pytest.mark.parametrize("name", DRAWN)
def test_each_scheme_has_its_own_paper(name):
    for scheme, colours in COLOURS.items():
        figure = DRAWN[name](scheme=scheme)
        assert to_hex(figure.get_facecolor()) == to_hex(figure.axes[0].get_facecolor()) == colours.background


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_jaws_are_the_numbers_given_and_infinite_ends_are_left_out():
    drawn = lines(plots.jaws_over_steps(steps=(1, 2, 3), claimed=(1.0, 2.0, math.inf), evidence=(0.0, 0.5, 0.7)))
    np.testing.assert_array_equal(drawn["claim, upper end"].get_ydata(), [1.0, 2.0, math.nan])
    np.testing.assert_array_equal(drawn["evidence"].get_ydata(), [0.0, 0.5, 0.7])


def test_one_step_is_seen_as_a_dot():
    for figure in (
        plots.jaws_over_steps(steps=(1,), claimed=(1.0,), evidence=(0.5,)),
        plots.wealth(looks=(1,), log_wealth=(0.1,), epsilon=1.0, confidence=0.95),
    ):
        assert figure.axes[0].get_lines()[0].get_marker() == "o"


def test_wealth_refutes_on_the_line_and_ruin_is_left_out():
    drawn = lines(plots.wealth(looks=(1, 2), log_wealth=(math.log(20), -math.inf), epsilon=1.0, confidence=0.95))
    assert drawn["refutes, at 20"].get_ydata()[0] == pytest.approx(drawn["wealth"].get_ydata()[0])
    assert math.isnan(drawn["wealth"].get_ydata()[1])


def test_a_curve_without_a_claim_is_drawn_alone():
    assert set(lines(plots.roc(false_positive_rate=FALSE_RATE, true_positive_rate=TRUE_RATE))) == {"seen", "by chance"}


def test_logarithmic_axes_begin_at_the_smallest_rate_seen():
    axes = DRAWN["logarithmic roc"]().axes[0]
    assert (axes.get_xscale(), axes.get_xlim(), axes.get_ylim()) == ("log", (0.01, 1.0), (0.01, 1.0))


def test_words_from_outside_are_no_formulas():
    figure = plots.score_histograms(edges=(0.0, 1.0), included=(1,), excluded=(2,), unit=r"$\frac{$")
    plots.png(figure)
    assert figure.axes[0].get_xlabel() == r"score, in $\frac{$"


def test_scores_that_are_all_the_same_have_a_curve_on_either_scale():
    for logarithmic in (False, True):
        figure = plots.roc(false_positive_rate=(0.0, 1.0), true_positive_rate=(0.0, 1.0), logarithmic=logarithmic)
        assert figure.axes[0].get_xlim()[0] < 1 == figure.axes[0].get_xlim()[1]
