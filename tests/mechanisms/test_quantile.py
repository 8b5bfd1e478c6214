"""Quantiles: the law by enumeration, and the privacy loss that neighbours really have."""

import itertools
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import InvalidParameter, KeyedSource, PureDP, Repeat
from mechanisms.core.bounds import Bounds
from mechanisms.quantile import STEPS, Quantile, Runs
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

positions = st.lists(st.sampled_from((0, 1, 2, 3, 7, STEPS // 2, STEPS - 1, STEPS)), max_size=8)
quantiles = st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.9, 1.0))


def distance(points, target, at):
    """d of one grid point, from its definition."""
    below, upto = sum(x < at for x in points), sum(x <= at for x in points)
    return max(Fraction(0), below - target, target - upto)


def log_law(quantile, points, epsilon, at):
    """The log-probabilities of the grid points `at`."""
    target = Fraction(quantile) * len(points)
    held = sorted(set(points))
    ends = [-1, *held, STEPS + 1]
    runs = [(x, 1) for x in held] + [(a + 1, b - a - 1) for a, b in itertools.pairwise(ends) if b - a > 1]
    with mp.workdps(40):
        half = mp.mpf(epsilon) / 2

        def weight(x):
            d = distance(points, target, x)
            return -half * d.numerator / d.denominator

        total = mp.log(mp.fsum(n * mp.exp(weight(x)) for x, n in runs))
        return [weight(x) - total for x in at]


# The runs


@given(positions, quantiles)
def test_runs_cover_every_point_once_at_its_own_distance(points, quantile):
    runs, target = Runs.of(np.array(points, dtype=np.int64)), Fraction(quantile) * len(points)
    order = np.argsort(runs.starts)
    starts, lengths = runs.starts[order], runs.lengths[order]
    assert starts[0] == 0 and np.array_equal(starts[1:], (starts + lengths)[:-1])
    assert starts[-1] + lengths[-1] == STEPS + 1
    found = runs.distances(target)
    for k in range(len(runs.starts)):
        for at in (int(runs.starts[k]), int(runs.starts[k] + runs.lengths[k] - 1)):
            exact = distance(points, target, at)
            assert Fraction(found.lower[k]) <= exact <= Fraction(found.upper[k])
            assert exact == max(Fraction(0), int(runs.below[k]) - target, target - int(runs.upto[k]))


# The price


@settings(max_examples=60)
@given(positions, st.integers(0, STEPS), st.integers(0, STEPS), quantiles)
def test_no_two_points_tell_neighbours_apart_by_more_than_the_range(points, one, other, quantile):
    epsilon = 3.0
    query = Quantile(quantile=quantile, lower=0, upper=1, epsilon=epsilon)
    at = sorted({0, STEPS, *(min(max(x + k, 0), STEPS) for x in (*points, one, other) for k in (-1, 0, 1))})
    laws = [log_law(quantile, [*points, *more], epsilon, at) for more in ([one], [other], [])]
    for left, right, adjacency in ((0, 1, REPLACE_ONE), (0, 2, ADD_REMOVE), (0, 2, ZERO_OUT)):
        losses = [a - b for a, b in zip(laws[left], laws[right], strict=True)]
        pair = next(iter(query.pairs(adjacency).values()))
        assert max(map(abs, losses)) <= max(losses) - min(losses) <= pair.supremum.upper


def test_the_price_is_nearly_reached():
    """Nearly all points lie below the only record, and lose what the one point above it wins by another one."""
    before, after = (log_law(0.5, [STEPS - 2, *more], 1.0, [STEPS - 1]) for more in ([], [STEPS]))
    assert 0.4999 < after[0] - before[0] <= 0.5


@pytest.mark.parametrize(("quantile", "share"), [(0.5, 0.5), (0.9, 0.9), (0.25, 0.75), (0.0, 1.0), (1.0, 1.0)])
def test_a_record_more_costs_less_than_one_replaced(quantile, share):
    query = Quantile(quantile=quantile, lower=0, upper=1, epsilon=2.0)
    for adjacency, expected in (("replace_one", 2.0), ("add_remove", 2.0 * share), ("zero_out", 2.0 * share)):
        found = epsilon_bounds(query, delta=0.0, adjacency=adjacency, accountant="pure")
        assert expected <= found.upper <= expected * (1 + 1e-14) and found.lower == 0


def test_many_medians_cost_less_than_many_answers_that_are_as_private():
    medians = Repeat(Quantile(quantile=0.5, lower=0, upper=1, epsilon=0.2), 200)
    answers = Repeat(PureDP(epsilon=0.1, adjacency="add_remove"), 200)
    found, others = (epsilon_bounds(one, delta=1e-6).upper for one in (medians, answers))
    assert found < 0.55 * others


def test_without_epsilon_nothing_is_told():
    assert epsilon_bounds(Quantile(quantile=0.5, lower=0, upper=1, epsilon=0.0), delta=0.0).upper < 1e-300


# The law


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize(("epsilon", "likely"), [(2.0, 4), (61.0, 3)])
def test_runs_are_chosen_as_often_as_the_law_says(epsilon, likely, loose, monkeypatch):
    """Lengths decide where ε is small; where it is large, the one point of the right rank outweighs 2^22 others."""
    if loose:  # so that many are not taken at once
        distances = Runs.distances
        monkeypatch.setattr(Runs, "distances", lambda *given: distances(*given) * Bounds(lower=0.9, upper=1.1))
    values, draws, source = [0.25, 0.5, 0.75], 600, KeyedSource(11)
    query = Quantile(quantile=0.5, lower=0, upper=1, epsilon=epsilon)
    points = [int(x * STEPS) for x in values]
    found = np.array([query.release(values, randomness=source) for _ in range(draws)]) * STEPS
    edges = np.array([-0.5, *(x + s for x in points for s in (-0.5, 0.5)), STEPS + 0.5])
    first = [int(np.ceil(edge)) for edge in edges[:-1]]
    chances = np.array([float(mp.exp(x)) for x in log_law(0.5, points, epsilon, first)]) * np.diff(edges)
    assert abs(chances.sum() - 1.0) < 1e-12
    often = chances * draws > 5
    seen = np.histogram(found, edges)[0]
    assert np.sum(often) == likely and np.sum(seen[~often]) <= 1
    expected = chances[often] / chances[often].sum() * seen[often].sum()
    assert stats.chisquare(seen[often], expected).pvalue > 1e-3


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_of_no_records_every_point_is_as_likely(values):
    query, source = Quantile(quantile=0.3, lower=-2, upper=6, epsilon=4.0), KeyedSource(0)
    found = [query.release(values, randomness=source) for _ in range(400)]
    assert stats.kstest(found, stats.uniform(-2, 8).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, -3.0), (0.5, 2.0), (0.9, 7.0), (1.0, 7.0)])
