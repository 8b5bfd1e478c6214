import numpy as np
import pytest

from audit.core.ordering import Ordering

CASES = [(1, 1, 0.0, 0.05, 0.05), (30, 50, 0.02, 0.0025, 0.05), (60, 60, 0.0, 0.9, 0.9), (7, 3, 0.3, 0.05, 0.05)]


def table(order):
    """What every pair of counts suggests, by false negatives and false positives."""
    return order.suggested(np.arange(order.included + 1)[:, None], np.arange(order.excluded + 1)[None, :])


@pytest.fixture(params=CASES, ids=str)
def order(request):
    names = ("included", "excluded", "delta", "edge_level", "sum_level")
    return Ordering(**dict(zip(names, request.param, strict=True)))


def test_no_error_more_suggests_more(order):
    suggested = table(order)
    assert np.all(np.diff(suggested, axis=0) <= 0) and np.all(np.diff(suggested, axis=1) <= 0)


def test_a_region_holds_the_counts_that_suggest_enough(order):
    suggested = table(order)
    for least in (-30.0, -1.0, 0.0, 0.5, suggested.max() - 1e-9, suggested.max() + 1e-9):
        np.testing.assert_array_equal(order.region(least), (suggested[::-1] >= least).sum(axis=1))


def test_the_edges_solve_their_quadratic():
    """By halving on the defining inequality, at a level for the sum that keeps the third bound out of the way."""
    order = Ordering(included=80, excluded=120, delta=0.01, edge_level=0.05, sum_level=1e-12)
    from scipy.stats import beta

    for missed, alarms in [(20, 2), (40, 0), (3, 60), (0, 30)]:
        x, y = missed / 80, alarms / 120
        mx = beta.ppf(0.95, missed + 1, 80 - missed) - x
        my = beta.ppf(0.95, alarms + 1, 120 - alarms) - y

        def largest(x, mx, y, my):
            grid = np.exp(np.linspace(-8, 8, 320_001))
            holds = x + grid * y + np.hypot(mx, grid * my) <= 0.99
            return np.log(grid[holds][-1]) if holds.any() else -np.inf

        expected = max(largest(x, mx, y, my), largest(y, my, x, mx))
        assert order.suggested(missed, alarms) == pytest.approx(expected, abs=1e-4)


def test_swapping_the_two_worlds_changes_nothing():
    one = Ordering(included=30, excluded=50, delta=0.01, edge_level=0.02, sum_level=0.05)
    other = Ordering(included=50, excluded=30, delta=0.01, edge_level=0.02, sum_level=0.05)
    np.testing.assert_allclose(table(one), table(other).T, rtol=1e-12)
