"""Histograms: every record in one cell, fixed before the data is seen."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import epsilon_bounds
from mechanisms import FixedSize, Gaussian, InvalidParameter, KeyedSource, Laplace, Poisson, Repeat, Sampled
from mechanisms.histogram import Histogram

SILENT = Gaussian(noise_multiplier=0.0)


def counts(query, values):
    return query.release(values, randomness=KeyedSource(0)).astype(int).tolist()


def by_hand(edges, value):
    """The cell of a value, None for none."""
    for cell, (low, high) in enumerate(itertools.pairwise(edges)):
        if low <= value < high or (value == high == edges[-1]):
            return cell
    return None


edge_lists = st.lists(st.integers(-20, 20), min_size=2, max_size=6, unique=True).map(sorted)


@given(edge_lists, st.lists(st.integers(-45, 45).map(lambda k: k / 2) | st.just(float("nan")), max_size=20))
def test_every_value_is_in_the_cell_that_holds_it(edges, values):
    cells = [by_hand(edges, value) for value in values]
    expected = [cells.count(k) for k in range(len(edges) - 1)]
    assert counts(Histogram(edges=edges, noise=SILENT), values) == expected
    assert counts(Histogram(edges=edges, noise=SILENT, outside="count"), values) == [*expected, cells.count(None)]


def test_infinite_edges_leave_nothing_outside_but_nan():
    query = Histogram(edges=(-np.inf, 0, np.inf), noise=SILENT, outside="count")
    assert counts(query, [-np.inf, -0.0, 5e-324, np.inf, np.nan]) == [1, 3, 1]


@pytest.mark.parametrize("values", [["b", "a", "b", "", "zz"], np.array(["b", "a", "b", "c\0", "zz"])])
def test_texts_count_in_the_order_of_the_categories(values):
    assert counts(Histogram(categories=("c", "b", "a"), noise=SILENT, outside="count"), values)[1:3] == [2, 1]


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.float32, np.float64])
def test_whole_numbers_match_in_every_type(kind):
    query = Histogram(categories=(7, 0, 3), noise=SILENT, outside="count")
    assert counts(query, np.array([3, 3, 7, 5], dtype=kind)) == [1, 0, 2, 1]


def test_numbers_that_floats_confuse_are_in_no_declared_cell():
    query = Histogram(categories=(2**53 - 1, -(2**53) + 1), noise=SILENT, outside="count")
    assert counts(query, np.array([2**53 - 1, 2**53, 2**53 + 1, -(2**53) + 1, -(2**63)])) == [1, 1, 3]
    assert counts(query, np.array([2**64 - 1], dtype=np.uint64)) == [0, 0, 1]
    assert counts(Histogram(categories=(0, 1), noise=SILENT), [0.5, 1.0, np.nan, np.inf, True]) == [0, 2]


@pytest.mark.parametrize(
    "query",
    [
        Histogram(categories=(0, 1, 2), noise=SILENT),
        Histogram(categories=(0, 1, 2), noise=SILENT, outside="count"),
        Histogram(edges=(0, 1, 2), noise=SILENT, outside="count"),
    ],
)
def test_neighbours_differ_as_the_contributions_say(query):
    rng = np.random.default_rng(0)
    for _ in range(30):
        others, one, other = rng.integers(-1, 4, 6), rng.integers(-1, 4), rng.integers(-1, 4)
        a, b, none = (np.array(counts(query, [*others, *more])) for more in ([one], [other], []))
        assert np.sum(np.abs(a - none)) <= 1 and np.sum(np.abs(a - b)) <= 2


def test_cells_of_no_records_are_released():
    assert counts(Histogram(categories=("a", "b"), noise=SILENT), []) == [0, 0]
    assert counts(Histogram(edges=(0, 1), noise=SILENT), []) == [0]


@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out", "replace_one"])
@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_a_replaced_record_costs_less_than_moving_one_cell_by_two(kind, adjacency):
    query = Repeat(Histogram(categories=(0, 1), noise=kind(noise_multiplier=4.0)), 3)
    found = epsilon_bounds(query, delta=1e-6, adjacency=adjacency)
    plain = epsilon_bounds(Repeat(kind(noise_multiplier=4.0), 3), delta=1e-6, adjacency=adjacency)
    assert 0 < found.lower <= found.upper <= plain.upper * (1 + 1e-9)
    if kind is Gaussian and adjacency == "replace_one":
        same = epsilon_bounds(Repeat(kind(noise_multiplier=4.0 / 2**0.5), 3), delta=1e-6)
        assert found.upper < 0.75 * plain.upper
        assert abs(found.upper - same.upper) < 1e-9 and found.width < 1e-9


def test_a_single_cell_moves_by_one_only():
    single = Histogram(edges=(0, 1), noise=Gaussian(noise_multiplier=2.0))
    assert epsilon_bounds(single, delta=1e-6, adjacency="replace_one").overlaps(
        epsilon_bounds(Gaussian(noise_multiplier=2.0), delta=1e-6)
    )
    both = Histogram(edges=(0, 1), noise=Gaussian(noise_multiplier=2.0), outside="count")
    assert epsilon_bounds(both, delta=1e-6, adjacency="replace_one").lower > 1.3 * (
        epsilon_bounds(single, delta=1e-6, adjacency="replace_one").upper
    )


@pytest.mark.parametrize("scheme", [Poisson(probability=0.2), FixedSize(batch_size=2, records=8)])
@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_samples_of_it_are_priced_under_replace_one(kind, scheme):
    query = Histogram(categories=(0, 1), noise=kind(noise_multiplier=2.0))
    found = epsilon_bounds(Sampled(query, scheme), delta=1e-3, adjacency="replace_one")
    plain = epsilon_bounds(Sampled(kind(noise_multiplier=2.0), scheme), delta=1e-3, adjacency="replace_one")
    assert 0 <= found.lower <= found.upper <= plain.upper * (1 + 1e-9) and found.upper > 0


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({}, r"Histogram: cells must be declared by either categories or edges, got neither\. .* would reveal it"),
        ({"categories": (1, 2), "edges": (0, 1)}, "got both"),
        ({"categories": ()}, "categories must be different, and one at least"),
        ({"categories": (1, 1.0)}, "categories must be different"),
        ({"categories": "ab"}, "categories must be a sequence"),
        ({"categories": 3}, "categories must be a sequence"),
        ({"categories": (1, "a")}, "categories must be a whole number"),
        ({"categories": (0.5, 1)}, "categories must be a whole number"),
        ({"categories": (2**53,)}, "below 2..53 in size"),
        ({"categories": (-(2**53),)}, "categories must be at least"),
        ({"categories": ("inf", "a")}, "must not be 'inf'"),
        ({"categories": ("a\0", "a")}, "NUL"),
        ({"edges": (0,)}, "edges must increase"),
        ({"edges": (0, 0)}, "edges must increase"),
        ({"edges": (1, 0)}, "edges must increase"),
        ({"edges": (0, np.nan)}, "edges must be a number, got nan"),
        ({"edges": "01"}, "edges must be a sequence"),
        ({"edges": (0, 1), "outside": "keep"}, "outside must be one of 'drop', 'count'"),
    ],
)
def test_cells_that_overlap_or_are_none_are_refused(declared, text):
    with pytest.raises(InvalidParameter, match=text):
        Histogram(noise=SILENT, **declared)