def test_with_much_epsilon_it_is_the_quantile(quantile, expected):
    values = [-9.0, 2.0, 2.0, 2.0, 7.0]
    query = Quantile(quantile=quantile, lower=-3, upper=13, epsilon=1e6)
    found = [query.release(values, randomness=KeyedSource(seed)) for seed in range(5)]
    if quantile in (0.0, 1.0):  # all points beyond the records have that rank as well
        assert all(one <= 2.0 if quantile == 0.0 else one >= 7.0 for one in found)
    else:
        assert found == pytest.approx([expected] * 5, abs=1e-9)


def test_it_is_within_the_stated_rank():
    rng = np.random.default_rng(0)
    values = np.sort(rng.standard_normal(20_000))
    query, source = Quantile(quantile=0.75, lower=-50, upper=50, epsilon=0.5), KeyedSource(4)
    off = 2.0 / 0.5 * np.log((STEPS + 1) / 1e-3)
    for _ in range(20):
        rank = np.searchsorted(values, query.release(values, randomness=source))
        assert abs(rank - 15_000) <= off + 2


def test_results_stay_between_the_bounds_and_infinities_count_as_them():
    query = Quantile(quantile=1.0, lower=0.1, upper=0.3, epsilon=50.0)
    found = {query.release([np.inf, -np.inf] * 30, randomness=KeyedSource(seed)) for seed in range(10)}
    assert found == {0.3}


@pytest.mark.parametrize("quantile", [5e-324, 1 / 3, 1 - 2**-53])
@pytest.mark.parametrize("epsilon", [5e-324, 1.0, 1e300])
def test_extreme_parameters_end_in_a_point(quantile, epsilon):
    query = Quantile(quantile=quantile, lower=0, upper=1, epsilon=epsilon)
    assert 0 <= query.release([0.2, 0.2, 0.7, 0.9], randomness=KeyedSource(0)) <= 1


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"quantile": 1.5}, r"Quantile: quantile must lie in \[0, 1\], got 1.5"),
        ({"quantile": np.nan}, "Quantile: quantile must be a number"),
        ({"lower": 1.0}, "Quantile: lower must be below upper"),
        ({"lower": 2.0}, "Quantile: lower must be at most upper"),
        ({"upper": np.inf}, "Quantile: upper must be finite"),
        ({"epsilon": -1.0}, "Quantile: epsilon must be at least 0"),
        ({"epsilon": np.inf}, "Quantile: epsilon must be finite"),
        ({"nan": "drop"}, "Quantile: nan must be"),
    ],
)
def test_bad_parameters_are_refused(changed, text):
    with pytest.raises(InvalidParameter, match=text):
        Quantile(**{"quantile": 0.5, "lower": 0.0, "upper": 1.0, "epsilon": 1.0, **changed})
