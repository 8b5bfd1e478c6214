"""Sums of vectors clipped in the Euclidean norm."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace, Poisson, Sampled
from mechanisms.vector_sum import VectorSum

SILENT = Gaussian(noise_multiplier=0.0)
floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
tables = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=floats)


def exact(query, rows):
    found = query.release(np.reshape(rows, (-1, query.dimensions)), randomness=KeyedSource(0))
    return [Fraction(float(one)) for one in found]


@given(tables, st.floats(1e-270, 1e270))
def test_one_record_moves_the_sum_by_at_most_its_sensitivity_exactly(rows, max_norm):
    query = VectorSum(max_norm=max_norm, dimensions=3, noise=SILENT)
    moved = sum((a - b) ** 2 for a, b in zip(exact(query, rows), exact(query, rows[:-1]), strict=True))
    assert moved <= Fraction(query.sensitivity) ** 2 and query.sensitivity <= max_norm <= query.sensitivity * (1 + 3e-7)


@given(st.floats(1e-270, 1e270))
def test_opposite_records_along_an_axis_attain_the_movement(max_norm):
    query = VectorSum(max_norm=max_norm, dimensions=2, noise=SILENT)
    one, other = exact(query, [max_norm, 0.0]), exact(query, [-max_norm, 0.0])
    assert one[0] == -other[0] == Fraction(query.sensitivity) and one[1] == other[1] == 0


def test_the_order_of_the_records_makes_no_difference():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 3)) * 10.0 ** rng.integers(-9, 9, (200, 1))
    query = VectorSum(max_norm=1.0, dimensions=3, noise=SILENT)
    assert len({tuple(exact(query, rng.permutation(rows))) for _ in range(10)}) == 1


def test_directions_are_kept():
    query = VectorSum(max_norm=5.0, dimensions=2, noise=SILENT)
    found = query.release(np.array([[3e300, 4e300]]), randomness=KeyedSource(0))
    assert found == pytest.approx([3.0, 4.0], abs=1e-6)


@pytest.mark.parametrize(("nan", "expected"), [(None, [3.0, 0.0]), (4.0, [3.0, 4.0])])
def test_nan_is_what_was_declared_for_it(nan, expected):
    query = VectorSum(max_norm=5.0, dimensions=2, nan=nan, noise=SILENT)
    assert query.release([[3.0, np.nan]], randomness=KeyedSource(0)).tolist() == expected


def test_noise_has_the_same_scale_in_every_coordinate():
    query = VectorSum(max_norm=2.0, dimensions=500, noise=Gaussian(noise_multiplier=3.0))
    found = query.release(np.empty((0, 500)), randomness=KeyedSource(1))
    assert stats.kstest(found, stats.norm(0, 6.0).cdf).pvalue > 1e-3 and found.shape == (500,)


@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out", "replace_one"])
def test_it_costs_what_the_plain_noise_costs(adjacency):
    query = VectorSum(max_norm=2.0, dimensions=5, noise=Gaussian(noise_multiplier=2.0))
    for around in (lambda step: step, lambda step: Sampled(step, Poisson(probability=0.1))):
        assert epsilon_bounds(around(query), delta=1e-5, adjacency=adjacency) == epsilon_bounds(
            around(Gaussian(noise_multiplier=2.0)), delta=1e-5, adjacency=adjacency
        )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"max_norm": 0.0}, "VectorSum: max_norm must be above 0"),
        ({"max_norm": np.inf}, "VectorSum: max_norm must be finite"),
        ({"max_norm": 1e-300}, "VectorSum: max_norm must be between"),
        ({"dimensions": 0}, "VectorSum: dimensions must be at least 1"),
        ({"noise": Laplace(noise_multiplier=1.0)}, "VectorSum: noise must be one of Gaussian,"),
        ({"nan": "zero"}, "VectorSum: nan must be"),
    ],
)
def test_bad_parameters_are_refused(changed, text):
    with pytest.raises(InvalidParameter, match=text):
        VectorSum(**{"max_norm": 1.0, "dimensions": 2, "noise": SILENT, **changed})


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1), ()])
def test_other_shapes_are_refused(shape):
    query = VectorSum(max_norm=1.0, dimensions=2, noise=SILENT)
    with pytest.raises(InvalidParameter, match=r"VectorSum: value must be an array of real numbers of shape \(n, 2\)"):
        query.release(np.zeros(shape), randomness=KeyedSource(0))
