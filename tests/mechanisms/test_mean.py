"""Means: of a public number of records, and of a private one."""

from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace, Repeat, UnsupportedProcess
from mechanisms.mean import Mean
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

SILENT = Gaussian(noise_multiplier=0.0)
floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


class Told(Gaussian):
    """Gaussian noise of nothing, which keeps what it was given: the exact query."""

    __slots__ = ()
    seen: ClassVar = []

    def release(self, value, *, sensitivity, randomness):
        type(self).seen.append((np.atleast_1d(value).tolist(), sensitivity))
        return value


Told.__name__ = "Gaussian"


def asked(query, values):
    """The exact query before noise, in steps."""
    Told.seen.clear()
    query.release(np.array(values, dtype=float), randomness=KeyedSource(0))
    ((value, _),) = Told.seen
    return [Fraction(one) for one in value]


@st.composite
def intervals(draw):
    lower = draw(st.floats(-1e6, 1e6))
    return lower, lower + draw(st.floats(1e-3, 1e6))


@given(intervals(), st.lists(floats, max_size=6), floats, floats, st.booleans())
def test_neighbours_differ_by_at_most_the_derived_movement_exactly(bounds, others, one, other, known):
    lower, upper = bounds
    query = Mean(lower=lower, upper=upper, records=7 if known else None, noise=Told(noise_multiplier=1.0))
    a, b, none = (asked(query, [*others, *more]) for more in ([one], [other], []))
    size = Fraction(query.contributions.sensitivity)
    for left, right, adjacency in ((a, none, ADD_REMOVE), (a, b, REPLACE_ONE)):
        moved = sum((x - y) ** 2 for x, y in zip(left, right, strict=True))
        assert moved <= (size * Fraction(query.contributions.movement(adjacency).upper)) ** 2


@given(intervals())
def test_the_records_at_the_bounds_attain_the_movement(bounds):
    lower, upper = bounds
    query = Mean(lower=lower, upper=upper, noise=Told(noise_multiplier=1.0))
    low, high, none = (asked(query, values) for values in ([lower], [upper], []))
    found = query.contributions
    assert low[0] == -high[0] and low[1] == high[1] == high[0] and none == [0, 0]
    size = Fraction(found.sensitivity) ** 2
    for moved, adjacency in ((2 * high[0] ** 2, ADD_REMOVE), (4 * high[0] ** 2, REPLACE_ONE)):
        movement = found.movement(adjacency)
        assert Fraction(movement.lower) ** 2 <= moved / size <= Fraction(movement.upper) ** 2


@given(st.lists(st.integers(0, 64), min_size=1, max_size=20), st.booleans())
def test_without_noise_it_is_the_mean(values, known):
    query = Mean(lower=0, upper=64, records=len(values) if known else None, noise=SILENT)
    assert query.release(values, randomness=KeyedSource(0)) == pytest.approx(np.mean(values), abs=1e-12)


def test_values_beyond_the_bounds_count_as_these():
    query = Mean(lower=-1, upper=3, noise=SILENT)
    assert query.release([-np.inf, 99.0, 1.0, 1.0], randomness=KeyedSource(0)) == 1.0


@pytest.mark.parametrize(("records", "nan", "expected"), [(None, None, 3.0), (2, None, 3.5), (None, 8.0, 5.5)])
def test_nan_is_no_record_or_the_middle_or_what_was_declared(records, nan, expected):
    query = Mean(lower=0, upper=8, records=records, nan=nan, noise=SILENT)
    assert query.release([3.0, float("nan")], randomness=KeyedSource(0)) == expected


