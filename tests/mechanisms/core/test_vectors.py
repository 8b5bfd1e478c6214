"""Vectors clipped to a ball: exactly, for all floats there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mechanisms.core.vectors import in_ball, summed, summed_products

floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True, width=64)
rows = hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(1, 6)), elements=floats)


def square(row):
    return sum(int(one) ** 2 for one in row)


@given(rows, st.integers(1, 2**24), st.floats(1e-290, 1e290))
def test_no_row_has_a_larger_norm_in_exact_arithmetic(data, radius, size):
    found = in_ball(data, size, radius)
    assert found.dtype == np.int64 and found.shape == data.shape
    assert all(square(row) <= radius**2 for row in found)


@pytest.mark.parametrize("columns", [1, 2, 3, 100, 5000])
def test_rows_beyond_the_norm_come_close_to_it(columns):
    rng = np.random.default_rng(columns)
    for scale in (1e-3, 1.0, 1.0 + 1e-15, 1e3, 1e200, 1e308):
        data = rng.standard_normal((5, columns))
        data = data / np.linalg.norm(data, axis=1, keepdims=True) * scale
        length = np.linalg.norm(in_ball(data, 2.0**-24, 2**24).astype(float), axis=1) * 2.0**-24
        assert np.all(np.abs(length - min(scale, 1.0)) <= 2.0**-23 * np.sqrt(columns))


@given(st.lists(st.integers(-(2**11), 2**11), min_size=1, max_size=8))
def test_whole_steps_within_the_ball_stay_as_they_are(row):
    assert in_ball(np.array([row], dtype=float) * 0.25, 0.25, 2**14).tolist() == [row]


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ([np.inf, 1.0], [8, 0]),
        ([-np.inf, np.inf], [-5, 5]),
        ([np.nan, 3.0], [0, 3]),
        ([0.0, -0.0], [0, 0]),
        ([1.7e308, 1.7e308], [5, 5]),
        ([5e-324, 0.0], [0, 0]),
        ([8.0, 0.0], [8, 0]),
        ([-8.000001, 0.0], [-8, 0]),
    ],
)
def test_odd_rows_point_where_they_did(row, kept):
    assert in_ball(np.array([row]), 1.0, 8).tolist() == [kept]


@given(rows)
def test_rows_are_clipped_each_by_itself(data):
    alone = [in_ball(row[None], 0.5, 100)[0].tolist() for row in data]
    assert in_ball(data, 0.5, 100).tolist() == alone


def test_sums_are_exact_across_parts(monkeypatch):
    monkeypatch.setattr("mechanisms.core.vectors.ENTRIES", 7)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((50, 3)) * 2.0
    kept = in_ball(data, 2.0**-14, 2**14)
    expected = [sum(int(row[j]) for row in kept) for j in range(3)]
    assert summed(data, 2.0**-14, 2**14).tolist() == expected
    products = [[sum(int(row[i]) * int(row[j]) for row in kept) for i in range(3)] for j in range(3)]
    assert summed_products(data, 2.0**-14, 2**14).tolist() == products


def test_no_rows_sum_to_zero():
    assert summed(np.empty((0, 2)), 1.0, 4).tolist() == [0, 0]
    assert summed_products(np.empty((0, 2)), 1.0, 4).tolist() == [[0, 0], [0, 0]]
