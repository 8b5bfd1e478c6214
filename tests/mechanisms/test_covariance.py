"""Second moments: what a record moves in the Frobenius norm, and noise that is symmetric."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace
from mechanisms.covariance import RADIUS, Covariance, nearest_positive
from tests.strategies import ADD_REMOVE, REPLACE_ONE

SILENT = Gaussian(noise_multiplier=0.0)
floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
tables = hnp.arrays(np.float64, st.tuples(st.integers(2, 5), st.just(3)), elements=floats)


def in_steps(query, rows):
    """The sum without noise, in square steps: whole numbers, as C is a power of two here."""
    found = query.release(np.reshape(rows, (-1, query.dimensions)), randomness=KeyedSource(0))
    return [[Fraction(float(one)) * RADIUS**2 / Fraction(query.max_norm) ** 2 for one in row] for row in found]


def square_distance(one, other):
    return sum((a - b) ** 2 for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True))


@given(tables, st.sampled_from((1.0, 2.0**-30, 2.0**40)))
def test_neighbours_differ_by_at_most_the_derived_movement_exactly(rows, max_norm):
    query = Covariance(max_norm=max_norm, dimensions=3, noise=SILENT)
    a, b, none = in_steps(query, rows[:-1]), in_steps(query, np.delete(rows, -2, axis=0)), in_steps(query, rows[:-2])
    assert all(one.denominator == 1 for row in a for one in row)
    assert square_distance(a, none) <= RADIUS**4
    assert square_distance(a, b) <= 2 * RADIUS**4


def test_orthogonal_records_attain_the_movement_and_parallel_ones_do_not():
    query = Covariance(max_norm=1.0, dimensions=2, noise=SILENT)
    one, other, opposite = (in_steps(query, row) for row in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]))
    assert square_distance(one, other) == 2 * RADIUS**4 and square_distance(one, opposite) == 0
    movement = query.contributions.movement(REPLACE_ONE)
    assert Fraction(movement.lower) ** 2 <= 2 <= Fraction(movement.upper) ** 2
    assert query.contributions.movement(ADD_REMOVE).upper == 1.0


def test_entries_are_close_to_those_of_clipped_records():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 6))
    clipped = rows * np.minimum(1.0, 2.0 / np.linalg.norm(rows, axis=1, keepdims=True))
    found = Covariance(max_norm=2.0, dimensions=6, noise=SILENT).release(rows, randomness=KeyedSource(0))
    assert np.max(np.abs(found - clipped.T @ clipped)) < 3000 * 4.0 * 2.0**-14
    assert np.array_equal(found, found.T)


def test_noise_is_symmetric_and_less_by_the_root_of_two_off_the_diagonal():
    query = Covariance(max_norm=2.0, dimensions=40, noise=Gaussian(noise_multiplier=3.0))
    found = query.release(np.empty((0, 40)), randomness=KeyedSource(3))
    assert np.array_equal(found, found.T)
    assert stats.kstest(np.diag(found), stats.norm(0, 12.0).cdf).pvalue > 1e-3
    above = found[np.triu_indices(40, 1)]
    assert stats.kstest(above, stats.norm(0, 12.0 / 2**0.5).cdf).pvalue > 1e-3
    assert abs(np.mean(above**2) / 72.0 - 1.0) < 0.2  # four standard deviations


def test_of_one_dimension_it_is_the_sum_of_squares():
    query = Covariance(max_norm=2.0, dimensions=1, noise=SILENT)
    assert query.release([[1.0], [-5.0], [np.nan]], randomness=KeyedSource(0)).tolist() == [[5.0]]
    noisy = Covariance(max_norm=2.0, dimensions=1, noise=Gaussian(noise_multiplier=2.0))
    replaced = epsilon_bounds(noisy, delta=1e-6, adjacency="replace_one")
    assert replaced.overlaps(epsilon_bounds(Gaussian(noise_multiplier=2.0), delta=1e-6)) and replaced.width < 1e-9


@pytest.mark.parametrize(("adjacency", "movement"), [("add_remove", 1.0), ("zero_out", 1.0), ("replace_one", 2**0.5)])
def test_epsilon_is_that_of_a_gaussian_of_the_derived_movement(adjacency, movement):
    query = Covariance(max_norm=2.0, dimensions=4, noise=Gaussian(noise_multiplier=2.0))
    found = epsilon_bounds(query, delta=1e-6, adjacency=adjacency)
    same = epsilon_bounds(Gaussian(noise_multiplier=2.0 / movement), delta=1e-6)
    assert abs(found.upper - same.upper) < 1e-9 and found.width < 1e-9


@given(hnp.arrays(np.float64, (4, 4), elements=st.floats(-100, 100)))
def test_the_nearest_positive_matrix_is_positive_and_nearer_than_others(matrix):
    matrix = matrix + matrix.T
    found = nearest_positive(matrix)
    values = np.linalg.eigvalsh(found)
    assert np.min(values) >= -1e-9 * max(1.0, np.max(values))
    missed = np.linalg.norm(found - matrix)
    assert missed == pytest.approx(np.linalg.norm(np.minimum(np.linalg.eigvalsh(matrix), 0.0)), abs=1e-9)


@pytest.mark.parametrize(
    "matrix", [np.ones(3), np.array([[0.0, 1.0], [2.0, 0.0]]), np.full((2, 2), np.nan), np.eye(2)[:1]]
)
def test_what_is_no_symmetric_matrix_is_refused(matrix):
    with pytest.raises(InvalidParameter, match="nearest_positive: matrix must be symmetric and finite"):
        nearest_positive(matrix)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"max_norm": -1.0}, "Covariance: max_norm must be above 0"),
        ({"max_norm": 1e200}, "Covariance: max_norm must be between 1e-130 and 1e130"),
        ({"dimensions": 1.5}, "Covariance: dimensions must be a whole number"),
        ({"noise": Laplace(noise_multiplier=1.0)}, "Covariance: noise must be one of Gaussian,"),
    ],
)
def test_bad_parameters_are_refused(changed, text):
    with pytest.raises(InvalidParameter, match=text):
        Covariance(**{"max_norm": 1.0, "dimensions": 2, "noise": SILENT, **changed})