def test_of_no_records_it_lies_between_the_bounds():
    source = KeyedSource(0)
    query = Mean(lower=2, upper=3, noise=Gaussian(noise_multiplier=1.0))
    found = [query.release([], randomness=source) for _ in range(50)]
    assert all(2 <= one <= 3 for one in found) and len(set(found)) > 10
    assert Mean(lower=2, upper=3, noise=SILENT).release([], randomness=source) == 2.5


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@pytest.mark.parametrize("value", [1.0, 3.0])
def test_errors_are_what_the_docstring_says(kind, value):
    source, size, count = KeyedSource(1), 2.0, 10_000
    query = Mean(lower=-1, upper=3, noise=kind(noise_multiplier=5.0))
    found = [query.release(np.full(count, value), randomness=source) for _ in range(300)]
    most = (2.0 if kind is Gaussian else 4.0) * 5.0 * size / count
    expected = most if value == 3.0 else most / 2**0.5
    inside = np.array(found)[np.array(found) < 3.0]  # clipping at the bound halves the law there
    spread = np.sqrt(np.mean((inside - value) ** 2))
    assert abs(spread / expected - 1.0) < 0.2


def test_the_noise_of_a_public_number_is_scaled_by_half_the_width():
    query, source = Mean(lower=0, upper=8, records=2, noise=Gaussian(noise_multiplier=3.0)), KeyedSource(2)
    found = [query.release([1.0, 5.0], randomness=source) - 3.0 for _ in range(500)]
    assert stats.kstest(found, stats.norm(0, 3.0 * 4.0 / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out", "replace_one"])
@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_with_records_it_costs_what_its_noise_costs(kind, adjacency):
    query = Mean(lower=0, upper=8, records=10, noise=kind(noise_multiplier=3.0))
    assert epsilon_bounds(query, delta=1e-6, adjacency=adjacency) == epsilon_bounds(
        kind(noise_multiplier=3.0), delta=1e-6, adjacency=adjacency
    )


@pytest.mark.parametrize(("adjacency", "movement"), [("add_remove", 1.0), ("replace_one", 2**0.5)])
def test_with_a_private_number_a_replaced_record_moves_the_sum_alone(adjacency, movement):
    query = Repeat(Mean(lower=0, upper=8, noise=Gaussian(noise_multiplier=3.0)), 3)
    found = epsilon_bounds(query, delta=1e-6, adjacency=adjacency)
    same = epsilon_bounds(Repeat(Gaussian(noise_multiplier=3.0 / movement), 3), delta=1e-6)
    assert abs(found.upper - same.upper) < 1e-9 and found.width < 1e-9


def test_laplace_noise_on_sum_and_number_costs_at_most_that_on_one():
    query = Mean(lower=0, upper=8, noise=Laplace(noise_multiplier=3.0))
    one = epsilon_bounds(Laplace(noise_multiplier=3.0), delta=1e-6)
    removed = epsilon_bounds(query, delta=1e-6, adjacency="add_remove")
    assert removed.upper <= one.upper * (1 + 1e-9) and removed.lower == 0
    assert epsilon_bounds(query, delta=1e-6, adjacency="replace_one").overlaps(one)


def test_zeroing_a_record_that_may_count_is_refused():
    with pytest.raises(UnsupportedProcess, match=r"Use Mean\(records="):
        Mean(lower=0, upper=1, noise=SILENT).pairs(ZERO_OUT)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({"lower": 1.0, "upper": 1.0}, "Mean: lower must be below upper"),
        ({"lower": 2.0, "upper": 1.0}, "Mean: lower must be at most upper"),
        ({"lower": 1e16, "upper": 1e16 + 1e-9}, "Mean: lower must be below upper"),
        ({"lower": 0.0, "upper": np.inf}, "Mean: upper must be finite"),
        ({"lower": 0.0, "upper": 1.0, "records": 0}, "Mean: records must be at least 1"),
        ({"lower": 0.0, "upper": 1.0, "records": 1.5}, "Mean: records must be a whole number"),
        ({"lower": 0.0, "upper": 1.0, "nan": "middle"}, "Mean: nan must be"),
    ],
)
def test_bad_parameters_are_refused(given_, text):
    with pytest.raises(InvalidParameter, match=text):
        Mean(noise=SILENT, **given_)
